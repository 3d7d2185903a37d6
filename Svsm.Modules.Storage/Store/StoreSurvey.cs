// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What can be said of a store without its key: sizes, generation, and whether the checksums are right. For `svsm store inspect` and `verify`.
// A checksum finds accidents. Whoever changes a store on purpose makes it right again: against him there is only the key.

using System;
using System.Collections.Generic;
using System.Globalization;

namespace Svsm.Store;

/// <summary>A store as one sees it without its key.</summary>
public sealed class StoreSurvey
{
    private StoreSurvey(StoreState state, string detail)
    {
        State = state;
        Detail = detail;
    }

    /// <summary><see cref="StoreState.Opened"/>: there is a store, with the <see cref="Findings"/>. Otherwise why nothing more can be said.</summary>
    public StoreState State { get; }

    /// <summary>What was found instead of a store, for people.</summary>
    public string Detail { get; }

    /// <summary>Which store it is.</summary>
    public Guid Id { get; private init; }

    /// <summary>How many commits it has had. Nothing vouches for it.</summary>
    public ulong Generation { get; private init; }

    /// <summary>Bytes of the device that the store uses.</summary>
    public long Length { get; private init; }

    /// <summary>What all quotas together may be, in bytes; each namespace takes 64 more.</summary>
    public long Capacity => StoreFormat.Capacity(Length / StoreFormat.BlockSize);

    /// <summary>Bytes of the half that has the log.</summary>
    public long HalfLength => StoreFormat.HalfBlocks(Length / StoreFormat.BlockSize) * StoreFormat.BlockSize;

    /// <summary>Bytes that the log has of it.</summary>
    public long LogLength { get; private init; }

    /// <summary>Entries of the log.</summary>
    public int Entries { get; private init; }

    /// <summary>Whether it says that its guest is at another SVSM. Nothing vouches for it.</summary>
    public bool IsMoved { get; private init; }

    /// <summary>What is not as it was written.</summary>
    public IReadOnlyList<StoreFinding> Findings { get; private init; } = [];

    /// <summary>Looks at the store of a device. Writes nothing.</summary>
    /// <param name="device">The device. Untrusted.</param>
    public static StoreSurvey Read(IBlockDevice device)
    {
        if (BlockAccess.Create(device) is not BlockAccess access || access.BlockCount <= StoreFormat.FirstBlock)
        {
            return new StoreSurvey(StoreState.DeviceUnusable, "there are too few sectors for a store, or they are neither of 512 nor of 4096 bytes");
        }

        byte[] blocks = new byte[(StoreFormat.SlotCount + 1) * StoreFormat.BlockSize];
        if (!access.TryRead(0, blocks))
        {
            return new StoreSurvey(StoreState.DeviceFailed, "the superblocks cannot be read");
        }

        var findings = new List<StoreFinding>();
        Superblock? newest = null;
        for (int slot = 0; slot < StoreFormat.SlotCount; slot++)
        {
            SlotState state = Superblock.Read(blocks.AsSpan(slot * StoreFormat.BlockSize, Superblock.Length), out Superblock superblock);
            if (state == SlotState.OtherVersion)
            {
                return new StoreSurvey(StoreState.UnknownVersion, "a superblock of another version; known is 1");
            }

            if (state != SlotState.Valid)
            {
                findings.Add(new StoreFinding(slot, "the superblock is damaged, or its writing was interrupted"));
            }
            else if (newest is null || superblock.Sequence > newest.Value.Sequence)
            {
                newest = superblock;
            }
        }

        if (newest is not Superblock found)
        {
            return PersistentStore.IsFresh(blocks)
                ? new StoreSurvey(StoreState.Fresh, "the device has no store")
                : new StoreSurvey(StoreState.Damaged, "there is no superblock that is whole");
        }

        if (found.TotalBlocks > access.BlockCount)
        {
            return new StoreSurvey(
                StoreState.Truncated,
                string.Create(CultureInfo.InvariantCulture, $"the device has {access.BlockCount} blocks of 4096 bytes, the store on it {found.TotalBlocks}"));
        }

        int entries = 0;
        UInt128 link = found.FirstLink;
        var window = new BlockWindow(access);
        byte[] entry = new byte[StoreFormat.MaxEntryLength];
        long block = found.Start;
        while (block < found.Head)
        {
            Span<byte> first = entry.AsSpan(0, StoreFormat.BlockSize);
            if (!window.TryRead(block, first))
            {
                return new StoreSurvey(StoreState.DeviceFailed, string.Create(CultureInfo.InvariantCulture, $"block {block} cannot be read"));
            }

            if (!EntryHead.TryRead(first, block, found.Head, out EntryHead head) || head.Link != link)
            {
                // Where the next one begins is not known any more.
                findings.Add(new StoreFinding(block, "here should be an entry of the log, chained to the one before; what follows was not looked at"));
                break;
            }

            Span<byte> whole = entry.AsSpan(0, head.Blocks * StoreFormat.BlockSize);
            if (!window.TryRead(block + 1, whole[StoreFormat.BlockSize..]))
            {
                return new StoreSurvey(StoreState.DeviceFailed, string.Create(CultureInfo.InvariantCulture, $"block {block} cannot be read"));
            }

            if (EntryHead.ComputeChecksum(whole) != head.Checksum)
            {
                findings.Add(new StoreFinding(block, "the checksum of an entry of the log is wrong"));
            }

            link = head.Tag;
            block += head.Blocks;
            entries++;
        }

        if (block == found.Head && link != found.LastTag)
        {
            findings.Add(new StoreFinding(block, "the log does not end with the entry that the superblock names"));
        }

        return new StoreSurvey(StoreState.Opened, "")
        {
            Id = found.Id,
            Generation = found.Generation,
            IsMoved = found.IsMoved,
            Length = found.TotalBlocks * StoreFormat.BlockSize,
            LogLength = (found.Head - found.Start) * StoreFormat.BlockSize,
            Entries = entries,
            Findings = findings,
        };
    }
}
