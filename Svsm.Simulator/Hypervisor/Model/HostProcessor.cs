// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the model asks of the processor it runs on. The hypervisor has the real one; tests have one of their own.

using Svsm.Platform;

namespace Svsm.Hypervisor;

/// <summary>The level-1 processor.</summary>
internal abstract unsafe class HostProcessor
{
    /// <summary>Identifies the processor (CPUID).</summary>
    public abstract CpuidResult Cpuid(uint function, uint index);

    /// <summary>Reads the time-stamp counter.</summary>
    public abstract ulong ReadTimeStampCounter();

    /// <summary>Takes the NMI that ended the guest's run: an intercepted one stays pending.</summary>
    public abstract void TakeNonMaskableInterrupt();

    /// <summary>Reads debug registers 0 to 3.</summary>
    public abstract void ReadDebugRegisters(ulong* values);

    /// <summary>Writes debug registers 0 to 3.</summary>
    public abstract void WriteDebugRegisters(ulong* values);

    /// <summary>The TSC_AUX register.</summary>
    public abstract ulong TscAux { get; set; }

    /// <summary>Has the timer interrupt once, in place of what it was set to before.</summary>
    /// <param name="nanoseconds">From now, not 0; the timer may come earlier than a long time.</param>
    public abstract void SetTimer(ulong nanoseconds);

    /// <summary>Takes the interrupt that ended the guest's run.</summary>
    public abstract void AcknowledgeInterrupt();

    /// <summary>Which pins of PCI devices have interrupted a processor since the last call, the first in bit 0.</summary>
    public abstract uint TakePins();

    /// <summary>Reads a port of the outer machine.</summary>
    /// <param name="port">Its number.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    public abstract uint ReadPort(ushort port, int size);

    /// <summary>Writes a port of the outer machine.</summary>
    /// <param name="port">Its number.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <param name="value">The value.</param>
    public abstract void WritePort(ushort port, int size, uint value);

    /// <summary>Reads memory of a device of the outer machine.</summary>
    /// <param name="address">Its address.</param>
    /// <param name="size">1, 2, 4 or 8 bytes.</param>
    public abstract ulong ReadDevice(ulong address, int size);

    /// <summary>Writes memory of a device of the outer machine.</summary>
    /// <param name="address">Its address.</param>
    /// <param name="size">1, 2, 4 or 8 bytes.</param>
    /// <param name="value">The value.</param>
    public abstract void WriteDevice(ulong address, int size, ulong value);

    /// <summary>Waits until the timer, another processor or an NMI interrupts, and takes the interrupt.</summary>
    public abstract void WaitForInterrupt();

    /// <summary>Interrupts the processor that a vCPU has: ends its guest's run, or its wait. One that does neither is interrupted when it does.</summary>
    /// <param name="cpu">Number of the vCPU.</param>
    public abstract void Interrupt(int cpu);

    /// <summary>Lets others have the time while this one waits for them.</summary>
    public abstract void Relax();
}
