// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The seam between what the kernel decides and what the processor does, so that decisions are tested on any machine.
// The kernel's implementation is Snp/SnpPlatform.cs, the tests' one a simulated reverse map.

using Svsm.Wire;

namespace Svsm.Kernel.Memory;

/// <summary>
/// Operations on pages of the guest. One page is open at a time for the RMP operations. The host can take the page at any moment, also when the
/// guest asks for it: a fault is a result, <see cref="RmpResult.FailInput"/> or false.
/// </summary>
internal interface IGuestPlatform
{
    /// <summary>Makes a page reachable for the operations below.</summary>
    /// <param name="page">Aligned to <paramref name="size"/>.</param>
    /// <param name="size">Its size; the mapping has the same one.</param>
    void Open(PhysicalAddress page, PageSize size);

    /// <summary>Ends what <see cref="Open"/> began.</summary>
    void Close();

    /// <summary>PVALIDATE of the open page.</summary>
    /// <param name="validate">True to validate, false to rescind.</param>
    /// <param name="unchanged">CF: the page had that state already.</param>
    RmpResult PValidate(bool validate, out bool unchanged);

    /// <summary>RMPADJUST of the open page.</summary>
    RmpResult RmpAdjust(Vmpl target, RmpPermissions permissions);

    /// <summary>Writes zeroes to the open page.</summary>
    /// <returns>False: it cannot be written.</returns>
    bool TryZero();

    /// <summary>Maps a validated page of the guest for reading and writing.</summary>
    GuestWindow Map(PhysicalAddress page);

    /// <summary>Ends what <see cref="Map"/> began.</summary>
    void Unmap(GuestWindow window);

    /// <summary>Drops what any processor remembers of the guest's translations.</summary>
    void FlushGuestTranslations();

    /// <summary>There are pages of the guest that the SVSM has and does not use.</summary>
    bool HasSpareFrames { get; }

    /// <summary>Adds a page that was taken from the guest to the SVSM's memory.</summary>
    /// <returns>False: the page is gone; it was not added.</returns>
    bool TryAddSpareFrame(PhysicalAddress frame);

    /// <summary>Takes such a page out again. It may be gone.</summary>
    /// <returns>False: there is none.</returns>
    bool TryTakeSpareFrame(out PhysicalAddress frame);
}
