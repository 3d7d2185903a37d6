// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which pages of a part of the address space are given away: one bit per page. For KernelPages; works on memory that its owner gives.
//
// Behind every range that is given away lies a page that stays free: the guard page of the one above it. The first page of all is never given
// away, so that every range has a page below it that is mapped nowhere.
//
// The lowest pages that are free are given first: the page tables of an address that was in use once stay, so a process that is started again and
// again must not come past all of them.

using System;
using System.Numerics;

namespace Svsm.Kernel.Memory;

/// <summary>A set of numbered pages that gives and takes ranges.</summary>
internal readonly ref struct AddressSet
{
    private const int BitsPerWord = 64;

    private readonly Span<ulong> _taken;

    /// <summary>Makes a view of a set.</summary>
    /// <param name="taken">One bit per page, all zero at the start: every page free.</param>
    public AddressSet(Span<ulong> taken) => _taken = taken;

    private int Count => _taken.Length * BitsPerWord;

    /// <summary>Takes consecutive pages, with a free page on either side.</summary>
    /// <param name="pageCount">Number of pages, at least 1.</param>
    /// <param name="first">Number of the first one.</param>
    /// <returns>False: there are not so many in a row.</returns>
    public bool TryTake(int pageCount, out int first)
    {
        if (!TryFind(pageCount, out first))
        {
            return false;
        }

        Mark(first, pageCount, true);
        return true;
    }

    /// <summary>Gives a range back.</summary>
    /// <returns>False: a page of it is not taken, or not in the set. Nothing was changed.</returns>
    public bool TryReturn(int first, int pageCount)
    {
        if (pageCount <= 0 || first <= 0 || first > Count - pageCount)
        {
            return false;
        }

        for (int page = first; page < first + pageCount; page++)
        {
            if (!IsTaken(page))
            {
                return false;
            }
        }

        Mark(first, pageCount, false);
        return true;
    }

    // A free page, then as many as wanted, then one more.
    private bool TryFind(int pageCount, out int first)
    {
        int run = 0;
        int page = 0;
        while (page < Count)
        {
            ulong rest = _taken[page / BitsPerWord] >> (page % BitsPerWord);
            if ((rest & 1) != 0)
            {
                run = 0;
                page += rest == ulong.MaxValue >> (page % BitsPerWord) ? BitsPerWord - (page % BitsPerWord) : BitOperations.TrailingZeroCount(~rest);
                continue;
            }

            page++;
            if (++run == pageCount + 2)
            {
                first = page - pageCount - 1;
                return true;
            }
        }

        first = 0;
        return false;
    }

    private bool IsTaken(int page) => (_taken[page / BitsPerWord] & (1ul << (page % BitsPerWord))) != 0;

    private void Mark(int first, int pageCount, bool taken)
    {
        for (int page = first; page < first + pageCount; page++)
        {
            ulong bit = 1ul << (page % BitsPerWord);
            _taken[page / BitsPerWord] = taken ? _taken[page / BitsPerWord] | bit : _taken[page / BitsPerWord] & ~bit;
        }
    }
}
