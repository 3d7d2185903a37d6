// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The current CPU's #HV doorbell page, and what the host tells there: that the timer expired, or that another CPU has something.
//
// There is one where SEV_FEATURES has restricted injection and the host offers it. Without it a task keeps its CPU until it yields, and a CPU
// looks for wake-ups when the guest calls. A host that withholds events, or makes some up, has the same effect: turns are longer or shorter.
//
// The page is looked at when #HV has come (TurnState.HasEvents), by whoever is about to take or give a turn: the flag is cleared first, then all
// events are taken at once with NoFurtherSignal, so that whatever comes later brings another #HV. Source: HvDoorbell.cs in Svsm.Wire.

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Modules;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Events of the current CPU.</summary>
internal static unsafe class Doorbell
{
    private const int FlagsOffset = 1;
    private const uint EndOfInterrupt = 0x80B;

    private static SevFeatures s_features;

    /// <summary>Says what CPUs have; before the first <see cref="Register"/>.</summary>
    /// <param name="features">SEV_FEATURES of the SVSM.</param>
    public static void Initialize(SevFeatures features) => s_features = features;

    // SAFETY: the page is mapped at this address on every CPU, and PerCpu does not move.
    private static byte* Flags =>
        PerCpu.Current.HasDoorbell ? (byte*)KernelLayout.DoorbellPage + FlagsOffset : (byte*)Unsafe.AsPointer(ref PerCpu.Current.NoSignal);

    /// <summary>Makes the current CPU's doorbell page shared, registers it, and sets up the timer. The GHCB page is registered.</summary>
    public static void Register()
    {
        ref PerCpu cpu = ref PerCpu.Current;
        if ((s_features & SevFeatures.RestrictedInjection) == 0 || (Host.Features & HypervisorFeatures.RestrictedInjection) == 0)
        {
            return;
        }

        PhysicalAddress frame = Host.Share(KernelLayout.DoorbellPage);
        GhcbRequest request = new() { ExitCode = GhcbExitCode.HvDoorbellPage, Info1 = (ulong)HvDoorbellOperation.Set, Info2 = frame.Value };
        cpu.HasDoorbell = true;
        if (!Host.TryExchange(in request, out GhcbAnswer answer) || answer.Info2 != frame.Value || !CpuTimer.TryInitialize())
        {
            // The page is shared and stays so: it is never used for anything else.
            Panic.Stop(TerminationReason.GhcbAnswer, "the host has restricted injection, and refuses the doorbell page or the timer"u8, answer.Info2);
        }
    }

    /// <summary>Takes the events that are there. Not to be preempted.</summary>
    /// <returns>The timer has expired.</returns>
    public static bool Attend()
    {
        ref PerCpu cpu = ref PerCpu.Current;
        Volatile.Write(ref cpu.Turn.HasEvents, false);
        if (!cpu.HasDoorbell)
        {
            return false;
        }

        // SAFETY: the page is mapped at this address on every CPU. The host may change it at any time: read once.
        DoorbellEvents events = new(Interlocked.Exchange(ref ((HvDoorbellPage*)KernelLayout.DoorbellPage)->Events, 0));
        if (events.IsMachineCheck)
        {
            Panic.Stop(TerminationReason.MachineCheck, "machine check, says the host"u8);
        }

        if (events.NeedsEoi)
        {
            // A host that refuses it gets no more of its interrupts through.
            _ = Host.TryWriteMsr(EndOfInterrupt, 0);
        }

        if (events.IsChannel)
        {
            MoveTask.Wake();
        }

        cpu.RanProcess &= !events.IsTick;
        return events.IsTick;
    }

    /// <summary>Halts until an event comes, unless one has come.</summary>
    public static void Halt()
    {
        Halt(Flags);
        NoteEvents();
    }

    /// <summary>Runs another VMPL, unless an event has come.</summary>
    /// <param name="request">Request in the GHCB MSR.</param>
    /// <param name="answer">The answer, if it was asked.</param>
    /// <returns>Whether it was asked.</returns>
    public static bool TryRunVmpl(ulong request, out ulong answer)
    {
        const ulong NotAsked = ulong.MaxValue;
        PerCpu.Current.IsGhcbHarmless = false;
        answer = RunVmpl(request, Flags);
        NoteEvents();
        return answer != NotAsked;
    }

    // What the host shows without #HV counts as well, if it says that there will be none. SAFETY: the page is mapped, see Flags.
    private static void NoteEvents()
    {
        ref PerCpu cpu = ref PerCpu.Current;
        if (cpu.HasDoorbell && ((HvDoorbellFlags)Volatile.Read(ref *Flags) & HvDoorbellFlags.NoFurtherSignal) != 0)
        {
            Volatile.Write(ref cpu.Turn.HasEvents, true);
        }
    }

    [RuntimeImport("*", "svsm_run_vmpl")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong RunVmpl(ulong request, byte* flags);

    [RuntimeImport("*", "svsm_halt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Halt(byte* flags);
}
