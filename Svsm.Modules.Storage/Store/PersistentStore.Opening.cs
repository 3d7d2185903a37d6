// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Opening: the newest superblock says where the log is and which entry must be there; every entry up to it is read along the chain of tags, and a
// commit behind it that is whole is one whose superblock was lost. Whatever else does not fit is damage, and never an older state.

using System;
using System.Collections.Generic;
using System.Globalization;

namespace Svsm.Store;

public sealed partial class PersistentStore
{
    private enum EntryResult
    {
        Read,
        Invalid,
        DeviceFailed,
    }

    /// <summary>Opens the store of a device. Never makes one.</summary>
    /// <param name="device">The device. Nobody else may write to it.</param>
    /// <param name="key">The key, 32 bytes.</param>
    /// <param name="expected">The version that the store must have reached, with this one in its history; null if nothing is known.</param>
    /// <param name="readOnly">Nothing is written: neither commits nor repairs.</param>
    /// <param name="takesMoved">A store that is marked is opened, too: for who has marked it, and for who only looks.</param>
    /// <returns>The store, or why there is none.</returns>
    public static StoreOpening Open(IBlockDevice device, ReadOnlySpan<byte> key, StoreVersion? expected = null, bool readOnly = false,
        bool takesMoved = false) =>
        Open(device, key, expected, readOnly, StoreHooks.Default, takesMoved);

    internal static StoreOpening Open(
        IBlockDevice device, ReadOnlySpan<byte> key, StoreVersion? expected, bool readOnly, StoreHooks hooks, bool takesMoved = false)
    {
        ArgumentOutOfRangeException.ThrowIfNotEqual(key.Length, KeyLength);
        if (BlockAccess.Create(device) is not BlockAccess access)
        {
            return new StoreOpening(StoreState.DeviceUnusable, $"sectors of {Text(device.SectorSize)} bytes; wanted are 512 or 4096");
        }

        if (access.BlockCount <= StoreFormat.FirstBlock)
        {
            return new StoreOpening(StoreState.DeviceUnusable, $"{Text(access.BlockCount)} blocks of 4096 bytes; a store has at least {Text(StoreFormat.MinBlocks)}");
        }

        // After a failed commit what is read may be in the device's memory alone.
        byte[] blocks = new byte[(StoreFormat.SlotCount + 1) * StoreFormat.BlockSize];
        if ((!readOnly && !access.TryFlush()) || !access.TryRead(0, blocks))
        {
            return new StoreOpening(StoreState.DeviceFailed, "the superblocks cannot be read", 0);
        }

        StoreOpening? problem = ReadSuperblocks(blocks, key, hooks, out Slots slots);
        if (problem is not null)
        {
            return problem;
        }

        Superblock superblock = slots.Newest;
        if (superblock.TotalBlocks > access.BlockCount)
        {
            return new StoreOpening(StoreState.Truncated, $"the device has {Text(access.BlockCount)} blocks of 4096 bytes, the store on it {Text(superblock.TotalBlocks)}");
        }

        var store = new PersistentStore(access, slots.Cipher, hooks, readOnly, superblock, slots.NewestSlot);
        return store.ReadLog(expected, slots.IsOtherGood, takesMoved);
    }

    /// <summary>Makes an empty store on a device that has none.</summary>
    /// <param name="device">The device, zero. All of it becomes the store.</param>
    /// <param name="key">The key, 32 random bytes.</param>
    /// <param name="origin">Where the key comes from: kept with the store, where anybody can read it.</param>
    /// <returns>The store, of generation 0, or why there is none: among others <see cref="StoreState.NotFresh"/>.</returns>
    /// <remarks>If power fails, there is a store, or the device still counts as fresh.</remarks>
    public static StoreOpening Create(IBlockDevice device, ReadOnlySpan<byte> key, StoreKeyOrigin origin = default) => Create(device, key, StoreHooks.Default, origin);

    /// <summary>Reads where the key of a store comes from, for whoever makes the key anew.</summary>
    /// <param name="device">The device.</param>
    /// <param name="origin">What the newest superblock says. Nothing vouches for it: a false one leads to a key that does not open the store.</param>
    /// <returns>False: there is no superblock that is whole, or the device fails. Opening says which, with any key.</returns>
    public static bool TryReadKeyOrigin(IBlockDevice device, out StoreKeyOrigin origin)
    {
        origin = default;
        byte[] blocks = new byte[StoreFormat.SlotCount * StoreFormat.BlockSize];
        if (BlockAccess.Create(device) is not BlockAccess access || access.BlockCount < StoreFormat.SlotCount || !access.TryRead(0, blocks))
        {
            return false;
        }

        ulong? newest = null;
        for (int slot = 0; slot < StoreFormat.SlotCount; slot++)
        {
            if (Superblock.Read(blocks.AsSpan(slot * StoreFormat.BlockSize, Superblock.Length), out Superblock superblock) == SlotState.Valid
                && !(superblock.Sequence < newest))
            {
                newest = superblock.Sequence;
                origin = superblock.KeyOrigin;
            }
        }

        return newest is not null;
    }

    internal static StoreOpening Create(IBlockDevice device, ReadOnlySpan<byte> key, StoreHooks hooks, StoreKeyOrigin origin = default)
    {
        StoreOpening opening = Open(device, key, expected: null, readOnly: false, hooks);
        if (opening.State != StoreState.Fresh)
        {
            return opening.State is StoreState.DeviceFailed or StoreState.DeviceUnusable
                ? opening
                : new StoreOpening(StoreState.NotFresh, opening.State == StoreState.Opened ? "there is a store" : opening.Detail, opening.Block);
        }

        BlockAccess access = BlockAccess.Create(device)!;
        if (access.BlockCount < StoreFormat.MinBlocks)
        {
            return new StoreOpening(StoreState.DeviceUnusable, $"{Text(access.BlockCount)} blocks of 4096 bytes; a store has at least {Text(StoreFormat.MinBlocks)}");
        }

        const int IdLength = 16;
        Span<byte> drawn = stackalloc byte[IdLength + (StoreFormat.SlotCount * StoreCipher.SeedLength)];
        if (!hooks.Random(drawn))
        {
            return NoEntropy();
        }

        var superblock = new Superblock
        {
            Id = new Guid(drawn[..IdLength]),
            TotalBlocks = access.BlockCount,
            Start = StoreFormat.FirstBlock,
            Head = StoreFormat.FirstBlock,
            KeyOrigin = origin,
        };
        var store = new PersistentStore(access, new StoreCipher(key, superblock.Id, hooks.Observer), hooks, readOnly: false, superblock, slot: StoreFormat.SlotCount - 1);
        ReadOnlySpan<byte> seeds = drawn[IdLength..];
        for (int i = 0; i < StoreFormat.SlotCount; i++)
        {
            if (!store.WriteSuperblock(store._superblock.TotalBlocks, NextSeed(ref seeds)))
            {
                return SuperblockFailed();
            }
        }

        return new StoreOpening(store, isRepaired: false);
    }

    private struct Slots
    {
        public Superblock Newest;
        public int NewestSlot;
        public StoreCipher Cipher;

        /// <summary>The other slot has a superblock of the same log.</summary>
        public bool IsOtherGood;
    }

    private static StoreOpening? ReadSuperblocks(ReadOnlySpan<byte> blocks, ReadOnlySpan<byte> key, StoreHooks hooks, out Slots slots)
    {
        slots = default;
        Span<SlotState> states = stackalloc SlotState[StoreFormat.SlotCount];
        var superblocks = new Superblock[StoreFormat.SlotCount];
        var ciphers = new StoreCipher?[StoreFormat.SlotCount];
        int newest = -1;
        for (int slot = 0; slot < StoreFormat.SlotCount; slot++)
        {
            ReadOnlySpan<byte> bytes = blocks.Slice(slot * StoreFormat.BlockSize, Superblock.Length);
            states[slot] = Superblock.Read(bytes, out superblocks[slot]);
            if (states[slot] == SlotState.OtherVersion)
            {
                return new StoreOpening(StoreState.UnknownVersion, "a superblock of another version; known is 1", slot);
            }

            if (states[slot] != SlotState.Valid)
            {
                continue;
            }

            // Deriving keys costs more than all the rest of opening a small store.
            ciphers[slot] = slot != 0 && ciphers[0] is not null && superblocks[0].Id == superblocks[slot].Id
                ? ciphers[0]
                : new StoreCipher(key, superblocks[slot].Id, hooks.Observer);
            states[slot] = Superblock.Authenticate(bytes, ciphers[slot]!);
            if (states[slot] == SlotState.Valid && (newest < 0 || superblocks[slot].Sequence > superblocks[newest].Sequence))
            {
                newest = slot;
            }
        }

        if (newest >= 0)
        {
            int other = 1 - newest;
            slots = new Slots
            {
                Newest = superblocks[newest],
                NewestSlot = newest,
                Cipher = ciphers[newest]!,
                IsOtherGood = states[other] == SlotState.Valid && superblocks[other].IsOfLog(superblocks[newest]),
            };
            return null;
        }

        if (states.Contains(SlotState.WrongKey))
        {
            return new StoreOpening(StoreState.WrongKey, "the store has another key", states.IndexOf(SlotState.WrongKey));
        }

        return IsFresh(blocks)
            ? new StoreOpening(StoreState.Fresh, "the device has no store")
            : new StoreOpening(StoreState.Damaged, "there is no superblock that is whole", 0);
    }

    /// <summary>Whether the blocks at the beginning of a device, none of which is a whole superblock, are of a device on which a store may be made.</summary>
    /// <param name="blocks">The superblocks' and the first of the lower half.</param>
    /// <remarks>Making a store writes slot 0, and then slot 1. What was interrupted in the first has left nothing that anybody was told of.</remarks>
    internal static bool IsFresh(ReadOnlySpan<byte> blocks) => !blocks[StoreFormat.BlockSize..].ContainsAnyExcept((byte)0);

    private StoreOpening ReadLog(StoreVersion? expected, bool isOtherGood, bool takesMoved)
    {
        var window = new BlockWindow(_device);
        UInt128? tagAtExpected = null;
        bool hasBase = false;
        uint remaining = 0;
        while (_head < _superblock.Head)
        {
            long block = _head;
            SmallHeap.Relieve();
            EntryResult result = ReadEntry(window, _superblock.Head, isWhole: false, out EntryHead head, out Entry? entry, out List<Operation> operations, out _);
            if (result == EntryResult.DeviceFailed)
            {
                return new StoreOpening(StoreState.DeviceFailed, "the log cannot be read", block);
            }

            bool isNext = result == EntryResult.Read && (head.Kind, hasBase) switch
            {
                (EntryKind.Base, false) => block == _superblock.Start,
                (EntryKind.Base, true) => remaining != 0 && head.Remaining == remaining - 1 && head.Generation == _generation,
                _ => remaining == 0 && head.Generation == _generation + 1,
            };
            if (!isNext || !TryApply(entry!, operations))
            {
                return new StoreOpening(StoreState.Damaged, "an entry of the log is not the one that was written here", block);
            }

            if (head.Kind == EntryKind.Base)
            {
                (hasBase, remaining) = (true, head.Remaining);
                Advance(head, isBase: true);
            }
            else
            {
                NoteExpected();
                Advance(head, isBase: false);
            }
        }

        if (_lastTag != _superblock.LastTag || _generation != _superblock.Generation || remaining != 0 || hasBase == (_superblock.FirstLink == 0))
        {
            return new StoreOpening(StoreState.Damaged, "the log is not the one that the superblock is for", _head);
        }

        // Behind it can be a commit whose superblock was lost, or damaged since; and one more, whose superblock takes the place of this one. They count if all
        // of each is there. Nothing that happens once leads to a third: the superblocks are of old, and then nobody knows whether the end of the log is, too.
        long lastKnown = _head;
        var rewritten = new List<(long Block, byte[] Bytes)>();
        while (_head < End)
        {
            long block = _head;
            EntryResult result = ReadEntry(window, End, isWhole: true, out EntryHead head, out Entry? entry, out List<Operation> operations, out byte[] bytes);
            if (result == EntryResult.DeviceFailed)
            {
                return new StoreOpening(StoreState.DeviceFailed, "the log cannot be read", block);
            }

            if (result != EntryResult.Read || head.Kind != EntryKind.Commit || head.Generation != _generation + 1)
            {
                break;
            }

            if (rewritten.Count == StoreFormat.SlotCount)
            {
                return new StoreOpening(StoreState.Damaged, "the superblocks are older than the log can be", block);
            }

            if (!TryApply(entry!, operations))
            {
                return new StoreOpening(StoreState.Damaged, "an entry of the log contradicts those before", block);
            }

            rewritten.Add((block, bytes));
            NoteExpected();
            Advance(head, isBase: false);
        }

        NoteExpected();
        if (expected is StoreVersion wanted)
        {
            if (_generation < wanted.Generation)
            {
                return new StoreOpening(StoreState.Older, $"the store is of generation {Text(_generation)}; wanted is {Text(wanted.Generation)} or later");
            }

            if (tagAtExpected is not UInt128 tag)
            {
                return new StoreOpening(StoreState.Forked, $"the store is of generation {Text(_generation)}, and its history no longer goes back to the wanted {Text(wanted.Generation)}");
            }

            if (!string.Equals(VersionOf(wanted.Generation, tag).Root, wanted.Root, StringComparison.OrdinalIgnoreCase))
            {
                return new StoreOpening(StoreState.Forked, $"the root of generation {Text(wanted.Generation)} is {VersionOf(wanted.Generation, tag).Root}; wanted is {wanted.Root}");
            }
        }

        if (_readOnly || (isOtherGood && _head == lastKnown))
        {
            return Opened(isRepaired: false);
        }

        Span<byte> seed = stackalloc byte[StoreCipher.SeedLength];
        if (!_hooks.Random(seed))
        {
            return NoEntropy();
        }

        // What is told from here on must be there after the next damage, too. An entry that a failed flush left may have been read from memory: written again.
        foreach ((long block, byte[] bytes) in rewritten)
        {
            if (!_device.TryWrite(block, bytes))
            {
                return new StoreOpening(StoreState.DeviceFailed, "an interrupted commit cannot be finished", block);
            }
        }

        if (rewritten.Count != 0 && !_device.TryFlush())
        {
            return new StoreOpening(StoreState.DeviceFailed, "an interrupted commit cannot be finished");
        }

        return WriteSuperblock(_superblock.TotalBlocks, seed) ? Opened(isRepaired: true) : SuperblockFailed();

        // A mark is a commit as others: what was interrupted is finished first.
        StoreOpening Opened(bool isRepaired) => _isMoved && !takesMoved
            ? new StoreOpening(StoreState.Moved, "the guest of this store is at another SVSM, or was to come from one and never did")
            : new StoreOpening(this, isRepaired);

        // Before each commit, and at the end: so the state on which base entries are built counts, too.
        void NoteExpected()
        {
            if (_generation == expected?.Generation)
            {
                tagAtExpected = _stateTag;
            }
        }

        void Advance(in EntryHead head, bool isBase)
        {
            _generation = head.Generation;
            _lastTag = head.Tag;
            _head += head.Blocks;
            if (isBase)
            {
                _baseEnd = _head;
            }
            else
            {
                _stateTag = head.Tag;
            }
        }
    }

    // An entry at the head of the log, chained to the one before.
    private EntryResult ReadEntry(
        BlockWindow window, long limit, bool isWhole, out EntryHead head, out Entry? entry, out List<Operation> operations, out byte[] bytes)
    {
        entry = null;
        operations = [];
        bytes = new byte[StoreFormat.BlockSize];
        head = default;
        if (!window.TryRead(_head, bytes))
        {
            return EntryResult.DeviceFailed;
        }

        if (!EntryHead.TryRead(bytes, _head, limit, out head) || head.Link != _lastTag)
        {
            return EntryResult.Invalid;
        }

        int blocks = isWhole ? head.Blocks : head.OperationsBlocks;
        if (blocks > 1)
        {
            Array.Resize(ref bytes, blocks * StoreFormat.BlockSize);
            if (!window.TryRead(_head + 1, bytes.AsSpan(StoreFormat.BlockSize)))
            {
                return EntryResult.DeviceFailed;
            }
        }

        entry = new Entry(_head, bytes.AsSpan(EntryHead.SeedOffset, StoreCipher.SeedLength));
        UnitCipher units = CipherOf(entry);
        byte[] text = new byte[head.OperationsLength];
        if (!units.TryOpen(0, bytes.AsSpan(0, EntryHead.AuthenticatedLength), bytes.AsSpan(EntryHead.Length, text.Length), head.Tag, text)
            || !Operation.TryRead(text, head.Blocks * StoreFormat.BlockSize, out operations))
        {
            return EntryResult.Invalid;
        }

        if (isWhole)
        {
            foreach (Operation operation in operations)
            {
                if (operation.HasCell && !units.TryOpen(
                    operation.Unit, [], bytes.AsSpan(operation.Offset, operation.ValueLength), operation.Tag, new byte[operation.ValueLength]))
                {
                    return EntryResult.Invalid;
                }
            }
        }

        return EntryResult.Read;
    }

    // Changes the state in memory. What was written here always fits.
    private bool TryApply(Entry entry, List<Operation> operations)
    {
        foreach (Operation operation in operations)
        {
            _namespaces.TryGetValue(operation.Namespace, out Namespace? space);
            switch (operation.Kind)
            {
                case OperationKind.DefineNamespace:
                    if (space is null)
                    {
                        space = new Namespace(operation.Namespace, new Guid(operation.Name));
                        _namespaces.Add(operation.Namespace, space);
                    }

                    space.Quota = operation.Quota;
                    break;
                case OperationKind.RemoveNamespace when space is not null:
                    _namespaces.Remove(operation.Namespace);
                    break;
                case OperationKind.Put or OperationKind.Lost when space is not null:
                    space.Set(operation.Name, new StoredValue(entry, operation));
                    break;
                case OperationKind.Mark:
                    _isMoved = operation.Namespace != 0;
                    break;
                case OperationKind.Delete when space is not null && space.Remove(operation.Name):
                    break;
                default:
                    return false;
            }
        }

        return true;
    }

    private static StoreOpening NoEntropy() => new(StoreState.NoEntropy, "there are no random bytes");

    private static StoreOpening SuperblockFailed() => new(StoreState.DeviceFailed, "a superblock cannot be written", 0);

    private static string Text(IFormattable value) => value.ToString(null, CultureInfo.InvariantCulture);
}
