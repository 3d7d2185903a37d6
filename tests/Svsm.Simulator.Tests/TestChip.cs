// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;

namespace Svsm.Simulator.Tests;

/// <summary>A chip for all tests: making one takes seconds.</summary>
internal static class TestChip
{
    private static readonly Lazy<SimulatedChip> s_chip = new(() =>
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("svsm-test-");
        try
        {
            // Opening makes the files and reads them back; nothing of them is needed later.
            return SimulatedChip.Open(Path.Combine(folder.FullName, "chip"));
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    });

    public static SimulatedChip Instance => s_chip.Value;
}
