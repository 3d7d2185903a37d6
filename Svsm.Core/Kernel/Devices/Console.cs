// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The console: a 16550 UART that the host plays, byte by byte through the GHCB page. What is written there is public: Diagnostics/Log.cs says what.
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

    private static ushort s_port;

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

        for (int i = 0; i < text.Length; i++)
        {
            Send(text[i]);
        }

        Send((byte)'\r');
        Send((byte)'\n');
    }

    private static void Send(byte value)
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

        GhcbRequest send = new()
        {
            ExitCode = GhcbExitCode.Ioio,
            Info1 = ((ulong)s_port << PortShift) | (ulong)IoioInfo.Size8,
            Sent = GhcbRegisters.Rax,
            Rax = value,
        };

        // There is nobody to tell: the console is how one would.
        _ = Host.TryExchange(in send, out _);
    }
}
