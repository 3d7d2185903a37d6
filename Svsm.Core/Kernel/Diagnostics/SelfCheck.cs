// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What an image made for tests does more than a real one: each CPU compares its live page tables with the partition of the address space
// (PageTableAudit.cs), before its first guest and after every return from it. A difference ends the VM. Without SVSM_SELF_CHECK there is no
// call, and nothing of this in the image. tests/Svsm.SelfCheck builds such a kernel.

using System;
using System.Diagnostics;
using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>Checks of the running kernel.</summary>
internal static unsafe class SelfCheck
{
    // 32 MiB, more than the images of tests have.
    private const int MaxPages = 8192;

    // Enough for every CPU.
    private const int MaxCpus = 512;

    [InlineArray(MaxPages)]
    private struct Marks
    {
        private ushort _element0;
    }

    [InlineArray(MaxCpus)]
    private struct Reported
    {
        private bool _element0;
    }

    private static KernelLock s_lock;
    private static Marks s_marks;
    private static Reported s_reported;
#if SVSM_SELF_CHECK
    private static int s_used;
    private static int s_reports;
#endif

    /// <summary>Checks the current CPU; ends the VM when something is wrong.</summary>
    [Conditional("SVSM_SELF_CHECK")]
    public static void Run()
    {
        int cpu = (int)PerCpu.Current.Index;
        PartitionFacts facts = new()
        {
            TextStart = KernelText.Start(),
            TextEnd = KernelText.End(),
            DataStart = DataStart(),
            DataEnd = DataEnd(),
            Region = KernelMemory.Region,
            Claim = KernelMemory.Claim,
            HasDoorbell = PerCpu.Current.HasDoorbell,
        };
        TableWindows memory = default;

        // SAFETY: the list of the current CPU, which stays where it is.
        ReadOnlySpan<ulong> windows = new(Unsafe.AsPointer(ref PerCpu.Current.UsedWindows[0]), KernelAddressSpace.WindowPageCount / 64);
        s_lock.Acquire(LockRank.AddressSpace);
        PageTableAudit<TableWindows> audit = new(ref memory, AddressSpace.EncryptionMask, in facts, s_marks, windows);
        PartitionFault fault = audit.Run(AddressSpace.Root, cpu);
        s_lock.Release(LockRank.AddressSpace);
        if (fault != PartitionFault.None)
        {
            Panic.Stop(TerminationReason.Internal, Describe(fault), audit.Address);
        }

        CheckFrames();
        if (!s_reported[cpu])
        {
            s_reported[cpu] = true;
            if (cpu == 0)
            {
                CheckAllocations();
            }
            else if (cpu == 1)
            {
                LeaveTask();
            }

            Log.Text("svsm: self-check: CPU "u8);
            Log.Decimal((ulong)cpu);
            Log.Text(" maps "u8);
            Log.Decimal((ulong)audit.Pages);
            Log.End(" pages, all where they belong"u8);
#if SVSM_SELF_CHECK
            System.Threading.Interlocked.Increment(ref s_reports);
#endif
        }
    }

    // While booting all frames were asked for that are; from here on there is the same number in use whenever the guest runs.
    [Conditional("SVSM_SELF_CHECK")]
    private static void CheckAllocations()
    {
#if SVSM_SELF_CHECK
        Log.Text("svsm: self-check: "u8);
        Log.Decimal(FrameAllocator.Asked);
        Log.End(" frames were asked for while booting"u8);
        if (!FrameAllocator.HasRefusals)
        {
            RefuseAllocations();
            CheckUnmapping();
            TaskCheck.Run();
        }

#endif
    }

    [Conditional("SVSM_SELF_CHECK")]
    private static void CheckFrames()
    {
#if SVSM_SELF_CHECK
        // On the first CPU, once all have made what they make.
        if (PerCpu.Current.Index != 0 || System.Threading.Volatile.Read(ref s_reports) != Guest.GuestVcpus.All.Length)
        {
            return;
        }

        s_used = s_used == 0 ? FrameAllocator.Used : s_used;
        if (s_used != FrameAllocator.Used)
        {
            Panic.Stop(TerminationReason.Internal, "self-check: other frames are in use than when the guest started"u8, (ulong)FrameAllocator.Used);
        }
#endif
    }

    [Conditional("SVSM_SELF_CHECK")]
    private static void LeaveTask()
    {
#if SVSM_SELF_CHECK
        if (!FrameAllocator.HasRefusals)
        {
            TaskCheck.WaitForOtherCpu();
        }
#endif
    }

    // Each frame that an allocation takes is refused once, one at a time: an error, no panic, and nothing is lost.
    [Conditional("SVSM_SELF_CHECK")]
    private static void RefuseAllocations()
    {
#if SVSM_SELF_CHECK
        const int Sites = 5;
        int refused = 0;
        for (int site = 0; site < Sites; site++)
        {
            // Once without: tables of the shared part stay.
            MemoryError error = TryAllocate(site);
            int used = FrameAllocator.Used;
            for (int after = 0; error == MemoryError.None; after++)
            {
                FrameAllocator.Refuse((ulong)after);
                error = TryAllocate(site);
                bool isDone = !FrameAllocator.EndRefusal();
                if (FrameAllocator.Used != used || (error == MemoryError.None) != isDone)
                {
                    Panic.Stop(TerminationReason.Internal, "self-check: frames are lost when one is refused; site and number:"u8, ((ulong)site << 32) | (uint)after);
                }

                if (isDone)
                {
                    break;
                }

                error = MemoryError.None;
                refused++;
            }
        }

        Log.Text("svsm: self-check: "u8);
        Log.Decimal((ulong)refused);
        Log.End(" refused frames, none lost"u8);
#endif
    }

#if SVSM_SELF_CHECK
    // Pages that were given back cannot be read any more, by a translation that the processor remembers neither.
    private static void CheckUnmapping()
    {
        if (KernelPages.Allocate(2, out KernelPages pages) != MemoryError.None)
        {
            Panic.Stop(TerminationReason.Internal, "self-check: no memory for pages"u8);
        }

        ulong address = pages.Address;
        pages.Bytes.Fill(1);
        pages.Dispose();
        byte read = 0;

        // SAFETY: the access may fault (Fixups.cs).
        if (GuestAccess.TryCopy(ref read, ref *(byte*)address, 1) || GuestAccess.TryCopy(ref read, ref *(byte*)(address + Page.Size), 1))
        {
            Panic.Stop(TerminationReason.Internal, "self-check: a page that was given back can be read"u8, address);
        }
    }

    // What an allocation gives goes back at once.
    private static MemoryError TryAllocate(int site)
    {
        switch (site)
        {
            case 0:
                MemoryError error = KernelPages.Allocate(3, out KernelPages pages);
                pages.Dispose();
                return error;
            case 1:
                error = CpuArea.Create(out CpuArea area);
                area.Dispose();
                return error;
            case 2:
                error = Owned<PageRange, KernelHeap>.Create(out Owned<PageRange, KernelHeap> value);
                value.Dispose();
                return error;
            case 3:
                return TaskCheck.RunOne();
            default:
                error = OwnedArray<PageRange, KernelHeap>.Create(1000, out OwnedArray<PageRange, KernelHeap> values);
                values.Dispose();
                return error;
        }
    }
#endif

    private static ReadOnlySpan<byte> Describe(PartitionFault fault) => fault switch
    {
        PartitionFault.UserMode => "self-check: a page can be used at CPL 3"u8,
        PartitionFault.WritableAndExecutable => "self-check: a page is writable and executable"u8,
        PartitionFault.Outside => "self-check: a page is mapped where nothing belongs"u8,
        PartitionFault.WrongRights => "self-check: a page has other rights than its place"u8,
        PartitionFault.WrongEncryption => "self-check: a page is shared with the host, or the GHCB page is not"u8,
        PartitionFault.NotOurs => "self-check: a page outside of the SVSM's memory is mapped for good"u8,
        _ => "self-check: a page is mapped twice"u8,
    };

    [RuntimeImport("*", "svsm_data_start_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong DataStart();

    [RuntimeImport("*", "svsm_data_end_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong DataEnd();
}
