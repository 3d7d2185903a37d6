// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>A module of an image: the process that serves one protocol.</summary>
public sealed record ModuleOptions
{
    /// <summary>Default of <see cref="Program"/>.</summary>
    public const string DefaultProgram = "/modules";

    /// <summary>Default of <see cref="HeapLimit"/>: 4 MiB.</summary>
    public const ulong DefaultHeapLimit = 0x40_0000;

    /// <summary>Default of <see cref="MemoryLimit"/>: 6 MiB, so that three modules and what they share stay within 32 MiB.</summary>
    public const ulong DefaultMemoryLimit = 0x60_0000;

    /// <summary>Default of <see cref="Watchdog"/>: 10 seconds.</summary>
    public const uint DefaultWatchdog = 10_000;

    /// <summary>What <see cref="StoreQuota"/> is where a project says nothing: 256 KiB.</summary>
    public const long DefaultStoreQuota = 0x4_0000;

    /// <summary>Default of <see cref="RestartLimit"/>.</summary>
    public const uint DefaultRestartLimit = 3;

    /// <summary>Name of the module's class, with its namespace: the program's first argument.</summary>
    public required string TypeName { get; init; }

    /// <summary>Protocol number; not that of the core protocol, and no two modules have the same.</summary>
    public required uint Protocol { get; init; }

    /// <summary>Lowest version that is served, at least 1.</summary>
    public uint MinVersion { get; init; } = 1;

    /// <summary>Highest version that is served, not below <see cref="MinVersion"/>.</summary>
    public uint MaxVersion { get; init; } = 1;

    /// <summary>GUID of its service in attestation manifests; null: it has none. No two modules have the same.</summary>
    public Guid? Service { get; init; }

    /// <summary>Path of its program among the image's <see cref="SvsmImageOptions.Files"/>.</summary>
    public string Program { get; init; } = DefaultProgram;

    /// <summary>Most bytes of objects, 1 MiB at least: what the garbage collector stays below, and an OutOfMemoryException in the module else.</summary>
    public ulong HeapLimit { get; init; } = DefaultHeapLimit;

    /// <summary>
    /// Most bytes of memory of its own, objects, stack and runtime together, and without the text that it shares; whole pages. At least 1 MiB more
    /// than <see cref="HeapLimit"/>. The kernel sees to it.
    /// </summary>
    public ulong MemoryLimit { get; init; } = DefaultMemoryLimit;

    /// <summary>Most milliseconds of processor time for one request, and for its start; 1 to 3,600,000.</summary>
    public uint Watchdog { get; init; } = DefaultWatchdog;

    /// <summary>What happens when it has failed.</summary>
    public ModuleFailurePolicy OnFailure { get; init; }

    /// <summary>How many times it is started anew.</summary>
    public uint RestartLimit { get; init; } = DefaultRestartLimit;

    /// <summary>What it may do.</summary>
    public ModulePermissions Permissions { get; init; } = ModulePermissions.ReadGuest | ModulePermissions.WriteGuest;

    /// <summary>Bytes that it may have in the store: 0 without <see cref="ModulePermissions.Store"/>, more with it.</summary>
    public long StoreQuota { get; init; }
}

/// <summary>A file of an image's archive.</summary>
/// <param name="Path">Path from the root, '/' in front, parts between single '/', at most 255 bytes of UTF-8.</param>
/// <param name="Contents">The contents. Opaque here, but for programs.</param>
public sealed record ModuleFile(string Path, ReadOnlyMemory<byte> Contents)
{
    /// <summary>Protocols of the modules that may open the file. A program need not be readable to be run.</summary>
    public ImmutableArray<uint> Readers { get; init; } = [];
}
