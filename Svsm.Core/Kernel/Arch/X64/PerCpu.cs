// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Data of one CPU. Each CPU has its own page behind the one address KernelLayout.PerCpuData, so the current CPU's data is
// reached without a segment register, and another CPU's not at all.

using System.Runtime.InteropServices;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Tasks;

namespace Svsm.Kernel.Arch;

/// <summary>A task state segment in 64-bit mode: stack pointers only.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 4)]
internal unsafe struct TaskStateSegment
{
    /// <summary>Zero.</summary>
    public uint Reserved0;

    /// <summary>Stacks of privilege levels 0 to 2.</summary>
    public fixed ulong Rsp[3];

    /// <summary>Zero.</summary>
    public ulong Reserved1;

    /// <summary>Interrupt stacks 1 to 7.</summary>
    public fixed ulong Ist[7];

    /// <summary>Zero.</summary>
    public ulong Reserved2;

    /// <summary>Zero.</summary>
    public ushort Reserved3;

    /// <summary>Offset of the I/O permission map; the segment's length means that there is none.</summary>
    public ushort IOMapBase;
}

/// <summary>The current CPU's data; one page, zero at the start.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct PerCpu
{
    /// <summary>Mapping windows in use, one bit each.</summary>
    public fixed ulong UsedWindows[8];

    /// <summary>Global descriptor table: null, code, data, task state segment (two quadwords).</summary>
    public fixed ulong Gdt[5];

    /// <summary>Task state segment.</summary>
    public TaskStateSegment Tss;

    /// <summary>Number of the CPU, which is its APIC id too: 0 for the one that boots.</summary>
    public uint Index;

    /// <summary>Locks that the CPU holds; see <see cref="CpuLocks"/>.</summary>
    public LockOrder Locks;

    /// <summary>Frame of the GHCB page.</summary>
    public PhysicalAddress GhcbFrame;

    /// <summary>The host knows the GHCB page of this CPU.</summary>
    public bool HasGhcb;

    /// <summary>A #VC is being handled.</summary>
    public bool HandlesVc;

    /// <summary>A panic is being printed.</summary>
    public bool Panics;

    /// <summary>Tasks of the CPU.</summary>
    public CpuTasks Tasks;

    /// <summary>The current CPU's data.</summary>
    // SAFETY: Kernel.ld gives every CPU a page at this address, and the type is smaller than a page.
    public static ref PerCpu Current => ref *(PerCpu*)KernelLayout.PerCpuData;
}
