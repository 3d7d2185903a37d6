// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Frames of a migration's channel, cut from bytes as they come: u32 bytes of the contents, u8 kind, three zero bytes, contents (docs/migration-protocol.md,
// "Messages"). Only whole frames go on, so that neither end ever gets half of one because the other has gone.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Simulator;

internal sealed class ChannelFrames
{
    public const int HeaderLength = 8;
    public const int MaxContents = 0x1_1000;

    // Kinds 1 to 3 are between relay and SVSM; this one is between relay and machine.
    public const byte KindOfMachine = 4;

    private const int KindOffset = 4;

    private readonly byte[] _frame = new byte[HeaderLength + MaxContents];
    private int _length;

    // A frame with its header.
    public static byte[] Make(byte kind, ReadOnlySpan<byte> contents)
    {
        byte[] frame = new byte[HeaderLength + contents.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(frame, (uint)contents.Length);
        frame[KindOffset] = kind;
        contents.CopyTo(frame.AsSpan(HeaderLength));
        return frame;
    }

    public static byte KindOf(ReadOnlySpan<byte> frame) => frame[KindOffset];

    // Adds the frames that the bytes complete. False at a broken frame: what comes is none any more, and begins anew.
    public bool TryPush(ReadOnlySpan<byte> bytes, List<byte[]> frames)
    {
        while (!bytes.IsEmpty)
        {
            int wanted = _length < HeaderLength ? HeaderLength : HeaderLength + (int)BinaryPrimitives.ReadUInt32LittleEndian(_frame);
            int count = Math.Min(wanted - _length, bytes.Length);
            bytes[..count].CopyTo(_frame.AsSpan(_length));
            bytes = bytes[count..];
            _length += count;
            if (_length == HeaderLength && !IsHeader(_frame))
            {
                Clear();
                return false;
            }

            if (_length >= HeaderLength && _length == HeaderLength + (int)BinaryPrimitives.ReadUInt32LittleEndian(_frame))
            {
                frames.Add(_frame.AsSpan(0, _length).ToArray());
                Clear();
            }
        }

        return true;
    }

    public void Clear() => _length = 0;

    private static bool IsHeader(ReadOnlySpan<byte> header) =>
        BinaryPrimitives.ReadUInt32LittleEndian(header) <= MaxContents
        && header[KindOffset] is >= 1 and <= KindOfMachine
        && header[(KindOffset + 1)..HeaderLength].IndexOfAnyExcept((byte)0) < 0;
}
