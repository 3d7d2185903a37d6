// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;

namespace Svsm.CoreLib.Tests;

/// <summary>Where things are in this checkout.</summary>
internal static class Repository
{
    internal static string Root { get; } = FindRoot();

    /// <summary>Output folder of a project, in the configuration of the tests.</summary>
    internal static string Output(string project) =>
        Path.Combine(Root, "artifacts", "bin", project, Path.GetFileName(Path.TrimEndingDirectorySeparator(AppContext.BaseDirectory)));

    private static string FindRoot()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Directory.Packages.props")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} holds Directory.Packages.props: the tests run from the checkout only.");
    }
}
