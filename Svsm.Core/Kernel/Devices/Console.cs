// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The console: a 16550 UART that the host plays, byte by byte through the GHCB page. What the kernel prints is public.
//
// Nothing that the host answers has an effect: a transmitter that never gets ready is waited for a bounded number of times.
// Before the GHCB page is registered, text is dropped.

using System;
using Svsm.Kernel.Snp;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Devices;

/// <summary>The console as a sink of text.</summary>
internal struct Console : ITextSink
{
    private const ushort LineStatus = 5;
    private const ulong TransmitterEmpty = 0x20;
    private const int MaxPolls = 1000;
    private const int PortShift = 16;

    private static ushort s_port;

    /// <summary>Sets the port of the UART's data register.</summary>
    public static void Initialize(ushort port) => s_port = port;

    /// <summary>Writes a byte; a line feed gets a carriage return ahead of it.</summary>
    public static void Write(byte value)
    {
        if (s_port == 0 || !Host.HasPage)
        {
            return;
        }

        if (value == (byte)'\n')
        {
            Send((byte)'\r');
        }

        Send(value);
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
