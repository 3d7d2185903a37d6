// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which pages of the guest have changed since somebody copied them: a bit for each page of its memory, for the module that moves the guest
// (Wire/MoveChannel.cs).
//
//   the guest writes       it has no right to write a page that was taken: the fault comes here (TryGiveBack), the page is dirty, and the guest goes on
//   the SVSM writes        GuestWindow marks the page, behind the change: whoever copies it before finds it dirty afterwards
//   it becomes the guest's GuestPages marks it
//
// Taking clears the bit first, then takes the right, then drops translations; only then the page is copied. So whatever is written at any moment is
// in the copy, or leaves the bit set. Rights that were taken are given back when the guest wants to write, also long after nobody tracks any more.

using System;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Wire;

namespace Svsm.Kernel.Memory;

/// <summary>Pages of the guest that have changed.</summary>
internal static unsafe class DirtyPages
{
    /// <summary>Most ranges of memory.</summary>
    public const int MaxRanges = MemoryMap.MaxEntries + ImageConfiguration.MaxGuestRanges;

    /// <summary>What the guest may do with a page that was taken.</summary>
    public const RmpPermissions Taken = RmpPermissions.Read | RmpPermissions.ExecuteUser | RmpPermissions.ExecuteSupervisor;

    private const int BitsPerWord = 32;

    [InlineArray(MaxRanges)]
    private struct Ranges
    {
        private PageRange _element0;
    }

    private static Ranges s_ranges;
    private static int s_rangeCount;

    // SAFETY (whole class): as many bits as the ranges have pages, for good.
    private static uint* s_bits;

    /// <summary>Changes are noticed.</summary>
    public static bool IsTracking => s_bits != null;

    /// <summary>Bytes that the bits of these ranges take, a multiple of 8.</summary>
    public static ulong BytesFor(ReadOnlySpan<PageRange> ranges)
    {
        ulong pages = 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            pages += ranges[i].Count;
        }

        return (pages + 63) / 64 * 8;
    }

    /// <summary>Begins: all pages are dirty. Once; afterwards <see cref="MarkAll"/> begins anew.</summary>
    /// <param name="ranges">The guest's memory, at most <see cref="MaxRanges"/> disjoint ranges.</param>
    /// <param name="bits">As many bytes as <see cref="BytesFor"/> says, that stay where they are.</param>
    public static void Begin(ReadOnlySpan<PageRange> ranges, void* bits)
    {
        ranges.CopyTo(s_ranges);
        s_rangeCount = ranges.Length;
        new Span<byte>(bits, (int)BytesFor(ranges)).Fill(0xFF);
        Interlocked.MemoryBarrier();
        s_bits = (uint*)bits;
    }

    /// <summary>Marks all pages.</summary>
    public static void MarkAll()
    {
        for (int i = 0; i < s_rangeCount; i++)
        {
            Mark(s_ranges[i].First, s_ranges[i].Count);
        }
    }

    /// <summary>Marks pages that have changed. Nothing happens unless changes are tracked, or where no memory of the guest is.</summary>
    /// <param name="page">Number of the first page.</param>
    /// <param name="count">How many; in one range.</param>
    public static void Mark(ulong page, ulong count)
    {
        if (s_bits == null || !TryFind(page, out ulong bit))
        {
            return;
        }

        for (ulong i = bit; i < bit + count; i++)
        {
            Interlocked.Or(ref s_bits[i / BitsPerWord], 1u << (int)(i % BitsPerWord));
        }
    }

    /// <summary>Whether a page is dirty.</summary>
    /// <param name="page">Number of the page. False where no memory of the guest is.</param>
    public static bool IsDirty(ulong page) =>
        s_bits != null && TryFind(page, out ulong bit) && (Volatile.Read(ref s_bits[bit / BitsPerWord]) & (1u << (int)(bit % BitsPerWord))) != 0;

    /// <summary>
    /// Takes the guest's right to write a page, which is not dirty from here on. Copied it may be when translations were dropped
    /// (<see cref="IGuestPlatform.FlushGuestTranslations"/>). A page that is not the guest's has nothing to copy: it is not dirty either. One that is
    /// in use by another CPU stays dirty.
    /// </summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="page">Number of the page. Untrusted.</param>
    /// <param name="guest">VMPL of the guest.</param>
    public static void Take<TPlatform>(in PageStateTable table, ref TPlatform platform, ulong page, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        if (s_bits == null || !TryFind(page, out ulong bit))
        {
            return;
        }

        PageResult pinned = Pin(table, page);
        if (pinned == PageResult.Busy)
        {
            return;
        }

        Interlocked.And(ref s_bits[bit / BitsPerWord], ~(1u << (int)(bit % BitsPerWord)));
        if (pinned != PageResult.Success)
        {
            return;
        }

        platform.Open(PhysicalAddress.OfPage(page), PageSize.Small);
        _ = platform.RmpAdjust(guest, Taken);
        platform.Close();
        Unpin(table, page);
    }

    /// <summary>Gives the right to write back to the guest, which wants to write.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">What it wants to write. Untrusted.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <returns>False: the page is not the guest's to write at this moment.</returns>
    public static bool TryGiveBack<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        ulong page = address.PageNumber;
        if (s_bits == null || !TryFind(page, out _) || Pin(table, page) != PageResult.Success)
        {
            return false;
        }

        platform.Open(PhysicalAddress.OfPage(page), PageSize.Small);
        bool isGiven = platform.RmpAdjust(guest, RmpPermissions.All) == RmpResult.Success;
        platform.Close();
        Mark(page, 1);
        Unpin(table, page);
        return isGiven;
    }

    // Memory without states is ROM: nobody changes what it is.
    private static PageResult Pin(in PageStateTable table, ulong page) =>
        table.Get(page) == PageState.Absent ? PageResult.Success : table.Pin(page);

    private static void Unpin(in PageStateTable table, ulong page)
    {
        if (table.Get(page) != PageState.Absent)
        {
            table.Unpin(page);
        }
    }

    private static bool TryFind(ulong page, out ulong bit)
    {
        bit = 0;
        for (int i = 0; i < s_rangeCount; i++)
        {
            if (s_ranges[i].Contains(page))
            {
                bit += page - s_ranges[i].First;
                return true;
            }

            bit += s_ranges[i].Count;
        }

        return false;
    }
}
