// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The archive of modules in an image: a read-only file system, and what process each module is to be. For the builder (writes it), the kernel
// (reads it in place) and `svsm` (shows it). It is launched and measured, page by page, at ImageConfiguration.ArchiveBase.
//
//   ArchiveHeader        64 bytes
//   ArchiveFile[]        FileCount, 32 bytes each
//   ArchiveModule[]      ModuleCount, 80 bytes each
//   text                 paths, arguments and environments, where the entries above say
//   contents             of each file from the start of a page on; what is left of its last page is zero
//
// Everything is little-endian, offsets count from the header, and all of it lies in Length. A file's contents are mapped into processes
// straight from the archive: hence the pages. No two files share a page, so that a process sees nothing but what it may.

using System;
using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>The start of an archive.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Size)]
public struct ArchiveHeader
{
    /// <summary>Bytes of the header.</summary>
    public const int Size = 64;

    /// <summary>"SVSMARCH".</summary>
    public const ulong MagicValue = 0x4843_5241_4D53_5653;

    /// <summary>The version of this layout.</summary>
    public const uint CurrentVersion = 2;

    /// <summary>Most files of an archive.</summary>
    public const int MaxFiles = 256;

    /// <summary>Most modules of an archive: one bit each in <see cref="ArchiveFile.Readers"/>.</summary>
    public const int MaxModules = 32;

    /// <summary><see cref="MagicValue"/>.</summary>
    public ulong Magic;

    /// <summary><see cref="CurrentVersion"/>.</summary>
    public uint Version;

    /// <summary>Number of files, at most <see cref="MaxFiles"/>.</summary>
    public uint FileCount;

    /// <summary>Number of modules, at most <see cref="MaxModules"/>.</summary>
    public uint ModuleCount;

    /// <summary>Zero.</summary>
    public uint Reserved;

    /// <summary>Length of the archive in bytes, whole pages.</summary>
    public ulong Length;
}

/// <summary>A file of an archive.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Size)]
public struct ArchiveFile
{
    /// <summary>Bytes of an entry.</summary>
    public const int Size = 32;

    /// <summary>Longest path in bytes.</summary>
    public const int MaxPath = 255;

    /// <summary>Offset of the path: UTF-8, from the root ('/' in front), without an end mark. No two files have the same.</summary>
    public uint PathOffset;

    /// <summary>Bytes of the path, 2 to <see cref="MaxPath"/>.</summary>
    public uint PathLength;

    /// <summary>Offset of the contents, page-aligned.</summary>
    public ulong Offset;

    /// <summary>Bytes of the contents.</summary>
    public ulong Length;

    /// <summary>Which modules may open the file: bit i for module i.</summary>
    public uint Readers;

    /// <summary>Zero.</summary>
    public uint Reserved;
}

/// <summary>What happens when a module's process has failed.</summary>
public enum ModuleFailurePolicy : uint
{
    /// <summary>It is started anew, up to <see cref="ArchiveModule.RestartLimit"/> times; after that it is retired.</summary>
    Restart = 0,

    /// <summary>It is not started again: its protocol is no longer there.</summary>
    Retire = 1,
}

/// <summary>What a module's process may do beyond computing.</summary>
[Flags]
public enum ModulePermissions : uint
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Read memory of the guest.</summary>
    ReadGuest = 1,

    /// <summary>Write memory of the guest.</summary>
    WriteGuest = 2,

    /// <summary>
    /// Ask the security processor, with the key of VMPL0, and the other modules for their manifests. At most one module of an image has it.
    /// </summary>
    Attest = 4,

    /// <summary>Have a part of the store. A module has one of this, <see cref="Attest"/>, <see cref="KeepStore"/> and <see cref="Migrate"/>: else two could wait for each other.</summary>
    Store = 8,

    /// <summary>
    /// Keep the store, for the modules that have a part of it, and have keys derived for it. At most one module of an image has it. It is started before
    /// those, and after the one that attests, and serves no guest: its protocol is a name.
    /// </summary>
    KeepStore = 16,

    /// <summary>
    /// Move the guest to another machine: its memory, its vCPUs, the states of the other modules; and ask for reports. At most one module of an image has it.
    /// It is started last, and serves no guest: its protocol is a name.
    /// </summary>
    Migrate = 32,
}

/// <summary>A module of an archive: the process that serves one protocol.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Size)]
public struct ArchiveModule
{
    /// <summary>Bytes of an entry.</summary>
    public const int Size = 80;

    /// <summary>Most strings in <see cref="TextOffset"/>, arguments and environment together.</summary>
    public const int MaxStrings = 64;

    /// <summary>Most bytes of <see cref="TextOffset"/>.</summary>
    public const int MaxText = 2048;

    /// <summary>Protocol number; not that of the core protocol, and no two modules have the same.</summary>
    public SvsmProtocol Protocol;

    /// <summary>Lowest version that is served, at least 1.</summary>
    public uint MinVersion;

    /// <summary>Highest version that is served, not below <see cref="MinVersion"/>.</summary>
    public uint MaxVersion;

    /// <summary>Index of the file that is its program.</summary>
    public uint Program;

    /// <summary>Offset of its arguments, then its environment ("NAME=value"): UTF-8, a zero byte behind each.</summary>
    public uint TextOffset;

    /// <summary>Bytes of <see cref="TextOffset"/>.</summary>
    public uint TextLength;

    /// <summary>How many of the strings are arguments, at least 1: the first is the name of the module's class, with its namespace.</summary>
    public uint ArgumentCount;

    /// <summary>How many are environment.</summary>
    public uint EnvironmentCount;

    /// <summary>Most bytes of memory of its own: what it may write, without text that it shares. Whole pages.</summary>
    public ulong MemoryLimit;

    /// <summary>Most milliseconds of processor time for one request, and for its start.</summary>
    public uint Watchdog;

    /// <summary>What happens when it has failed.</summary>
    public ModuleFailurePolicy OnFailure;

    /// <summary>How many times it is started anew.</summary>
    public uint RestartLimit;

    /// <summary>What it may do.</summary>
    public ModulePermissions Permissions;

    /// <summary>GUID of its service in attestation manifests, in the byte order of UEFI; zero: it has none. No two modules have the same.</summary>
    public Bytes16 Service;

    /// <summary>Bytes that it may have in the store; zero without <see cref="ModulePermissions.Store"/>.</summary>
    public ulong StoreQuota;
}
