// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the addresses of a process are for: sorted, disjoint regions of whole pages. A region says what may be done with its pages and where their
// first contents come from; whether a page has a frame is in the page tables alone (ProcessMemory.cs). Free of hardware.
//
// The list is bounded: a process that wants more pieces gets an error, as it does for memory. Neighbours that are alike become one.

using System;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Processes;

/// <summary>Where the contents of a page come from.</summary>
internal enum RegionKind : byte
{
    /// <summary>Zeroes.</summary>
    Zero,

    /// <summary>The program, never written: frames of the archive.</summary>
    SharedFile,

    /// <summary>The program, copied when it is touched.</summary>
    PrivateFile,
}

/// <summary>Addresses that are alike.</summary>
internal struct Region
{
    /// <summary>First address, page-aligned.</summary>
    public ulong Start;

    /// <summary>First address after it, page-aligned.</summary>
    public ulong End;

    /// <summary>Offset in the archive of what is at <see cref="Start"/>; 0 for <see cref="RegionKind.Zero"/>.</summary>
    public ulong Source;

    /// <summary>First address whose contents are zeroes; 0 for <see cref="RegionKind.Zero"/>.</summary>
    public ulong SourceEnd;

    /// <summary>Where contents come from.</summary>
    public RegionKind Kind;

    /// <summary>What the process may do.</summary>
    public AccessRights Rights;

    /// <summary>Number of pages.</summary>
    public readonly ulong PageCount => (End - Start) / Page.Size;
}

/// <summary>The regions of a process.</summary>
internal struct RegionList
{
    /// <summary>Most regions.</summary>
    public const int Capacity = 128;

    [InlineArray(Capacity)]
    private struct Regions
    {
        private Region _element0;
    }

    private Regions _regions;
    private int _count;

    /// <summary>Number of regions.</summary>
    public readonly int Count => _count;

    /// <summary>Pages that may be written, in all regions.</summary>
    public ulong WritablePages { get; private set; }

    /// <summary>A region.</summary>
    /// <param name="index">Below <see cref="Count"/>.</param>
    public readonly Region At(int index) => _regions[index];

    /// <summary>Finds the region of an address.</summary>
    /// <param name="address">Any number.</param>
    /// <param name="region">The region.</param>
    /// <returns>False: there is none.</returns>
    public readonly bool TryFind(ulong address, out Region region)
    {
        int index = IndexOf(address);
        bool found = index < _count && _regions[index].Start <= address;
        region = found ? _regions[index] : default;
        return found;
    }

    /// <summary>Adds a region.</summary>
    /// <param name="region">Not empty, page-aligned.</param>
    /// <returns>False: it overlaps another one, or the list is full.</returns>
    public bool TryAdd(in Region region)
    {
        int index = IndexOf(region.Start);
        if (index < _count && _regions[index].Start < region.End)
        {
            return false;
        }

        bool joinsLower = index > 0 && AreAlike(in _regions[index - 1], in region);
        if (joinsLower)
        {
            _regions[index - 1].End = region.End;
            Join(index - 1, index);
        }
        else if (index < _count && AreAlike(in region, in _regions[index]))
        {
            _regions[index].Start = region.Start;
            _regions[index].Source = region.Source;
        }
        else if (_count == Capacity)
        {
            return false;
        }
        else
        {
            Insert(index, in region);
        }

        Note(in region, 1);
        return true;
    }

    /// <summary>Finds free addresses, with a free page on either side.</summary>
    /// <param name="length">Bytes, whole pages, not 0.</param>
    /// <param name="low">Lowest address.</param>
    /// <param name="high">First address that may not be used.</param>
    /// <param name="start">First address, the highest possible.</param>
    /// <returns>False: there is no such gap.</returns>
    public readonly bool TryFindGap(ulong length, ulong low, ulong high, out ulong start)
    {
        ulong end = high;
        for (int i = _count - 1; ; i--)
        {
            ulong from = i < 0 ? low : Math.Max(low, _regions[i].End + Page.Size);
            if (end > from && end - from >= length)
            {
                start = end - length;
                return true;
            }

            if (i < 0)
            {
                start = 0;
                return false;
            }

            end = Math.Min(end, _regions[i].Start - Page.Size);
        }
    }

    /// <summary>Whether regions cover all of a range.</summary>
    public readonly bool Covers(ulong start, ulong end)
    {
        ulong next = start;
        for (int i = IndexOf(start); i < _count && next < end; i++)
        {
            if (_regions[i].Start > next)
            {
                return false;
            }

            next = _regions[i].End;
        }

        return next >= end;
    }

    /// <summary>Pages of a range that may not be written now; those that a change of rights would add to <see cref="WritablePages"/>.</summary>
    public readonly ulong CountReadOnly(ulong start, ulong end)
    {
        ulong pages = 0;
        for (int i = IndexOf(start); i < _count && _regions[i].Start < end; i++)
        {
            if ((_regions[i].Rights & AccessRights.Write) == 0)
            {
                pages += (Math.Min(end, _regions[i].End) - Math.Max(start, _regions[i].Start)) / Page.Size;
            }
        }

        return pages;
    }

    /// <summary>Whether a region of a range is executable: its rights do not change.</summary>
    public readonly bool HasText(ulong start, ulong end)
    {
        for (int i = IndexOf(start); i < _count && _regions[i].Start < end; i++)
        {
            if ((_regions[i].Rights & AccessRights.Execute) != 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Changes the rights of a range that is covered. What may be written from now on is a copy of the program's.</summary>
    /// <returns>False: the list is full; nothing was changed.</returns>
    public bool TrySetRights(ulong start, ulong end, AccessRights rights)
    {
        if (!TrySplit(start, end))
        {
            return false;
        }

        int first = IndexOf(start);
        int index = first;
        for (; index < _count && _regions[index].Start < end; index++)
        {
            Note(in _regions[index], -1);
            _regions[index].Rights = rights;
            if (_regions[index].Kind == RegionKind.SharedFile && (rights & AccessRights.Write) != 0)
            {
                _regions[index].Kind = RegionKind.PrivateFile;
            }

            Note(in _regions[index], 1);
        }

        Join(Math.Max(0, first - 1), index);
        return true;
    }

    /// <summary>Takes a range out. What is not there is no error.</summary>
    /// <returns>False: the list is full; nothing was changed.</returns>
    public bool TryRemove(ulong start, ulong end)
    {
        if (!TrySplit(start, end))
        {
            return false;
        }

        int first = IndexOf(start);
        int last = first;
        for (; last < _count && _regions[last].Start < end; last++)
        {
            Note(in _regions[last], -1);
        }

        Span<Region> regions = _regions;
        regions.Slice(last, _count - last).CopyTo(regions.Slice(first));
        _count -= last - first;
        return true;
    }

    // The first region that ends behind an address.
    private readonly int IndexOf(ulong address)
    {
        int low = 0;
        int high = _count;
        while (low < high)
        {
            int middle = (low + high) / 2;
            if (_regions[middle].End <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low;
    }

    private void Insert(int index, in Region region)
    {
        Span<Region> regions = _regions;
        Region copy = region;
        regions.Slice(index, _count - index).CopyTo(regions.Slice(index + 1));
        regions[index] = copy;
        _count++;
    }

    // Makes both addresses ends of regions where they lie in one.
    private bool TrySplit(ulong start, ulong end)
    {
        int splits = (IsInside(start) ? 1 : 0) + (IsInside(end) ? 1 : 0);
        if (splits > Capacity - _count)
        {
            return false;
        }

        Split(start);
        Split(end);
        return true;
    }

    private readonly bool IsInside(ulong address)
    {
        int index = IndexOf(address);
        return index < _count && _regions[index].Start < address;
    }

    private void Split(ulong address)
    {
        int index = IndexOf(address);
        if (index < _count && _regions[index].Start < address)
        {
            Region upper = _regions[index];
            upper.Source += upper.Kind == RegionKind.Zero ? 0 : address - upper.Start;
            upper.Start = address;
            _regions[index].End = address;
            Insert(index + 1, in upper);
        }
    }

    private void Join(int first, int last)
    {
        for (int index = Math.Min(last, _count - 1); index > first; index--)
        {
            if (AreAlike(in _regions[index - 1], in _regions[index]))
            {
                _regions[index - 1].End = _regions[index].End;
                Span<Region> regions = _regions;
                regions.Slice(index + 1, _count - index - 1).CopyTo(regions.Slice(index));
                _count--;
            }
        }
    }

    private static bool AreAlike(in Region lower, in Region upper) =>
        lower.End == upper.Start && lower.Kind == upper.Kind && lower.Rights == upper.Rights && lower.SourceEnd == upper.SourceEnd &&
        (lower.Kind == RegionKind.Zero || lower.Source + (lower.End - lower.Start) == upper.Source);

    private void Note(in Region region, int sign)
    {
        if ((region.Rights & AccessRights.Write) != 0)
        {
            WritablePages += sign > 0 ? region.PageCount : 0 - region.PageCount;
        }
    }
}
