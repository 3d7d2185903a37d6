// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Page state changes through the GHCB page: lists of up to 253 entries in its shared buffer, 2-MiB entries where they fit.
//
//   head    u16 current, u16 last index, u32 zero      the host advances current
//   entry   u64, see Svsm.Wire.PageStateChangeBuffer
//
// The host may stop in the middle of a list and be asked again; current only moves forward, and only so many requests in a row may
// leave it where it is. That it says "done" proves nothing: the PVALIDATE that follows does.
// Source: AMD GHCB specification as in Linux arch/x86/coco/sev (vmgexit_psc).

using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Makes page state change requests.</summary>
internal static class PageStateRequests
{
    /// <summary>Requests in a row that may end without progress.</summary>
    public const int MaxStalls = 1000;

    /// <summary>Makes pages private.</summary>
    /// <param name="page">The GHCB page.</param>
    /// <param name="pageAddress">Its GPA.</param>
    /// <param name="port">The way to the host.</param>
    /// <param name="first">First page.</param>
    /// <param name="pageCount">Number of 4-KiB pages.</param>
    /// <returns>False: the host refused, went backwards, or made no progress.</returns>
    public static bool TryMakePrivate<TPort>(ref GhcbPage page, PhysicalAddress pageAddress, ref TPort port, PhysicalAddress first, ulong pageCount)
        where TPort : IGhcbPort
    {
        ref byte buffer = ref Unsafe.As<GhcbSharedBuffer, byte>(ref page.SharedBuffer);
        ulong next = first.PageNumber;
        ulong end = next + pageCount;
        while (next < end)
        {
            int count = 0;
            for (; next < end && count < PageStateChangeBuffer.MaxEntries; count++)
            {
                bool large = next % Page.PerLarge == 0 && end - next >= Page.PerLarge;
                ulong entry = (next << Page.Shift) | ((ulong)PageStateOperation.Private << PageStateChangeBuffer.OperationShift) | (large ? PageStateChangeBuffer.Large : 0);
                Volatile.Write(ref Unsafe.As<byte, ulong>(ref Unsafe.Add(ref buffer, PageStateChangeBuffer.EntriesOffset + (count * sizeof(ulong)))), entry);
                next += large ? Page.PerLarge : 1u;
            }

            if (!TryWorkOff(ref page, pageAddress, ref port, ref buffer, count))
            {
                return false;
            }
        }

        return true;
    }

    private static bool TryWorkOff<TPort>(ref GhcbPage page, PhysicalAddress pageAddress, ref TPort port, ref byte buffer, int count)
        where TPort : IGhcbPort
    {
        // Current is 0, the last index count - 1, the rest of the head 0: one write.
        Volatile.Write(ref Unsafe.As<byte, ulong>(ref buffer), ((ulong)count - 1) << (PageStateChangeBuffer.EndOffset * 8));
        GhcbRequest request = new()
        {
            ExitCode = GhcbExitCode.PageStateChange,
            Sent = GhcbRegisters.Scratch,
            Scratch = pageAddress.Value + GhcbPage.SharedBufferOffset,
        };
        int current = 0;
        int stalls = 0;
        while (current < count)
        {
            if (!GhcbExchange.TryExchange(ref page, ref port, in request, out GhcbAnswer answer) || answer.Info2 != 0)
            {
                return false;
            }

            int reached = Volatile.Read(ref Unsafe.As<byte, ushort>(ref Unsafe.Add(ref buffer, PageStateChangeBuffer.CurrentOffset)));
            stalls = reached == current ? stalls + 1 : 0;
            if (reached < current || reached > count || stalls > MaxStalls)
            {
                return false;
            }

            current = reached;
        }

        return true;
    }
}
