// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Memory;
using Svsm.Platform;

namespace Svsm.Kernel.Arch;

/// <summary>Drops translations of the shared part. The one place where another CPU's translations are thought of.</summary>
internal static class Translations
{
    /// <summary>Drops the translations of pages that were unmapped, on every CPU that runs the kernel; returns when none has one.</summary>
    /// <param name="address">First page.</param>
    /// <param name="pageCount">Number of 4-KiB pages.</param>
    public static void DropEverywhere(ulong address, int pageCount)
    {
        for (int i = 0; i < pageCount; i++)
        {
            X64.InvalidatePage(address + ((ulong)i * Page.Size));
        }
    }
}
