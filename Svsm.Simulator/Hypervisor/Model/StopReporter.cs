// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Tells the machine who was where and why when the run stopped.

using System;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The end of a run.</summary>
internal static unsafe class StopReporter
{
    // SAFETY (whole type): guest bytes are reached through GuestMemory.Access only; an aligned quadword does not leave its page.

    private const int CodeBytes = 16;
    private const int FrameCount = 4;
    private const int RegisterCount = 16;

    /// <summary>Sends statistics, report and exit frame.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cpu">The vCPU that stopped.</param>
    public static void Send(VirtualMachine machine, VirtualCpu cpu)
    {
        machine.Link.FlushConsole();
        if ((machine.Options & LaunchOptions.Statistics) != 0)
        {
            SendStatistics(machine);
            machine.Events.SendCounts();
            machine.Events.SendMap();
        }

        StopRequest stop = cpu.StopRequest;
        if (stop.Violation == ViolationKind.StaleTranslation)
        {
            LogHolders(machine, stop.Gpa);
        }

        if (stop.Reason == StopReason.Stopped)
        {
            for (int i = 0; i < machine.Cpus.Length; i++)
            {
                SendReport(machine, machine.Cpus[i], stop.Reason);
            }
        }
        else if (stop.Reason != StopReason.GuestExit)
        {
            SendReport(machine, cpu, stop.Reason);
        }

        if ((machine.Options & LaunchOptions.HoldAtEnd) != 0)
        {
            machine.Commands.HoldAtEnd(cpu);
        }

        SendExit(machine.Link, stop.Reason, stop.Detail);
    }

    /// <summary>Sends the last frame.</summary>
    public static void SendExit(LinkWriter link, StopReason reason, ulong detail)
    {
        link.FlushConsole();
        ulong* payload = stackalloc ulong[] { (uint)reason, detail };
        link.Send(LinkFrame.Exit, new ReadOnlySpan<byte>(payload, 2 * sizeof(ulong)));
    }

    /// <summary>Makes the report of a stop.</summary>
    public static StopReport Build(VirtualMachine machine, VirtualCpu cpu)
    {
        Vmsa* state = cpu.State;
        StopRequest stop = cpu.StopRequest;
        GuestPage* page = stop.Gpa == 0 ? null : machine.Memory.Find(stop.Gpa);
        var report = new StopReport
        {
            Reason = stop.Reason,
            Violation = stop.Violation,
            Vcpu = (uint)cpu.Id,
            Vmpl = (uint)cpu.Vmpl,
            Gpa = stop.Gpa,
            ExitCode = cpu.Vmcb->ExitCode,
            ExitInfo1 = cpu.Vmcb->ExitInfo1,
            ExitInfo2 = cpu.Vmcb->ExitInfo2,
            RmpEntry = page == null ? 0 : page->ToReport(),
            GhcbMsr = cpu.Current.GhcbMsr,
            Rip = state->Rip,
            Rsp = cpu.Registers[VirtualCpu.Rsp],
            Rflags = state->Rflags,
            Cr0 = state->Cr0,
            Cr2 = state->Cr2,
            Cr3 = state->Cr3,
            Cr4 = state->Cr4,
            Efer = state->Efer,
            CsBase = state->Cs.Base,
            CsAttributes = state->Cs.Attributes,
            Cpl = state->Cpl,
        };

        // SAFETY: both arrays are inline in the local structure and have this many elements.
        new ReadOnlySpan<ulong>(cpu.Registers, RegisterCount).CopyTo(new Span<ulong>(&report.Registers, RegisterCount));
        report.CodeLength = (byte)GuestCode.Read(machine.Memory, cpu, new Span<byte>(&report.Code, CodeBytes));
        WalkFrames(machine.Memory, cpu, new Span<ulong>(&report.Frames, FrameCount));
        return report;
    }

    private static void SendReport(VirtualMachine machine, VirtualCpu cpu, StopReason reason)
    {
        StopReport report = Build(machine, cpu);
        report.Reason = reason;
        machine.Link.Send(LinkFrame.Report, new ReadOnlySpan<byte>(&report, sizeof(StopReport)));
    }

    private static void LogHolders(VirtualMachine machine, ulong gpa)
    {
        GuestPage* page = machine.Memory.Find(gpa);
        for (int cpu = 0; cpu < machine.Cpus.Length; cpu++)
        {
            int vmpls = machine.Memory.Stale.PendingOn(page, cpu) | (machine.Memory.Stale.IsOwnPending(gpa, cpu) ? 1 : 0);
            for (int vmpl = 0; vmpl < NestedPageTables.VmplCount; vmpl++)
            {
                if ((vmpls & (1 << vmpl)) != 0)
                {
                    machine.Link.Log("a translation of the page may still be held for VMPL"u8).LogNumber((uint)vmpl).Log(" by vCPU "u8).LogNumber((uint)cpu).EndLog();
                }
            }
        }
    }

    private static void SendStatistics(VirtualMachine machine)
    {
        for (int i = 0; i < machine.Cpus.Length; i++)
        {
            // The four entries of a vCPU lie one after the other.
            VmplStatistics* first = machine.Cpus[i].Contexts[0].Statistics;
            machine.Link.Send(LinkFrame.Statistics, new ReadOnlySpan<byte>(first, NestedPageTables.VmplCount * sizeof(VmplStatistics)));
        }
    }

    // Frame: [rbp] = caller's rbp, [rbp + 8] = return address; a caller's frame lies above.
    private static void WalkFrames(GuestMemory memory, VirtualCpu cpu, Span<ulong> frames)
    {
        ulong frame = cpu.Registers[VirtualCpu.Rbp];
        for (int i = 0; i < frames.Length; i++)
        {
            if (!cpu.IsLongCode || (frame & 7) != 0 || frame == 0
                || !TryRead(memory, cpu, frame, out ulong caller) || !TryRead(memory, cpu, frame + sizeof(ulong), out ulong address))
            {
                return;
            }

            frames[i] = address;
            if (caller <= frame)
            {
                return;
            }

            frame = caller;
        }
    }

    private static bool TryRead(GuestMemory memory, VirtualCpu cpu, ulong linear, out ulong value)
    {
        value = 0;
        WalkResult walk = GuestPageWalk.Translate(memory, cpu.State, cpu.Vmpl, linear, AccessKind.Read, cpu.State->Cpl == 3);
        if (walk.Status != WalkStatus.Done
            || memory.Access(walk.Gpa, cpu.Vmpl, walk.IsPrivate, AccessKind.Read, user: false, out byte* bytes) != AccessVerdict.Allowed)
        {
            return false;
        }

        value = *(ulong*)bytes;
        return true;
    }
}
