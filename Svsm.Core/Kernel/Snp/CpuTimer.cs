// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The current CPU's timer: that of its x2APIC, which the host plays. It ticks while there is something to time: a task that may have to make
// room, or a deadline; else it is off, and the CPU sleeps or runs the guest undisturbed.
//
// A tick is a count of 1,000,000: a millisecond where the timer counts nanoseconds, as under KVM. Deadlines are times of the TSC, which the host
// cannot choose; a tick only has somebody look. Source: AMD64 Architecture Programmer's Manual, volume 2, 16.4 (timer) and 16.11 (MSRs).

using Svsm.Kernel.Arch;

namespace Svsm.Kernel.Snp;

/// <summary>Ticks of the current CPU.</summary>
internal static class CpuTimer
{
    private const uint SpuriousMsr = 0x80F;
    private const uint TimerMsr = 0x832;
    private const uint InitialCountMsr = 0x838;
    private const uint DivideMsr = 0x83E;

    private const ulong SoftwareEnabled = 1ul << 8;
    private const ulong SpuriousVector = 0xFF;
    private const ulong Periodic = 1ul << 17;
    private const ulong DivideByOne = 0xB;
    private const ulong Count = 1_000_000;

    /// <summary>Sets up the APIC; the timer stays off.</summary>
    /// <returns>False: the host refused.</returns>
    public static bool TryInitialize() =>
        Host.TryWriteMsr(SpuriousMsr, SoftwareEnabled | SpuriousVector) &&
        Host.TryWriteMsr(DivideMsr, DivideByOne) &&
        Host.TryWriteMsr(TimerMsr, Periodic | DoorbellEvents.Timer);

    /// <summary>Turns the timer on or off. Nothing happens when it is so already, or there is no doorbell page.</summary>
    public static void Tick(bool on)
    {
        ref PerCpu cpu = ref PerCpu.Current;
        if (cpu.HasDoorbell && cpu.IsTicking != on)
        {
            // If the host refuses, it withholds ticks; it need not say so.
            cpu.IsTicking = on;
            _ = Host.TryWriteMsr(InitialCountMsr, on ? Count : 0);
        }
    }
}
