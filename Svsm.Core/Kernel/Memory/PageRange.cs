// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Ranges of 4-KiB pages, and the one operation on lists of them that the kernel needs: cutting a range out.

using System;

namespace Svsm.Kernel.Memory;

/// <summary>Consecutive 4-KiB pages. End = First + Count never wraps: whoever makes one has checked it.</summary>
internal struct PageRange
{
    /// <summary>Number of the first page.</summary>
    public ulong First;

    /// <summary>Number of pages.</summary>
    public ulong Count;

    /// <summary>Makes a range.</summary>
    public PageRange(ulong first, ulong count)
    {
        First = first;
        Count = count;
    }

    /// <summary>Number of the page after the last one.</summary>
    public readonly ulong End => First + Count;

    /// <summary>Whether a page lies in the range.</summary>
    public readonly bool Contains(ulong page) => page - First < Count;

    /// <summary>Whether the ranges share a page.</summary>
    public readonly bool Overlaps(in PageRange other) => First < other.End && other.First < End;

    /// <summary>Removes the pages of <paramref name="cut"/> from a list. Order is kept.</summary>
    /// <param name="ranges">Room for the list; the first <paramref name="count"/> elements are used.</param>
    /// <param name="count">Number of ranges; may grow by one for each range that <paramref name="cut"/> splits.</param>
    /// <param name="cut">What to remove.</param>
    /// <returns>False: there is no room for another range. The list is unchanged up to the range that did not fit.</returns>
    public static bool TrySubtract(Span<PageRange> ranges, ref int count, in PageRange cut)
    {
        int i = 0;
        while (i < count)
        {
            PageRange range = ranges[i];
            if (!range.Overlaps(cut))
            {
                i++;
                continue;
            }

            bool keepsHead = range.First < cut.First;
            bool keepsTail = cut.End < range.End;
            PageRange head = new(range.First, keepsHead ? cut.First - range.First : 0);
            PageRange tail = new(cut.End, keepsTail ? range.End - cut.End : 0);
            if (keepsHead && keepsTail)
            {
                if (count == ranges.Length)
                {
                    return false;
                }

                ranges.Slice(i + 1, count - (i + 1)).CopyTo(ranges.Slice(i + 2));
                ranges[i] = head;
                ranges[i + 1] = tail;
                count++;
                i += 2;
            }
            else if (keepsHead || keepsTail)
            {
                ranges[i] = keepsHead ? head : tail;
                i++;
            }
            else
            {
                ranges.Slice(i + 1, count - (i + 1)).CopyTo(ranges.Slice(i));
                count--;
            }
        }

        return true;
    }
}
