// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reads the archive of modules of an image, for maps and reports. The kernel has a reader of its own (what it may believe differs).
// A file may come from anywhere: every number is checked against what it counts before it is used.

using System;
using System.Collections.Immutable;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>A file of an archive.</summary>
/// <param name="Path">Its path.</param>
/// <param name="Offset">Where its contents begin.</param>
/// <param name="Length">Bytes.</param>
/// <param name="Readers">Which modules may open it: bit i for module i.</param>
public sealed record ArchivedFile(string Path, ulong Offset, ulong Length, uint Readers);

/// <summary>A module of an archive.</summary>
/// <param name="Entry">What the archive says of it.</param>
/// <param name="Arguments">Arguments; the first is its class.</param>
/// <param name="Environment">"NAME=value" each.</param>
public sealed record ArchivedModule(ArchiveModule Entry, ImmutableArray<string> Arguments, ImmutableArray<string> Environment);

/// <summary>What is in an archive of modules.</summary>
/// <param name="Files">The files.</param>
/// <param name="Modules">The modules.</param>
public sealed record ModuleArchive(ImmutableArray<ArchivedFile> Files, ImmutableArray<ArchivedModule> Modules)
{
    /// <summary>Nothing.</summary>
    public static ModuleArchive Empty { get; } = new([], []);

    /// <summary>The modules that may open a file, in their order.</summary>
    /// <param name="file">A file of this archive.</param>
    /// <returns>Their classes.</returns>
    public ImmutableArray<string> ReadersOf(ArchivedFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return [.. Modules.Where((_, index) => ((file.Readers >> index) & 1) != 0).Select(module => module.Arguments[0])];
    }

    /// <summary>Reads an archive.</summary>
    /// <param name="archive">All of it. Untrusted.</param>
    /// <returns>What is in it; null: it is no archive, or damaged.</returns>
    public static ModuleArchive? Read(ReadOnlySpan<byte> archive)
    {
        if (archive.Length < ArchiveHeader.Size)
        {
            return null;
        }

        ArchiveHeader header = MemoryMarshal.Read<ArchiveHeader>(archive);
        ulong entries = ArchiveHeader.Size + ((ulong)header.FileCount * ArchiveFile.Size) + ((ulong)header.ModuleCount * ArchiveModule.Size);
        if (header.Magic != ArchiveHeader.MagicValue || header.Version != ArchiveHeader.CurrentVersion || header.FileCount > ArchiveHeader.MaxFiles ||
            header.ModuleCount > ArchiveHeader.MaxModules || header.Length != (ulong)archive.Length || entries > header.Length)
        {
            return null;
        }

        int at = ArchiveHeader.Size;
        var files = ImmutableArray.CreateBuilder<ArchivedFile>();
        for (uint i = 0; i < header.FileCount; i++, at += ArchiveFile.Size)
        {
            ArchiveFile file = MemoryMarshal.Read<ArchiveFile>(archive[at..]);
            if (file.PathLength is < 2 or > ArchiveFile.MaxPath || Slice(archive, file.PathOffset, file.PathLength) is not { IsEmpty: false } path ||
                file.Offset > header.Length || file.Length > header.Length - file.Offset)
            {
                return null;
            }

            files.Add(new ArchivedFile(Encoding.UTF8.GetString(path), file.Offset, file.Length, file.Readers));
        }

        var modules = ImmutableArray.CreateBuilder<ArchivedModule>();
        for (uint i = 0; i < header.ModuleCount; i++, at += ArchiveModule.Size)
        {
            ArchiveModule module = MemoryMarshal.Read<ArchiveModule>(archive[at..]);
            if (module.TextLength > ArchiveModule.MaxText || module.Program >= header.FileCount || module.ArgumentCount is 0 or > ArchiveModule.MaxStrings ||
                module.EnvironmentCount > ArchiveModule.MaxStrings || Slice(archive, module.TextOffset, module.TextLength) is not { IsEmpty: false } text || text[^1] != 0)
            {
                return null;
            }

            string[] strings = Encoding.UTF8.GetString(text[..^1]).Split('\0');
            if ((uint)strings.Length != module.ArgumentCount + module.EnvironmentCount)
            {
                return null;
            }

            modules.Add(new ArchivedModule(module, [.. strings[..(int)module.ArgumentCount]], [.. strings[(int)module.ArgumentCount..]]));
        }

        return new ModuleArchive(files.DrainToImmutable(), modules.DrainToImmutable());
    }

    private static ReadOnlySpan<byte> Slice(ReadOnlySpan<byte> archive, uint offset, uint length) =>
        offset <= (uint)archive.Length && length <= (uint)archive.Length - offset ? archive.Slice((int)offset, (int)length) : default;
}
