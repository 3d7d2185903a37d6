// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Writing. A commit is two writes: its entry, flushed; and a superblock in the slot that has not the newest, flushed. When the log is full, the state is
// written to the other half as base entries, and then both superblocks, before anything is committed behind it: so at any time either superblock leads
// to every commit that was answered.

using System;
using System.Collections.Generic;
using System.Linq;

namespace Svsm.Store;

public sealed partial class PersistentStore
{
    /// <summary>Takes in what the device has grown by. Without growth nothing is done.</summary>
    /// <returns><see cref="StoreResult.Done"/>, and what a commit can come to.</returns>
    public StoreResult Grow()
    {
        StoreResult usable = Usable();
        if (usable != StoreResult.Done)
        {
            return usable;
        }

        _device.Measure();
        if (_device.BlockCount <= _superblock.TotalBlocks)
        {
            return StoreResult.Done;
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

        return WriteSuperblock(_device.BlockCount);
    }

    internal StoreResult Commit(List<Operation> operations)
    {
        StoreResult usable = Usable();
        if (usable != StoreResult.Done)
        {
            return usable;
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

        Span<byte> seed = stackalloc byte[StoreCipher.SeedLength];
        if (!_hooks.Random(seed))
        {
            return StoreResult.NoEntropy;
        }

        var head = new EntryHead { Kind = EntryKind.Commit, Generation = _generation + 1, Link = _lastTag };
        Span<byte> bytes = Buffer(length);
        Entry entry = Entry.Write(_cipher, seed, _head, head, operations, bytes, out UInt128 tag);
        if (!_device.TryWrite(_head, bytes) || !_device.TryFlush())
        {
            return Close();
        }

        _generation++;
        _lastTag = tag;
        _stateTag = tag;
        _head += blocks;
        StoreResult written = WriteSuperblock(_superblock.TotalBlocks);
        if (written != StoreResult.Done)
        {
            // The entry is there, and the next opening finds it.
            return Close();
        }

        return TryApply(entry, operations) ? StoreResult.Done : throw new InvalidOperationException("A commit contradicts the store.");
    }

    // The state in the other half, in as few entries as it takes. The half in use stays as it is until the next time.
    private StoreResult Compact()
    {
        var records = new List<(Namespace Space, byte[] Name, StoredValue Value)>();
        foreach (Namespace space in _namespaces.Values)
        {
            records.AddRange(space.Records.Select(record => (space, record.Key, record.Value)));
        }

        var ends = new List<int>();
        int length = 0;
        for (int i = 0; i < records.Count; i++)
        {
            length += StoreFormat.Charge(records[i].Name.Length, records[i].Value.Length);
            if (length >= StoreFormat.BaseEntryLength)
            {
                ends.Add(i + 1);
                length = 0;
            }
        }

        if (ends.Count == 0 || ends[^1] != records.Count)
        {
            ends.Add(records.Count);
        }

        long start = _superblock.Start == StoreFormat.FirstBlock ? StoreFormat.FirstBlock + StoreFormat.HalfBlocks(_superblock.TotalBlocks) : StoreFormat.FirstBlock;
        long block = start;
        UInt128 link = _stateTag;
        var moved = new StoredValue[records.Count];
        var seed = new byte[StoreCipher.SeedLength];
        for (int part = 0; part < ends.Count; part++)
        {
            int first = part == 0 ? 0 : ends[part - 1];
            var operations = new List<Operation>();
            if (part == 0)
            {
                operations.AddRange(_namespaces.Values.OrderBy(space => space.Number).Select(space => new Operation
                {
                    Kind = OperationKind.DefineNamespace,
                    Namespace = space.Number,
                    Name = space.Id.ToByteArray(),
                    Quota = space.Quota,
                }));
            }

            int definitions = operations.Count;
            for (int i = first; i < ends[part]; i++)
            {
                (Namespace space, byte[] name, StoredValue value) = records[i];
                StoreResult read = ReadValue(value, out byte[] bytes);
                if (read == StoreResult.Damaged)
                {
                    // It may have come damaged this once.
                    read = ReadValue(value, out bytes);
                }

                if (read is not StoreResult.Done and not StoreResult.Damaged)
                {
                    return read;
                }

                bool isLost = read == StoreResult.Damaged;
                operations.Add(new Operation
                {
                    Kind = isLost ? OperationKind.Lost : OperationKind.Put,
                    Namespace = space.Number,
                    Name = name,
                    ValueLength = value.Length,
                    Value = isLost ? null : bytes,
                });
            }

            if (!_hooks.Random(seed))
            {
                return StoreResult.NoEntropy;
            }

            var head = new EntryHead { Kind = EntryKind.Base, Generation = _generation, Remaining = (uint)(ends.Count - 1 - part), Link = link };
            Span<byte> written = Buffer(Entry.Measure(operations));
            Entry entry = Entry.Write(_cipher, seed, block, head, operations, written, out link);
            if (!_device.TryWrite(block, written))
            {
                return Close();
            }

            block += written.Length / StoreFormat.BlockSize;
            for (int i = first; i < ends[part]; i++)
            {
                Operation operation = operations[definitions + i - first];
                moved[i] = operation.Kind == OperationKind.Lost
                    ? new StoredValue(null, 0, operation.ValueLength, 0, 0)
                    : new StoredValue(entry, operation.Offset, operation.ValueLength, operation.Unit, operation.Tag);
            }
        }

        if (!_device.TryFlush())
        {
            return Close();
        }

        _superblock = _superblock with { Start = start, FirstLink = _stateTag };
        _baseEnd = block;
        _head = block;
        _lastTag = link;
        for (int i = 0; i < StoreFormat.SlotCount; i++)
        {
            if (WriteSuperblock(_superblock.TotalBlocks) != StoreResult.Done)
            {
                return Close();
            }
        }

        for (int i = 0; i < records.Count; i++)
        {
            records[i].Space.Records[records[i].Name] = moved[i];
        }

        return StoreResult.Done;
    }

    // The state as it is in memory, into the slot that has not the newest superblock.
    private StoreResult WriteSuperblock(long totalBlocks)
    {
        Span<byte> seed = stackalloc byte[StoreCipher.SeedLength];
        if (!_hooks.Random(seed))
        {
            return StoreResult.NoEntropy;
        }

        Superblock next = _superblock with
        {
            Sequence = _superblock.Sequence + 1,
            Generation = _generation,
            TotalBlocks = totalBlocks,
            Head = _head,
            LastTag = _lastTag,
        };
        int slot = (_slot + 1) % StoreFormat.SlotCount;
        Span<byte> block = Buffer(Superblock.Length);
        next.Write(_cipher, seed, block);
        if (!_device.TryWrite(slot, block) || !_device.TryFlush())
        {
            return Close();
        }

        (_superblock, _slot) = (next, slot);
        return StoreResult.Done;
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

    private StoreResult Usable() => _closed ? StoreResult.Closed : _readOnly ? StoreResult.ReadOnly : StoreResult.Done;

    // What is on the device is open now, and memory is not what counts any more.
    private StoreResult Close()
    {
        _closed = true;
        return StoreResult.DeviceFailed;
    }
}
