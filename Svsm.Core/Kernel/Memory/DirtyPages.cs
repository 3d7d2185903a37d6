// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's memory, and which of its pages have changed since somebody copied them: a bit for each page, for the module that moves the guest
// (Wire/MoveChannel.cs).
//
//   the guest writes       it has no right to write a page that was taken: the fault comes here (GiveBack), the page is dirty, and the guest goes on
//   the SVSM writes        GuestWindow marks the page, behind the change: whoever copies it before finds it dirty afterwards
//   it becomes the guest's GuestPages marks it, before the page is the guest's
//
// Taking clears the bit first, then looks whether the page is the guest's and takes the right, then drops translations; only then the page is copied. So
// whatever is written at any moment is in the copy, or leaves the bit set. Rights that were taken are given back when the guest wants to write, also long
// after nobody tracks any more.
//
// A guest that writes faster than its pages can be copied is paced: taking a page is a credit of one, giving a clean one back costs two, and each round begins
// without credit. So a round leaves half as many dirty pages, whatever the guest does; it waits as long as copying two pages takes. What the SVSM writes for it
// costs nothing. Whoever copies may be slow, or slowed: a vCPU that has waited for long gets its page on credit.

using System;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Wire;

namespace Svsm.Kernel.Memory;

/// <summary>What became of a page that the guest wants to write.</summary>
internal enum GiveBackResult
{
    /// <summary>It is the guest's to write.</summary>
    Given,

    /// <summary>The guest is paced, and has to wait.</summary>
    Later,

    /// <summary>The page is not the guest's to write at this moment.</summary>
    NotGuest,
}

/// <summary>Pages of the guest that have changed.</summary>
internal static unsafe class DirtyPages
{
    /// <summary>What the guest may do with a page that was taken.</summary>
    public const RmpPermissions Taken = RmpPermissions.Read | RmpPermissions.ExecuteUser | RmpPermissions.ExecuteSupervisor;

    private const int MaxRanges = MemoryMap.MaxEntries + ImageConfiguration.MaxGuestRanges;
    private const int BitsPerWord = 32;
    private const int CostOfGivingBack = 2;

    [InlineArray(MaxRanges)]
    private struct RangeList
    {
        private PageRange _element0;
    }

    private static RangeList s_ranges;
    private static int s_rangeCount;

    // SAFETY (whole class): as many bits as the ranges have pages, for good.
    private static uint* s_bits;
    private static bool s_isPaced;
    private static int s_credit;

    /// <summary>The guest's memory, in ascending order.</summary>
    public static ReadOnlySpan<PageRange> Ranges => ((ReadOnlySpan<PageRange>)s_ranges).Slice(0, s_rangeCount);

    /// <summary>Changes are noticed.</summary>
    public static bool IsTracking => s_bits != null;

    /// <summary>Adds to the guest's memory. While booting.</summary>
    /// <param name="range">Disjoint from what there is; with it at most as many ranges as a memory map and a configuration have.</param>
    public static void Add(PageRange range)
    {
        // In ascending order: whoever goes through the memory, or waits for it at the target, goes from one page to the next.
        int at = s_rangeCount++;
        for (; at != 0 && s_ranges[at - 1].First > range.First; at--)
        {
            s_ranges[at] = s_ranges[at - 1];
        }

        s_ranges[at] = range;
    }

    /// <summary>Whether a page is memory of the guest, whatever its state is.</summary>
    /// <param name="page">Number of the page. Untrusted.</param>
    public static bool Contains(ulong page) => TryFind(page, out _);

    /// <summary>Bytes that the bits take, a multiple of 8.</summary>
    public static ulong BytesOfBits
    {
        get
        {
            ulong pages = 0;
            for (int i = 0; i < s_rangeCount; i++)
            {
                pages += s_ranges[i].Count;
            }

            return (pages + 63) / 64 * 8;
        }
    }

    /// <summary>Begins: all pages are dirty. Once; afterwards <see cref="MarkAll"/> begins anew.</summary>
    /// <param name="bits">As many bytes as <see cref="BytesOfBits"/> says, that stay where they are.</param>
    public static void Begin(void* bits)
    {
        new Span<byte>(bits, (int)BytesOfBits).Fill(0xFF);
        Interlocked.MemoryBarrier();
        s_bits = (uint*)bits;
    }

    /// <summary>Paces the guest from here on, without credit; or lets it write what it wants.</summary>
    /// <param name="isPaced">Which.</param>
    public static void Pace(bool isPaced)
    {
        Volatile.Write(ref s_credit, 0);
        Volatile.Write(ref s_isPaced, isPaced);
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
    public static bool IsDirty(ulong page) => s_bits != null && TryFind(page, out ulong bit) && IsSet(bit);

    /// <summary>
    /// Takes the guest's right to write a page, which is not dirty from here on. Copied it may be when translations were dropped
    /// (<see cref="IGuestPlatform.FlushGuestTranslations"/>). A page that is not the guest's has nothing to copy: it is not dirty either. One that
    /// is in use by another CPU, or whose right the processor does not let go, stays dirty.
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

        // Before the look at the state: a page that becomes the guest's behind it is marked by whoever makes it so.
        Interlocked.And(ref s_bits[bit / BitsPerWord], ~(1u << (int)(bit % BitsPerWord)));
        PageResult pinned = Pin(table, page);
        bool isTaken = pinned == PageResult.InvalidAddress;
        if (pinned == PageResult.Success)
        {
            isTaken = TryAdjust(ref platform, page, guest, Taken);
            Unpin(table, page);
            if (isTaken)
            {
                Interlocked.Increment(ref s_credit);
            }
        }

        if (!isTaken)
        {
            Mark(page, 1);
        }
    }

    /// <summary>Gives the right to write back to the guest, which wants to write.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">What it wants to write. Untrusted.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <param name="hasWaited">The vCPU has waited for long: whether there is credit for the page does not matter.</param>
    public static GiveBackResult GiveBack<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, Vmpl guest, bool hasWaited)
        where TPlatform : IGuestPlatform
    {
        ulong page = address.PageNumber;
        if (s_bits == null || !TryFind(page, out ulong bit) || Pin(table, page) != PageResult.Success)
        {
            return GiveBackResult.NotGuest;
        }

        // One that is dirty already, by another vCPU or the SVSM, makes nothing worse.
        bool isPaid = hasWaited || IsSet(bit) || TryPay();
        bool isGiven = isPaid && TryAdjust(ref platform, page, guest, RmpPermissions.All);
        if (isPaid)
        {
            Mark(page, 1);
        }

        Unpin(table, page);
        return !isPaid ? GiveBackResult.Later : isGiven ? GiveBackResult.Given : GiveBackResult.NotGuest;
    }

    private static bool IsSet(ulong bit) => (Volatile.Read(ref s_bits[bit / BitsPerWord]) & (1u << (int)(bit % BitsPerWord))) != 0;

    // Two CPUs that pay at the same time may both find too little: they try again.
    private static bool TryPay()
    {
        if (!Volatile.Read(ref s_isPaced) || Interlocked.Add(ref s_credit, -CostOfGivingBack) >= 0)
        {
            return true;
        }

        Interlocked.Add(ref s_credit, CostOfGivingBack);
        return false;
    }

    private static bool TryAdjust<TPlatform>(ref TPlatform platform, ulong page, Vmpl guest, RmpPermissions permissions)
        where TPlatform : IGuestPlatform
    {
        platform.Open(PhysicalAddress.OfPage(page), PageSize.Small);
        RmpResult result = platform.RmpAdjust(guest, permissions);
        platform.Close();
        return result == RmpResult.Success;
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
