// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The console: a 16550 UART that the host plays, as many bytes at a time through the GHCB page as its FIFO has. What is written there is public:
// Diagnostics/Log.cs says what.
//
// Nothing that the host answers has an effect: a transmitter that never gets ready is waited for a bounded number of times.
// Before the GHCB page is registered, text is dropped.

using System;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Devices;

/// <summary>Writes to the console.</summary>
internal static class Console
{
    private const ushort LineStatus = 5;
    private const ulong TransmitterEmpty = 0x20;
    private const int MaxPolls = 1000;
    private const int PortShift = 16;
    private const ushort FifoControl = 2;
    private const byte EnableFifo = 1;
    private const int FifoLength = Host.MaxPortBytes;

    private static ushort s_port;
    private static bool s_hasFifo;

    /// <summary>Sets the port of the UART's data register.</summary>
    public static void Initialize(ushort port) => s_port = port;

    /// <summary>Writes a line.</summary>
    /// <param name="text">Printable ASCII, as <see cref="LineBuffer"/> makes it.</param>
    public static void WriteLine(ReadOnlySpan<byte> text)
    {
        if (s_port == 0 || !Host.HasPage)
        {
            return;
        }

        if (!s_hasFifo)
        {
            s_hasFifo = true;
            _ = Host.TryWritePort((ushort)(s_port + FifoControl), [EnableFifo]);
        }

        for (; text.Length > FifoLength; text = text.Slice(FifoLength))
        {
            Send(text.Slice(0, FifoLength));
        }

        Send(text);
        Send("\r\n"u8);
    }

    // As much as the transmitter takes at once.
    private static void Send(ReadOnlySpan<byte> bytes)
    {
        GhcbRequest poll = new()
        {
            ExitCode = GhcbExitCode.Ioio,
            Info1 = ((ulong)(ushort)(s_port + LineStatus) << PortShift) | (ulong)(IoioInfo.In | IoioInfo.Size8),
            Wanted = GhcbRegisters.Rax,
        };
        for (int i = 0; i < MaxPolls; i++)
        {
            if (!Host.TryExchange(in poll, out GhcbAnswer answer))
            {
                return;
            }

            if ((answer.Rax & TransmitterEmpty) != 0)
            {
                break;
            }
        }

        // There is nobody to tell: the console is how one would.
        _ = bytes.Length == 0 || Host.TryWritePort(s_port, bytes);
    }
}
