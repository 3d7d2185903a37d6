// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Igvm.Tests;

/// <summary>Builds files byte by byte from the format's description, without the writer under test.</summary>
internal sealed class RawFile
{
    private readonly List<byte> _headers = [];

    public uint Version { get; init; } = 1;

    public byte[] Data { get; init; } = new byte[4096];

    public int FixedLength => Version == 1 ? 24 : 32;

    /// <summary>Offset in the file of the next header's structure.</summary>
    public int NextBody => FixedLength + _headers.Count + 8;

    /// <summary>Where the data will start when <paramref name="headerBytes"/> more bytes of headers are added.</summary>
    public uint DataOffset(int headerBytes = 0) => (uint)(FixedLength + _headers.Count + headerBytes);

    public RawFile Add(uint type, params byte[] body)
    {
        Span<byte> head = stackalloc byte[8];
        BinaryPrimitives.WriteUInt32LittleEndian(head, type);
        BinaryPrimitives.WriteUInt32LittleEndian(head[4..], (uint)body.Length);
        _headers.AddRange(head);
        _headers.AddRange(body);
        while (_headers.Count % 8 != 0)
        {
            _headers.Add(0);
        }

        return this;
    }

    public RawFile AddSnpPlatform() => Add(0x001, Body(0x10, (0, 4, 1), (5, 1, 2), (6, 2, 1)));

    public byte[] ToArray()
    {
        byte[] file = new byte[FixedLength + _headers.Count + Data.Length];
        U32(file, 0x00, 0x4D564749);
        U32(file, 0x04, Version);
        U32(file, 0x08, (uint)FixedLength);
        U32(file, 0x0C, (uint)_headers.Count);
        U32(file, 0x10, (uint)file.Length);
        if (Version == 2)
        {
            U32(file, 0x1C, 4096);
        }

        _headers.CopyTo(file, FixedLength);
        Data.CopyTo(file, FixedLength + _headers.Count);
        FixChecksum(file);
        return file;
    }

    /// <summary>A structure with fields at (offset, length, value).</summary>
    public static byte[] Body(int length, params (int Offset, int Length, ulong Value)[] fields)
    {
        byte[] body = new byte[length];
        foreach ((int offset, int fieldLength, ulong value) in fields)
        {
            for (int i = 0; i < fieldLength; i++)
            {
                body[offset + i] = (byte)(value >> (8 * i));
            }
        }

        return body;
    }

    public static void U32(byte[] file, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(file.AsSpan(offset), value);

    /// <summary>Writes the CRC-32 that the format wants, as far as the headers are inside the file. Bit by bit, on purpose.</summary>
    public static void FixChecksum(byte[] file)
    {
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(4));
        uint start = BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(8));
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(12));
        int fixedLength = version == 2 ? 32 : 24;
        if (file.Length < fixedLength || start > file.Length || length > file.Length - start)
        {
            return;
        }

        U32(file, 0x14, 0);
        uint crc = uint.MaxValue;
        crc = Crc(crc, file.AsSpan(0, fixedLength));
        crc = Crc(crc, file.AsSpan((int)start, (int)length));
        U32(file, 0x14, ~crc);
    }

    private static uint Crc(uint crc, ReadOnlySpan<byte> bytes)
    {
        foreach (byte b in bytes)
        {
            crc ^= b;
            for (int i = 0; i < 8; i++)
            {
                crc = (crc & 1) != 0 ? (crc >> 1) ^ 0xEDB8_8320 : crc >> 1;
            }
        }

        return crc;
    }
}
