// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The state of every 4-KiB page of the VM: one byte per page, found through the list of ranges that exist.
//
//   ranges   [RAM 0][RAM 1]...[SVSM region]       ascending RAM, then the region
//   states   one byte per page of each range, one range after the other
//
// A page that is in no range does not exist. What the states mean, and who may change them:
//
//   Unvalidated   not usable by anybody; shared with the host or private, as the guest and the host please
//   Guest         validated, the guest has all rights                     -> Unvalidated by a rescind, CallingArea by REMAP_CA
//   CallingArea   like Guest, and the SVSM reads and writes it            -> Guest when the vCPU takes another one
//   Vmsa          a VMSA of the guest: nobody but the processor uses it
//   Svsm          memory of the SVSM
//
// GuestPages.cs holds the transitions; nothing else writes states after booting. One vCPU, so there is no lock yet.

using System;

namespace Svsm.Kernel.Memory;

/// <summary>State of a 4-KiB page.</summary>
internal enum PageState : byte
{
    /// <summary>Not validated. Zero: a fresh table says so of every page.</summary>
    Unvalidated = 0,

    /// <summary>Validated, all rights for the guest.</summary>
    Guest = 1,

    /// <summary>As <see cref="Guest"/>, and a calling area.</summary>
    CallingArea = 2,

    /// <summary>A VMSA of the guest.</summary>
    Vmsa = 3,

    /// <summary>Memory of the SVSM.</summary>
    Svsm = 4,
}

/// <summary>A view of the page states.</summary>
internal readonly ref struct PageStateTable
{
    private readonly ReadOnlySpan<PageRange> _ranges;
    private readonly Span<byte> _states;

    /// <summary>Makes a view.</summary>
    /// <param name="ranges">The pages that exist; disjoint.</param>
    /// <param name="states">One byte for each of them, see <see cref="BytesFor"/>.</param>
    public PageStateTable(ReadOnlySpan<PageRange> ranges, Span<byte> states)
    {
        _ranges = ranges;
        _states = states;
    }

    /// <summary>Bytes that the states of these ranges take; all ones when that is more than a table can have.</summary>
    public static ulong BytesFor(ReadOnlySpan<PageRange> ranges)
    {
        ulong total = 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            if (ranges[i].Count > int.MaxValue - total)
            {
                return ulong.MaxValue;
            }

            total += ranges[i].Count;
        }

        return total;
    }

    /// <summary>Finds the states of consecutive pages.</summary>
    /// <param name="firstPage">Number of the first page. Untrusted.</param>
    /// <param name="pageCount">Number of pages, at least 1.</param>
    /// <param name="states">Their states; to be changed by the owner of transitions only.</param>
    /// <returns>False: one of them does not exist, or they lie in different ranges.</returns>
    public bool TryFind(ulong firstPage, int pageCount, out Span<byte> states)
    {
        int offset = 0;
        for (int i = 0; i < _ranges.Length; i++)
        {
            PageRange range = _ranges[i];
            if (range.Contains(firstPage))
            {
                ulong index = firstPage - range.First;
                if ((ulong)pageCount > range.Count - index)
                {
                    break;
                }

                states = _states.Slice(offset + (int)index, pageCount);
                return true;
            }

            offset += (int)range.Count;
        }

        states = default;
        return false;
    }

    /// <summary>State of one page.</summary>
    /// <param name="page">Number of the page. Untrusted.</param>
    /// <param name="state">Its state.</param>
    /// <returns>False: the page does not exist.</returns>
    public bool TryGet(ulong page, out PageState state)
    {
        if (!TryFind(page, 1, out Span<byte> states))
        {
            state = default;
            return false;
        }

        state = (PageState)states[0];
        return true;
    }

    /// <summary>Sets the state of consecutive pages that exist.</summary>
    /// <returns>False: one of them does not exist; nothing was changed.</returns>
    public bool TrySet(ulong firstPage, int pageCount, PageState state)
    {
        if (!TryFind(firstPage, pageCount, out Span<byte> states))
        {
            return false;
        }

        states.Fill((byte)state);
        return true;
    }
}
