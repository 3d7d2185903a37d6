// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// SVSM_CORE_PVALIDATE: a list of pages to validate or to rescind, in a page of the guest.
//
//   head    u16 count, u16 next, u32 reserved         read once, in one access
//   entry   u64, see Svsm.Wire.PvalidateList          each read once
//
// Entries next to count - 1 are worked off in order. The first that fails ends the call with its code. Afterwards next in the
// guest's page is the index of the entry that failed, or count: what the guest repeats or goes on with.
//
// The list's own page cannot be rescinded by an entry of the list: the kernel is reading it. A calling area cannot be either
// (GuestPages refuses it), so a list in the calling area needs no check of its own.
//
// Codes: list address not 8-byte aligned, count 0, next >= count, list beyond its page, page size other than 4 KiB and 2 MiB,
// reserved bits, misaligned 2-MiB page, an entry on the list's own page: INVALID_PARAMETER. Not memory of the guest:
// INVALID_ADDRESS. The instruction's own codes: 0x8000_1001, 0x8000_1006, 0x8000_1010 (no change, unless the entry ignores it).

using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>Serves PVALIDATE lists.</summary>
internal static class PvalidateCall
{
    private const int EntryLength = sizeof(ulong);

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

        if (!GuestPages.IsGuestPage(table, list))
        {
            result = SvsmResultCode.InvalidAddress;
            return CallOutcome.Answered;
        }

        GuestWindow window = platform.Map(list.PageBase);
        CallOutcome outcome = HandleMapped(window, list, guest, table, ref platform, out result);
        platform.Unmap(window);
        return outcome;
    }

    private static CallOutcome HandleMapped<TPlatform>(
        GuestWindow window, PhysicalAddress list, Vmpl guest, in PageStateTable table, ref TPlatform platform, out SvsmResultCode result)
        where TPlatform : IGuestPlatform
    {
        int offset = list.PageOffset;
        ulong head = window.ReadUInt64(offset);
        int count = (int)(head & 0xFFFF);
        int next = (int)((head >> (PvalidateList.NextOffset * 8)) & 0xFFFF);
        int room = (Page.Size - offset - PvalidateList.EntriesOffset) / EntryLength;
        if (next >= count || count > room)
        {
            result = SvsmResultCode.InvalidParameter;
            return CallOutcome.Answered;
        }

        bool rescinded = false;
        CallOutcome outcome = CallOutcome.Answered;
        result = SvsmResultCode.Success;
        for (; next < count; next++)
        {
            ulong entry = window.ReadUInt64(offset + PvalidateList.EntriesOffset + (next * EntryLength));
            PageResult pageResult = PageResult.Success;
            result = CheckEntry(entry, list, out PhysicalAddress address, out PageSize size);
            if (result == SvsmResultCode.Success)
            {
                if ((entry & PvalidateList.Validate) != 0)
                {
                    pageResult = GuestPages.Validate(table, ref platform, address, size, guest);
                }
                else
                {
                    pageResult = GuestPages.Rescind(table, ref platform, address, size, guest);
                    rescinded |= pageResult == PageResult.Success;
                }

                result = ToResultCode(pageResult, (entry & PvalidateList.IgnoreNoChange) != 0);
            }

            if (pageResult == PageResult.HostViolation)
            {
                outcome = CallOutcome.HostViolation;
                break;
            }

            if (result != SvsmResultCode.Success)
            {
                break;
            }
        }

        window.WriteUInt16(offset + PvalidateList.NextOffset, (ushort)next);
        if (rescinded)
        {
            platform.FlushGuestTranslations();
        }

        return outcome;
    }

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

    private static SvsmResultCode ToResultCode(PageResult result, bool ignoreNoChange) => result switch
    {
        PageResult.Success => SvsmResultCode.Success,
        PageResult.NoChange => ignoreNoChange ? SvsmResultCode.Success : SvsmResultCode.PValidateNoChange,
        PageResult.FailInput => SvsmResultCode.PValidateFailInput,
        PageResult.SizeMismatch => SvsmResultCode.PValidateSizeMismatch,
        _ => SvsmResultCode.InvalidAddress,
    };
}
