// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The numbers of the store's format, version 1. docs/store-format.md has the format byte by byte, and the reasons.
//
//   block 0, 1      superblocks, written in turns
//   block 2 ...     two halves of equal size; one has the log, the other is free until the log is compacted into it

using System;
using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;

namespace Svsm.Store;

internal static class StoreFormat
{
    public const int BlockSize = 4096;
    public const int SlotCount = 2;
    public const long FirstBlock = SlotCount;

    /// <summary>1 MiB: below it the room that is kept free would be most of the store.</summary>
    public const long MinBlocks = 256;

    /// <summary>16 TiB.</summary>
    public const long MaxBlocks = 1L << 32;

    public const int MaxEntryBlocks = 64;
    public const int MaxEntryLength = MaxEntryBlocks * BlockSize;
    public const int MaxNameLength = 1024;
    public const int MaxValueLength = 64 * 1024;

    /// <summary>An entry of a compacted log is full when it has this many bytes of records: so at most a fifteenth of it is head and padding.</summary>
    public const int BaseEntryLength = 64 * 1024;

    /// <summary>The log is compacted when it has this many blocks, and four times the blocks that it would have afterwards: it bounds the time to open.</summary>
    public const int MinLogBlocks = 2048;

    /// <summary>What a namespace costs of the capacity, besides its quota.</summary>
    public const int NamespaceCharge = 64;

    public const int MaxNamespaces = 256;

    /// <summary>What a record costs of its namespace's quota at least, besides its name: what it takes in memory.</summary>
    public const int RecordCharge = 160;

    // What is charged takes at most 0.8 of its place in the log, with heads and padding: see the document.
    private const int ReservedBlocks = MaxEntryBlocks + 2;
    private const int ChargePerBlock = 3072;

    private const int CellAlignment = 16;

    public static long HalfBlocks(long totalBlocks) => (totalBlocks - FirstBlock) / 2;

    /// <summary>What all quotas together may be. Whatever keeps to it can be compacted, and leaves room for the largest entry.</summary>
    public static long Capacity(long totalBlocks) => (HalfBlocks(totalBlocks) - ReservedBlocks) * ChargePerBlock;

    /// <summary>What a record takes of its namespace's quota: more than it takes in the memory of who keeps the store, so quotas bound that, too.</summary>
    public static int Charge(int nameLength, int valueLength) => nameLength + Math.Max(RecordCharge, Operation.HeadLength + Align(valueLength));

    /// <summary>What a record takes in a base entry.</summary>
    public static int BaseLength(int nameLength, int valueLength) => Operation.HeadLength + nameLength + Align(valueLength);

    public static int Align(int length) => (length + CellAlignment - 1) & ~(CellAlignment - 1);

    public static int Blocks(int length) => (length + BlockSize - 1) / BlockSize;

    /// <summary>CRC-32C (RFC 3720 B.4), of a multiple of 4 bytes. Finds accidents where there is no key; proves nothing.</summary>
    public static uint Checksum(ReadOnlySpan<byte> bytes, uint checksum = uint.MaxValue)
    {
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (ulong word in words)
        {
            checksum = BitOperations.Crc32C(checksum, BitConverter.IsLittleEndian ? word : BinaryPrimitives.ReverseEndianness(word));
        }

        bytes = bytes[(words.Length * sizeof(ulong))..];
        return bytes.IsEmpty ? checksum : BitOperations.Crc32C(checksum, BinaryPrimitives.ReadUInt32LittleEndian(bytes));
    }
}
