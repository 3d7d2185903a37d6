// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Interrupts of the machine: who gets which, when a vCPU is woken, and whose turn ends.
//
// INTR is always intercepted: the one physical APIC belongs to the hypervisor. Its timer is used for the earliest timer of any virtual APIC or the
// end of a turn, whatever comes first. A pin of PCI devices that interrupts raises the same pin of the guest's I/O APIC; when the guest has handled
// that, the devices tell whether the line is still high. What is requested from the APIC of a VMPL that does not run waits there, unless that
// VMPL is more privileged than the one that runs and has a doorbell page: then it takes its place. VMPLs with restricted injection get events
// by way of that page (Doorbell.cs) or not at all.
//
//   Offer    before an entry: the highest interrupt that may be delivered becomes the virtual interrupt (V_IRQ), which the processor takes when
//            RFLAGS.IF allows; an event whose delivery the last exit interrupted is injected again
//   Settle   after an exit: an interrupt that was taken goes into service
//
// A turn ends after a millisecond if another vCPU can run, or after a time that is drawn (TurnLengths.cs). Guest time is what the time-stamp
// counter of vCPU 0 shows.
//
// With a processor for each vCPU (VcpuThreads.cs) whoever gets an interrupt is called back from its guest first and settled: what it took before
// is in service then, so that the same vector can be requested again. Some processor's timer is always set for the earliest timer of all.

using System;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Interrupt routing and timers.</summary>
internal sealed unsafe class Interrupts
{
    // SAFETY (whole type): VMCB and save area belong to the vCPU.

    /// <summary>A turn, when others can run: one millisecond.</summary>
    public const ulong TurnNanoseconds = 1_000_000;

    private const ulong Never = ulong.MaxValue;

    // VMCB offset 0x60: 7:0 V_TPR, 8 V_IRQ, 19:16 priority, 20 ignore V_TPR, 24 V_INTR_MASKING, 39:32 vector.
    private const ulong VirtualPriorityMask = 0xF;
    private const ulong VirtualRequest = 1ul << 8;
    private const ulong VirtualOffer = VirtualRequest | (0xFul << 16) | (1ul << 20);
    private const ulong VirtualMasking = 1ul << 24;
    private const int VirtualVectorShift = 32;

    private const ulong EventValid = 1ul << 31;
    private const int EventTypeShift = 8;
    private const ulong EventTypeMask = 7;
    private const ulong EventReserved = 0x7FFF_F000;
    private const ulong EventInterrupt = 0;
    private const ulong EventNmi = 2;
    private const ulong EventException = 3;
    private const ulong EventSoftware = 4;
    private const ulong VectorNmi = 2;

    private const byte HaltOpcode = 0xF4;

    // With an interrupted event: a more privileged VMPL may have to run. EVENTINJ has nothing in this bit but the error code of #PF, which is less.
    private const ulong LookUp = 1ul << 62;

    // From reading the clock to the entry, in instructions: a drawn turn begins behind that.
    private const ulong EntryNanoseconds = 440;

    private readonly VirtualMachine _machine;
    private TurnLengths? _turns;

    // Not later than the earliest timer of any APIC.
    private ulong _nextTimer = Never;
    private ulong _armed = Never;

    /// <summary>Makes the interrupts of a machine.</summary>
    public Interrupts(VirtualMachine machine)
    {
        _machine = machine;
    }

    /// <summary>Whether the current turn will end.</summary>
    public bool TurnIsLimited { get; private set; }

    /// <summary>Whether turns are drawn: then a VMGEXIT ends none.</summary>
    public bool TurnsAreDrawn => _turns != null;

    /// <summary>Has turns drawn from a seed.</summary>
    public void DrawTurns(ulong seed) => _turns = new TurnLengths(seed);

    /// <summary>Which of the vCPUs that can run is next, counted from the one behind the current.</summary>
    /// <param name="count">How many can, not 0.</param>
    public int ChooseNext(int count) => _turns == null ? 0 : (int)_turns.NextBelow((ulong)count);

    /// <summary>A hostile host: nothing is shown in doorbell pages, and nothing signalled.</summary>
    public bool Withholds { get; set; }

    /// <summary>Now, in time-stamp ticks of the guest.</summary>
    public ulong Now => _machine.Processor.ReadTimeStampCounter() + _machine.Cpus[0].TimeStampOffset;

    /// <summary>What of <see cref="VirtualCpu.InterruptedEvent"/> is an event.</summary>
    public static ulong WithoutLookUp(ulong interrupted) => interrupted & ~LookUp;

    /// <summary>Whether a value of EVENTINJ injects an event of a kind that is ever interrupted here.</summary>
    public static bool IsEvent(ulong value) =>
        (value & EventValid) != 0 && (value & EventReserved) == 0 && ((value >> EventTypeShift) & EventTypeMask) is EventInterrupt or EventNmi or EventException;

    /// <summary>Prepares the delivery of events on the next entry.</summary>
    public void Offer(VirtualCpu cpu)
    {
        LocalApic apic = cpu.Current.Apic;
        cpu.Vmcb->VirtualInterrupt = VirtualMasking | ((uint)apic.TaskPriority >> 4);
        if (apic.HasRequests || cpu.InterruptedEvent != 0)
        {
            OfferEvent(cpu, apic);
        }
    }

    /// <summary>Finds out what was delivered until the exit.</summary>
    public static void Settle(VirtualCpu cpu)
    {
        LocalApic apic = cpu.Current.Apic;
        ulong control = cpu.Vmcb->VirtualInterrupt;
        if ((control & VirtualPriorityMask) != (uint)apic.TaskPriority >> 4)
        {
            // CR8.
            apic.TaskPriority = (byte)((control & VirtualPriorityMask) << 4);
        }

        if (((cpu.Vmcb->ExitIntInfo & EventValid) | (uint)cpu.Offered) != 0)
        {
            SettleEvent(cpu, apic, (control & VirtualRequest) != 0);
        }
    }

    /// <summary>The same, once per exit: another vCPU that had an interrupt for this one may have done it.</summary>
    public static void SettleOnce(VirtualCpu cpu)
    {
        if (cpu.IsUnsettled)
        {
            cpu.IsUnsettled = false;
            Settle(cpu);
        }
    }

    /// <summary>Handles the exit for a physical interrupt: of the timer, another processor, or PCI devices.</summary>
    public void HandlePhysical(VirtualCpu cpu)
    {
        _machine.Processor.AcknowledgeInterrupt();
        cpu.Yields = true;
        Expire();
    }

    /// <summary>Waits until a timer expires, or a device interrupts. No vCPU runs.</summary>
    public void WaitForTimer()
    {
        Arm(_nextTimer);
        _machine.Processor.WaitForInterrupt();
        Expire();
    }

    /// <summary>Has this processor's timer set for the earliest timer, if no other's is.</summary>
    public void ArmTimer() => Arm(_nextTimer);

    /// <summary>Sees to it that the current turn ends.</summary>
    public void LimitTurn()
    {
        TurnIsLimited = true;
        Arm(Now + _machine.Clock.ToTicks(_turns == null ? TurnNanoseconds : EntryNanoseconds + _turns.NextLength()));
    }

    /// <summary>The timer of an APIC was set.</summary>
    public void NoteTimer(LocalApic apic)
    {
        if (apic.Deadline < _nextTimer)
        {
            _nextTimer = apic.Deadline;
            Arm(_nextTimer);
        }
    }

    /// <summary>Sends an interrupt to other vCPUs, or to the sender.</summary>
    /// <param name="sender">Who sends, to APICs of the same VMPL.</param>
    /// <param name="command">What and to whom.</param>
    /// <returns>False when this kind is refused: INIT and start-up, which an SNP guest does by AP creation.</returns>
    public bool TrySend(VirtualCpu sender, InterruptCommand command)
    {
        const int ToSelf = 1;
        const int ToAll = 2;
        const int ToOthers = 3;
        if (command.Mode is not (DeliveryMode.Fixed or DeliveryMode.LowestPriority or DeliveryMode.Nmi))
        {
            return false;
        }

        for (int i = 0; i < _machine.Cpus.Length; i++)
        {
            VirtualCpu target = _machine.Cpus[i];
            bool self = ReferenceEquals(target, sender);
            bool chosen = command.Shorthand switch
            {
                ToSelf => self,
                ToAll => true,
                ToOthers => !self,
                _ => Destinations.Matches((uint)i, command.Destination, command.IsLogical),
            };
            if (chosen)
            {
                Deliver(target, sender.Vmpl, command.Mode, command.Vector, level: false);
                if (command.Mode == DeliveryMode.LowestPriority)
                {
                    break;
                }
            }
        }

        return true;
    }

    /// <summary>Delivers an interrupt to the APIC of one vCPU and VMPL, and wakes the vCPU if it waits for it.</summary>
    public void Deliver(VirtualCpu target, int vmpl, int mode, int vector, bool level)
    {
        CallBack(target);
        LocalApic apic = target.Contexts[vmpl].Apic;
        if (mode == DeliveryMode.Nmi)
        {
            apic.RequestNmi();
        }
        else
        {
            apic.Request(vector, level);
        }

        Notify(target, vmpl);
    }

    /// <summary>Tells VMPL0 of a vCPU, by way of its doorbell page, that the machine's host side has something for it.</summary>
    /// <returns>False when it has no such page, or its APIC is off: then it has not been told.</returns>
    public bool TryNotify(VirtualCpu cpu)
    {
        VmplContext context = cpu.Contexts[0];
        if (context.Doorbell == Doorbell.None || !context.Apic.IsEnabled)
        {
            return false;
        }

        Deliver(cpu, 0, DeliveryMode.Fixed, MachinePorts.MigrationVector, level: false);
        return true;
    }

    /// <summary>Whether an event is there that a halted VMPL would be woken by, or that a running one would take at once.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="interruptible">Whether RFLAGS.IF is set.</param>
    public bool HasEvent(VirtualCpu cpu, bool interruptible)
    {
        LocalApic apic = cpu.Current.Apic;
        return !TakesInterrupts(cpu)
            ? CanPresent(cpu.Current)
            : apic.HasRequests && ((apic.NmiPending && !apic.NmiMasked) || (interruptible && apic.Pending >= 0));
    }

    /// <summary>Whether a VMPL has to be told of something by way of its doorbell page.</summary>
    public bool CanPresent(VmplContext context) => !Withholds && Doorbell.CanPresent(_machine.Memory, context);

    /// <summary>Whether a timer will wake a vCPU that halts, or a device may.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="interruptible">Whether RFLAGS.IF is set.</param>
    public bool WillWake(VirtualCpu cpu, bool interruptible)
    {
        if (interruptible && TakesInterrupts(cpu) && (cpu.Current.Apic.TimerArmed || _machine.Pci.HasDevices))
        {
            return true;
        }

        // By #HV, of this VMPL or of one that takes its place.
        for (int vmpl = 0; vmpl <= cpu.Vmpl; vmpl++)
        {
            bool isNotified = _machine.IsNotified && vmpl == 0 && cpu.Id == 0;
            if (cpu.Contexts[vmpl].Doorbell != Doorbell.None && (cpu.Contexts[vmpl].Apic.TimerArmed || isNotified))
            {
                return true;
            }
        }

        return false;
    }

    private void CallBack(VirtualCpu cpu)
    {
        if (_machine.Threads.Enabled)
        {
            _machine.Threads.Recall(cpu);
            SettleOnce(cpu);
        }
    }

    private static bool TakesInterrupts(VirtualCpu cpu) => (cpu.Features & SevFeatures.RestrictedInjection) == 0;

    private void RaisePins(uint pins)
    {
        for (int index = 0; index < MachinePorts.PciInterrupts; index++)
        {
            if ((pins & (1u << index)) != 0)
            {
                _machine.IoApic.SetLine(MachinePorts.FirstPciInterrupt + index, high: true);
            }
        }
    }

    // The APIC of a VMPL has something to deliver. A VMPL whose VMSA must not run stays where it is.
    private void Notify(VirtualCpu cpu, int vmpl)
    {
        VmplContext context = cpu.Contexts[vmpl];
        if (vmpl == cpu.Vmpl)
        {
            if (cpu.IsHalted && HasEvent(cpu, cpu.HaltIsInterruptible) && _machine.IsRunnable(context))
            {
                _machine.Resume(cpu);
            }
        }
        else if (vmpl > cpu.Vmpl)
        {
            if (context.Apic.HasRequests)
            {
                Doorbell.Note(_machine.Memory, cpu.Current, vmpl);
            }
        }
        else if (cpu.IsRunning)
        {
            // On its own processor, at its next entry.
            cpu.InterruptedEvent |= LookUp;
        }
        else if (cpu.IsHalted && CanPresent(context) && _machine.CanEnter(cpu, vmpl))
        {
            cpu.Current.HaltsOn = true;
            _machine.Resume(cpu, vmpl);
        }
    }

    /// <summary>Looks at the timers and the pins of PCI devices: an interrupt was taken, which may have been of one of them.</summary>
    public void Expire()
    {
        if (_machine.Pci.HasDevices)
        {
            RaisePins(_machine.Processor.TakePins());
        }

        _armed = Never;
        TurnIsLimited = false;
        ulong now = Now;
        if (now >= _nextTimer)
        {
            _nextTimer = Never;
            for (int i = 0; i < _machine.Cpus.Length; i++)
            {
                VirtualCpu cpu = _machine.Cpus[i];
                for (int vmpl = 0; vmpl < cpu.Contexts.Length; vmpl++)
                {
                    LocalApic apic = cpu.Contexts[vmpl].Apic;
                    if (apic.Deadline <= now)
                    {
                        CallBack(cpu);
                    }

                    if (apic.Expire(_machine.Clock, now))
                    {
                        Notify(cpu, vmpl);
                    }

                    _nextTimer = Math.Min(_nextTimer, apic.Deadline);
                }
            }
        }

        if (_nextTimer != Never)
        {
            Arm(_nextTimer);
        }
    }

    /// <summary>Timers have been set anew.</summary>
    public void Reset()
    {
        _nextTimer = 0;
        Expire();
    }

    /// <summary>Does what the timer's interrupt would have had done, if that has not come.</summary>
    public void ExpireOverdue()
    {
        if (Now >= _armed)
        {
            Expire();
        }
    }

    private void Arm(ulong deadline)
    {
        if (deadline < _armed)
        {
            _armed = deadline;
            ulong now = Now;
            _machine.Processor.SetTimer(deadline <= now ? 1 : _machine.Clock.ToNanoseconds(deadline - now) + 1);
        }
    }

    private void OfferEvent(VirtualCpu cpu, LocalApic apic)
    {
        Vmcb* vmcb = cpu.Vmcb;
        if ((cpu.InterruptedEvent & LookUp) != 0)
        {
            cpu.InterruptedEvent &= ~LookUp;
            if (TrySwitchUp(cpu))
            {
                Offer(cpu);
                return;
            }
        }

        ulong interrupted = cpu.InterruptedEvent;
        cpu.InterruptedEvent = 0;
        if (interrupted != 0 && vmcb->EventInjection == 0)
        {
            vmcb->EventInjection = interrupted;
        }

        if (!TakesInterrupts(cpu))
        {
            if (apic.HasRequests && !Withholds && Doorbell.Present(_machine.Memory, cpu.Current, canSignal: vmcb->EventInjection == 0))
            {
                vmcb->EventInjection = EventValid | (EventException << EventTypeShift) | Amd64.VectorHypervisor;
            }

            return;
        }

        if (apic.NmiPending && !apic.NmiMasked && vmcb->EventInjection == 0)
        {
            apic.AcceptNmi();
            vmcb->EventInjection = EventValid | (EventNmi << EventTypeShift) | VectorNmi;
        }

        int vector = apic.Pending;
        if (vector < 0)
        {
            return;
        }

        if ((vmcb->InterruptShadow & 1) != 0 && (cpu.State->Rflags & Amd64.FlagInterrupt) != 0)
        {
            // QEMU 7.2 forgets the shadow of STI at an entry. Between STI and HLT that would lose the wake-up, so the HLT is done with.
            byte opcode = 0;
            if (GuestCode.Read(_machine.Memory, cpu, new Span<byte>(ref opcode)) == 1 && opcode == HaltOpcode)
            {
                cpu.Skip(1);
            }
        }

        cpu.Offered = vector;

        // With an offer open, QEMU 7.2 to 9 end themselves at a write of CR8: it raises the interrupt without their lock.
        vmcb->InterceptControlRegisters |= Intercepts.Cr8Write;
        vmcb->VirtualInterrupt |= VirtualOffer | ((ulong)vector << VirtualVectorShift);
    }

    // Runs the most privileged VMPL that has to be told of something, in place of one that is less privileged.
    private bool TrySwitchUp(VirtualCpu cpu)
    {
        for (int vmpl = 0; vmpl < cpu.Vmpl; vmpl++)
        {
            if (CanPresent(cpu.Contexts[vmpl]) && _machine.CanEnter(cpu, vmpl))
            {
                return _machine.LeaveFor(cpu, vmpl, ExitCode.Interrupt);
            }
        }

        return false;
    }

    private static void SettleEvent(VirtualCpu cpu, LocalApic apic, bool stillOffered)
    {
        ulong interrupted = cpu.Vmcb->ExitIntInfo;
        ulong type = (interrupted >> EventTypeShift) & EventTypeMask;
        bool valid = (interrupted & EventValid) != 0;
        int offered = cpu.Offered;
        cpu.Offered = 0;
        cpu.Vmcb->InterceptControlRegisters &= ~Intercepts.Cr8Write;
        if (offered != 0)
        {
            // QEMU up to 10.1 can lose the timer's interrupt at such an entry (VcpuThreads.cs).
            cpu.HasTakenInterrupts = true;

            // The emulator calls it an exception, and does not withdraw the request. It is still in IRR, and will be offered again.
            bool cutShort = valid && (byte)interrupted == offered && type is EventInterrupt or EventException;
            if (cutShort)
            {
                return;
            }

            if (!stillOffered)
            {
                apic.Accept(offered);
            }
        }

        // A software interrupt happens again with its instruction.
        cpu.InterruptedEvent = valid && type != EventSoftware ? interrupted : 0;
    }
}
