// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the boot loader hands over. Source: Multiboot specification 0.6.96, "Boot information format".

using System.Runtime.InteropServices;

namespace Svsm.Hypervisor;

/// <summary>The boot information.</summary>
[StructLayout(LayoutKind.Explicit, Size = 52)]
internal struct MultibootInformation
{
    /// <summary>Flag: <see cref="ModuleCount"/> and <see cref="Modules"/> are valid.</summary>
    public const uint HasModules = 1 << 3;

    /// <summary>Flag: <see cref="MemoryMapLength"/> and <see cref="MemoryMap"/> are valid.</summary>
    public const uint HasMemoryMap = 1 << 6;

    /// <summary>Which fields are valid.</summary>
    [FieldOffset(0)]
    public uint Flags;

    /// <summary>Number of modules.</summary>
    [FieldOffset(20)]
    public uint ModuleCount;

    /// <summary>Address of the module list.</summary>
    [FieldOffset(24)]
    public uint Modules;

    /// <summary>Length of the memory map in bytes.</summary>
    [FieldOffset(44)]
    public uint MemoryMapLength;

    /// <summary>Address of the memory map.</summary>
    [FieldOffset(48)]
    public uint MemoryMap;
}

/// <summary>A module.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct MultibootModule
{
    /// <summary>First address.</summary>
    public uint Start;

    /// <summary>First address that is not part of it.</summary>
    public uint End;

    /// <summary>Address of its command line.</summary>
    public uint CommandLine;

    /// <summary>Zero.</summary>
    public uint Reserved;
}

/// <summary>An entry of the memory map.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
internal struct MultibootMemory
{
    /// <summary><see cref="Type"/> of usable RAM.</summary>
    public const uint Available = 1;

    /// <summary>Length of the rest of the entry.</summary>
    public uint Size;

    /// <summary>First address.</summary>
    public ulong Base;

    /// <summary>Length in bytes.</summary>
    public ulong Length;

    /// <summary>What it is.</summary>
    public uint Type;
}
