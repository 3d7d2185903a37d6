// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An entry of the log: 1 to 64 blocks, little-endian. For reading and writing the log.
//
//   00 "SVEN" | 04 u16 kind | 06 u16 blocks | 08 u64 generation | 10 u64 its own block | 18 u32 bytes of the operations |
//   1C u32 base entries that follow | 20 seed (20) | 34 zero (12) | 40 link: the tag of the entry before (16) | 50 tag (16) |
//   60 u32 CRC-32C of all blocks, this field as zero | 64 zero (12) | 70 operations, encrypted | values, encrypted, each at a multiple of 16 | zero
//
// The tag is that of unit 0 of the seed: the operations, and the bytes 00 to 4F. The tags of the values are in the operations.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Runtime.CompilerServices;

namespace Svsm.Store;

internal enum EntryKind : ushort
{
    /// <summary>A part of the state with which a compacted log begins.</summary>
    Base = 1,

    /// <summary>A commit: it makes the generation before into its own.</summary>
    Commit = 2,
}

internal readonly record struct EntryHead
{
    public const int Length = 0x70;
    public const int AuthenticatedLength = 0x50;
    public const int SeedOffset = 0x20;
    public const int TagOffset = 0x50;
    public const int ChecksumOffset = 0x60;

    public EntryKind Kind { get; init; }

    public int Blocks { get; init; }

    public ulong Generation { get; init; }

    public int OperationsLength { get; init; }

    /// <summary>How many base entries follow.</summary>
    public uint Remaining { get; init; }

    public UInt128 Link { get; init; }

    public UInt128 Tag { get; init; }

    public uint Checksum { get; init; }

    /// <summary>Blocks that have the head and the operations.</summary>
    public int OperationsBlocks => StoreFormat.Blocks(Length + OperationsLength);

    /// <summary>Reads a head.</summary>
    /// <param name="bytes">The first block of what may be an entry. Untrusted.</param>
    /// <param name="block">Where it is.</param>
    /// <param name="limit">The block at which it must end at the latest.</param>
    /// <param name="head">What was read.</param>
    /// <returns>False: there is no entry.</returns>
    public static bool TryRead(ReadOnlySpan<byte> bytes, long block, long limit, out EntryHead head)
    {
        head = new EntryHead
        {
            Kind = (EntryKind)BinaryPrimitives.ReadUInt16LittleEndian(bytes[4..]),
            Blocks = BinaryPrimitives.ReadUInt16LittleEndian(bytes[6..]),
            Generation = BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]),
            OperationsLength = BinaryPrimitives.ReadInt32LittleEndian(bytes[0x18..]),
            Remaining = BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x1C..]),
            Link = BinaryPrimitives.ReadUInt128LittleEndian(bytes[0x40..]),
            Tag = BinaryPrimitives.ReadUInt128LittleEndian(bytes[TagOffset..]),
            Checksum = BinaryPrimitives.ReadUInt32LittleEndian(bytes[ChecksumOffset..]),
        };
        return bytes.StartsWith("SVEN"u8) && head.Kind is EntryKind.Base or EntryKind.Commit
            && head.Blocks is >= 1 and <= StoreFormat.MaxEntryBlocks && head.Blocks <= limit - block
            && BinaryPrimitives.ReadInt64LittleEndian(bytes[0x10..]) == block
            && head.OperationsLength >= 0 && head.OperationsLength <= (head.Blocks * StoreFormat.BlockSize) - Length;
    }

    /// <summary>The checksum that the entry must have.</summary>
    /// <param name="entry">All its blocks.</param>
    public static uint ComputeChecksum(ReadOnlySpan<byte> entry) =>
        StoreFormat.Checksum(entry[(ChecksumOffset + sizeof(uint))..], StoreFormat.Checksum(stackalloc byte[sizeof(uint)], StoreFormat.Checksum(entry[..ChecksumOffset])));
}

/// <summary>An entry whose values can be read: where it is, and from which seed its cipher comes. Small, for there can be one for each record.</summary>
internal sealed class Entry
{
    private readonly EntrySeed _seed;

    /// <param name="block">Its first block.</param>
    /// <param name="seed">Its seed.</param>
    public Entry(long block, ReadOnlySpan<byte> seed)
    {
        Block = block;
        seed.CopyTo(_seed);
    }

    /// <summary>Its first block.</summary>
    public long Block { get; }

    /// <summary>Its seed.</summary>
    public ReadOnlySpan<byte> Seed => _seed;

    /// <summary>Bytes of an entry with these operations, without the padding at its end.</summary>
    public static int Measure(List<Operation> operations)
    {
        int length = EntryHead.Length;
        foreach (Operation operation in operations)
        {
            length += operation.Length;
        }

        length = StoreFormat.Align(length);
        foreach (Operation operation in operations)
        {
            length += StoreFormat.Align(operation.Value?.Length ?? 0);
        }

        return length;
    }

    /// <summary>Makes an entry, and says in its operations where their values are.</summary>
    /// <param name="cipher">The store's cipher.</param>
    /// <param name="seed">Fresh random bytes.</param>
    /// <param name="block">Where it will be.</param>
    /// <param name="head">Kind, generation, link and what remains; the rest is computed.</param>
    /// <param name="operations">Together not more than an entry holds.</param>
    /// <param name="bytes">Its blocks, zero: as many as <see cref="Measure"/> says.</param>
    /// <param name="tag">Its tag.</param>
    public static Entry Write(StoreCipher cipher, ReadOnlySpan<byte> seed, long block, in EntryHead head, List<Operation> operations, Span<byte> bytes, out UInt128 tag)
    {
        var entry = new Entry(block, seed);
        UnitCipher units = cipher.ForSeed(seed);
        int operationsLength = 0;
        foreach (Operation operation in operations)
        {
            operationsLength += operation.Length;
        }

        byte[] text = new byte[operationsLength];
        int offset = StoreFormat.Align(EntryHead.Length + operationsLength);
        int position = 0;
        uint unit = 0;
        foreach (Operation operation in operations)
        {
            operation.Unit = ++unit;
            if (operation.HasCell)
            {
                operation.Offset = offset;
                operation.Tag = units.Seal(unit, [], operation.Value, bytes[offset..]);
                offset += StoreFormat.Align(operation.ValueLength);
            }

            operation.Write(text.AsSpan(position));
            position += operation.Length;
        }

        "SVEN"u8.CopyTo(bytes);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[4..], (ushort)head.Kind);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[6..], (ushort)(bytes.Length / StoreFormat.BlockSize));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes[8..], head.Generation);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[0x10..], block);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[0x18..], operationsLength);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[0x1C..], head.Remaining);
        seed.CopyTo(bytes[EntryHead.SeedOffset..]);
        BinaryPrimitives.WriteUInt128LittleEndian(bytes[0x40..], head.Link);
        tag = units.Seal(0, bytes[..EntryHead.AuthenticatedLength], text, bytes[EntryHead.Length..]);
        BinaryPrimitives.WriteUInt128LittleEndian(bytes[EntryHead.TagOffset..], tag);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[EntryHead.ChecksumOffset..], EntryHead.ComputeChecksum(bytes));
        return entry;
    }
}

[InlineArray(StoreCipher.SeedLength)]
internal struct EntrySeed
{
    private byte _first;
}
