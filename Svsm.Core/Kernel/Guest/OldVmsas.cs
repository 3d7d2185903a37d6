// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// VMSAs that no vCPU has any more: CREATE_VCPU has given their CPU another one, and the guest has not deleted them (VcpuCalls.cs). Firmware never does, so there
// is one for each CPU that an operating system has taken over.
//
// Nobody serves what such a VMSA calls, but it is open: a host can run it, beside the one that has replaced it, also while all vCPUs are quiet (GuestGate.cs),
// and after the guest was given up. So stopping the guest closes them as well. They stay closed if it goes on: no vCPU loses anything by that.
//
// The page is the guest's memory, which it can read, and gets back by DELETE_VCPU. So it moves as a page, and becomes a VMSA again where it comes to: closed,
// and never opened. There is no list of them that could be full or wrong: the page states and the records of the vCPUs tell which they are. The first vCPU's
// VMSA, a frame of the SVSM, is the one without such a state, and the one that does not move.

using System;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Protocols;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>VMSAs that were replaced.</summary>
internal static class OldVmsas
{
    /// <summary>Whether a page is one. Of a guest that runs it may be otherwise at the next moment.</summary>
    /// <param name="page">Number of the page. Untrusted.</param>
    /// <param name="vcpus">The records.</param>
    /// <param name="table">The page states.</param>
    public static bool Contains(ulong page, ReadOnlySpan<GuestVcpu> vcpus, in PageStateTable table) =>
        table.Get(page) == PageState.Vmsa && !IsUsed(page, vcpus);

    /// <summary>Closes all of them. All vCPUs are quiet.</summary>
    /// <param name="first">The first vCPU's VMSA.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <param name="vcpus">The records.</param>
    /// <param name="table">The page states.</param>
    /// <param name="platform">The processor.</param>
    /// <returns>False: one runs; to be tried again.</returns>
    public static bool TryClose<TPlatform>(
        PhysicalAddress first, Vmpl guest, ReadOnlySpan<GuestVcpu> vcpus, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        bool areClosed = IsUsed(first.PageNumber, vcpus) || Close(first, guest, ref platform) == RmpResult.Success;
        for (ulong page = 0; table.TryFindNext(PageState.Vmsa, ref page); page++)
        {
            PhysicalAddress vmsa = PhysicalAddress.OfPage(page);
            if (IsUsed(page, vcpus))
            {
                continue;
            }

            // Nobody else changes it: the guest does not run. If somebody did, it is looked at again.
            if (table.Begin(vmsa, PageSize.Small, PageState.Vmsa, PageState.Lost) != PageResult.Success)
            {
                areClosed = false;
                continue;
            }

            RmpResult closed = Close(vmsa, guest, ref platform);
            areClosed &= closed != RmpResult.FailInUse;

            // Neither closed nor in use: the host has taken the page, and runs no VMSA of the guest with what it has put there.
            table.End(vmsa, PageSize.Small, closed is RmpResult.Success or RmpResult.FailInUse ? PageState.Vmsa : PageState.Lost);
        }

        return areClosed;
    }

    /// <summary>Makes one, closed, of a page with its contents that was taken from the guest (<see cref="GuestPages.Take"/>).</summary>
    /// <param name="page">The page. It is Changing; afterwards no longer.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <param name="table">The page states.</param>
    /// <param name="platform">The processor.</param>
    /// <returns>False: the page is lost.</returns>
    public static bool TryMake<TPlatform>(PhysicalAddress page, Vmpl guest, in PageStateTable table, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        // Whatever else is in it: without EFER.SVME no processor runs it.
        GuestWindow window = platform.Map(page);
        bool isClosed = window.TryAndUInt64(VmsaGate.EferOffset, ~VmsaGate.EferSvme);
        platform.Unmap(window);
        if (!isClosed)
        {
            table.End(page, PageSize.Small, PageState.Lost);
            return false;
        }

        return VcpuCalls.TryEndTaking(page, guest, table, ref platform);
    }

    private static bool IsUsed(ulong page, ReadOnlySpan<GuestVcpu> vcpus)
    {
        for (int i = 0; i < vcpus.Length; i++)
        {
            if (vcpus[i].Exists && vcpus[i].Vmsa.PageNumber == page)
            {
                return true;
            }
        }

        return false;
    }

    private static RmpResult Close<TPlatform>(PhysicalAddress vmsa, Vmpl guest, ref TPlatform platform)
        where TPlatform : IGuestPlatform
    {
        GuestWindow window = platform.Map(vmsa);
        RmpResult closed = VmsaGate.Close(window, vmsa, guest, ref platform);
        platform.Unmap(window);
        return closed;
    }
}
