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
    private const int DestinationShift = 24;

    // Behind the APIC timer's vector and the spurious one.
    private const uint FirstVector = ExceptionTable.Exceptions + 2;

    /// <summary>Has the processor get the line of COM1 as an NMI, on its rising edge: it ends the run of a guest whatever that has masked, and stays pending while GIF is clear.</summary>
    public static void SendCom1AsNmi() => Write(LowRegister(MachinePorts.Com1Interrupt), DeliverNmi);

    /// <summary>Has the pins of PCI devices interrupt, on their rising edge: whether a line is still high, the devices tell.</summary>
    public static void EnablePins()
    {
        for (int index = 0; index < MachinePorts.PciInterrupts; index++)
        {
            Write(LowRegister(MachinePorts.FirstPciInterrupt + index), FirstVector + (uint)index);
        }
    }

    /// <summary>Has all of them go to a processor. After a reset they go to the first.</summary>
    public static void SendTo(int processor)
    {
        uint destination = (uint)processor << DestinationShift;
        Write(HighRegister(MachinePorts.Com1Interrupt), destination);
        for (int index = 0; index < MachinePorts.PciInterrupts; index++)
        {
            Write(HighRegister(MachinePorts.FirstPciInterrupt + index), destination);
        }
    }

    private static uint LowRegister(int pin) => FirstRedirection + (2 * (uint)pin);

    private static uint HighRegister(int pin) => LowRegister(pin) + 1;

    private static void Write(uint register, uint value)
    {
        Volatile.Write(ref *(uint*)Select, register);
        Volatile.Write(ref *(uint*)Window, value);
    }
}
