// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writes the frames of Svsm.Simulator/Shared/Link.cs, and reads the machine's answers.
//
// Console bytes are gathered until a line feed, a full buffer, another speaker or the end of the run: a frame per byte would multiply
// what crosses the outer serial line by nine.

using System;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>Where the bytes of frames go and come from.</summary>
internal abstract class LinkPort
{
    /// <summary>Sends a byte.</summary>
    public abstract void Write(byte value);

    /// <summary>Waits for a byte.</summary>
    public abstract byte Read();

    /// <summary>Whether a byte has arrived.</summary>
    public abstract bool CanRead { get; }

    /// <summary>Whether a frame that arrives interrupts the guest.</summary>
    public abstract void SetInterrupts(bool enabled);
}

/// <summary>The hypervisor's end of the link.</summary>
internal sealed class LinkWriter
{
    private const int ConsoleHeaderLength = 4;
    private const int ConsoleCapacity = 512;
    private const int MaxLogLength = 1024;

    private readonly LinkPort _port;
    private readonly byte[] _console = new byte[ConsoleHeaderLength + ConsoleCapacity];
    private readonly byte[] _log = new byte[MaxLogLength];
    private int _consoleLength = ConsoleHeaderLength;
    private int _logLength;
    private bool _holdInterrupts;

    /// <summary>Makes a writer.</summary>
    public LinkWriter(LinkPort port)
    {
        _port = port;
    }

    /// <summary>Sends a frame.</summary>
    /// <param name="type">Its type.</param>
    /// <param name="payload">Up to <see cref="Link.MaxPayload"/> bytes.</param>
    public void Send(LinkFrame type, ReadOnlySpan<byte> payload)
    {
        _port.Write(Link.Start);
        _port.Write((byte)type);
        _port.Write((byte)payload.Length);
        _port.Write((byte)(payload.Length >> 8));
        for (int i = 0; i < payload.Length; i++)
        {
            _port.Write(payload[i]);
        }
    }

    /// <summary>Whether the machine is sending a frame.</summary>
    public bool CanReceive => _port.CanRead;

    /// <summary>Whether more than one frame is waited for, so that one that comes early does not interrupt the guest afterwards.</summary>
    public bool HoldInterrupts
    {
        get => _holdInterrupts;
        set
        {
            _holdInterrupts = value;
            _port.SetInterrupts(!value);
        }
    }

    /// <summary>Sends a frame that the machine answers. The answer is to be waited for at once: from here on it does not interrupt the guest.</summary>
    public void SendRequest(LinkFrame type, ReadOnlySpan<byte> payload)
    {
        _port.SetInterrupts(false);
        Send(type, payload);
    }

    /// <summary>Waits for a frame of the machine.</summary>
    /// <param name="payload">Takes its payload; <see cref="Link.MaxPayload"/> bytes.</param>
    /// <param name="type">Its type; 0 when the link is broken.</param>
    /// <returns>Length of the payload.</returns>
    public int Receive(Span<byte> payload, out LinkFrame type)
    {
        // What is waited for shall not interrupt the guest afterwards: runs in which nothing else is sent repeat exactly.
        _port.SetInterrupts(false);
        int length = ReceiveFrame(payload, out type);
        if (!_holdInterrupts)
        {
            _port.SetInterrupts(true);
        }

        return length;
    }

    private int ReceiveFrame(Span<byte> payload, out LinkFrame type)
    {
        type = 0;
        if (_port.Read() != Link.Start)
        {
            return 0;
        }

        byte received = _port.Read();
        int length = _port.Read();
        length |= _port.Read() << 8;
        if (length > payload.Length)
        {
            return 0;
        }

        for (int i = 0; i < length; i++)
        {
            payload[i] = _port.Read();
        }

        type = (LinkFrame)received;
        return length;
    }

    /// <summary>Sends the first frame.</summary>
    public void SendHello()
    {
        uint version = Link.Version;
        Send(LinkFrame.Hello, MemoryMarshal.AsBytes(new ReadOnlySpan<uint>(in version)));
    }

    /// <summary>Adds a byte to the console output of a vCPU at a VMPL.</summary>
    public void WriteConsole(int vcpu, int vmpl, byte value)
    {
        if (_consoleLength != ConsoleHeaderLength && (_console[0] | (_console[1] << 8)) != vcpu || _console[2] != vmpl)
        {
            FlushConsole();
        }

        _console[0] = (byte)vcpu;
        _console[1] = (byte)(vcpu >> 8);
        _console[2] = (byte)vmpl;
        _console[_consoleLength++] = value;
        if (value == (byte)'\n' || _consoleLength == _console.Length)
        {
            FlushConsole();
        }
    }

    /// <summary>Sends the console bytes gathered so far.</summary>
    public void FlushConsole()
    {
        if (_consoleLength > ConsoleHeaderLength)
        {
            int length = _consoleLength;
            _consoleLength = ConsoleHeaderLength;
            Send(LinkFrame.Console, new ReadOnlySpan<byte>(_console, 0, length));
        }
    }

    /// <summary>Adds text to the current log line; what does not fit is lost.</summary>
    public LinkWriter Log(ReadOnlySpan<byte> utf8)
    {
        for (int i = 0; i < utf8.Length; i++)
        {
            Append(utf8[i]);
        }

        return this;
    }

    /// <summary>Adds a number in hexadecimal to the current log line.</summary>
    public LinkWriter LogHex(ulong value)
    {
        Log("0x"u8);
        int shift = 60;
        while (shift > 0 && (value >> shift) == 0)
        {
            shift -= 4;
        }

        for (; shift >= 0; shift -= 4)
        {
            Append("0123456789abcdef"u8[(int)(value >> shift) & 0xF]);
        }

        return this;
    }

    /// <summary>Adds a number below 100 in decimal to the current log line.</summary>
    public LinkWriter LogNumber(uint value)
    {
        if (value >= 10)
        {
            Append((byte)('0' + (value / 10 % 10)));
        }

        Append((byte)('0' + (value % 10)));
        return this;
    }

    /// <summary>Sends the current log line.</summary>
    public void EndLog()
    {
        FlushConsole();
        int length = _logLength;
        _logLength = 0;
        Send(LinkFrame.Log, new ReadOnlySpan<byte>(_log, 0, length));
    }

    private void Append(byte value)
    {
        if (_logLength < _log.Length)
        {
            _log[_logLength++] = value;
        }
    }
}
