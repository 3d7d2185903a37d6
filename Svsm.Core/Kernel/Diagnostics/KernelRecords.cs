// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Where the kernel keeps what it tells of itself: Svsm.Wire.KernelRecord has the layout, Entry.S the memory.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>The record of this kernel.</summary>
internal static unsafe class KernelRecords
{
    private static OwnedArray<CallCounters, KernelHeap> s_counters;

    // SAFETY: Entry.S has room for head and ring, one behind the other.
    private static ref KernelRecord Head => ref *(KernelRecord*)Address();

    /// <summary>The log in memory.</summary>
    // SAFETY: as above.
    public static LogRing Ring => new(ref Head, new Span<LogEntry>((KernelRecord*)Address() + 1, KernelRecord.LogEntryCount));

    /// <summary>Makes the counters.</summary>
    /// <param name="cpuCount">Number of CPUs.</param>
    /// <returns>What was lacking.</returns>
    public static MemoryError CreateCounters(int cpuCount)
    {
        MemoryError error = OwnedArray<CallCounters, KernelHeap>.Create(cpuCount, out s_counters);
        if (error == MemoryError.None)
        {
            Head.CpuCount = (uint)cpuCount;
            Head.Counters = (ulong)Unsafe.AsPointer(ref s_counters.Items[0]);
            NoteFrames();
        }

        return error;
    }

    /// <summary>Counts a call that the current CPU has answered.</summary>
    public static void Count(SvsmProtocol protocol, uint call, SvsmResultCode result) =>
        s_counters.Items[(int)PerCpu.Current.Index][CallIndex.Of(protocol, call, result)]++;

    /// <summary>Writes down how many frames are in use.</summary>
    public static void NoteFrames()
    {
        Head.FramesInUse = (uint)FrameAllocator.Used;
        Head.FrameCount = (uint)FrameAllocator.Count;
    }

    [RuntimeImport("*", "svsm_record_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong Address();
}
