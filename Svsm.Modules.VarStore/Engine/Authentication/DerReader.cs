// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reads DER: one element after the other, without recursion, and without making anything but slices. What is not DER (indefinite lengths, lengths longer than
// they need to be, tags of several bytes) is refused. For SignedMessage and Certificate.
//
// The parsers of the class library and of BouncyCastle make trees of objects and throw; a module has a stack of 256 KiB, a small heap, and a hostile guest.
//
// Source: ITU-T X.690, 8.1 and 10.1.

using System;

namespace Svsm.Modules.VarStore;

internal struct DerReader(ReadOnlyMemory<byte> rest)
{
    public const byte Boolean = 0x01;
    public const byte Integer = 0x02;
    public const byte BitString = 0x03;
    public const byte OctetString = 0x04;
    public const byte ObjectIdentifier = 0x06;
    public const byte Sequence = 0x30;
    public const byte Set = 0x31;

    private const byte ContextSpecific = 0xA0;
    private const int LongTag = 0x1F;
    private const int LongLength = 0x80;
    private const int MaxLengthBytes = 3;

    private ReadOnlyMemory<byte> _rest = rest;

    public readonly bool IsEmpty => _rest.IsEmpty;

    /// <summary>The tag of a constructed element with a context-specific number.</summary>
    public static byte Context(int number) => (byte)(ContextSpecific | number);

    public readonly bool IsNext(byte tag) => !_rest.IsEmpty && _rest.Span[0] == tag;

    /// <summary>Reads an element with a certain tag, and gives what is in it.</summary>
    public bool TryRead(byte tag, out ReadOnlyMemory<byte> contents) => TryRead(tag, out _, out contents);

    /// <summary>Reads an element with a certain tag, and gives it as a whole as well.</summary>
    public bool TryRead(byte tag, out ReadOnlyMemory<byte> whole, out ReadOnlyMemory<byte> contents)
    {
        whole = default;
        contents = default;
        return IsNext(tag) && TryReadAny(out whole, out contents);
    }

    /// <summary>Reads an element, whatever it is.</summary>
    public bool TryReadAny(out ReadOnlyMemory<byte> whole, out ReadOnlyMemory<byte> contents)
    {
        whole = default;
        contents = default;
        ReadOnlySpan<byte> bytes = _rest.Span;
        if (bytes.Length < 2 || (bytes[0] & LongTag) == LongTag)
        {
            return false;
        }

        int at = 2;
        int length = bytes[1];
        if (length >= LongLength)
        {
            int count = length - LongLength;
            if (count is 0 or > MaxLengthBytes || count > bytes.Length - at || bytes[at] == 0)
            {
                return false;
            }

            length = 0;
            foreach (byte part in bytes.Slice(at, count))
            {
                length = (length << 8) | part;
            }

            at += count;
            if (length < LongLength)
            {
                return false;
            }
        }

        if (length > bytes.Length - at)
        {
            return false;
        }

        whole = _rest[..(at + length)];
        contents = _rest.Slice(at, length);
        _rest = _rest[(at + length)..];
        return true;
    }

    /// <summary>Reads an integer that is not negative, without leading zeros.</summary>
    public bool TryReadUnsigned(out ReadOnlyMemory<byte> value)
    {
        if (!TryRead(Integer, out value) || value.IsEmpty || value.Span[0] >= LongLength)
        {
            return false;
        }

        if (value.Span[0] == 0 && value.Length > 1)
        {
            value = value[1..];
            return value.Span[0] >= LongLength;
        }

        return true;
    }

    /// <summary>Reads a bit string of whole bytes.</summary>
    public bool TryReadBytes(out ReadOnlyMemory<byte> value)
    {
        if (!TryRead(BitString, out value) || value.IsEmpty || value.Span[0] != 0)
        {
            return false;
        }

        value = value[1..];
        return true;
    }

    /// <summary>Reads an AlgorithmIdentifier and gives its object identifier.</summary>
    public bool TryReadAlgorithm(out ReadOnlyMemory<byte> identifier)
    {
        identifier = default;
        return TryRead(Sequence, out ReadOnlyMemory<byte> contents) && new DerReader(contents).TryRead(ObjectIdentifier, out identifier);
    }
}
