// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a host writes into IGVM parameter areas. Host data: nothing of it is measured, everything of it is checked.
// For the kernel (reads) and the simulator's machine (writes). The guest's own memory map has the same shape.
// Source: microsoft/igvm igvm_defs/src/lib.rs (IGVM_VHS_MEMORY_MAP_ENTRY and others).

using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>One range of the memory map. 24 bytes; the list is sorted and ends with an entry of zero pages.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct MemoryMapEntry
{
    /// <summary>First 4-KiB page number.</summary>
    public ulong StartPage;

    /// <summary>Length in 4-KiB pages; 0 ends the list.</summary>
    public ulong PageCount;

    /// <summary>Kind of memory.</summary>
    public MemoryMapEntryType Type;

    /// <summary>Flags; 0.</summary>
    public ushort Flags;

    /// <summary>Zero.</summary>
    public uint Reserved;
}

/// <summary>Kinds of memory in a memory map.</summary>
public enum MemoryMapEntryType : ushort
{
    /// <summary>RAM.</summary>
    Memory = 0,

    /// <summary>Reserved by the platform.</summary>
    PlatformReserved = 1,

    /// <summary>Persistent memory.</summary>
    Persistent = 2,

    /// <summary>VTL2 protectable.</summary>
    Vtl2Protectable = 3,

    /// <summary>Specific purpose.</summary>
    SpecificPurpose = 4,

    /// <summary>Hidden.</summary>
    Hidden = 5,
}

/// <summary>The page of general parameters, as this project's images lay it out.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct GeneralParameters
{
    /// <summary>Number of vCPUs (VP_COUNT at byte offset 0).</summary>
    public uint VcpuCount;

    /// <summary>ENVIRONMENT_INFO at byte offset 4: bit 0 = memory that was not launched is shared with the host.</summary>
    public uint EnvironmentInfo;

    /// <summary><see cref="EnvironmentInfo"/> bit 0.</summary>
    public const uint MemoryIsShared = 1;
}
