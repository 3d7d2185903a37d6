// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Frames over streams, for all that a relay talks to, and for its files: u32 bytes of the contents, u8 kind, three zero bytes, contents
// (docs/migration-protocol.md, "Messages"). A frame is kept as the bytes that it came in, because it goes on unchanged.

using System;
using System.Buffers.Binary;
using System.IO;

namespace Svsm.Migration.Relay;

/// <summary>A frame.</summary>
/// <param name="Bytes">Head and contents.</param>
internal readonly record struct RelayFrame(byte[] Bytes)
{
    /// <summary>Bytes before the contents.</summary>
    public const int HeadLength = 8;

    private const int KindOffset = 4;

    /// <summary>What it is. Any byte.</summary>
    public FrameKind Kind => (FrameKind)Bytes[KindOffset];

    /// <summary>The contents.</summary>
    public ReadOnlySpan<byte> Contents => Bytes.AsSpan(HeadLength);

    /// <summary>First byte of the contents: what a frame of kind 3, 4 or 5 says. Zero if there is none.</summary>
    public byte Verb => Bytes.Length > HeadLength ? Bytes[HeadLength] : (byte)0;

    /// <summary>Of a record: its type, which is in the clear. Nobody vouches for it.</summary>
    public RecordType RecordType =>
        Kind == FrameKind.Record && Contents.Length > MigrationFormat.TypeOffset ? (RecordType)Contents[MigrationFormat.TypeOffset] : RecordType.None;

    /// <summary>Makes a frame.</summary>
    /// <param name="kind">What it is.</param>
    /// <param name="contents">The contents, in parts.</param>
    public static RelayFrame Make(FrameKind kind, params ReadOnlySpan<byte> contents) => Make(kind, contents, []);

    /// <summary>Makes a frame of two parts.</summary>
    public static RelayFrame Make(FrameKind kind, ReadOnlySpan<byte> first, ReadOnlySpan<byte> second)
    {
        byte[] bytes = new byte[HeadLength + first.Length + second.Length];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, first.Length + second.Length);
        bytes[KindOffset] = (byte)kind;
        first.CopyTo(bytes.AsSpan(HeadLength));
        second.CopyTo(bytes.AsSpan(HeadLength + first.Length));
        return new(bytes);
    }

    /// <summary>Bytes of the whole frame whose head this is.</summary>
    /// <exception cref="InvalidDataException">It is the head of no frame.</exception>
    public static int LengthOf(ReadOnlySpan<byte> head)
    {
        uint length = BinaryPrimitives.ReadUInt32LittleEndian(head);
        uint kind = BinaryPrimitives.ReadUInt32LittleEndian(head[KindOffset..]);
        return length <= MigrationFormat.MaxContents && kind is > 0 and <= (uint)FrameKind.Relay
            ? HeadLength + (int)length
            : throw new InvalidDataException($"a frame of {length} bytes and kind 0x{kind:X}");
    }
}
