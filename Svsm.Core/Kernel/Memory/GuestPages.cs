// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Transitions of the guest's pages, in the one order that is safe.
//
//   validate   PVALIDATE 1 -> zeroes -> RMPADJUST rights for the guest        Unvalidated -> Guest
//   rescind    RMPADJUST no rights, guest's VMPL and below -> PVALIDATE 0     Guest -> Unvalidated
//
// Zeroes before rights: the host chooses which system page is behind an address, and a page that was the SVSM's a moment ago
// must not show its contents. No rights before the rescind: else a lower VMPL keeps them when the page is validated again.
//
// The table is asked first and decides alone whether a page may change. A page that the table calls unvalidated is never
// validated twice, which is what makes exchanging pages behind an address pointless; a processor that says "no change" where
// the table says "change" is the sign of such an exchange and ends the VM (PageResult.HostViolation).
//
// 2 MiB: all 512 pages must have the same state, else SIZE_MISMATCH, as the processor would answer. A reverse-map entry that
// the host splits between two steps of one transition is followed with 4-KiB steps; before the first step it is reported.
// Source: spec of SVSM_CORE_PVALIDATE as implemented by coconut-svsm (kernel/src/protocols/core.rs) and linux-svsm.

using System;
using Svsm.Wire;

namespace Svsm.Kernel.Memory;

/// <summary>Outcome of a transition.</summary>
internal enum PageResult : byte
{
    /// <summary>Done.</summary>
    Success,

    /// <summary>The page has that state already.</summary>
    NoChange,

    /// <summary>The page is not one that the guest may change.</summary>
    InvalidAddress,

    /// <summary>The processor refused the page.</summary>
    FailInput,

    /// <summary>The reverse map has the page in another size.</summary>
    SizeMismatch,

    /// <summary>The host interfered: nothing more can be said about the page, the VM must end.</summary>
    HostViolation,
}

/// <summary>The transitions.</summary>
internal static class GuestPages
{
    /// <summary>Validates a page and gives it to the guest.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">First byte of the page, aligned to <paramref name="size"/>. Untrusted otherwise.</param>
    /// <param name="size">Size of the page.</param>
    /// <param name="guest">VMPL of the guest.</param>
    public static PageResult Validate<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, PageSize size, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        if (!table.TryFind(address.PageNumber, PhysicalAddress.PagesOf(size), out Span<byte> states))
        {
            return PageResult.InvalidAddress;
        }

        PageResult admission = Admit(states, PageState.Unvalidated, PageState.Guest);
        if (admission != PageResult.Success)
        {
            return admission;
        }

        platform.Open(address, size);
        RmpResult result = platform.PValidate(true, out bool unchanged);
        if (result != RmpResult.Success)
        {
            platform.Close();
            return result == RmpResult.FailSizeMismatch && size == PageSize.Large ? PageResult.SizeMismatch : PageResult.FailInput;
        }

        if (unchanged)
        {
            platform.Close();
            return PageResult.HostViolation;
        }

        platform.Zero();
        result = platform.RmpAdjust(guest, RmpPermissions.All);
        platform.Close();
        if (result == RmpResult.FailSizeMismatch && size == PageSize.Large)
        {
            result = AdjustSmall(ref platform, address, guest, RmpPermissions.All);
        }

        if (result != RmpResult.Success)
        {
            return PageResult.HostViolation;
        }

        states.Fill((byte)PageState.Guest);
        return PageResult.Success;
    }

    /// <summary>Takes a page from the guest and rescinds it. The caller flushes translations before the guest runs again.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">First byte of the page, aligned to <paramref name="size"/>. Untrusted otherwise.</param>
    /// <param name="size">Size of the page.</param>
    /// <param name="guest">VMPL of the guest.</param>
    public static PageResult Rescind<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, PageSize size, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        if (!table.TryFind(address.PageNumber, PhysicalAddress.PagesOf(size), out Span<byte> states))
        {
            return PageResult.InvalidAddress;
        }

        PageResult admission = Admit(states, PageState.Guest, PageState.Unvalidated);
        if (admission != PageResult.Success)
        {
            return admission;
        }

        platform.Open(address, size);
        RmpResult result = platform.RmpAdjust(guest, RmpPermissions.None);
        if (result == RmpResult.FailSizeMismatch && size == PageSize.Large)
        {
            platform.Close();
            return PageResult.SizeMismatch;
        }

        bool split = false;
        for (Vmpl target = guest + 1; target <= Vmpl.Vmpl3 && result == RmpResult.Success; target++)
        {
            result = platform.RmpAdjust(target, RmpPermissions.None);
            if (result == RmpResult.FailSizeMismatch && size == PageSize.Large)
            {
                split = true;
                platform.Close();
                result = AdjustSmall(ref platform, address, target, RmpPermissions.None);
                platform.Open(address, size);
            }
        }

        bool unchanged = false;
        if (result == RmpResult.Success && !split)
        {
            result = platform.PValidate(false, out unchanged);
            split = result == RmpResult.FailSizeMismatch && size == PageSize.Large;
        }

        platform.Close();
        if (split)
        {
            result = RescindSmall(ref platform, address, out unchanged);
        }

        if (result != RmpResult.Success || unchanged)
        {
            return PageResult.HostViolation;
        }

        states.Clear();
        return PageResult.Success;
    }

    /// <summary>Gives the guest its rights on a page that was launched with contents.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">First byte of the page, 4-KiB aligned.</param>
    /// <param name="guest">VMPL of the guest.</param>
    public static PageResult GrantLaunched<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        if (!table.TryFind(address.PageNumber, 1, out Span<byte> states) || states[0] != (byte)PageState.Unvalidated)
        {
            return PageResult.InvalidAddress;
        }

        platform.Open(address, PageSize.Small);
        RmpResult result = platform.RmpAdjust(guest, RmpPermissions.All);
        platform.Close();
        if (result != RmpResult.Success)
        {
            return PageResult.HostViolation;
        }

        states[0] = (byte)PageState.Guest;
        return PageResult.Success;
    }

    /// <summary>Makes a page of the guest a calling area.</summary>
    /// <param name="table">The states.</param>
    /// <param name="address">First byte of the page. Untrusted.</param>
    /// <returns>
    /// <see cref="PageResult.InvalidAddress"/>: the page is not the guest's; <see cref="PageResult.NoChange"/>: it is a calling area already.
    /// </returns>
    public static PageResult ClaimCallingArea(in PageStateTable table, PhysicalAddress address)
    {
        if (!table.TryFind(address.PageNumber, 1, out Span<byte> states))
        {
            return PageResult.InvalidAddress;
        }

        switch ((PageState)states[0])
        {
            case PageState.Guest:
                states[0] = (byte)PageState.CallingArea;
                return PageResult.Success;
            case PageState.CallingArea:
                return PageResult.NoChange;
            default:
                return PageResult.InvalidAddress;
        }
    }

    /// <summary>Makes a calling area an ordinary page of the guest again.</summary>
    public static void ReleaseCallingArea(in PageStateTable table, PhysicalAddress address)
    {
        if (table.TryFind(address.PageNumber, 1, out Span<byte> states) && states[0] == (byte)PageState.CallingArea)
        {
            states[0] = (byte)PageState.Guest;
        }
    }

    /// <summary>Whether the SVSM may read and write a page on behalf of the guest.</summary>
    public static bool IsGuestPage(in PageStateTable table, PhysicalAddress address) =>
        table.TryGet(address.PageNumber, out PageState state) && (state == PageState.Guest || state == PageState.CallingArea);

    // All in the state to leave: go. All in the state to reach: nothing to do. A mixture of the two: only 4-KiB steps can sort it out.
    private static PageResult Admit(ReadOnlySpan<byte> states, PageState from, PageState to)
    {
        int ready = 0;
        for (int i = 0; i < states.Length; i++)
        {
            PageState state = (PageState)states[i];
            if (state == from)
            {
                ready++;
            }
            else if (state != to)
            {
                return PageResult.InvalidAddress;
            }
        }

        return ready == states.Length ? PageResult.Success : ready == 0 ? PageResult.NoChange : PageResult.SizeMismatch;
    }

    private static RmpResult AdjustSmall<TPlatform>(ref TPlatform platform, PhysicalAddress address, Vmpl target, RmpPermissions permissions)
        where TPlatform : IGuestPlatform
    {
        RmpResult result = RmpResult.Success;
        for (int i = 0; i < Page.PerLarge && result == RmpResult.Success; i++)
        {
            platform.Open(new PhysicalAddress(address.Value + ((ulong)i * Page.Size)), PageSize.Small);
            result = platform.RmpAdjust(target, permissions);
            platform.Close();
        }

        return result;
    }

    private static RmpResult RescindSmall<TPlatform>(ref TPlatform platform, PhysicalAddress address, out bool unchanged)
        where TPlatform : IGuestPlatform
    {
        RmpResult result = RmpResult.Success;
        unchanged = false;
        for (int i = 0; i < Page.PerLarge && result == RmpResult.Success && !unchanged; i++)
        {
            platform.Open(new PhysicalAddress(address.Value + ((ulong)i * Page.Size)), PageSize.Small);
            result = platform.PValidate(false, out unchanged);
            platform.Close();
        }

        return result;
    }
}
