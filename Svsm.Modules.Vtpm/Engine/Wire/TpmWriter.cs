// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;

namespace Svsm.Modules.Vtpm.Wire;

// Writes TPM structures into a buffer that is large enough for the largest response or state; that it is, is a matter of the limits on
// what is written, so running over it is a defect of the engine and throws.
internal ref struct TpmWriter
{
    private readonly Span<byte> _buffer;

    internal TpmWriter(Span<byte> buffer) => _buffer = buffer;

    /// <summary>Bytes written.</summary>
    internal int Length { get; private set; }

    internal readonly Span<byte> Written => _buffer[..Length];

    internal void WriteByte(byte value) => _buffer[Length++] = value;

    internal void WriteYesNo(bool value) => WriteByte(value ? (byte)1 : (byte)0);

    internal void WriteUInt16(ushort value)
    {
        BinaryPrimitives.WriteUInt16BigEndian(_buffer[Length..], value);
        Length += 2;
    }

    internal void WriteUInt32(uint value)
    {
        BinaryPrimitives.WriteUInt32BigEndian(_buffer[Length..], value);
        Length += 4;
    }

    internal void WriteUInt64(ulong value)
    {
        BinaryPrimitives.WriteUInt64BigEndian(_buffer[Length..], value);
        Length += 8;
    }

    internal void WriteInteger(ulong value, int width)
    {
        for (int shift = (width - 1) * 8; shift >= 0; shift -= 8)
        {
            WriteByte((byte)(value >> shift));
        }
    }

    internal void WriteBytes(scoped ReadOnlySpan<byte> value)
    {
        value.CopyTo(_buffer[Length..]);
        Length += value.Length;
    }

    internal void WriteSized(scoped ReadOnlySpan<byte> value)
    {
        WriteUInt16(checked((ushort)value.Length));
        WriteBytes(value);
    }

    /// <summary>Begins a TPM2B whose length is not known yet.</summary>
    internal int BeginSized()
    {
        int mark = Length;
        WriteUInt16(0);
        return mark;
    }

    internal readonly void EndSized(int mark)
        => BinaryPrimitives.WriteUInt16BigEndian(_buffer[mark..], checked((ushort)(Length - mark - 2)));
}
