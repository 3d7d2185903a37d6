// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Text output without allocation, for consoles and panic paths. Also compiled and tested on .NET.

using System;

namespace Svsm.Platform;

/// <summary>Where text goes, one UTF-8 byte after the other.</summary>
public interface ITextSink
{
    /// <summary>Takes the next byte.</summary>
    static abstract void Write(byte value);
}

/// <summary>Writes text and numbers to a sink that is chosen at compile time.</summary>
public static class Text<TSink>
    where TSink : ITextSink
{
    private const int MaximumHexDigits = 16;
    private const int MaximumDecimalDigits = 20;
    private const uint ReplacementCharacter = 0xFFFD;

    /// <summary>Writes UTF-8 bytes as they are.</summary>
    public static void Write(ReadOnlySpan<byte> utf8)
    {
        for (int i = 0; i < utf8.Length; i++)
        {
            TSink.Write(utf8[i]);
        }
    }

    /// <summary>Writes UTF-16 text as UTF-8. A surrogate without its partner becomes U+FFFD.</summary>
    public static void Write(ReadOnlySpan<char> text)
    {
        for (int i = 0; i < text.Length; i++)
        {
            uint scalar = text[i];
            if (char.IsHighSurrogate((char)scalar) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
            {
                scalar = 0x1_0000 + ((scalar - 0xD800) << 10) + (text[i + 1] - 0xDC00u);
                i++;
            }
            else if (char.IsHighSurrogate((char)scalar) || char.IsLowSurrogate((char)scalar))
            {
                scalar = ReplacementCharacter;
            }

            WriteScalar(scalar);
        }
    }

    /// <summary>Writes UTF-8 bytes and a line feed.</summary>
    public static void WriteLine(ReadOnlySpan<byte> utf8)
    {
        Write(utf8);
        WriteLine();
    }

    /// <summary>Writes a line feed.</summary>
    public static void WriteLine() => TSink.Write((byte)'\n');

    /// <summary>Writes a number in lower-case hexadecimal, without prefix.</summary>
    /// <param name="value">The number.</param>
    /// <param name="minimumDigits">Filled up with zeros to so many digits; what is outside 1 to 16 counts as the nearer of the two.</param>
    public static void WriteHex(ulong value, int minimumDigits = 1)
    {
        int digits = Math.Clamp(minimumDigits, 1, MaximumHexDigits);
        while (digits < MaximumHexDigits && value >> (digits * 4) != 0)
        {
            digits++;
        }

        for (int shift = (digits - 1) * 4; shift >= 0; shift -= 4)
        {
            TSink.Write("0123456789abcdef"u8[(int)(value >> shift) & 0xF]);
        }
    }

    /// <summary>Writes a number in decimal.</summary>
    public static void WriteDecimal(ulong value)
    {
        Span<byte> digits = stackalloc byte[MaximumDecimalDigits];
        int first = digits.Length;
        do
        {
            ulong quotient = value / 10;
            digits[--first] = (byte)('0' + (int)(value - (quotient * 10)));
            value = quotient;
        }
        while (value != 0);

        Write(digits.Slice(first));
    }

    /// <summary>Writes a number in decimal, with a minus sign when negative.</summary>
    public static void WriteDecimal(long value)
    {
        if (value < 0)
        {
            TSink.Write((byte)'-');

            // Not -value: the smallest number has no positive counterpart.
            WriteDecimal((ulong)~value + 1);
            return;
        }

        WriteDecimal((ulong)value);
    }

    /// <summary>Writes a number in decimal.</summary>
    public static void WriteDecimal(uint value) => WriteDecimal((ulong)value);

    /// <summary>Writes a number in decimal, with a minus sign when negative.</summary>
    public static void WriteDecimal(int value) => WriteDecimal((long)value);

    private static void WriteScalar(uint scalar)
    {
        if (scalar < 0x80)
        {
            TSink.Write((byte)scalar);
            return;
        }

        if (scalar < 0x800)
        {
            TSink.Write((byte)(0xC0 | (scalar >> 6)));
        }
        else
        {
            if (scalar < 0x1_0000)
            {
                TSink.Write((byte)(0xE0 | (scalar >> 12)));
            }
            else
            {
                TSink.Write((byte)(0xF0 | (scalar >> 18)));
                TSink.Write((byte)(0x80 | ((scalar >> 12) & 0x3F)));
            }

            TSink.Write((byte)(0x80 | ((scalar >> 6) & 0x3F)));
        }

        TSink.Write((byte)(0x80 | (scalar & 0x3F)));
    }
}
