// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The local APICs of the outer machine, by their MMIO page: each processor sees its own there. Their timer is used, one-shot (it counts
// nanoseconds in QEMU), and interrupts between processors, which have the timer's vector: whoever takes one looks at everything.
//
// The hypervisor runs with IF set and GIF clear: an interrupt ends the guest's run (INTR is intercepted, V_INTR_MASKING set) and waits until
// GIF is set for it (Entry.S), which is also where the end of the interrupt is told.

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Platform;

namespace Svsm.Hypervisor;

/// <summary>The outer APIC timer.</summary>
internal static unsafe class OuterApic
{
    // SAFETY (whole type): the page is mapped one to one like all of the first 512 GiB, and the outer machine has its APIC there after a reset.

    private const ulong Address = 0xFEE0_0000;
    private const uint Spurious = 0xF0;
    private const uint CommandLow = 0x300;
    private const uint CommandHigh = 0x310;
    private const uint TimerEntry = 0x320;
    private const uint InitialCount = 0x380;
    private const uint CurrentCount = 0x390;
    private const uint DivideConfiguration = 0x3E0;

    private const uint SoftwareEnabled = 1 << 8;
    private const uint Masked = 1 << 16;
    private const uint DivideByOne = 0xB;
    private const uint TimerVector = ExceptionTable.Exceptions;
    private const uint SpuriousVector = TimerVector + 1;
    private const uint MeasuredNanoseconds = 4_000_000;
    private const int Samples = 8;

    private const uint DeliverInit = 5 << 8;
    private const uint DeliverStartUp = 6 << 8;
    private const uint Assert = 1 << 14;
    private const int DestinationShift = 24;
    private const int PageShift = 12;

    /// <summary>Turns the APIC on and measures the time-stamp counter. GIF is clear.</summary>
    public static GuestClock Start()
    {
        Enable();
        Write(TimerEntry, Masked | TimerVector);
        Write(InitialCount, uint.MaxValue);
        ulong start = Sample(out uint startCount);
        while (startCount - Read(CurrentCount) < MeasuredNanoseconds)
        {
        }

        ulong end = Sample(out uint endCount);
        Write(InitialCount, 0);
        Write(TimerEntry, TimerVector);
        return new GuestClock(end - start, startCount - endCount);
    }

    /// <summary>Turns the APIC of this processor on.</summary>
    public static void Enable()
    {
        Write(Spurious, SoftwareEnabled | SpuriousVector);
        Write(DivideConfiguration, DivideByOne);
        Write(TimerEntry, TimerVector);
    }

    /// <summary>Interrupts another processor.</summary>
    public static void Interrupt(int processor) => Send(processor, Assert | TimerVector);

    /// <summary>Resets another processor, which waits for its start then.</summary>
    public static void Reset(int processor) => Send(processor, Assert | DeliverInit);

    /// <summary>Starts another processor that waits for it.</summary>
    /// <param name="processor">Which.</param>
    /// <param name="page">Address of the page below 1 MiB where it starts.</param>
    public static void StartUp(int processor, uint page) => Send(processor, Assert | DeliverStartUp | (page >> PageShift));

    /// <summary>Sets the timer.</summary>
    public static void SetTimer(ulong nanoseconds) => Write(InitialCount, (uint)System.Math.Min(nanoseconds, uint.MaxValue));

    /// <summary>Which pins of PCI devices have interrupted since the last call; interrupts of the I/O APIC go to one processor.</summary>
    [RuntimeImport("*", "svsm_take_pins")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern uint TakePins();

    /// <summary>Takes a pending interrupt.</summary>
    [RuntimeImport("*", "svsm_take_interrupt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Take();

    /// <summary>Waits for an interrupt and takes it.</summary>
    [RuntimeImport("*", "svsm_wait_for_interrupt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    public static extern void Wait();

    // A reading of both clocks is as good as the time between the two around it is short.
    private static ulong Sample(out uint count)
    {
        ulong best = ulong.MaxValue;
        ulong ticks = 0;
        count = 0;
        for (int i = 0; i < Samples; i++)
        {
            ulong before = X64.ReadTimeStampCounter();
            uint read = Read(CurrentCount);
            ulong took = X64.ReadTimeStampCounter() - before;
            if (took < best)
            {
                best = took;
                ticks = before + (took / 2);
                count = read;
            }
        }

        return ticks;
    }

    private static void Send(int processor, uint command)
    {
        Write(CommandHigh, (uint)processor << DestinationShift);
        Write(CommandLow, command);
    }

    private static uint Read(uint register) => Volatile.Read(ref *(uint*)(Address + register));

    private static void Write(uint register, uint value) => Volatile.Write(ref *(uint*)(Address + register), value);
}
