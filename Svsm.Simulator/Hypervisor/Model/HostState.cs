// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the hypervisor knows of a guest below VMPL0, for a machine that the guest is moved to: its interrupt controllers, ports, clocks, and shared pages.
// Its private pages and registers are the SVSM's to move; the hypervisor could not read them. Of VMPL0 nothing is moved: that of the other machine is
// another one.
//
//   model   in one piece, at most the window (Link.WindowLength). The order is that of Pass below; each class has its own
//   pages   records of the pages that are shared, but for those that VMPL0 had made so for itself; each u64 GPA, u32 pages, u32 HostStatePages, then the
//           contents of the pages if they are told
//
// The guest's time stands still meanwhile: the time-stamp counters here go on from that of the other machine. They are not set back, should they be ahead.
// Timers of APICs have as long to go as they had; deadlines in time-stamp ticks stay what they are.
//
// All of it is checked before anything is taken. It comes from the machine's host side, which is trusted not to be hostile but may hand on what is damaged.

using System;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>Saves and takes what the hypervisor knows of a guest.</summary>
internal static unsafe class HostState
{
    // SAFETY (whole type): pages come from GuestMemory.Find and are checked for null; frames are whole pages.

    private const int RecordLength = 16;
    private const uint Version = 2;
    private const LaunchOptions OptionsThatMatter = LaunchOptions.SingleVmpl | LaunchOptions.HostFlushes;

    /// <summary>Passes the model.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="bytes">Room, or what came.</param>
    /// <param name="mode">Which way. To take, what came must have been checked.</param>
    /// <param name="length">How long it is.</param>
    /// <returns>Why not, if not; then nothing was changed, unless it was to be taken and is damaged.</returns>
    public static HostStateRefusal Pass(VirtualMachine machine, Span<byte> bytes, StateMode mode, out int length)
    {
        length = 0;
        HostStateRefusal refusal = IsGuestRunning(machine) ? HostStateRefusal.GuestRuns : machine.Pci.HasDevices ? HostStateRefusal.PciDevices : HostStateRefusal.None;
        if (refusal != HostStateRefusal.None)
        {
            return refusal;
        }

        var stream = new StateStream(bytes, mode);
        PassKind(machine, ref stream);
        if (!stream.IsBad && !stream.Differs)
        {
            PassModel(machine, ref stream);
        }

        length = stream.Length;
        return stream.Differs ? HostStateRefusal.OtherMachine
            : stream.IsBad || (mode != StateMode.Save && !stream.IsComplete) ? HostStateRefusal.Damaged
            : HostStateRefusal.None;
    }

    /// <summary>Writes records of pages, as many as there is room for.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cursor">Where to begin: 0, or what the last call gave.</param>
    /// <param name="bytes">Room for a page at least.</param>
    /// <param name="length">How much was written.</param>
    /// <returns>Where to go on; all ones at the end.</returns>
    public static ulong SavePages(VirtualMachine machine, ulong cursor, Span<byte> bytes, out int length)
    {
        GuestMemory memory = machine.Memory;
        length = 0;
        ulong first = 0;
        for (int i = 0; i < memory.RangeCount; i++)
        {
            LaunchRam ram = memory.Range(i);
            ulong count = ram.Length / Amd64.PageSize;
            ulong index = cursor - first;
            int record = -1;
            for (; index < count; index++)
            {
                ulong gpa = ram.Base + (index * Amd64.PageSize);
                GuestPage* page = memory.FindTouched(gpa);
                if (page != null && (page->Assigned || page->IsSharedForVmpl0))
                {
                    record = -1;
                    continue;
                }

                HostStatePages kind = KindOf(page);
                bool isNew = record < 0 || KindAt(bytes, record) != kind;
                int needed = (isNew ? RecordLength : 0) + (kind == HostStatePages.Told ? Amd64.PageSize : 0);
                if (needed > bytes.Length - length)
                {
                    return first + index;
                }

                if (isNew)
                {
                    record = length;
                    MemoryMarshal.Write(bytes.Slice(record), in gpa);
                    MemoryMarshal.Write(bytes.Slice(record + 8), 0u);
                    MemoryMarshal.Write(bytes.Slice(record + 12), in kind);
                }

                MemoryMarshal.Write(bytes.Slice(record + 8), MemoryMarshal.Read<uint>(bytes.Slice(record + 8)) + 1);
                if (kind == HostStatePages.Told)
                {
                    new ReadOnlySpan<byte>(page->SharedFrame, Amd64.PageSize).CopyTo(bytes.Slice(length + needed - Amd64.PageSize));
                }

                length += needed;
            }

            first += count;
            cursor = Math.Max(cursor, first);
        }

        return ulong.MaxValue;
    }

    /// <summary>Checks or takes records of pages.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="bytes">Whole records.</param>
    /// <param name="take">Whether they are taken; they have been checked.</param>
    /// <returns>Why not, if not; then some may have been taken.</returns>
    public static HostStateRefusal PassPages(VirtualMachine machine, ReadOnlySpan<byte> bytes, bool take)
    {
        while (!bytes.IsEmpty)
        {
            if (bytes.Length < RecordLength)
            {
                return HostStateRefusal.Damaged;
            }

            ulong gpa = MemoryMarshal.Read<ulong>(bytes);
            uint count = MemoryMarshal.Read<uint>(bytes.Slice(8));
            HostStatePages kind = KindAt(bytes, 0);
            bytes = bytes.Slice(RecordLength);
            bool isTold = kind == HostStatePages.Told;
            if (kind > HostStatePages.Told || (gpa & (Amd64.PageSize - 1)) != 0 || (isTold && count > (uint)bytes.Length / Amd64.PageSize))
            {
                return HostStateRefusal.Damaged;
            }

            for (ulong end = gpa + ((ulong)count * Amd64.PageSize); gpa != end; gpa += Amd64.PageSize)
            {
                GuestPage* page = gpa < Amd64.CBit ? machine.Memory.Find(gpa) : null;
                if (page == null)
                {
                    return HostStateRefusal.OtherMachine;
                }

                if (page->IsRunning || page->IsSharedForVmpl0)
                {
                    return HostStateRefusal.PageInUse;
                }

                if (take)
                {
                    TakePage(machine.Memory, page, gpa, kind, bytes);
                }

                bytes = bytes.Slice(isTold ? Amd64.PageSize : 0);
            }
        }

        return HostStateRefusal.None;
    }

    private static void TakePage(GuestMemory memory, GuestPage* page, ulong gpa, HostStatePages kind, ReadOnlySpan<byte> contents)
    {
        memory.Unassign(page, gpa);
        if (kind == HostStatePages.Told)
        {
            contents.Slice(0, Amd64.PageSize).CopyTo(new Span<byte>(memory.SharedBytes(page), Amd64.PageSize));
        }
        else if (KindOf(page) != kind)
        {
            FramePool.Fill(memory.SharedBytes(page), 1, kind == HostStatePages.Zeroes ? 0 : GuestMemory.Ciphertext);
        }
    }

    private static HostStatePages KindAt(ReadOnlySpan<byte> bytes, int record) => (HostStatePages)MemoryMarshal.Read<uint>(bytes.Slice(record + 12));

    // What a shared page holds.
    private static HostStatePages KindOf(GuestPage* page)
    {
        if (page == null || page->SharedFrame == null)
        {
            return page != null && page->OncePrivate ? HostStatePages.Ciphertext : HostStatePages.Zeroes;
        }

        var values = (ulong*)page->SharedFrame;
        ulong first = values[0];
        bool isAlike = first is 0 or GuestMemory.Ciphertext;
        for (int i = 1; i < Amd64.PageSize / sizeof(ulong) && isAlike; i++)
        {
            isAlike = values[i] == first;
        }

        return !isAlike ? HostStatePages.Told : first == 0 ? HostStatePages.Zeroes : HostStatePages.Ciphertext;
    }

    private static bool IsGuestRunning(VirtualMachine machine)
    {
        for (int i = 0; i < machine.Cpus.Length; i++)
        {
            VirtualCpu cpu = machine.Cpus[i];
            if (cpu.Vmpl != 0 && (cpu.IsRunning || cpu.IsHalted))
            {
                return true;
            }
        }

        return false;
    }

    // What both machines must have alike.
    private static void PassKind(VirtualMachine machine, ref StateStream stream)
    {
        stream.Same(Version);
        stream.Same((ulong)machine.Cpus.Length);
        stream.Same((ulong)(machine.Options & OptionsThatMatter));
        stream.Same((ulong)machine.Memory.RangeCount);
        for (int i = 0; i < machine.Memory.RangeCount; i++)
        {
            stream.Same(machine.Memory.Range(i).Base);
            stream.Same(machine.Memory.Range(i).Length);
        }

        machine.Ports.Firmware.PassKind(ref stream);
        machine.Pci.PassKind(ref stream);

        // Both measure it: counters of the same speed do not come out quite alike.
        ulong own = machine.Clock.Frequency;
        ulong told = stream.Told(own);
        stream.Mark(told > own + (own / 4) || told < own - (own / 4));
    }

    private static void PassModel(VirtualMachine machine, ref StateStream stream)
    {
        ulong now = stream.Told(machine.Interrupts.Now);
        if (stream.Mode == StateMode.Take)
        {
            machine.AdvanceTime(now);
            now = machine.Interrupts.Now;
        }

        machine.Msrs.Pass(ref stream);
        machine.IoApic.Pass(ref stream);
        machine.Ports.Pass(ref stream);
        machine.Pci.Pass(ref stream);
        for (int i = 0; i < machine.Cpus.Length; i++)
        {
            for (int vmpl = 1; vmpl < NestedPageTables.VmplCount; vmpl++)
            {
                machine.Cpus[i].Contexts[vmpl].Pass(ref stream, now);
            }
        }

        if (stream.Mode == StateMode.Take)
        {
            machine.Interrupts.Reset();
        }
    }
}
