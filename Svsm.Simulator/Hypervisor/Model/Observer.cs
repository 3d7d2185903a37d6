// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What is told about a run beside its consoles (Shared/Events.cs): counters by cause, single events when the launch asks for them, and the
// state of all guest memory.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Counts and tells.</summary>
internal sealed unsafe class Observer
{
    // SAFETY (whole type): slots are below EventCounters.Slots, for which frames were allocated per VMPL; ranges lie in a local buffer.

    private const LaunchOptions Traces = LaunchOptions.TraceExits | LaunchOptions.TraceRmp | LaunchOptions.TraceGhcb;
    private const int RangesPerFrame = Link.MaxPayload / 16;
    private const int CountsPerFrame = Link.MaxPayload / 16;

    private readonly VirtualMachine _machine;
    private readonly ulong* _counts;

    /// <summary>Makes the observer of a machine.</summary>
    public Observer(VirtualMachine machine)
    {
        _machine = machine;
        _counts = (ulong*)machine.Pool.AllocateZeroed(NestedPageTables.VmplCount * EventCounters.Slots * sizeof(ulong) / Amd64.PageSize);
    }

    /// <summary>Counts the exit that is in the VMCB.</summary>
    public void Exit(VirtualCpu cpu)
    {
        ulong code = cpu.Vmcb->ExitCode;
        Count(cpu, EventCounters.ExitSlot(code));
        if ((_machine.Options & LaunchOptions.TraceExits) != 0)
        {
            Send(cpu, EventKind.Exit, code, cpu.Vmcb->ExitInfo1, cpu.Vmcb->ExitInfo2);
        }
    }

    /// <summary>Counts a nested page fault that VMPL0 is told of, besides its exit.</summary>
    public void WriteFault(VirtualCpu cpu, ulong gpa)
    {
        Count(cpu, EventCounters.ExitSlot(EventCounters.WriteFault));
        Rmp(cpu, EventKind.WriteFault, cpu.Vmcb->ExitInfo1, gpa, 0);
    }

    /// <summary>Counts a request by GHCB page.</summary>
    public void PageRequest(VirtualCpu cpu, ulong code, ulong info1, ulong info2)
    {
        Count(cpu, EventCounters.PageSlot(code));
        TraceGhcb(cpu, EventKind.GhcbPage, code, info1, info2);
    }

    /// <summary>Counts a request by GHCB MSR.</summary>
    public void MsrRequest(VirtualCpu cpu, ulong request)
    {
        Count(cpu, EventCounters.MsrSlot(request));
        TraceGhcb(cpu, EventKind.GhcbMsr, request & Wire.GhcbMsr.CodeMask, request, 0);
    }

    /// <summary>Whether requests and answers are told of.</summary>
    public bool TracesRequests
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (_machine.Options & LaunchOptions.TraceGhcb) != 0;
    }

    /// <summary>Tells the answer of a request: if requests are told of alone.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="caller">Who asked; another VMPL may run now.</param>
    /// <param name="request">The GHCB MSR when it asked.</param>
    public void Answered(VirtualCpu cpu, VmplContext caller, ulong request)
    {
        GuestPage* page = _machine.Memory.Find(request);
        if ((request & Wire.GhcbMsr.CodeMask) != 0)
        {
            Send(cpu, EventKind.GhcbMsrAnswer, request & Wire.GhcbMsr.CodeMask, caller.GhcbMsr, 0);
        }
        else if (page != null && !page->Assigned)
        {
            var ghcb = (GhcbPage*)_machine.Memory.SharedBytes(page);
            Send(cpu, EventKind.GhcbPageAnswer, ghcb->SwExitCode, ghcb->SwExitInfo1, ghcb->SwExitInfo2);
        }
    }

    /// <summary>Tells a change of the RMP.</summary>
    public void Rmp(VirtualCpu cpu, EventKind kind, ulong code, ulong info1, ulong info2)
    {
        if ((_machine.Options & LaunchOptions.TraceRmp) != 0)
        {
            Send(cpu, kind, code, info1, info2);
        }
    }

    /// <summary>Sends the counters.</summary>
    public void SendCounts()
    {
        var entries = stackalloc EventCount[CountsPerFrame];
        int used = 0;
        for (int vmpl = 0; vmpl < NestedPageTables.VmplCount; vmpl++)
        {
            for (int slot = 0; slot < EventCounters.Slots; slot++)
            {
                ulong count = _counts[(vmpl * EventCounters.Slots) + slot];
                if (count == 0)
                {
                    continue;
                }

                uint code = EventCounters.CodeOf(slot, out EventKind kind);
                entries[used++] = new EventCount { Kind = kind, Vmpl = (byte)vmpl, Code = code, Count = count };
                if (used == CountsPerFrame)
                {
                    Flush(LinkFrame.EventCounts, entries, ref used, sizeof(EventCount));
                }
            }
        }

        Flush(LinkFrame.EventCounts, entries, ref used, sizeof(EventCount));
    }

    /// <summary>Sends the state of all guest memory.</summary>
    public void SendMap()
    {
        var ranges = stackalloc RmpRange[RangesPerFrame];
        int used = 0;
        GuestMemory memory = _machine.Memory;
        for (int i = 0; i < memory.RangeCount; i++)
        {
            LaunchRam ram = memory.Range(i);
            RmpRange current = default;
            for (ulong gpa = ram.Base; gpa < ram.Base + ram.Length; gpa += Amd64.PageSize)
            {
                GuestPage* page = memory.FindTouched(gpa);
                uint entry = page == null ? 0 : (uint)page->ToReport();
                if (current.PageCount != 0 && entry == current.Entry)
                {
                    current.PageCount++;
                    continue;
                }

                Add(ranges, ref used, current);
                current = new RmpRange { Gpa = gpa, PageCount = 1, Entry = entry };
            }

            Add(ranges, ref used, current);
        }

        Flush(LinkFrame.RmpMap, ranges, ref used, sizeof(RmpRange));
    }

    private void Add(RmpRange* ranges, ref int used, RmpRange range)
    {
        if (range.PageCount == 0)
        {
            return;
        }

        ranges[used++] = range;
        if (used == RangesPerFrame)
        {
            Flush(LinkFrame.RmpMap, ranges, ref used, sizeof(RmpRange));
        }
    }

    private void Flush(LinkFrame type, void* entries, ref int used, int size)
    {
        if (used != 0)
        {
            _machine.Link.Send(type, new ReadOnlySpan<byte>(entries, used * size));
            used = 0;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void TraceGhcb(VirtualCpu cpu, EventKind kind, ulong code, ulong info1, ulong info2)
    {
        if (TracesRequests)
        {
            Send(cpu, kind, code, info1, info2);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void Count(VirtualCpu cpu, int slot) => _counts[(cpu.Vmpl * EventCounters.Slots) + slot]++;

    private void Send(VirtualCpu cpu, EventKind kind, ulong code, ulong info1, ulong info2)
    {
        var record = new TraceRecord
        {
            Kind = kind,
            Vmpl = (byte)cpu.Vmpl,
            Vcpu = (ushort)cpu.Id,
            Cpl = cpu.State->Cpl,
            Rip = cpu.State->Rip,
            Code = code,
            Info1 = info1,
            Info2 = info2,
        };
        _machine.Link.FlushConsole();
        _machine.Link.Send(LinkFrame.Trace, MemoryMarshal.AsBytes(new ReadOnlySpan<TraceRecord>(in record)));
    }
}
