// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Small blocks of memory: 32 to 1024 bytes, in powers of two. Free of hardware: pages come from ISlabPages.
//
//   slab    one page, mapped alone: the pages on either side are mapped nowhere, so an overrun of its last block faults
//     0     SlabHead: neighbours in the list of its size, size, which blocks are given away
//     64    blocks
//
// Slabs with a free block are in a list for each size; a slab without is in none; an empty slab goes back at once. What is free is known from
// the head alone, never from the blocks.

using System;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Kernel.Memory;

/// <summary>Where slabs come from.</summary>
internal interface ISlabPages
{
    /// <summary>Hands out a page of zeroes.</summary>
    /// <param name="address">Its first byte.</param>
    /// <returns>What was lacking.</returns>
    MemoryError Allocate(out ulong address);

    /// <summary>Takes a page back.</summary>
    void Free(ulong address);
}

/// <summary>The first slab with a free block, for each size; zero at the start.</summary>
[InlineArray(SlabHeads.Count)]
internal struct SlabHeads
{
    /// <summary>Number of sizes.</summary>
    public const int Count = 6;

    private ulong _element0;
}

/// <summary>First bytes of a slab.</summary>
[StructLayout(LayoutKind.Sequential, Size = 64)]
internal struct SlabHead
{
    /// <summary>Next slab of this size with a free block; 0 = none.</summary>
    public ulong Next;

    /// <summary>The one before; 0 = none.</summary>
    public ulong Previous;

    /// <summary>Blocks that are given away, low half.</summary>
    public ulong TakenLow;

    /// <summary>Blocks that are given away, high half.</summary>
    public ulong TakenHigh;

    /// <summary>Number of the size.</summary>
    public int Class;

    /// <summary>How many are given away.</summary>
    public int Used;
}

/// <summary>Gives and takes blocks. The caller holds the lock of the lists.</summary>
internal unsafe ref struct SlabHeap<TPages>
    where TPages : ISlabPages
{
    /// <summary>Bytes of the largest block.</summary>
    public const int MaxBytes = MinBytes << (SlabHeads.Count - 1);

    private const int MinBytes = 32;
    private const int HeadBytes = 64;

    private readonly ref TPages _pages;
    private readonly Span<ulong> _lists;

    /// <summary>Makes a view.</summary>
    /// <param name="pages">Where slabs come from.</param>
    /// <param name="lists">The lists.</param>
    public SlabHeap(ref TPages pages, Span<ulong> lists)
    {
        _pages = ref pages;
        _lists = lists;
    }

    /// <summary>Gives a block; its contents are any.</summary>
    /// <param name="bytes">1 to <see cref="MaxBytes"/>.</param>
    /// <param name="address">Its first byte, aligned to 32.</param>
    /// <returns><see cref="MemoryError.InvalidSize"/>, or what was lacking for another slab.</returns>
    public readonly MemoryError Allocate(int bytes, out ulong address)
    {
        address = 0;
        if (bytes is < 1 or > MaxBytes)
        {
            return MemoryError.InvalidSize;
        }

        int size = ClassOf(bytes);
        if (_lists[size] == 0)
        {
            MemoryError error = _pages.Allocate(out ulong page);
            if (error != MemoryError.None)
            {
                return error;
            }

            HeadOf(page).Class = size;
            Insert(page, size);
        }

        ulong slab = _lists[size];
        ref SlabHead head = ref HeadOf(slab);
        int block = head.TakenLow != ulong.MaxValue
            ? BitOperations.TrailingZeroCount(~head.TakenLow)
            : 64 + BitOperations.TrailingZeroCount(~head.TakenHigh);
        Mark(ref head, block, true);
        if (head.Used == BlocksOf(size))
        {
            Remove(slab, size);
        }

        address = slab + HeadBytes + ((ulong)block * (ulong)BytesOf(size));
        return MemoryError.None;
    }

    /// <summary>Takes a block back.</summary>
    /// <param name="address">What <see cref="Allocate"/> gave.</param>
    /// <param name="bytes">As it was asked for.</param>
    /// <returns>False: it is no block of that size that is given away. Nothing was changed.</returns>
    public readonly bool TryFree(ulong address, int bytes)
    {
        ulong slab = address & ~(ulong)(Page.Size - 1);
        if (bytes is < 1 or > MaxBytes || address - slab < HeadBytes)
        {
            return false;
        }

        ref SlabHead head = ref HeadOf(slab);
        int size = ClassOf(bytes);
        int offset = (int)(address - slab) - HeadBytes;
        int block = offset / BytesOf(size);
        if (head.Class != size || offset % BytesOf(size) != 0 || block >= BlocksOf(size) || !IsTaken(in head, block))
        {
            return false;
        }

        if (head.Used == BlocksOf(size))
        {
            Insert(slab, size);
        }

        Mark(ref head, block, false);
        if (head.Used == 0)
        {
            Remove(slab, size);
            _pages.Free(slab);
        }

        return true;
    }

    private static int ClassOf(int bytes) => bytes <= MinBytes ? 0 : BitOperations.Log2((uint)bytes - 1) + 1 - BitOperations.Log2(MinBytes);

    private static int BytesOf(int size) => MinBytes << size;

    private static int BlocksOf(int size) => (Page.Size - HeadBytes) / BytesOf(size);

    // SAFETY: a slab is a mapped page until it is given back, and nobody but this file writes its first bytes.
    private static ref SlabHead HeadOf(ulong slab) => ref *(SlabHead*)slab;

    private static bool IsTaken(in SlabHead head, int block) => ((block < 64 ? head.TakenLow : head.TakenHigh) & (1ul << (block % 64))) != 0;

    private static void Mark(ref SlabHead head, int block, bool taken)
    {
        ref ulong word = ref head.TakenLow;
        if (block >= 64)
        {
            word = ref head.TakenHigh;
        }

        ulong bit = 1ul << (block % 64);
        word = taken ? word | bit : word & ~bit;
        head.Used += taken ? 1 : -1;
    }

    private readonly void Insert(ulong slab, int size)
    {
        ref SlabHead head = ref HeadOf(slab);
        head.Previous = 0;
        head.Next = _lists[size];
        if (head.Next != 0)
        {
            HeadOf(head.Next).Previous = slab;
        }

        _lists[size] = slab;
    }

    private readonly void Remove(ulong slab, int size)
    {
        ref SlabHead head = ref HeadOf(slab);
        if (head.Previous != 0)
        {
            HeadOf(head.Previous).Next = head.Next;
        }
        else
        {
            _lists[size] = head.Next;
        }

        if (head.Next != 0)
        {
            HeadOf(head.Next).Previous = head.Previous;
        }
    }
}
