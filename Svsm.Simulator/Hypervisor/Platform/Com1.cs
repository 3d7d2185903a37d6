// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The outer machine's COM1, over which the link's frames pass (Svsm.Simulator/Shared/Link.cs). Polled. Source: the data sheet of the PC16550D.
//
// What QEMU receives takes a turn of its main loop for each load of the receiver, and that loop waits for a lock that a processor which reads a port
// has: so the receiver's FIFO is on, and between two looks at an empty one the lock is free.

using System.Threading;
using Svsm.Platform;

namespace Svsm.Hypervisor;

/// <summary>Sends bytes to the machine and takes its answers.</summary>
internal sealed class Com1 : LinkPort
{
    private const ushort Data = 0x3F8;
    private const ushort LineStatus = 0x3FD;
    private const byte TransmitterEmpty = 0x20;
    private const byte DataReady = 0x01;
    private const ushort InterruptEnable = 0x3F9;
    private const byte ReceiverInterrupt = 0x01;
    private const ushort FifoControl = 0x3FA;
    private const byte FifosOn = 0x01;
    private const ushort LineControl = 0x3FB;
    private const byte EightBits = 0x03;
    private const byte DivisorLatch = 0x80;

    // The receiver interrupts with so many bytes, which every frame has, or with fewer after the time of four: at this divisor a third of a millisecond.
    private const byte TriggerAt14 = 0xC0;
    private const byte FastestDivisor = 1;

    // Some microseconds.
    private const int PauseLength = 300;

    private int _pause;

    /// <summary>Has received bytes interrupt the guest.</summary>
    public Com1()
    {
        OuterIoApic.SendCom1AsNmi();
        X64.Out8(LineControl, DivisorLatch | EightBits);
        X64.Out8(Data, FastestDivisor);
        X64.Out8(InterruptEnable, 0);
        X64.Out8(LineControl, EightBits);
        X64.Out8(FifoControl, TriggerAt14 | FifosOn);
        SetInterrupts(true);
    }

    /// <inheritdoc/>
    public override bool CanRead => (X64.In8(LineStatus) & DataReady) != 0;

    /// <inheritdoc/>
    public override void SetInterrupts(bool enabled) => X64.Out8(InterruptEnable, enabled ? ReceiverInterrupt : (byte)0);

    /// <inheritdoc/>
    public override void Write(byte value)
    {
        while ((X64.In8(LineStatus) & TransmitterEmpty) == 0)
        {
        }

        X64.Out8(Data, value);
    }

    /// <inheritdoc/>
    public override byte Read()
    {
        // QEMU holds back what the machine sends until the receiver has room: nothing is lost, however slow this is.
        while ((X64.In8(LineStatus) & DataReady) == 0)
        {
            for (int i = 0; i < PauseLength; i++)
            {
                Volatile.Write(ref _pause, i);
            }
        }

        return X64.In8(Data);
    }
}
