// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Transitions of the guest's pages, in the one order that is safe.
//
//   validate   PVALIDATE 1 -> zeroes -> RMPADJUST rights for the guest        Unvalidated -> Guest
//   rescind    RMPADJUST no rights, guest's VMPL and below -> PVALIDATE 0
//              -> translations dropped on every CPU                           Guest -> Unvalidated
//   take       RMPADJUST no rights, guest's VMPL and below                    Guest -> Changing, then what the caller says
//
// Zeroes before rights: the host chooses which system page is behind an address, and a page that was the SVSM's a moment ago
// must not show its contents. No rights before the rescind: else a lower VMPL keeps them when the page is validated again.
//
// The table is asked first and decides alone whether a page may change. A page that the table calls unvalidated is never
// validated twice, which is what makes exchanging pages behind an address pointless; a processor that says "no change" to a validation
// where the table says "change" is the sign of such an exchange and ends the VM (PageResult.HostViolation).
//
// Everything else that goes wrong in the middle may be the guest's own doing: it can have the host share a page while the SVSM works on it.
// Whether the host took that page or put another one in its place cannot be told, so the page is Lost: nobody's, and never validated again.
// The call is answered with FAIL_INPUT, and the VM goes on.
//
// 2 MiB: all 512 pages must have the same state, else SIZE_MISMATCH, as the processor would answer. A reverse-map entry that
// the host splits between two steps of one transition is followed with 4-KiB steps; before the first step it is reported.
// Source: spec of SVSM_CORE_PVALIDATE as implemented by coconut-svsm (kernel/src/protocols/core.rs) and linux-svsm.

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

    /// <summary>The processor refused the page. If that was in the middle of the transition, the page is lost.</summary>
    FailInput,

    /// <summary>The reverse map has the page in another size.</summary>
    SizeMismatch,

    /// <summary>Another vCPU works on the page: to be tried again.</summary>
    Busy,

    /// <summary>The host interfered: the VM must end.</summary>
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
        PageResult result = table.BeginAt(address, size, PageState.Unvalidated, PageState.Guest, out ulong index);
        if (result != PageResult.Success)
        {
            return result;
        }

        platform.Open(address, size);
        RmpResult step = platform.PValidate(true, out bool unchanged);
        PageState reached = PageState.Unvalidated;
        if (step == RmpResult.Success)
        {
            reached = PageState.Lost;
            if (!unchanged && platform.TryZero() && TryAdjust(ref platform, address, size, guest, RmpPermissions.All))
            {
                reached = PageState.Guest;
            }
        }

        platform.Close();
        DirtyPages.Mark(address.PageNumber, PhysicalAddress.BytesOf(size) / Page.Size);
        table.EndAt(address, size, reached, index);
        return reached == PageState.Guest ? PageResult.Success
            : step == RmpResult.Success && unchanged ? PageResult.HostViolation
            : step == RmpResult.FailSizeMismatch && size == PageSize.Large ? PageResult.SizeMismatch
            : PageResult.FailInput;
    }

    /// <summary>
    /// Takes a page from the guest and rescinds it. After success it is Changing: the caller drops the guest's translations on every CPU, and then
    /// calls <see cref="EndRescind"/>. Otherwise another vCPU could validate the page while an old translation of it is about.
    /// </summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">First byte of the page, aligned to <paramref name="size"/>. Untrusted otherwise.</param>
    /// <param name="size">Size of the page.</param>
    /// <param name="guest">VMPL of the guest.</param>
    public static PageResult Rescind<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, PageSize size, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        PageResult result = table.Begin(address, size, PageState.Guest, PageState.Unvalidated);
        if (result != PageResult.Success)
        {
            return result;
        }

        platform.Open(address, size);
        RmpResult step = platform.RmpAdjust(guest, RmpPermissions.None);
        PageState reached = PageState.Lost;
        if (step == RmpResult.FailSizeMismatch && size == PageSize.Large)
        {
            result = PageResult.SizeMismatch;
            reached = PageState.Guest;
        }
        else
        {
            bool isRescinded = step == RmpResult.Success && TryRevokeBelow(ref platform, address, size, guest) && TryRescind(ref platform, address, size);
            result = isRescinded ? PageResult.Success : PageResult.FailInput;
        }

        platform.Close();
        if (result != PageResult.Success)
        {
            table.End(address, size, reached);
        }

        return result;
    }

    /// <summary>Ends a successful <see cref="Rescind"/>, when no CPU has a translation of the page any more.</summary>
    public static void EndRescind(in PageStateTable table, PhysicalAddress address, PageSize size) => table.End(address, size, PageState.Unvalidated);

    /// <summary>
    /// Takes a 4-KiB page from the guest and keeps it validated: it is Changing, without rights for anybody but the SVSM. Then the caller drops
    /// the guest's translations on every CPU, and says what becomes of the page: <see cref="PageStateTable.End"/>, or <see cref="GiveBack"/>.
    /// </summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">First byte of the page. Untrusted otherwise.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <param name="to">What the page is to become.</param>
    public static PageResult Take<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, Vmpl guest, PageState to)
        where TPlatform : IGuestPlatform
    {
        PageResult result = table.Begin(address, PageSize.Small, PageState.Guest, to);
        if (result != PageResult.Success)
        {
            return result;
        }

        platform.Open(address, PageSize.Small);
        bool revoked = platform.RmpAdjust(guest, RmpPermissions.None) == RmpResult.Success && TryRevokeBelow(ref platform, address, PageSize.Small, guest);
        platform.Close();
        if (!revoked)
        {
            table.End(address, PageSize.Small, PageState.Lost);
            return PageResult.FailInput;
        }

        return PageResult.Success;
    }

    /// <summary>Gives a page that is Changing to the guest, with all rights and the contents that it has.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">First byte of the page.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <returns><see cref="PageResult.FailInput"/>: the page is lost.</returns>
    public static PageResult GiveBack<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        platform.Open(address, PageSize.Small);
        bool granted = TryAdjust(ref platform, address, PageSize.Small, guest, RmpPermissions.All);
        platform.Close();
        DirtyPages.Mark(address.PageNumber, 1);
        table.End(address, PageSize.Small, granted ? PageState.Guest : PageState.Lost);
        return granted ? PageResult.Success : PageResult.FailInput;
    }

    /// <summary>Gives the guest its rights on a page that was launched with contents.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="address">First byte of the page, 4-KiB aligned.</param>
    /// <param name="guest">VMPL of the guest.</param>
    public static PageResult GrantLaunched<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress address, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        PageResult result = table.Begin(address, PageSize.Small, PageState.Unvalidated, PageState.Guest);
        return result == PageResult.Success ? GiveBack(table, ref platform, address, guest) : PageResult.InvalidAddress;
    }

    /// <summary>Makes a page of the guest a calling area.</summary>
    /// <param name="table">The states.</param>
    /// <param name="address">First byte of the page. Untrusted.</param>
    /// <returns>
    /// <see cref="PageResult.InvalidAddress"/>: the page is not the guest's; <see cref="PageResult.NoChange"/>: it is a calling area already;
    /// <see cref="PageResult.Busy"/>: it is in use.
    /// </returns>
    public static PageResult ClaimCallingArea(in PageStateTable table, PhysicalAddress address)
    {
        PageResult result = table.Begin(address, PageSize.Small, PageState.Guest, PageState.CallingArea);
        if (result == PageResult.Success)
        {
            table.End(address, PageSize.Small, PageState.CallingArea);
        }

        return result;
    }

    /// <summary>Makes a calling area an ordinary page of the guest again.</summary>
    /// <param name="table">The states.</param>
    /// <param name="address">First byte of a calling area that nobody else releases.</param>
    /// <returns><see cref="PageResult.Busy"/>: another vCPU reads it; to be tried again.</returns>
    public static PageResult ReleaseCallingArea(in PageStateTable table, PhysicalAddress address)
    {
        PageResult result = table.Begin(address, PageSize.Small, PageState.CallingArea, PageState.Guest);
        if (result == PageResult.Success)
        {
            table.End(address, PageSize.Small, PageState.Guest);
        }

        return result;
    }

    /// <summary>Makes another page of the guest the calling area of a vCPU, without a pending call.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="from">The calling area of the vCPU, which nobody else releases.</param>
    /// <param name="to">First byte of another page. Untrusted otherwise.</param>
    /// <returns>As <see cref="ClaimCallingArea"/> and <see cref="ReleaseCallingArea"/>; unless it is success, nothing changed.</returns>
    public static PageResult MoveCallingArea<TPlatform>(in PageStateTable table, ref TPlatform platform, PhysicalAddress from, PhysicalAddress to)
        where TPlatform : IGuestPlatform
    {
        // Both are held, or none: nothing is waited for in between.
        PageResult result = table.Begin(from, PageSize.Small, PageState.CallingArea, PageState.Guest);
        if (result != PageResult.Success)
        {
            return result;
        }

        bool moved = false;
        result = table.Begin(to, PageSize.Small, PageState.Guest, PageState.CallingArea);
        if (result == PageResult.Success)
        {
            GuestWindow window = platform.Map(to);
            moved = window.TryWriteUInt64(CallingArea.CallPendingOffset, 0);
            platform.Unmap(window);
            table.End(to, PageSize.Small, moved ? PageState.CallingArea : PageState.Guest);
            result = moved ? PageResult.Success : PageResult.InvalidAddress;
        }

        table.End(from, PageSize.Small, moved ? PageState.Guest : PageState.CallingArea);
        return result;
    }

    /// <summary>Whether a page is the guest's at this moment. To work on it, pin it: <see cref="PageStateTable.Pin"/>.</summary>
    public static bool IsGuestPage(in PageStateTable table, PhysicalAddress address) =>
        table.Get(address.PageNumber) is PageState.Guest or PageState.CallingArea;

    // Of the open page, which stays open; in 4-KiB steps where the host has split it.
    private static bool TryAdjust<TPlatform>(ref TPlatform platform, PhysicalAddress address, PageSize size, Vmpl target, RmpPermissions permissions)
        where TPlatform : IGuestPlatform
    {
        RmpResult result = platform.RmpAdjust(target, permissions);
        if (result != RmpResult.FailSizeMismatch || size == PageSize.Small)
        {
            return result == RmpResult.Success;
        }

        platform.Close();
        result = RmpResult.Success;
        for (int i = 0; i < Page.PerLarge && result == RmpResult.Success; i++)
        {
            platform.Open(SmallPage(address, i), PageSize.Small);
            result = platform.RmpAdjust(target, permissions);
            platform.Close();
        }

        platform.Open(address, size);
        return result == RmpResult.Success;
    }

    private static bool TryRevokeBelow<TPlatform>(ref TPlatform platform, PhysicalAddress address, PageSize size, Vmpl guest)
        where TPlatform : IGuestPlatform
    {
        for (Vmpl target = guest + 1; target <= Vmpl.Vmpl3; target++)
        {
            if (!TryAdjust(ref platform, address, size, target, RmpPermissions.None))
            {
                return false;
            }
        }

        return true;
    }

    private static bool TryRescind<TPlatform>(ref TPlatform platform, PhysicalAddress address, PageSize size)
        where TPlatform : IGuestPlatform
    {
        RmpResult result = platform.PValidate(false, out bool unchanged);
        if (result != RmpResult.FailSizeMismatch || size == PageSize.Small)
        {
            return result == RmpResult.Success && !unchanged;
        }

        platform.Close();
        result = RmpResult.Success;
        for (int i = 0; i < Page.PerLarge && result == RmpResult.Success && !unchanged; i++)
        {
            platform.Open(SmallPage(address, i), PageSize.Small);
            result = platform.PValidate(false, out unchanged);
            platform.Close();
        }

        platform.Open(address, size);
        return result == RmpResult.Success && !unchanged;
    }

    private static PhysicalAddress SmallPage(PhysicalAddress address, int index) => new(address.Value + ((ulong)index * Page.Size));
}
