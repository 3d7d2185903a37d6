// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The outer machine's COM1, over which the link's frames pass (Svsm.Simulator/Shared/Link.cs). Polled.

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

    // The I/O APIC hands the line of COM1 to the processor as an NMI, on its rising edge: it ends the run of a guest whatever that has masked, and
    // stays pending while GIF is clear. Source: Intel 82093AA data sheet.
    private const ulong IoApicSelect = 0xFEC0_0000;
    private const ulong IoApicWindow = 0xFEC0_0010;
    private const uint RedirectionOfLine4 = 0x10 + (2 * 4);
    private const uint DeliverNmi = 4 << 8;

    /// <summary>Has received bytes interrupt the guest.</summary>
    public unsafe Com1()
    {
        // SAFETY: the I/O APIC's registers lie where the chipset of the outer machine has them, mapped one to one.
        *(uint*)IoApicSelect = RedirectionOfLine4 + 1;
        *(uint*)IoApicWindow = 0;
        *(uint*)IoApicSelect = RedirectionOfLine4;
        *(uint*)IoApicWindow = DeliverNmi;
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
