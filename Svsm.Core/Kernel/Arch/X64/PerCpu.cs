// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Data of one CPU. Each CPU has its own page behind the one address KernelLayout.PerCpuData, so the current CPU's data is
// reached without a segment register, and another CPU's not at all.

using System.Runtime.InteropServices;
using Svsm.Kernel.Diagnostics;
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

/// <summary>What decides whether the task that runs can be preempted. Known to Doorbell.S.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TurnState
{
    /// <summary>Reasons not to: locks and other things that belong to the CPU.</summary>
    public uint Holds;

    /// <summary>#HV has come. Set by its handler at any time.</summary>
    public bool HasEvents;

    /// <summary>First byte of the stack of the task that runs.</summary>
    public ulong StackBottom;

    /// <summary>Its length in bytes; 0 for the CPU's first task, which is not preempted.</summary>
    public ulong StackSize;
}

/// <summary>What the way to a process and back needs. Known to User.S.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UserState
{
    /// <summary>RAX of the process, for a moment.</summary>
    public ulong Rax;

    /// <summary>Address of the <see cref="Processes.UserContext"/> of the process that was entered last.</summary>
    public ulong Context;

    /// <summary>RSP of the kernel while a process runs.</summary>
    public ulong KernelStack;
}

/// <summary>The current CPU's data; one page, zero at the start.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct PerCpu
{
    /// <summary>Whether the task that runs can be preempted. At offset 0.</summary>
    public TurnState Turn;

    /// <summary>The way to a process. At offset 24.</summary>
    public UserState User;

    /// <summary>Mapping windows in use, one bit each.</summary>
    public fixed ulong UsedWindows[8];

    /// <summary>Global descriptor table: null, code, data, task state segment (two quadwords), data and code of CPL 3.</summary>
    public fixed ulong Gdt[7];

    /// <summary>Task state segment. User.S knows where its first stack pointer is.</summary>
    public TaskStateSegment Tss;

    /// <summary>Number of the CPU, which is its APIC id too: 0 for the one that boots.</summary>
    public uint Index;

    /// <summary>Locks that the CPU holds; see <see cref="CpuLocks"/>.</summary>
    public LockOrder Locks;

    /// <summary>Frame of the GHCB page.</summary>
    public PhysicalAddress GhcbFrame;

    /// <summary>The host knows the GHCB page of this CPU.</summary>
    public bool HasGhcb;

    /// <summary>The host knows the #HV doorbell page of this CPU.</summary>
    public bool HasDoorbell;

    /// <summary>The timer runs.</summary>
    public bool IsTicking;

    /// <summary>Always false: what a CPU without a doorbell page has in place of its flags.</summary>
    public bool NoSignal;

    /// <summary>The GHCB is as <see cref="Snp.Host.LeaveToProcess"/> has left it: nothing was asked since.</summary>
    public bool IsGhcbHarmless;

    /// <summary>A process has run since the last tick: the timer is left on for the next one.</summary>
    public bool RanProcess;

    /// <summary>A #VC is being handled.</summary>
    public bool HandlesVc;

    /// <summary>A panic is being printed.</summary>
    public bool Panics;

    /// <summary>The line of the log that is being put together.</summary>
    public LineBuffer Line;

    /// <summary>Tasks of the CPU.</summary>
    public CpuTasks Tasks;

    /// <summary>The current CPU's data.</summary>
    // SAFETY: Kernel.ld gives every CPU a page at this address, and the type is smaller than a page.
    public static ref PerCpu Current => ref *(PerCpu*)KernelLayout.PerCpuData;
}
