// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writing. A commit is two writes: its entry, flushed; and a superblock in the slot that has not the newest, flushed. When the log is full, the state is
// written to the other half as base entries, and then both superblocks, before anything is committed behind it: so at any time either superblock leads
// to every commit that was answered.
//
// Seeds are drawn before anything is written: where there are no random bytes, nothing has happened.

using System;
using System.Collections.Generic;

namespace Svsm.Store;

public sealed partial class PersistentStore
{
    /// <summary>Takes in what the device has grown by. Without growth nothing is done.</summary>
    /// <returns><see cref="StoreResult.Done"/>, and what a commit can come to.</returns>
    public StoreResult Grow()
    {
        StoreResult usable = TryBegin();
        if (usable != StoreResult.Done)
        {
            return usable;
        }

        _device.Measure();
        if (_device.BlockCount <= _superblock.TotalBlocks)
        {
            return StoreResult.Done;
        }

        Span<byte> seed = stackalloc byte[StoreCipher.SeedLength];
        if (!_hooks.Random(seed))
        {
            return StoreResult.NoEntropy;
        }

        // The lower half grows where it is; the upper one would move.
        if (_superblock.Start != StoreFormat.FirstBlock)
        {
            StoreResult result = Compact();
            if (result != StoreResult.Done)
            {
                return result;
            }
        }

        return WriteSuperblock(_device.BlockCount, seed) ? StoreResult.Done : StoreResult.DeviceFailed;
    }

    internal StoreResult Commit(List<Operation> operations)
    {
        SmallHeap.Relieve();
        StoreResult usable = TryBegin();
        if (usable != StoreResult.Done)
        {
            return usable;
        }

        Span<byte> seeds = stackalloc byte[2 * StoreCipher.SeedLength];
        if (!_hooks.Random(seeds))
        {
            return StoreResult.NoEntropy;
        }

        int length = Entry.Measure(operations);
        int blocks = StoreFormat.Blocks(length);
        long logBlocks = _head - _baseEnd + blocks;
        if (blocks > End - _head || logBlocks > Math.Max(StoreFormat.MinLogBlocks, 4 * (_baseEnd - _superblock.Start)))
        {
            StoreResult result = Compact();
            if (result != StoreResult.Done)
            {
                return result;
            }
        }

        if (blocks > End - _head)
        {
            // The capacity is such that this cannot be. If it were, the other half would be overwritten.
            throw new InvalidOperationException("The store has less room than its quotas promise.");
        }

        var head = new EntryHead { Kind = EntryKind.Commit, Generation = _generation + 1, Link = _lastTag };
        Span<byte> bytes = Buffer(length);
        Entry entry = Entry.Write(_cipher, seeds[..StoreCipher.SeedLength], _head, head, operations, bytes, out UInt128 tag);
        _closed = true;
        if (!_device.TryWrite(_head, bytes) || !_device.TryFlush())
        {
            return StoreResult.DeviceFailed;
        }

        _generation++;
        _lastTag = tag;
        _stateTag = tag;
        _head += blocks;

        // First: the superblock tells the mark as well.
        if (!TryApply(entry, operations))
        {
            throw new InvalidOperationException("A commit contradicts the store.");
        }

        if (!WriteSuperblock(_superblock.TotalBlocks, seeds[StoreCipher.SeedLength..]))
        {
            // The entry is there, and the next opening finds it.
            return StoreResult.DeviceFailed;
        }

        _closed = false;
        return StoreResult.Done;
    }

    // The state in the other half, in as few entries as it takes. The half in use stays as it is until the next time. Records are moved in memory one by
    // one, for there is no room for a second list of them: whatever goes wrong closes the store.
    private StoreResult Compact()
    {
        uint remaining = CountBaseEntries();
        byte[] drawn = new byte[(remaining + StoreFormat.SlotCount) * StoreCipher.SeedLength];
        if (!_hooks.Random(drawn))
        {
            return StoreResult.NoEntropy;
        }

        ReadOnlySpan<byte> seeds = drawn;
        _closed = true;
        long start = _superblock.Start == StoreFormat.FirstBlock ? StoreFormat.FirstBlock + StoreFormat.HalfBlocks(_superblock.TotalBlocks) : StoreFormat.FirstBlock;
        long block = start;
        UInt128 link = _stateTag;
        List<Operation> operations = [];
        foreach (Namespace space in _namespaces.Values)
        {
            operations.Add(new Operation
            {
                Kind = OperationKind.DefineNamespace,
                Namespace = space.Number,
                Name = space.Id.ToByteArray(),
                Quota = space.Quota,
            });
        }

        if (_isMoved)
        {
            operations.Add(new Operation { Kind = OperationKind.Mark, Namespace = 1 });
        }

        int length = 0;
        foreach (Namespace space in _namespaces.Values)
        {
            for (int place = 0; place < space.Records.End; place++)
            {
                if (!space.Records.IsUsed(place))
                {
                    continue;
                }

                byte[] name = space.Records.NameAt(place);
                StoredValue value = space.Records.ValueAt(place);
                SmallHeap.Relieve();
                StoreResult read = ReadCell(value, out byte[] bytes);
                if (read == StoreResult.Damaged)
                {
                    // It may have come damaged this once.
                    read = ReadCell(value, out bytes);
                }

                if (read is not StoreResult.Done and not StoreResult.Damaged)
                {
                    return StoreResult.DeviceFailed;
                }

                bool isLost = read == StoreResult.Damaged;
                operations.Add(new Operation
                {
                    Kind = isLost ? OperationKind.Lost : OperationKind.Put,
                    Namespace = space.Number,
                    Name = name,
                    ValueLength = value.Length,
                    Value = isLost ? null : bytes,
                    Moved = space.Records,
                    MovedPlace = place,
                });
                length += StoreFormat.BaseLength(name.Length, value.Length);
                if (length >= StoreFormat.BaseEntryLength)
                {
                    if (!TryWriteBaseEntry(operations, --remaining, NextSeed(ref seeds), ref block, ref link))
                    {
                        return StoreResult.DeviceFailed;
                    }

                    operations.Clear();
                    length = 0;
                }
            }
        }

        if ((remaining != 0 && !TryWriteBaseEntry(operations, --remaining, NextSeed(ref seeds), ref block, ref link)) || !_device.TryFlush())
        {
            return StoreResult.DeviceFailed;
        }

        _superblock = _superblock with { Start = start, FirstLink = _stateTag };
        _baseEnd = block;
        _head = block;
        _lastTag = link;
        for (int i = 0; i < StoreFormat.SlotCount; i++)
        {
            if (!WriteSuperblock(_superblock.TotalBlocks, NextSeed(ref seeds)))
            {
                return StoreResult.DeviceFailed;
            }
        }

        _closed = false;
        return StoreResult.Done;
    }

    private static ReadOnlySpan<byte> NextSeed(ref ReadOnlySpan<byte> seeds)
    {
        ReadOnlySpan<byte> seed = seeds[..StoreCipher.SeedLength];
        seeds = seeds[StoreCipher.SeedLength..];
        return seed;
    }

    private uint CountBaseEntries()
    {
        uint count = 0;
        int length = 0;
        foreach (Namespace space in _namespaces.Values)
        {
            for (int place = 0; place < space.Records.End; place++)
            {
                length += space.Records.IsUsed(place) ? StoreFormat.BaseLength(space.Records.NameAt(place).Length, space.Records.ValueAt(place).Length) : 0;
                if (length >= StoreFormat.BaseEntryLength)
                {
                    count++;
                    length = 0;
                }
            }
        }

        return length != 0 || count == 0 ? count + 1 : count;
    }

    private bool TryWriteBaseEntry(List<Operation> operations, uint remaining, ReadOnlySpan<byte> seed, ref long block, ref UInt128 link)
    {
        var head = new EntryHead { Kind = EntryKind.Base, Generation = _generation, Remaining = remaining, Link = link };
        Span<byte> bytes = Buffer(Entry.Measure(operations));
        Entry entry = Entry.Write(_cipher, seed, block, head, operations, bytes, out link);
        if (!_device.TryWrite(block, bytes))
        {
            return false;
        }

        block += bytes.Length / StoreFormat.BlockSize;
        foreach (Operation operation in operations)
        {
            if (operation.Moved is RecordIndex records)
            {
                records.ValueAt(operation.MovedPlace) = new StoredValue(entry, operation);
            }
        }

        return true;
    }

    // The state as it is in memory, into the slot that has not the newest superblock.
    private bool WriteSuperblock(long totalBlocks, ReadOnlySpan<byte> seed)
    {
        Superblock next = _superblock with
        {
            Sequence = _superblock.Sequence + 1,
            Generation = _generation,
            TotalBlocks = totalBlocks,
            Head = _head,
            IsMoved = _isMoved,
            LastTag = _lastTag,
        };
        int slot = (_slot + 1) % StoreFormat.SlotCount;
        Span<byte> block = Buffer(Superblock.Length);
        next.Write(_cipher, seed, block);
        if (!_device.TryWrite(slot, block) || !_device.TryFlush())
        {
            // What is on the device is open now, and memory is not what counts any more.
            _closed = true;
            return false;
        }

        (_superblock, _slot) = (next, slot);
        return true;
    }

    // As many blocks of zeroes as so many bytes take. They are the caller's until it is asked for the next time.
    private Span<byte> Buffer(int length)
    {
        int blocks = StoreFormat.Blocks(length);
        if (blocks != 1)
        {
            return new byte[blocks * StoreFormat.BlockSize];
        }

        _oneBlock.AsSpan(0, _oneBlockUsed).Clear();
        _oneBlockUsed = length;
        return _oneBlock;
    }

    // Whether there may be a change; what it is made to is kept.
    private StoreResult TryBegin()
    {
        if (_closed)
        {
            return StoreResult.Closed;
        }

        (_doneGeneration, _doneTag) = (_generation, _stateTag);
        return _readOnly ? StoreResult.ReadOnly : StoreResult.Done;
    }
}
