// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which numbered frames are free, in blocks of 1, 2, 4 ... 512. For the frame allocator; works on memory that its owner gives.
//
//   words    one bitmap per order 0 to 9, one after the other; bit i of order k = block of frames [i << k, (i + 1) << k) is free as a whole
//   counts   free blocks of each order, then for each order the word in which the next search starts
//
// A free frame is in exactly one free block, and two free halves of a block never stay apart: so a block of any order is free as such or not
// at all. Nothing is stored in the frames themselves: they are mapped nowhere, and an overrun elsewhere cannot reach this.

using System;
using System.Numerics;

namespace Svsm.Kernel.Memory;

/// <summary>A set of numbered frames that gives and takes blocks.</summary>
internal readonly ref struct BuddySet
{
    /// <summary>Largest order: 512 frames, 2 MiB.</summary>
    public const int MaxOrder = 9;

    /// <summary>Length of the counts.</summary>
    public const int CountsLength = 2 * (MaxOrder + 1);

    /// <summary>Frames in a block of <see cref="MaxOrder"/>.</summary>
    public const int LargestBlock = 1 << MaxOrder;

    private const int BitsPerWord = 64;

    private readonly Span<ulong> _words;
    private readonly Span<int> _counts;
    private readonly int _capacity;

    /// <summary>Makes a view of a set.</summary>
    /// <param name="words">At least <see cref="WordsFor"/> words, all zero at the start: no frame is free.</param>
    /// <param name="counts"><see cref="CountsLength"/> numbers, all zero at the start.</param>
    /// <param name="capacity">Number of frames, a multiple of <see cref="LargestBlock"/>.</param>
    public BuddySet(Span<ulong> words, Span<int> counts, int capacity)
    {
        _words = words;
        _counts = counts;
        _capacity = capacity;
    }

    /// <summary>Words that the bitmaps of so many frames take.</summary>
    public static int WordsFor(int capacity) => Offset(capacity, MaxOrder + 1);

    /// <summary>Smallest order whose blocks hold so many frames.</summary>
    /// <param name="frames">1 to <see cref="LargestBlock"/>.</param>
    public static int OrderOf(int frames) => frames <= 1 ? 0 : BitOperations.Log2((uint)frames - 1) + 1;

    /// <summary>Takes a block.</summary>
    /// <param name="order">Its order, 0 to <see cref="MaxOrder"/>.</param>
    /// <param name="frame">Number of its first frame, a multiple of 1 &lt;&lt; <paramref name="order"/>.</param>
    /// <returns>False: none is free.</returns>
    public bool TryTake(int order, out int frame)
    {
        frame = 0;
        if ((uint)order > MaxOrder)
        {
            return false;
        }

        int from = order;
        while (_counts[from] == 0)
        {
            if (++from > MaxOrder)
            {
                return false;
            }
        }

        int block = Find(from);
        Clear(from, block);
        while (from > order)
        {
            // The upper half stays free.
            from--;
            block *= 2;
            Set(from, block + 1);
        }

        frame = block << order;
        return true;
    }

    /// <summary>Gives a block back.</summary>
    /// <param name="frame">Number of its first frame.</param>
    /// <param name="order">Its order.</param>
    /// <returns>False: it is no block, or a part of it is free already. Nothing was changed.</returns>
    public bool TryReturn(int frame, int order)
    {
        if ((uint)order > MaxOrder || (uint)frame >= (uint)_capacity || (frame & ((1 << order) - 1)) != 0 || IsAnyFree(frame, order))
        {
            return false;
        }

        int block = frame >> order;
        while (order < MaxOrder && IsSet(order, block ^ 1))
        {
            Clear(order, block ^ 1);
            block >>= 1;
            order++;
        }

        Set(order, block);
        return true;
    }

    /// <summary>Whether a frame of a block is free.</summary>
    private bool IsAnyFree(int frame, int order)
    {
        for (int above = order; above <= MaxOrder; above++)
        {
            if (IsSet(above, frame >> above))
            {
                return true;
            }
        }

        for (int below = 0; below < order; below++)
        {
            for (int block = frame >> below; block < (frame + (1 << order)) >> below; block++)
            {
                if (IsSet(below, block))
                {
                    return true;
                }
            }
        }

        return false;
    }

    // Only called when the order's count says that there is one.
    private int Find(int order)
    {
        int start = Offset(_capacity, order);
        int length = Offset(_capacity, order + 1) - start;
        ref int hint = ref _counts[MaxOrder + 1 + order];
        int word = hint;
        while (_words[start + word] == 0)
        {
            word = word + 1 == length ? 0 : word + 1;
        }

        hint = word;
        return (word * BitsPerWord) + BitOperations.TrailingZeroCount(_words[start + word]);
    }

    private bool IsSet(int order, int block) => (Word(order, block) & Bit(block)) != 0;

    private void Set(int order, int block)
    {
        Word(order, block) |= Bit(block);
        _counts[order]++;
    }

    private void Clear(int order, int block)
    {
        Word(order, block) &= ~Bit(block);
        _counts[order]--;
    }

    private ref ulong Word(int order, int block) => ref _words[Offset(_capacity, order) + (block / BitsPerWord)];

    private static ulong Bit(int block) => 1ul << (block % BitsPerWord);

    // First word of an order's bitmap.
    private static int Offset(int capacity, int order)
    {
        int offset = 0;
        for (int i = 0; i < order; i++)
        {
            offset += ((capacity >> i) + BitsPerWord - 1) / BitsPerWord;
        }

        return offset;
    }
}
