// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which frames of a range are free: one bit per frame, set = taken. For the frame allocator; works on memory that its owner gives.
//
// Searches start at the last find, so that a run of allocations looks at each word once.

using System;
using System.Numerics;

namespace Svsm.Kernel.Memory;

/// <summary>A set of numbered frames.</summary>
internal ref struct FrameSet
{
    private const int BitsPerWord = 64;

    private readonly Span<ulong> _taken;
    private readonly int _count;
    private readonly ref int _hint;

    /// <summary>Makes a view of a set.</summary>
    /// <param name="taken">One bit per frame, all zero at the start: every frame free. At least <paramref name="count"/> bits.</param>
    /// <param name="count">Number of frames.</param>
    /// <param name="hint">Where the next search starts; 0 at the start, kept by the owner.</param>
    public FrameSet(Span<ulong> taken, int count, ref int hint)
    {
        _taken = taken;
        _count = count;
        _hint = ref hint;
    }

    /// <summary>Takes a free frame.</summary>
    /// <param name="frame">Its number.</param>
    /// <returns>False: none is free.</returns>
    public bool TryTake(out int frame)
    {
        int words = (_count + BitsPerWord - 1) / BitsPerWord;
        for (int i = 0; i < words; i++)
        {
            int word = _hint + i;
            if (word >= words)
            {
                word -= words;
            }

            ulong free = ~_taken[word];
            if (free == 0)
            {
                continue;
            }

            frame = (word * BitsPerWord) + BitOperations.TrailingZeroCount(free);
            if (frame >= _count)
            {
                continue;
            }

            _taken[word] |= free & (~free + 1);
            _hint = word;
            return true;
        }

        frame = 0;
        return false;
    }

    /// <summary>Gives a frame back.</summary>
    /// <param name="frame">Its number.</param>
    /// <returns>False: it is not taken, or not in the set. Nothing was changed.</returns>
    public bool TryReturn(int frame)
    {
        if ((uint)frame >= (uint)_count)
        {
            return false;
        }

        ulong bit = 1ul << (frame % BitsPerWord);
        ref ulong word = ref _taken[frame / BitsPerWord];
        if ((word & bit) == 0)
        {
            return false;
        }

        word &= ~bit;
        return true;
    }
}
