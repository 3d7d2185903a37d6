// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A line of the log while it is put together, one per CPU. Everything that leaves the kernel as text passes here, so here is the one place that
// makes it harmless: what is not printable ASCII becomes \x and two hexadecimal digits, line feeds included. So text of a guest or of the host
// could neither begin a line of its own nor reach a terminal as it is.

using System;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>A line. The zeroed state is an empty one.</summary>
internal struct LineBuffer
{
    /// <summary>Most bytes of a line; the rest of a longer one is dropped.</summary>
    public const int MaxLength = 4 * LogEntry.TextLength;

    private const int EscapeLength = 4;

    [InlineArray(MaxLength)]
    private struct Bytes
    {
        private byte _element0;
    }

    private Bytes _bytes;
    private int _length;

    /// <summary>What is there.</summary>
    [UnscopedRef]
    public readonly ReadOnlySpan<byte> Text => ((ReadOnlySpan<byte>)_bytes).Slice(0, _length);

    /// <summary>Adds a byte.</summary>
    /// <param name="value">Any.</param>
    public void Append(byte value)
    {
        if (value is >= 0x20 and < 0x7F and not (byte)'\\')
        {
            if (_length < MaxLength)
            {
                _bytes[_length++] = value;
            }
        }
        else if (_length <= MaxLength - EscapeLength)
        {
            ReadOnlySpan<byte> digits = "0123456789abcdef"u8;
            _bytes[_length] = (byte)'\\';
            _bytes[_length + 1] = (byte)'x';
            _bytes[_length + 2] = digits[value >> 4];
            _bytes[_length + 3] = digits[value & 0xF];
            _length += EscapeLength;
        }
    }

    /// <summary>Makes it empty.</summary>
    public void Clear() => _length = 0;
}
