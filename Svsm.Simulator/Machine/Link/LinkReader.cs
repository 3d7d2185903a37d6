// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Takes the bytes of the serial link apart into frames (Shared/Link.cs). For the machine.
// The bytes come from QEMU, which runs a guest that may be hostile: nothing is believed but what fits the framing.
// Memory: one frame, and the first bytes of what an outer firmware says before the hypervisor runs.

using System;
using System.Text;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal delegate void LinkFrameHandler(LinkFrame type, ReadOnlySpan<byte> payload);

internal sealed class LinkReader
{
    private const int ChatterLimit = 4096;

    private readonly LinkFrameHandler _handler;
    private readonly byte[] _frame = new byte[Link.HeaderLength + Link.MaxPayload];
    private readonly StringBuilder _chatter = new();
    private int _length;
    private bool _started;

    public LinkReader(LinkFrameHandler handler) => _handler = handler;

    // What came before the first frame, as text: the only trace of a hypervisor that did not start.
    public string Chatter => _chatter.ToString();

    // True between frames: an end of the stream loses nothing.
    public bool AtFrameBoundary => _length == 0;

    // Bytes may be cut anywhere. Throws LinkException on what is no frame, and passes on what the handler throws.
    public void Push(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            if (!_started)
            {
                int start = bytes.IndexOf(Link.Start);
                AddChatter(start < 0 ? bytes : bytes[..start]);
                if (start < 0)
                {
                    return;
                }

                bytes = bytes[start..];
                _started = true;
            }

            int wanted = _length < Link.HeaderLength ? Link.HeaderLength : Link.HeaderLength + PayloadLength;
            int taken = Math.Min(wanted - _length, bytes.Length);
            bytes[..taken].CopyTo(_frame.AsSpan(_length));
            _length += taken;
            bytes = bytes[taken..];

            if (_frame[0] != Link.Start)
            {
                throw new LinkException($"A frame starts with byte 0x{_frame[0]:X2}; wanted 0x{Link.Start:X2}.");
            }

            if (_length < Link.HeaderLength)
            {
                return;
            }

            if (PayloadLength > Link.MaxPayload)
            {
                throw new LinkException($"A frame of type {_frame[1]} has a payload of {PayloadLength} bytes; the most is {Link.MaxPayload}.");
            }

            if (_length == Link.HeaderLength + PayloadLength)
            {
                _length = 0;
                _handler((LinkFrame)_frame[1], _frame.AsSpan(Link.HeaderLength, PayloadLength));
            }
        }
    }

    private int PayloadLength => _frame[2] | (_frame[3] << 8);

    private void AddChatter(ReadOnlySpan<byte> bytes)
    {
        foreach (byte value in bytes[..Math.Min(bytes.Length, ChatterLimit - _chatter.Length)])
        {
            _chatter.Append(value is >= 0x20 and < 0x7F or (byte)'\n' ? (char)value : '.');
        }
    }
}
