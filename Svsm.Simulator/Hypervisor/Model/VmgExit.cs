// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// VMGEXIT: the guest asks its host. The register protocol (GHCB MSR) is here, requests by GHCB page are in GhcbRequests.cs.
//
// The host that is modelled keeps to the protocol and does nothing unasked: no implicit page state changes, no injected events.
// What a host would answer with the death of the VM stops the run (ViolationKind.Ghcb).
// Source: Svsm.Core/Wire/Ghcb.cs and the sources named there; error values as KVM gives them.

using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The host's side of VMGEXIT.</summary>
internal static unsafe class VmgExit
{
    // SAFETY (whole type): pages come from GuestMemory.Find and are checked for null.

    private const ulong MaxVersion = 2;
    private const ulong MinVersion = 1;
    private const int ValueShift = 32;
    private const int FrameShift = 12;
    private const ulong FrameMask = 0x000F_FFFF_FFFF_F000;

    /// <summary>Error of RUN_VMPL in the register protocol: the VMPL cannot run.</summary>
    private const ulong RunVmplError = 1;

    /// <summary>Error of a page state change in the register protocol.</summary>
    private const ulong PageStateChangeError = 1;

    /// <summary>Features that the host announces.</summary>
    public static HypervisorFeatures Features(VirtualMachine machine)
    {
        return HypervisorFeatures.Snp | HypervisorFeatures.ApCreation | HypervisorFeatures.RestrictedInjection | HypervisorFeatures.ApicIdList
            | ((machine.Options & LaunchOptions.SingleVmpl) == 0 ? HypervisorFeatures.MultiVmpl : HypervisorFeatures.None);
    }

    /// <summary>Handles a VMGEXIT. RIP is behind it already.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool Handle(VirtualMachine machine, VirtualCpu cpu)
    {
        VmplContext context = cpu.Current;
        context.Statistics->VmgExits++;
        ulong request = context.GhcbMsr;
        if ((request & GhcbMsr.CodeMask) != 0)
        {
            machine.Events.MsrRequest(cpu, request);
        }

        switch (request & GhcbMsr.CodeMask)
        {
            case 0:
                return GhcbRequests.Handle(machine, cpu, request);
            case GhcbMsr.SevInfoRequest:
                context.GhcbMsr = SevInfo;
                return true;
            case GhcbMsr.CpuidRequest:
                context.GhcbMsr = AnswerCpuid(machine, cpu, request);
                return true;
            case GhcbMsr.ApResetHoldRequest:
                // There is no event that ends this, but the vCPU can be started anew.
                context.GhcbMsr = GhcbMsr.ApResetHoldResponse;
                return machine.Wait(cpu, ExitCode.VmgExit, length: 0);
            case GhcbMsr.PreferredGhcbRequest:
                context.GhcbMsr = ~GhcbMsr.CodeMask | GhcbMsr.PreferredGhcbResponse;
                return true;
            case GhcbMsr.RegisterGhcbRequest:
                context.RegisteredGhcb = request & ~GhcbMsr.CodeMask;
                context.GhcbMsr = context.RegisteredGhcb | GhcbMsr.RegisterGhcbResponse;
                return true;
            case GhcbMsr.PageStateChangeRequest:
                return ChangePageState(machine, cpu, request);
            case GhcbMsr.RunVmplRequest:
                return RunVmpl(machine, cpu, request);
            case GhcbMsr.FeaturesRequest:
                context.GhcbMsr = ((ulong)Features(machine) << FrameShift) | GhcbMsr.FeaturesResponse;
                return true;
            case GhcbMsr.TerminateRequest:
                return cpu.Stop(StopReason.Terminate, TerminationDetail((request >> 12) & 0xF, (request >> 16) & 0xFF));
            default:
                return cpu.Stop(ViolationKind.Ghcb, 0);
        }
    }

    /// <summary>The answer that is in the GHCB MSR before the first request: what <see cref="GhcbMsr.SevInfoRequest"/> gives.</summary>
    public static ulong SevInfo =>
        (MaxVersion << 48) | (MinVersion << 32) | ((ulong)Amd64.CBitPosition << 24) | GhcbMsr.SevInfoResponse;

    /// <summary>Detail of the exit frame of a termination.</summary>
    public static ulong TerminationDetail(ulong set, ulong reason) => set | (reason << 4);

    /// <summary>Changes the state of one 4-KiB page as the host does on request.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cpu">Who asks.</param>
    /// <param name="gpa">Page-aligned.</param>
    /// <param name="operation">Private or shared.</param>
    /// <param name="large">Whether a private page becomes part of a 2-MiB entry.</param>
    /// <param name="done">Whether the host did it; it refuses what is not RAM.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool ChangePageState(VirtualMachine machine, VirtualCpu cpu, ulong gpa, PageStateOperation operation, bool large, out bool done)
    {
        GuestPage* page = machine.Memory.Find(gpa);
        done = page != null && operation is PageStateOperation.Private or PageStateOperation.Shared;
        if (!done)
        {
            return true;
        }

        machine.Events.Rmp(cpu, EventKind.PageState, (ulong)operation, gpa, 0);
        if (operation == PageStateOperation.Private)
        {
            machine.Memory.Assign(page, gpa, large);
            return true;
        }

        if (page->IsRunning)
        {
            // RMPUPDATE of a VMSA in use is refused, and so the host refuses the guest.
            done = false;
            return true;
        }

        machine.Memory.Unassign(page, gpa);
        page->IsSharedForVmpl0 |= cpu.Vmpl == 0;
        return true;
    }

    /// <summary>Runs another VMPL of the vCPU in place of the current one.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="vmpl">Which one, as the guest gave it.</param>
    /// <param name="refused">Whether the host refuses; then nothing changed.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool SwitchVmpl(VirtualMachine machine, VirtualCpu cpu, ulong vmpl, out bool refused)
    {
        refused = (machine.Options & LaunchOptions.SingleVmpl) != 0 || vmpl >= NestedPageTables.VmplCount;
        if (refused || (int)vmpl == cpu.Vmpl)
        {
            return true;
        }

        VmplContext context = cpu.Contexts[(int)vmpl];
        refused = !machine.IsRunnable(context);
        if (refused || ((int)vmpl > cpu.Vmpl && machine.Interrupts.CanPresent(cpu.Current)))
        {
            // What the caller has to be told comes first; it asks again.
            return true;
        }

        machine.Leave(cpu, ExitCode.VmgExit);
        if (!machine.Enter(cpu, (int)vmpl))
        {
            return false;
        }

        bool halts = context.HaltsOn;
        context.HaltsOn = false;
        return !halts || machine.Wait(cpu, ExitCode.Halt, length: 0);
    }

    private static bool RunVmpl(VirtualMachine machine, VirtualCpu cpu, ulong request)
    {
        // The answer belongs to the VMPL that asked: it reads it when it runs again.
        VmplContext caller = cpu.Current;
        caller.GhcbMsr = GhcbMsr.RunVmplResponse;
        if (!SwitchVmpl(machine, cpu, (request >> ValueShift) & 0xFF, out bool refused))
        {
            return false;
        }

        if (refused)
        {
            caller.GhcbMsr = (RunVmplError << ValueShift) | GhcbMsr.RunVmplResponse;
        }

        return true;
    }

    private static bool ChangePageState(VirtualMachine machine, VirtualCpu cpu, ulong request)
    {
        var operation = (PageStateOperation)((request >> PageStateChangeBuffer.OperationShift) & 0xF);
        bool resume = ChangePageState(machine, cpu, request & FrameMask, operation, large: false, out bool done);
        cpu.Current.GhcbMsr = (done ? 0 : PageStateChangeError << ValueShift) | GhcbMsr.PageStateChangeResponse;
        return resume;
    }

    private static ulong AnswerCpuid(VirtualMachine machine, VirtualCpu cpu, ulong request)
    {
        const int RegisterShift = 30;
        const ulong RegisterMask = 3ul << RegisterShift;
        Platform.CpuidResult result = machine.Cpuid(cpu, (uint)(request >> ValueShift), 0);
        uint value = ((request & RegisterMask) >> RegisterShift) switch
        {
            0 => result.Eax,
            1 => result.Ebx,
            2 => result.Ecx,
            _ => result.Edx,
        };
        return ((ulong)value << ValueShift) | (request & RegisterMask) | GhcbMsr.CpuidResponse;
    }
}
