// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;

namespace Svsm.Sdk.Tests;

/// <summary>The files of the repository that the tests run from.</summary>
internal static class RepositoryFiles
{
    private static readonly string[] s_notSources = [".git", "artifacts", "bin", "obj"];

    /// <summary>The folder with Svsm.slnx. Found from the test program upwards: a path baked into it would not be reproducible.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>All files with one of these extensions, without what builds make. Paths relative to <see cref="Root"/>.</summary>
    public static IReadOnlyList<string> With(params string[] extensions)
    {
        var found = new List<string>();
        var folders = new Stack<string>([Root]);
        while (folders.TryPop(out string? folder))
        {
            found.AddRange(Directory.EnumerateFiles(folder).Where(file => extensions.Contains(Path.GetExtension(file))));
            foreach (string sub in Directory.EnumerateDirectories(folder).Where(sub => !s_notSources.Contains(Path.GetFileName(sub))))
            {
                folders.Push(sub);
            }
        }

        return [.. found.Select(file => Path.GetRelativePath(Root, file)).Order(StringComparer.Ordinal)];
    }

    /// <summary>The text of a file.</summary>
    public static string Read(string relativePath) => File.ReadAllText(Path.Combine(Root, relativePath));

    private static string FindRoot()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (File.Exists(Path.Combine(folder, "Svsm.slnx")))
            {
                return folder;
            }
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} has Svsm.slnx; the tests read the sources of the repository and run from its artifacts folder.");
    }
}
