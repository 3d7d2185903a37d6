// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Model-specific registers that the host answers in GHCB requests; those in the VMSA never get here.
//
//   0x10              time-stamp counter, read only
//   0x1B              APIC base: enabled, x2APIC mode, for good
//   0x6E0, 0x800 ...  the x2APIC of the vCPU and VMPL that asks
//   0x4B564D00, ...   the paravirtual clock
//   others            MsrStore

namespace Svsm.Hypervisor;

/// <summary>MSRs of the host.</summary>
internal static class MsrModel
{
    private const uint TimeStampCounter = 0x10;
    private const uint ApicBase = 0x1B;

    private const ulong ApicAddress = 0xFEE0_0000;
    private const ulong ApicEnabled = 1ul << 11;
    private const ulong ApicX2Mode = 1ul << 10;
    private const ulong ApicBootProcessor = 1ul << 8;

    /// <summary>Reads an MSR.</summary>
    /// <returns>False when there is none: the guest gets #GP.</returns>
    public static bool TryRead(VirtualMachine machine, VirtualCpu cpu, uint msr, out ulong value)
    {
        value = 0;
        switch (msr)
        {
            case TimeStampCounter:
                value = machine.Processor.ReadTimeStampCounter() + cpu.TimeStampOffset;
                return true;
            case ApicBase:
                value = ApicAddress | ApicEnabled | ApicX2Mode | (cpu.Id == 0 ? ApicBootProcessor : 0);
                return true;
            case LocalApic.DeadlineMsr:
            case >= LocalApic.FirstMsr and <= LocalApic.LastMsr:
                Doorbell.SettleEnd(machine.Memory, cpu.Current);
                return cpu.Current.Apic.TryRead(msr, machine.Clock, machine.Interrupts.Now, out value);
            default:
                return machine.Msrs.TryRead(msr, out value);
        }
    }

    /// <summary>Writes an MSR.</summary>
    /// <returns>False when there is none, or not to be written: the guest gets #GP.</returns>
    public static bool TryWrite(VirtualMachine machine, VirtualCpu cpu, uint msr, ulong value)
    {
        LocalApic apic = cpu.Current.Apic;
        switch (msr)
        {
            case ApicBase:
                // Writing what is there is fine.
                return (value & ~ApicBootProcessor) == (ApicAddress | ApicEnabled | ApicX2Mode);
            case LocalApic.CommandMsr:
                return machine.Interrupts.TrySend(cpu, new InterruptCommand(value));
            case LocalApic.SelfMsr:
                machine.Interrupts.Deliver(cpu, cpu.Vmpl, DeliveryMode.Fixed, (byte)value, level: false);
                return value <= byte.MaxValue;
            case LocalApic.EndOfInterruptMsr:
                Doorbell.SettleEnd(machine.Memory, cpu.Current);
                apic.EndsByDoorbell = false;
                if (apic.EndInterrupt() is int vector and >= 0)
                {
                    machine.IoApic.EndInterrupt(vector);
                }

                return value == 0;
            case ParavirtualClock.SystemTimeMsr:
                return ParavirtualClock.TryStart(machine, value);
            case ParavirtualClock.WallClockMsr:
                return ParavirtualClock.TryWriteWallClock(machine, value);
            case LocalApic.DeadlineMsr:
            case >= LocalApic.FirstMsr and <= LocalApic.LastMsr:
                bool written = apic.TryWrite(msr, value, machine.Clock, machine.Interrupts.Now);
                machine.Interrupts.NoteTimer(apic);
                return written;
            default:
                return machine.Msrs.TryWrite(msr, value);
        }
    }
}
