// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// SVSM_CORE_DEPOSIT_MEM and SVSM_CORE_WITHDRAW_MEM: the guest lends the SVSM memory, and gets back what the SVSM does not use. No other SVSM
// has these calls, and public sources tell their numbers only; so the list is the one of PVALIDATE, for which guests have code:
//
//   RCX     list: 8-byte aligned, in one page
//   head    u16 count, u16 next, u32 reserved
//   entry   u64: bits 1:0 page size (0 = 4 KiB), 11:2 zero, 63:12 page number
//
//   deposit    entries next to count - 1 become memory of the SVSM, in order. Afterwards next is the index of the first that did not, or count
//   withdraw   entries next to count - 1 are room. The SVSM fills in pages, which are the guest's from then on, validated and zero; afterwards
//              next is the index behind the last one. Any page that was deposited may come, in any order
//
// Either sets mem_available in the caller's calling area to 1 or 0: whether there is something to withdraw. Deposited memory is what the
// SVSM takes last, when its own is used up; so what it once took may never come back.
//
// Codes: list not aligned, count 0, next >= count, list beyond its page, page size 2 or 3, reserved bits, the list's own page:
// INVALID_PARAMETER. Not the guest's memory, a VMSA, a calling area, or memory that the guest gave away: INVALID_ADDRESS. A page that another
// vCPU works on: BUSY. Page size 1: 0x8000_1006, to be repeated in 4-KiB pages. The host took the page meanwhile: 0x8000_1001.

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Serves deposits and withdrawals.</summary>
internal static class DepositCalls
{
    private const int EntryLength = sizeof(ulong);

    // Fits on a stack, and is soon done: INCOMPLETE for the rest.
    private const int MaxEntries = 128;
    private const ulong ReservedMask = 0xFFC;

    /// <summary>Takes the pages of a list; see the head of this file.</summary>
    public static SvsmResultCode Deposit<TPlatform>(PhysicalAddress list, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform =>
        Handle(list, isDeposit: true, in context, table, ref platform);

    /// <summary>Fills a list with pages for the guest; see the head of this file.</summary>
    public static SvsmResultCode Withdraw<TPlatform>(PhysicalAddress list, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform =>
        Handle(list, isDeposit: false, in context, table, ref platform);

    private static SvsmResultCode Handle<TPlatform>(
        PhysicalAddress list, bool isDeposit, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        if ((list.Value & (EntryLength - 1)) != 0)
        {
            return SvsmResultCode.InvalidParameter;
        }

        PageResult pinned = table.Pin(list.PageNumber);
        if (pinned != PageResult.Success)
        {
            return CoreProtocol.ToResultCode(pinned);
        }

        GuestWindow window = platform.Map(list.PageBase);
        SvsmResultCode result = HandleMapped(window, list, isDeposit, in context, table, ref platform);
        platform.Unmap(window);
        table.Unpin(list.PageNumber);

        // Only a hint: whether it arrives does not matter.
        window = platform.Map(context.Current.CallingArea);
        _ = window.TryWriteByte(CallingArea.MemoryAvailableOffset, platform.HasSpareFrames ? (byte)1 : (byte)0);
        platform.Unmap(window);
        return result;
    }

    private static SvsmResultCode HandleMapped<TPlatform>(
        GuestWindow window, PhysicalAddress list, bool isDeposit, in GuestContext context, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        int offset = list.PageOffset;
        if (!window.TryReadUInt64(offset, out ulong head))
        {
            return SvsmResultCode.InvalidAddress;
        }

        int count = (int)(head & 0xFFFF);
        int next = (int)((head >> (PvalidateList.NextOffset * 8)) & 0xFFFF);
        int room = (Page.Size - offset - PvalidateList.EntriesOffset) / EntryLength;
        if (next >= count || count > room)
        {
            return SvsmResultCode.InvalidParameter;
        }

        Span<ulong> copy = stackalloc ulong[MaxEntries];
        Span<ulong> entries = copy.Slice(0, Math.Min(count - next, MaxEntries));
        int first = offset + PvalidateList.EntriesOffset + (next * EntryLength);
        SvsmResultCode result;
        int done;
        if (isDeposit)
        {
            if (!window.TryRead(first, MemoryMarshal.AsBytes(entries)))
            {
                return SvsmResultCode.InvalidAddress;
            }

            result = TakePages(entries, list, context.Vmpl, table, ref platform, out done);
        }
        else
        {
            result = ReturnPages(entries, context.Vmpl, table, ref platform, out done);
            if (!window.TryWrite(first, MemoryMarshal.AsBytes(entries.Slice(0, done))))
            {
                return SvsmResultCode.InvalidAddress;
            }
        }

        if (!window.TryWriteUInt16(offset + PvalidateList.NextOffset, (ushort)(next + done)))
        {
            return SvsmResultCode.InvalidAddress;
        }

        bool isIncomplete = result == SvsmResultCode.Success && done == MaxEntries && next + done < count && (isDeposit || platform.HasSpareFrames);
        return isIncomplete ? SvsmResultCode.Incomplete : result;
    }

    // Rights of all first, then one flush, then what is done with them.
    private static SvsmResultCode TakePages<TPlatform>(
        ReadOnlySpan<ulong> entries, PhysicalAddress list, Vmpl guest, in PageStateTable table, ref TPlatform platform, out int done)
        where TPlatform : IGuestPlatform
    {
        SvsmResultCode result = SvsmResultCode.Success;
        int taken = 0;
        for (; taken < entries.Length; taken++)
        {
            result = CheckEntry(entries[taken], list);
            if (result == SvsmResultCode.Success)
            {
                PageResult pageResult = GuestPages.Take(table, ref platform, PageOf(entries[taken]), guest, PageState.Svsm);
                result = pageResult == PageResult.Success ? result : CoreProtocol.ToResultCode(pageResult);
            }

            if (result != SvsmResultCode.Success)
            {
                break;
            }
        }

        if (taken != 0)
        {
            platform.FlushGuestTranslations();
        }

        for (done = 0; done < taken; done++)
        {
            PhysicalAddress page = PageOf(entries[done]);
            platform.Open(page, PageSize.Small);
            bool isZero = platform.TryZero();
            platform.Close();
            table.End(page, PageSize.Small, isZero ? PageState.Svsm : PageState.Lost);
            if (isZero && platform.TryAddSpareFrame(page))
            {
                continue;
            }

            // The rest is the guest's again, or lost as this one is, which no list has: nobody else works on it.
            _ = table.TrySet(new PageRange(page.PageNumber, 1), PageState.Lost);
            for (int i = done + 1; i < taken; i++)
            {
                _ = GuestPages.GiveBack(table, ref platform, PageOf(entries[i]), guest);
            }

            return SvsmResultCode.PValidateFailInput;
        }

        return result;
    }

    private static SvsmResultCode ReturnPages<TPlatform>(Span<ulong> entries, Vmpl guest, in PageStateTable table, ref TPlatform platform, out int done)
        where TPlatform : IGuestPlatform
    {
        for (done = 0; done < entries.Length && platform.TryTakeSpareFrame(out PhysicalAddress page); done++)
        {
            if (table.Begin(page, PageSize.Small, PageState.Svsm, PageState.Guest) != PageResult.Success)
            {
                throw new InvalidOperationException("a spare frame is not the SVSM's");
            }

            platform.Open(page, PageSize.Small);
            bool isZero = platform.TryZero();
            platform.Close();
            if (!isZero)
            {
                table.End(page, PageSize.Small, PageState.Lost);
                return SvsmResultCode.PValidateFailInput;
            }

            PageResult given = GuestPages.GiveBack(table, ref platform, page, guest);
            if (given != PageResult.Success)
            {
                return CoreProtocol.ToResultCode(given);
            }

            entries[done] = page.Value;
        }

        return SvsmResultCode.Success;
    }

    private static SvsmResultCode CheckEntry(ulong entry, PhysicalAddress list)
    {
        ulong size = entry & PvalidateList.PageSizeMask;
        return (entry & ReservedMask) != 0 || size > (ulong)PageSize.Large || PageOf(entry).Value == list.PageBase.Value ? SvsmResultCode.InvalidParameter
            : size == (ulong)PageSize.Large ? SvsmResultCode.PValidateSizeMismatch
            : SvsmResultCode.Success;
    }

    private static PhysicalAddress PageOf(ulong entry) => new(entry & ~(ulong)(Page.Size - 1));
}
