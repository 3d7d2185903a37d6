// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// SVSM_CORE_PVALIDATE: a list of pages to validate or to rescind, in a page of the guest.
//
//   head    u16 count, u16 next, u32 reserved
//   entry   u64, see Svsm.Wire.PvalidateList
//
// The list is copied once; from then on only the copy is looked at. Entries next to count - 1 are worked off in order. The first that fails
// ends the call with its code. Afterwards next in the guest's page is the index of the entry that failed, or count: what the guest repeats or
// goes on with. A call works on 8 MiB at most, at least on one entry, and answers INCOMPLETE when something is left: so that no vCPU of the
// guest is away for longer than zeroing that takes.
//
// The list's page is pinned during the call: no other vCPU can take it away. An entry of the list cannot rescind it either. A calling area
// cannot be rescinded at all (GuestPages refuses it), so a list in the calling area needs no check of its own.
//
// Codes: list address not 8-byte aligned, count 0, next >= count, list beyond its page, page size other than 4 KiB and 2 MiB,
// reserved bits, misaligned 2-MiB page, an entry on the list's own page: INVALID_PARAMETER. Not memory of the guest, or memory that the guest
// gave away: INVALID_ADDRESS. A page that another vCPU changes or works on: BUSY. The instruction's own codes: 0x8000_1001, 0x8000_1006,
// 0x8000_1010 (no change, unless the entry ignores it).

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Serves PVALIDATE lists.</summary>
internal static class PvalidateCall
{
    private const int EntryLength = sizeof(ulong);
    private const int MaxEntries = (Page.Size - PvalidateList.EntriesOffset) / EntryLength;

    // In the copy of an entry, a reserved bit: rescinded, to be ended.
    private const ulong RescindedMark = 1 << 4;

    // 4-KiB pages per call.
    private const int MaxPages = 2048;

    /// <summary>Works off a list.</summary>
    /// <param name="list">GPA of the list. Untrusted.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <param name="table">The page states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="result">The result code, see the head of this file.</param>
    public static CallOutcome Handle<TPlatform>(
        PhysicalAddress list, Vmpl guest, in PageStateTable table, ref TPlatform platform, out SvsmResultCode result)
        where TPlatform : IGuestPlatform
    {
        if ((list.Value & (EntryLength - 1)) != 0)
        {
            result = SvsmResultCode.InvalidParameter;
            return CallOutcome.Answered;
        }

        PageResult pinned = table.Pin(list.PageNumber);
        if (pinned != PageResult.Success)
        {
            result = ToResultCode(pinned, false);
            return CallOutcome.Answered;
        }

        GuestWindow window = platform.Map(list.PageBase);
        CallOutcome outcome = HandleMapped(window, list, guest, table, ref platform, out result);
        platform.Unmap(window);
        table.Unpin(list.PageNumber);
        return outcome;
    }

    private static CallOutcome HandleMapped<TPlatform>(
        GuestWindow window, PhysicalAddress list, Vmpl guest, in PageStateTable table, ref TPlatform platform, out SvsmResultCode result)
        where TPlatform : IGuestPlatform
    {
        int offset = list.PageOffset;
        if (!window.TryReadUInt64(offset, out ulong head))
        {
            result = SvsmResultCode.InvalidAddress;
            return CallOutcome.Answered;
        }

        int count = (int)(head & 0xFFFF);
        int next = (int)((head >> (PvalidateList.NextOffset * 8)) & 0xFFFF);
        int room = (Page.Size - offset - PvalidateList.EntriesOffset) / EntryLength;
        if (next >= count || count > room)
        {
            result = SvsmResultCode.InvalidParameter;
            return CallOutcome.Answered;
        }

        Span<ulong> copy = stackalloc ulong[MaxEntries];
        Span<ulong> entries = copy.Slice(0, count - next);
        if (!window.TryRead(offset + PvalidateList.EntriesOffset + (next * EntryLength), MemoryMarshal.AsBytes(entries)))
        {
            result = SvsmResultCode.InvalidAddress;
            return CallOutcome.Answered;
        }

        CallOutcome outcome = WorkOff(entries, list, guest, table, ref platform, out int done, out result);
        if (!window.TryWriteUInt16(offset + PvalidateList.NextOffset, (ushort)(next + done)))
        {
            result = SvsmResultCode.InvalidAddress;
        }

        return outcome;
    }

    private static CallOutcome WorkOff<TPlatform>(
        Span<ulong> entries, PhysicalAddress list, Vmpl guest, in PageStateTable table, ref TPlatform platform, out int done, out SvsmResultCode result)
        where TPlatform : IGuestPlatform
    {
        PageResult pageResult = PageResult.Success;
        result = SvsmResultCode.Success;
        int pages = 0;
        int next = 0;
        int rescinded = 0;
        for (; next < entries.Length; next++)
        {
            if (pages >= MaxPages)
            {
                result = SvsmResultCode.Incomplete;
                break;
            }

            ulong entry = entries[next];
            result = CheckEntry(entry, list, out PhysicalAddress address, out PageSize size);
            if (result == SvsmResultCode.Success)
            {
                pageResult = Change(entry, address, size, guest, table, ref platform);
                if (pageResult == PageResult.Busy && rescinded != 0)
                {
                    // An earlier entry of this very list may have the page.
                    EndRescinds(entries.Slice(0, next), ref rescinded, table, ref platform);
                    pageResult = Change(entry, address, size, guest, table, ref platform);
                }

                if (pageResult == PageResult.Success && (entry & PvalidateList.Validate) == 0)
                {
                    entries[next] |= RescindedMark;
                    rescinded++;
                }

                result = ToResultCode(pageResult, (entry & PvalidateList.IgnoreNoChange) != 0);
            }

            if (result != SvsmResultCode.Success || pageResult == PageResult.HostViolation)
            {
                break;
            }

            pages += PhysicalAddress.PagesOf(size);
        }

        done = next;
        if (rescinded != 0 || pageResult == PageResult.FailInput)
        {
            EndRescinds(entries.Slice(0, next), ref rescinded, table, ref platform);
        }

        return pageResult == PageResult.HostViolation ? CallOutcome.HostViolation : CallOutcome.Answered;
    }

    private static PageResult Change<TPlatform>(
        ulong entry, PhysicalAddress address, PageSize size, Vmpl guest, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform =>
        (entry & PvalidateList.Validate) != 0
            ? GuestPages.Validate(table, ref platform, address, size, guest)
            : GuestPages.Rescind(table, ref platform, address, size, guest);

    // One flush for all pages that were rescinded; until then nobody can have them.
    private static void EndRescinds<TPlatform>(Span<ulong> entries, ref int rescinded, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        platform.FlushGuestTranslations();
        for (int i = entries.Length - 1; rescinded != 0; i--)
        {
            if ((entries[i] & RescindedMark) != 0)
            {
                entries[i] &= ~RescindedMark;
                rescinded--;
                GuestPages.EndRescind(table, new PhysicalAddress(entries[i] & ~(ulong)(Page.Size - 1)), (PageSize)(entries[i] & PvalidateList.PageSizeMask));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static SvsmResultCode CheckEntry(ulong entry, PhysicalAddress list, out PhysicalAddress address, out PageSize size)
    {
        address = new PhysicalAddress(entry & ~(ulong)(Page.Size - 1));
        size = (PageSize)(entry & PvalidateList.PageSizeMask);
        if ((entry & PvalidateList.ReservedMask) != 0 || size > PageSize.Large || !address.IsAlignedTo(size))
        {
            return SvsmResultCode.InvalidParameter;
        }

        bool coversList = list.Value - address.Value < PhysicalAddress.BytesOf(size);
        return coversList && (entry & PvalidateList.Validate) == 0 ? SvsmResultCode.InvalidParameter : SvsmResultCode.Success;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static SvsmResultCode ToResultCode(PageResult result, bool ignoreNoChange) => result switch
    {
        PageResult.Success => SvsmResultCode.Success,
        PageResult.NoChange => ignoreNoChange ? SvsmResultCode.Success : SvsmResultCode.PValidateNoChange,
        PageResult.FailInput => SvsmResultCode.PValidateFailInput,
        PageResult.SizeMismatch => SvsmResultCode.PValidateSizeMismatch,
        PageResult.Busy => SvsmResultCode.Busy,
        _ => SvsmResultCode.InvalidAddress,
    };
}
