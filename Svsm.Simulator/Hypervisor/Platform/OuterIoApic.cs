// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The I/O APIC of the outer machine: COM1's line, and those of PCI devices. Source: Intel 82093AA data sheet.

using System.Threading;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The outer I/O APIC.</summary>
internal static unsafe class OuterIoApic
{
    // SAFETY (whole type): the registers lie where the chipset of the outer machine has them, mapped one to one.

    private const ulong Select = 0xFEC0_0000;
    private const ulong Window = 0xFEC0_0010;
    private const uint FirstRedirection = 0x10;
    private const uint DeliverNmi = 4 << 8;

    // Behind the APIC timer's vector and the spurious one.
    private const uint FirstVector = ExceptionTable.Exceptions + 2;

    /// <summary>Has the processor get the line of COM1 as an NMI, on its rising edge: it ends the run of a guest whatever that has masked, and stays pending while GIF is clear.</summary>
    public static void SendCom1AsNmi() => Write(MachinePorts.Com1Interrupt, DeliverNmi);

    /// <summary>Has the pins of PCI devices interrupt, on their rising edge: whether a line is still high, the devices tell.</summary>
    public static void EnablePins()
    {
        for (int index = 0; index < MachinePorts.PciInterrupts; index++)
        {
            Write(MachinePorts.FirstPciInterrupt + index, FirstVector + (uint)index);
        }
    }

    private static void Write(int pin, uint low)
    {
        // Destination 0, the processor.
        uint register = FirstRedirection + (2 * (uint)pin);
        Volatile.Write(ref *(uint*)Select, register + 1);
        Volatile.Write(ref *(uint*)Window, 0);
        Volatile.Write(ref *(uint*)Select, register);
        Volatile.Write(ref *(uint*)Window, low);
    }
}
