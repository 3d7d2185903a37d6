// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reads the archive of modules in place. It is measured, so a broken one is a builder that does not belong to this kernel; it is checked as a
// whole all the same, once, while booting: whatever is read afterwards lies in the archive. Layout: Wire/ModuleArchive.cs. Free of hardware.

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Modules;

/// <summary>A checked archive.</summary>
internal readonly ref struct ArchiveReader
{
    private const ulong MinMemoryLimit = 64 * Page.Size;
    private const ulong MaxMemoryLimit = 1ul << 30;
    private const uint MaxWatchdog = 3_600_000;
    private const ModulePermissions AllPermissions = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest | ModulePermissions.Attest |
        ModulePermissions.Store | ModulePermissions.KeepStore | ModulePermissions.Migrate;

    // Of one module each.
    private const ModulePermissions Single = ModulePermissions.Attest | ModulePermissions.KeepStore | ModulePermissions.Migrate;

    private readonly ReadOnlySpan<byte> _bytes;
    private readonly ReadOnlySpan<ArchiveFile> _files;
    private readonly ReadOnlySpan<ArchiveModule> _modules;

    private ArchiveReader(ReadOnlySpan<byte> bytes, ReadOnlySpan<ArchiveFile> files, ReadOnlySpan<ArchiveModule> modules)
    {
        _bytes = bytes;
        _files = files;
        _modules = modules;
    }

    /// <summary>Number of files.</summary>
    public int FileCount => _files.Length;

    /// <summary>Number of modules.</summary>
    public int ModuleCount => _modules.Length;

    /// <summary>The whole archive.</summary>
    public ReadOnlySpan<byte> Bytes => _bytes;

    /// <summary>Checks an archive.</summary>
    /// <param name="bytes">All of it; nobody changes it.</param>
    /// <param name="archive">The archive.</param>
    /// <returns>False: it breaks a rule of Wire/ModuleArchive.cs.</returns>
    public static bool TryOpen(ReadOnlySpan<byte> bytes, out ArchiveReader archive)
    {
        archive = default;
        if (!MemoryMarshal.TryRead(bytes, out ArchiveHeader header) ||
            header.Magic != ArchiveHeader.MagicValue || header.Version != ArchiveHeader.CurrentVersion || header.Reserved != 0 ||
            header.FileCount > ArchiveHeader.MaxFiles || header.ModuleCount > ArchiveHeader.MaxModules ||
            header.Length != (ulong)bytes.Length || header.Length % Page.Size != 0)
        {
            return false;
        }

        if (ArchiveHeader.Size + ((int)header.FileCount * ArchiveFile.Size) + ((int)header.ModuleCount * ArchiveModule.Size) > bytes.Length)
        {
            return false;
        }

        archive = Of(bytes, header);
        return archive.HasGoodFiles() && archive.HasGoodModules();
    }

    /// <summary>Opens an archive that was checked before; in the kernel, while it booted.</summary>
    /// <param name="bytes">The very bytes that <see cref="TryOpen"/> took.</param>
    public static ArchiveReader OfChecked(ReadOnlySpan<byte> bytes)
    {
        _ = MemoryMarshal.TryRead(bytes, out ArchiveHeader header);
        return Of(bytes, header);
    }

    /// <summary>A file.</summary>
    /// <param name="index">Below <see cref="FileCount"/>.</param>
    public ArchiveFile File(int index) => _files[index];

    /// <summary>A module.</summary>
    /// <param name="index">Below <see cref="ModuleCount"/>.</param>
    public ArchiveModule Module(int index) => _modules[index];

    /// <summary>Path of a file.</summary>
    public ReadOnlySpan<byte> PathOf(in ArchiveFile file) => _bytes.Slice((int)file.PathOffset, (int)file.PathLength);

    /// <summary>Contents of a file.</summary>
    /// <param name="index">Below <see cref="FileCount"/>.</param>
    public ReadOnlySpan<byte> ContentsOf(int index) => _bytes.Slice((int)_files[index].Offset, (int)_files[index].Length);

    /// <summary>Arguments and environment of a module, a zero byte behind each.</summary>
    public ReadOnlySpan<byte> TextOf(in ArchiveModule module) => _bytes.Slice((int)module.TextOffset, (int)module.TextLength);

    /// <summary>The name of a module: its first argument.</summary>
    public ReadOnlySpan<byte> NameOf(in ArchiveModule module)
    {
        ReadOnlySpan<byte> text = TextOf(in module);
        return text.Slice(0, text.IndexOf((byte)0));
    }

    /// <summary>Finds a file that a module may open.</summary>
    /// <param name="path">Its path. Untrusted.</param>
    /// <param name="module">Index of the module.</param>
    /// <param name="index">Index of the file.</param>
    /// <returns>False: there is none, or it is not for this module.</returns>
    public bool TryFind(ReadOnlySpan<byte> path, int module, out int index)
    {
        for (index = 0; index < _files.Length; index++)
        {
            ref readonly ArchiveFile file = ref _files[index];
            if (((file.Readers >> module) & 1) != 0 && PathOf(in file).SequenceEqual(path))
            {
                return true;
            }
        }

        return false;
    }

    private static ArchiveReader Of(ReadOnlySpan<byte> bytes, ArchiveHeader header)
    {
        int filesLength = (int)header.FileCount * ArchiveFile.Size;
        int modulesLength = (int)header.ModuleCount * ArchiveModule.Size;
        return new ArchiveReader(
            bytes,
            MemoryMarshal.Cast<byte, ArchiveFile>(bytes.Slice(ArchiveHeader.Size, filesLength)),
            MemoryMarshal.Cast<byte, ArchiveModule>(bytes.Slice(ArchiveHeader.Size + filesLength, modulesLength)));
    }

    private bool HasGoodFiles()
    {
        ulong length = (ulong)_bytes.Length;
        ulong end = 0;
        for (int i = 0; i < _files.Length; i++)
        {
            ref readonly ArchiveFile file = ref _files[i];
            bool isGood =
                file.Reserved == 0 &&
                file.PathLength is >= 2 and <= ArchiveFile.MaxPath && file.PathOffset <= length && file.PathLength <= length - file.PathOffset &&
                _bytes[(int)file.PathOffset] == (byte)'/' &&
                file.Offset % Page.Size == 0 && file.Offset >= end && file.Offset <= length && file.Length <= length - file.Offset;
            if (!isGood)
            {
                return false;
            }

            // No two files share a page.
            end = (file.Offset + file.Length + Page.Size - 1) & ~(ulong)(Page.Size - 1);
            for (int other = 0; other < i; other++)
            {
                if (PathOf(in _files[other]).SequenceEqual(PathOf(in file)))
                {
                    return false;
                }
            }
        }

        return true;
    }

    private bool HasGoodModules()
    {
        ModulePermissions given = ModulePermissions.None;
        for (int i = 0; i < _modules.Length; i++)
        {
            ref readonly ArchiveModule module = ref _modules[i];
            bool isGood =
                module.Protocol != SvsmProtocol.Core && module.MinVersion >= 1 && module.MaxVersion >= module.MinVersion &&
                module.Program < (uint)_files.Length &&
                module.TextOffset <= (uint)_bytes.Length && module.TextLength <= (uint)_bytes.Length - module.TextOffset &&
                HasGoodText(in module) &&
                module.MemoryLimit % Page.Size == 0 && module.MemoryLimit is >= MinMemoryLimit and <= MaxMemoryLimit &&
                module.Watchdog is >= 1 and <= MaxWatchdog &&
                module.OnFailure is ModuleFailurePolicy.Restart or ModuleFailurePolicy.Retire &&
                (module.Permissions & ~AllPermissions) == 0 && (module.Permissions & given & Single) == 0 && HasGoodPermissions(module.Permissions) &&
                (module.StoreQuota == 0 || (module.Permissions & ModulePermissions.Store) != 0) && module.StoreQuota <= long.MaxValue;
            if (!isGood)
            {
                return false;
            }

            given |= module.Permissions;
            for (int other = 0; other < i; other++)
            {
                if (_modules[other].Protocol == module.Protocol || (HasService(in module) && IsSameService(in module, in _modules[other])))
                {
                    return false;
                }
            }
        }

        return true;
    }

    /// <summary>Whether a module has a service that manifests name.</summary>
    public static bool HasService(in ArchiveModule module)
    {
        ReadOnlySpan<ulong> halves = MemoryMarshal.Cast<byte, ulong>(module.Service);
        return (halves[0] | halves[1]) != 0;
    }

    // Who asks the other must not be asked by it: one of them at most.
    private static bool HasGoodPermissions(ModulePermissions permissions)
    {
        permissions &= ModulePermissions.Store | Single;
        return (permissions & (permissions - 1)) == 0;
    }

    private static bool IsSameService(in ArchiveModule module, in ArchiveModule other)
    {
        ReadOnlySpan<byte> service = module.Service;
        return service.SequenceEqual(other.Service);
    }

    private bool HasGoodText(in ArchiveModule module)
    {
        uint strings = module.ArgumentCount + module.EnvironmentCount;
        if (module.TextLength > ArchiveModule.MaxText || module.ArgumentCount is < 1 or > ArchiveModule.MaxStrings ||
            module.EnvironmentCount > ArchiveModule.MaxStrings || strings > ArchiveModule.MaxStrings)
        {
            return false;
        }

        ReadOnlySpan<byte> text = TextOf(in module);
        uint ends = 0;
        for (int i = 0; i < text.Length; i++)
        {
            ends += text[i] == 0 ? 1u : 0;
        }

        return ends == strings && text[text.Length - 1] == 0;
    }
}
