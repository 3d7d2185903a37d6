// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using Microsoft.Build.Framework;
using Svsm.Builder;
using Svsm.Diagnostics;

namespace Svsm.Sdk.Tasks;

/// <summary>
/// Reads SvsmFile items: files that modules may open. An item is the file's path on the PC; metadata: Path, its path for the modules, by default '/' and the
/// file's name; Module, the SvsmModule items (by their Include) that may open it.
/// </summary>
internal static class FileItems
{
    /// <summary>Reads items and their files.</summary>
    /// <param name="items">The items.</param>
    /// <param name="modules">SvsmModule items.</param>
    /// <param name="options">What they say, in their order.</param>
    /// <exception cref="SvsmDiagnosticException">SVSM2015: a file cannot be read. SVSM4008: an item names no module of the image. (Paths are checked with the archive.)</exception>
    public static ImmutableArray<ModuleFile> Read(ITaskItem[] items, ITaskItem[] modules, ImmutableArray<ModuleOptions> options) =>
        [.. items.Select(item => new ModuleFile(ReadPath(item), WriteSvsmImage.Read("File", item.ItemSpec)) { Readers = ReadReaders(item, modules, options) })];

    private static string ReadPath(ITaskItem item)
    {
        string path = item.GetMetadata("Path").Trim();
        return path.Length == 0 ? "/" + item.GetMetadata("Filename") + item.GetMetadata("Extension") : path;
    }

    // A file that nobody may open is a mistake, not a secret.
    private static ImmutableArray<uint> ReadReaders(ITaskItem item, ITaskItem[] modules, ImmutableArray<ModuleOptions> options)
    {
        string[] names = item.GetMetadata("Module").Split([';', ','], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        string wanted = modules.Length == 0
            ? "an image with modules" : $"one or several of its SvsmModule items, with semicolons between them: {string.Join(", ", modules.Select(module => module.ItemSpec).Distinct())}";
        if (names.Length == 0)
        {
            throw SvsmDiagnostics.ModuleFileInvalid.Error($"SvsmFile '{item.ItemSpec}' has no Module", wanted);
        }

        foreach (string name in names)
        {
            if (!modules.Any(module => IsCalled(module, name)))
            {
                throw SvsmDiagnostics.ModuleFileInvalid.Error($"SvsmFile '{item.ItemSpec}' has Module '{name}', which the image does not have", wanted);
            }
        }

        return [.. options.Where((_, index) => names.Any(name => IsCalled(modules[index], name))).Select(module => module.Protocol)];
    }

    private static bool IsCalled(ITaskItem module, string name) => module.ItemSpec.Equals(name, StringComparison.OrdinalIgnoreCase);
}
