// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A superblock, 256 bytes at the start of block 0 or 1, little-endian. For opening and for every commit. What is zero is written as zero.
//
//   00 "SVSMSTOR" | 08 u32 version 1 | 0C zero (4) | 10 store id (16) | 20 key check (16) | 30 u64 sequence | 38 u64 generation |
//   40 u64 blocks of the store | 48 u64 first block of the log | 50 u64 block behind the log | 58 u32 flags | 5C zero (4) | 60 first link (16) |
//   70 tag of the last entry (16) | 80 seed (20) | 94 u32 SVN of the key |
//   98 u64 TCB of the key | A0 zero (64) | E0 tag (16) | F0 zero (12) | FC u32 CRC-32C of 00 to FB
//
//   flags: bit 0 the store's guest is at another SVSM. For whoever has no key; to the store its log says so.
//
// The tag is that of unit 0 of the seed, over no text and the bytes 00 to DF. Magic, version and checksum are where they are in every version.

using System;
using System.Buffers.Binary;

namespace Svsm.Store;

internal enum SlotState
{
    Invalid,
    OtherVersion,
    WrongKey,
    Valid,
}

internal readonly record struct Superblock
{
    public const int Length = 0x100;

    private const uint Version = 1;
    private const int VersionOffset = 0x08;
    private const int IdOffset = 0x10;
    private const int KeyCheckOffset = 0x20;
    private const int SequenceOffset = 0x30;
    private const int GenerationOffset = 0x38;
    private const int TotalOffset = 0x40;
    private const int StartOffset = 0x48;
    private const int HeadOffset = 0x50;
    private const int FlagsOffset = 0x58;
    private const int FirstLinkOffset = 0x60;
    private const int LastTagOffset = 0x70;
    private const int SeedOffset = 0x80;
    private const int KeySvnOffset = 0x94;
    private const int KeyTcbOffset = 0x98;
    private const int TagOffset = 0xE0;
    private const int ChecksumOffset = 0xFC;
    private const uint MovedFlag = 1;

    /// <summary>Which store it is.</summary>
    public Guid Id { get; init; }

    /// <summary>Grows with every superblock written.</summary>
    public ulong Sequence { get; init; }

    /// <summary>Grows with every commit.</summary>
    public ulong Generation { get; init; }

    public long TotalBlocks { get; init; }

    public long Start { get; init; }

    /// <summary>The block behind the last entry.</summary>
    public long Head { get; init; }

    /// <summary>The store's guest is at another SVSM.</summary>
    public bool IsMoved { get; init; }

    public UInt128 FirstLink { get; init; }

    public UInt128 LastTag { get; init; }

    /// <summary>Where the key comes from. It never changes.</summary>
    public StoreKeyOrigin KeyOrigin { get; init; }

    /// <summary>Whether the two are of the same log, which may have grown in between.</summary>
    public bool IsOfLog(in Superblock other) => Id == other.Id && Start == other.Start && FirstLink == other.FirstLink;

    /// <summary>Reads what can be read without a key.</summary>
    /// <param name="bytes">The block. Untrusted.</param>
    /// <param name="superblock">What it says, if it is <see cref="SlotState.Valid"/>; nothing vouches for it but a checksum.</param>
    /// <returns>Not <see cref="SlotState.WrongKey"/>.</returns>
    public static SlotState Read(ReadOnlySpan<byte> bytes, out Superblock superblock)
    {
        superblock = default;
        if (!bytes.StartsWith("SVSMSTOR"u8) || BinaryPrimitives.ReadUInt32LittleEndian(bytes[ChecksumOffset..]) != StoreFormat.Checksum(bytes[..ChecksumOffset]))
        {
            return SlotState.Invalid;
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[VersionOffset..]) != Version)
        {
            return SlotState.OtherVersion;
        }

        superblock = new Superblock
        {
            Id = new Guid(bytes.Slice(IdOffset, 16)),
            Sequence = BinaryPrimitives.ReadUInt64LittleEndian(bytes[SequenceOffset..]),
            Generation = BinaryPrimitives.ReadUInt64LittleEndian(bytes[GenerationOffset..]),
            TotalBlocks = BinaryPrimitives.ReadInt64LittleEndian(bytes[TotalOffset..]),
            Start = BinaryPrimitives.ReadInt64LittleEndian(bytes[StartOffset..]),
            Head = BinaryPrimitives.ReadInt64LittleEndian(bytes[HeadOffset..]),
            IsMoved = (BinaryPrimitives.ReadUInt32LittleEndian(bytes[FlagsOffset..]) & MovedFlag) != 0,
            FirstLink = BinaryPrimitives.ReadUInt128LittleEndian(bytes[FirstLinkOffset..]),
            LastTag = BinaryPrimitives.ReadUInt128LittleEndian(bytes[LastTagOffset..]),
            KeyOrigin = new(BinaryPrimitives.ReadUInt32LittleEndian(bytes[KeySvnOffset..]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[KeyTcbOffset..])),
        };

        // The numbers of our own superblocks are always so. Whoever has no key is spared an overflow.
        long half = StoreFormat.HalfBlocks(superblock.TotalBlocks);
        return superblock.TotalBlocks is >= StoreFormat.MinBlocks and <= StoreFormat.MaxBlocks
            && superblock.Start >= StoreFormat.FirstBlock && superblock.Start <= StoreFormat.FirstBlock + half
            && superblock.Head >= superblock.Start && superblock.Head <= superblock.Start + half
            && superblock.Sequence < long.MaxValue && superblock.Generation < long.MaxValue
                ? SlotState.Valid : SlotState.Invalid;
    }

    /// <summary>Whether the cipher's key is that of the store, and made this superblock.</summary>
    /// <param name="bytes">What <see cref="Read"/> has read.</param>
    /// <param name="cipher">The cipher for the superblock's store.</param>
    public static SlotState Authenticate(ReadOnlySpan<byte> bytes, StoreCipher cipher)
    {
        if (BinaryPrimitives.ReadUInt128LittleEndian(bytes[KeyCheckOffset..]) != cipher.KeyCheck)
        {
            return SlotState.WrongKey;
        }

        UInt128 tag = BinaryPrimitives.ReadUInt128LittleEndian(bytes[TagOffset..]);
        return cipher.ForSeed(bytes.Slice(SeedOffset, StoreCipher.SeedLength)).TryOpen(0, bytes[..TagOffset], [], tag, []) ? SlotState.Valid : SlotState.Invalid;
    }

    /// <summary>Writes it.</summary>
    /// <param name="cipher">The cipher for this store.</param>
    /// <param name="seed">Fresh random bytes.</param>
    /// <param name="block">A block of zeroes.</param>
    public void Write(StoreCipher cipher, ReadOnlySpan<byte> seed, Span<byte> block)
    {
        "SVSMSTOR"u8.CopyTo(block);
        BinaryPrimitives.WriteUInt32LittleEndian(block[VersionOffset..], Version);
        Id.TryWriteBytes(block[IdOffset..]);
        BinaryPrimitives.WriteUInt128LittleEndian(block[KeyCheckOffset..], cipher.KeyCheck);
        BinaryPrimitives.WriteUInt64LittleEndian(block[SequenceOffset..], Sequence);
        BinaryPrimitives.WriteUInt64LittleEndian(block[GenerationOffset..], Generation);
        BinaryPrimitives.WriteInt64LittleEndian(block[TotalOffset..], TotalBlocks);
        BinaryPrimitives.WriteInt64LittleEndian(block[StartOffset..], Start);
        BinaryPrimitives.WriteInt64LittleEndian(block[HeadOffset..], Head);
        BinaryPrimitives.WriteUInt32LittleEndian(block[FlagsOffset..], IsMoved ? MovedFlag : 0);
        BinaryPrimitives.WriteUInt128LittleEndian(block[FirstLinkOffset..], FirstLink);
        BinaryPrimitives.WriteUInt128LittleEndian(block[LastTagOffset..], LastTag);
        BinaryPrimitives.WriteUInt32LittleEndian(block[KeySvnOffset..], KeyOrigin.Svn);
        BinaryPrimitives.WriteUInt64LittleEndian(block[KeyTcbOffset..], KeyOrigin.Tcb);
        seed.CopyTo(block[SeedOffset..]);
        UInt128 tag = cipher.ForSeed(seed).Seal(0, block[..TagOffset], [], []);
        BinaryPrimitives.WriteUInt128LittleEndian(block[TagOffset..], tag);
        BinaryPrimitives.WriteUInt32LittleEndian(block[ChecksumOffset..], StoreFormat.Checksum(block[..ChecksumOffset]));
    }
}
