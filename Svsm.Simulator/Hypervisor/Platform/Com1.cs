// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The outer machine's COM1, over which the link's frames pass (Svsm.Simulator/Shared/Link.cs). Polled. Source: the data sheet of the PC16550D.
//
// QEMU loads the receiver once in a turn of its main loop, and such a turn waits until the processor that polls lets go of QEMU's lock: so the FIFO is on,
// and a frame takes a fourteenth of the turns.

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

    // The receiver interrupts with so many bytes: each frame of the machine has more, and is read whole, so no rest waits for the interrupt of the next.
    private const byte TriggerAt14 = 0xC0;

    /// <summary>Has received bytes interrupt the guest.</summary>
    public Com1()
    {
        OuterIoApic.SendCom1AsNmi();
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
        }

        return X64.In8(Data);
    }
}
