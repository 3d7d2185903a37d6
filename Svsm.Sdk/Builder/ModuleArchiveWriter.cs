// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The archive of modules (Svsm.Core/Wire/ModuleArchive.cs has the layout): checks what is to go in, and writes it. For the image builder.
//
// Files are in the order of their paths and modules in that of their protocols, whatever order they came in: the same set gives the same bytes.
// A process's environment is made here, because it is measured: the garbage collector reads its limits from it.
//
//   DOTNET_GCHeapHardLimit    the heap limit
//   DOTNET_GCRegionRange      address space for it. With too little the collector fails instead of throwing OutOfMemoryException; 16 times the
//                             limit, and not below 256 MiB, never did
//   DOTNET_GCgen0size         new objects between two collections: the memory that a module at work takes is not far above what it uses
//
// Their numbers are hexadecimal without 0x; with it they are ignored.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>Writes archives of modules.</summary>
public static class ModuleArchiveWriter
{
    private const ulong PageSize = 4096;
    private const ulong MinHeapLimit = 0x10_0000;
    private const ulong RuntimeMemory = 0x10_0000;
    private const ulong MinRegionRange = 0x1000_0000;
    private const ulong NewObjects = 0x4_0000;
    private const uint MaxWatchdog = 3_600_000;
    private const ModulePermissions AllPermissions = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest | ModulePermissions.Attest |
        ModulePermissions.Store | ModulePermissions.KeepStore | ModulePermissions.Migrate;

    /// <summary>Writes an archive.</summary>
    /// <param name="files">Its files.</param>
    /// <param name="modules">Its modules, at least one.</param>
    /// <returns>Whole pages.</returns>
    /// <exception cref="SvsmDiagnosticException">
    /// SVSM2025: an option is not possible. SVSM2026: two modules serve the same protocol. SVSM4008: a file cannot be what it is said to be. SVSM2010: it is too large.
    /// </exception>
    public static byte[] Write(ImmutableArray<ModuleFile> files, ImmutableArray<ModuleOptions> modules)
    {
        files = [.. files.OrderBy(file => file.Path, StringComparer.Ordinal)];
        modules = [.. modules.OrderBy(module => module.Protocol)];
        Check(files, modules);

        // Tables, then text, then contents; the length of everything is known before the first byte is written.
        ulong next = ArchiveHeader.Size + ((ulong)files.Length * ArchiveFile.Size) + ((ulong)modules.Length * ArchiveModule.Size);
        var text = new List<(ulong Offset, byte[] Bytes)>();
        uint AddText(byte[] bytes)
        {
            text.Add((next, bytes));
            next += (ulong)bytes.Length;
            return (uint)text[^1].Offset;
        }

        var fileEntries = new ArchiveFile[files.Length];
        for (int i = 0; i < files.Length; i++)
        {
            byte[] path = Encoding.UTF8.GetBytes(files[i].Path);
            fileEntries[i] = new ArchiveFile
            {
                PathOffset = AddText(path),
                PathLength = (uint)path.Length,
                Length = (ulong)files[i].Contents.Length,
                Readers = Readers(files[i], modules),
            };
        }

        var moduleEntries = new ArchiveModule[modules.Length];
        for (int i = 0; i < modules.Length; i++)
        {
            ModuleOptions module = modules[i];
            ImmutableArray<string> environment = GetEnvironment(module.HeapLimit);
            byte[] strings = Encoding.UTF8.GetBytes(module.TypeName + '\0' + string.Concat(environment.Select(variable => variable + '\0')));
            if (strings.Length > ArchiveModule.MaxText)
            {
                throw Invalid(module, $"a class name of {module.TypeName.Length} characters", "a shorter one");
            }

            moduleEntries[i] = new ArchiveModule
            {
                Protocol = (SvsmProtocol)module.Protocol,
                MinVersion = module.MinVersion,
                MaxVersion = module.MaxVersion,
                Program = (uint)IndexOf(files, module.Program),
                TextOffset = AddText(strings),
                TextLength = (uint)strings.Length,
                ArgumentCount = 1,
                EnvironmentCount = (uint)environment.Length,
                MemoryLimit = module.MemoryLimit,
                Watchdog = module.Watchdog,
                OnFailure = module.OnFailure,
                RestartLimit = module.RestartLimit,
                Permissions = module.Permissions,
                StoreQuota = (ulong)module.StoreQuota,
            };
            _ = (module.Service ?? Guid.Empty).TryWriteBytes(moduleEntries[i].Service);
        }

        next = PagesUp(next);
        for (int i = 0; i < files.Length; i++)
        {
            fileEntries[i].Offset = next;
            next += PagesUp(fileEntries[i].Length);
        }

        if (next > KernelAddressSpace.ArchiveMaxLength)
        {
            throw SvsmDiagnostics.RegionFull.Error($"an archive of modules of 0x{next:X} bytes", $"at most 0x{KernelAddressSpace.ArchiveMaxLength:X}");
        }

        byte[] archive = new byte[next];
        var header = new ArchiveHeader
        {
            Magic = ArchiveHeader.MagicValue,
            Version = ArchiveHeader.CurrentVersion,
            FileCount = (uint)files.Length,
            ModuleCount = (uint)modules.Length,
            Length = next,
        };
        MemoryMarshal.Write(archive, in header);
        Span<byte> entries = archive.AsSpan(ArchiveHeader.Size);
        MemoryMarshal.AsBytes(fileEntries.AsSpan()).CopyTo(entries);
        MemoryMarshal.AsBytes(moduleEntries.AsSpan()).CopyTo(entries[(files.Length * ArchiveFile.Size)..]);
        foreach ((ulong offset, byte[] bytes) in text)
        {
            bytes.CopyTo(archive, (int)offset);
        }

        for (int i = 0; i < files.Length; i++)
        {
            files[i].Contents.Span.CopyTo(archive.AsSpan((int)fileEntries[i].Offset));
        }

        return archive;
    }

    /// <summary>Checks what modules of an image say of themselves, each and together, as far as that needs no file.</summary>
    /// <param name="modules">The modules.</param>
    /// <exception cref="SvsmDiagnosticException">SVSM2025: an option is not possible. SVSM2026: two modules serve the same protocol.</exception>
    public static void Check(ImmutableArray<ModuleOptions> modules)
    {
        modules = [.. modules.OrderBy(module => module.Protocol)];
        for (int i = 0; i < modules.Length; i++)
        {
            Check(modules[i]);
            if (i != 0 && modules[i - 1].Protocol == modules[i].Protocol)
            {
                throw SvsmDiagnostics.ProtocolTaken.Error(
                    $"{modules[i - 1].TypeName} and {modules[i].TypeName} serve protocol 0x{modules[i].Protocol:X}", "one module for each protocol");
            }
        }

        if (modules.Where(module => module.Service is not null).GroupBy(module => module.Service).FirstOrDefault(group => group.Count() > 1) is { } group)
        {
            throw Invalid(group.Last(), $"the service {group.Key}, which {group.First().TypeName} has", "a GUID of its own: manifests are found by it");
        }

        if (modules.FirstOrDefault(module => module.Service == Guid.Empty) is ModuleOptions nobody)
        {
            throw Invalid(nobody, $"the service {Guid.Empty}", "a GUID that is not all zero, or none");
        }

        CheckSingle(modules, ModulePermissions.Attest, "attest");
        CheckSingle(modules, ModulePermissions.KeepStore, "keep the store");
        CheckSingle(modules, ModulePermissions.Migrate, "move the guest");
    }

    /// <summary>The environment of a module's process.</summary>
    /// <param name="heapLimit">Most bytes of objects.</param>
    /// <returns>"NAME=value" each.</returns>
    public static ImmutableArray<string> GetEnvironment(ulong heapLimit)
    {
        ulong range = Math.Max(MinRegionRange, heapLimit * 16);
        return
        [
            string.Create(CultureInfo.InvariantCulture, $"DOTNET_GCHeapHardLimit={heapLimit:X}"),
            string.Create(CultureInfo.InvariantCulture, $"DOTNET_GCRegionRange={range:X}"),
            string.Create(CultureInfo.InvariantCulture, $"DOTNET_GCgen0size={NewObjects:X}"),
        ];
    }

    private static void Check(ImmutableArray<ModuleFile> files, ImmutableArray<ModuleOptions> modules)
    {
        Check(modules);
        if (modules.Length > ArchiveHeader.MaxModules)
        {
            throw SvsmDiagnostics.ModuleOptionInvalid.Error($"{modules.Length} modules", $"at most {ArchiveHeader.MaxModules}");
        }

        if (files.Length > ArchiveHeader.MaxFiles)
        {
            throw SvsmDiagnostics.ModuleFileInvalid.Error($"{files.Length} files, the program of the modules among them", $"at most {ArchiveHeader.MaxFiles}");
        }

        for (int i = 0; i < files.Length; i++)
        {
            if (!IsPath(files[i].Path))
            {
                throw SvsmDiagnostics.ModuleFileInvalid.Error(
                    $"a file with the path '{files[i].Path}'", $"a path from the root as /folder/name, without '.', '..' and control characters, and at most {ArchiveFile.MaxPath} bytes long");
            }

            if (i != 0 && files[i - 1].Path == files[i].Path)
            {
                throw SvsmDiagnostics.ModuleFileInvalid.Error(
                    $"two files with the path '{files[i].Path}'", $"a path of its own for each; {ModuleOptions.DefaultProgram} is that of the program of the modules");
            }

            foreach (uint reader in files[i].Readers)
            {
                if (!modules.Any(module => module.Protocol == reader))
                {
                    throw SvsmDiagnostics.ModuleFileInvalid.Error($"a file with the path '{files[i].Path}' for protocol 0x{reader:X}", "the protocol of a module of the image");
                }
            }
        }

        foreach (ModuleOptions module in modules)
        {
            int program = IndexOf(files, module.Program);
            if (program < 0 || files[program].Contents.IsEmpty)
            {
                throw Invalid(module, $"program '{module.Program}'", "the path of a file that the image has");
            }
        }
    }

    private static void CheckSingle(ImmutableArray<ModuleOptions> modules, ModulePermissions permission, string what)
    {
        if (modules.Where(module => module.Permissions.HasFlag(permission)).Skip(1).FirstOrDefault() is ModuleOptions second)
        {
            throw Invalid(second, $"a permission to {what}, which another module has", "it for one module of the image");
        }
    }

    private static void Check(ModuleOptions module)
    {
        if (module.TypeName.Length == 0 || module.TypeName.Contains('\0', StringComparison.Ordinal))
        {
            throw SvsmDiagnostics.ModuleOptionInvalid.Error($"a module of protocol 0x{module.Protocol:X} whose class is '{module.TypeName}'", "the name of a class, with its namespace");
        }

        if (module.Protocol == (uint)SvsmProtocol.Core)
        {
            throw Invalid(module, "protocol 0", "another number: 0 is the core protocol, which the kernel serves");
        }

        if (module.MinVersion == 0 || module.MaxVersion < module.MinVersion)
        {
            throw Invalid(module, $"versions {module.MinVersion} to {module.MaxVersion}", "a lowest version of 1 or more, and a highest one that is not below it");
        }

        if (module.HeapLimit < MinHeapLimit)
        {
            throw Invalid(module, $"a heap limit of 0x{module.HeapLimit:X} bytes", $"at least 0x{MinHeapLimit:X}");
        }

        if (module.MemoryLimit % PageSize != 0 || module.MemoryLimit < RuntimeMemory || module.MemoryLimit - RuntimeMemory < module.HeapLimit)
        {
            throw Invalid(
                module, $"a memory limit of 0x{module.MemoryLimit:X} bytes with a heap limit of 0x{module.HeapLimit:X}",
                $"a multiple of 4096, and 0x{RuntimeMemory:X} more than the heap limit or above, for the runtime needs memory too");
        }

        if (module.Watchdog is 0 or > MaxWatchdog)
        {
            throw Invalid(module, $"a watchdog of {module.Watchdog} ms", $"1 to {MaxWatchdog}");
        }

        const ModulePermissions OneOf = ModulePermissions.Attest | ModulePermissions.Store | ModulePermissions.KeepStore | ModulePermissions.Migrate;
        if (BitOperations.PopCount((uint)(module.Permissions & OneOf)) > 1)
        {
            throw Invalid(module, $"the permissions {module.Permissions & OneOf}", "one of Attest, Store, KeepStore and Migrate: with two, modules could wait for each other");
        }

        bool stores = (module.Permissions & ModulePermissions.Store) != 0;
        if (stores ? module.StoreQuota <= 0 : module.StoreQuota != 0)
        {
            throw Invalid(module, $"a store quota of {module.StoreQuota} bytes with the permissions {module.Permissions}", "more than 0 bytes with the permission Store, and none without it");
        }

        if (module.OnFailure > ModuleFailurePolicy.Retire || (module.Permissions & ~AllPermissions) != 0)
        {
            throw Invalid(module, $"failure policy {(uint)module.OnFailure} and permissions 0x{(uint)module.Permissions:X}", "values that are defined");
        }
    }

    private static bool IsPath(string path)
    {
        string[] parts = path.Split('/');
        return parts.Length > 1 && parts[0].Length == 0 && Encoding.UTF8.GetByteCount(path) <= ArchiveFile.MaxPath &&
            parts.Skip(1).All(part => part is not ("" or "." or "..") && !part.Any(char.IsControl));
    }

    private static uint Readers(ModuleFile file, ImmutableArray<ModuleOptions> modules)
    {
        uint readers = 0;
        for (int i = 0; i < modules.Length; i++)
        {
            readers |= file.Readers.Contains(modules[i].Protocol) ? 1u << i : 0;
        }

        return readers;
    }

    private static int IndexOf(ImmutableArray<ModuleFile> files, string path)
    {
        for (int i = 0; i < files.Length; i++)
        {
            if (files[i].Path == path)
            {
                return i;
            }
        }

        return -1;
    }

    private static SvsmDiagnosticException Invalid(ModuleOptions module, string seen, string wanted) =>
        SvsmDiagnostics.ModuleOptionInvalid.Error($"{module.TypeName} has {seen}", wanted);

    private static ulong PagesUp(ulong length) => (length + PageSize - 1) & ~(PageSize - 1);
}
