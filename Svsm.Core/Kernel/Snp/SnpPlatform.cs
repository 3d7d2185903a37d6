// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The processor behind IGuestPlatform: PVALIDATE, RMPADJUST and access to pages, each through a mapping made for it.
//
// Translations: the guest's VMPL shares its address-space identifier with the SVSM, so a change of CR4.PGE drops the guest's
// translations on this CPU, global ones included. A host that runs the guest's VMPL on another CPU keeps those there. They reach a page
// that left the guest and can come back to the guest alone. A page of the guest that becomes the SVSM's (a VMSA, a deposit) needs
// INVLPGB and TLBSYNC first.

using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>The real <see cref="IGuestPlatform"/>.</summary>
internal unsafe struct SnpPlatform : IGuestPlatform
{
    private ulong _address;
    private PageSize _size;

    /// <inheritdoc/>
    public void Open(PhysicalAddress page, PageSize size)
    {
        _size = size;
        if (size == PageSize.Large)
        {
            AddressSpace.MapLargeWindow(page);
            _address = KernelLayout.LargeWindow;
        }
        else
        {
            _address = AddressSpace.MapWindow(page);
        }
    }

    /// <inheritdoc/>
    public readonly void Close()
    {
        if (_size == PageSize.Large)
        {
            AddressSpace.UnmapLargeWindow();
        }
        else
        {
            AddressSpace.UnmapWindow(_address);
        }
    }

    /// <inheritdoc/>
    public readonly RmpResult PValidate(bool validate, out bool unchanged) => GuestAccess.PValidate(_address, _size, validate, out unchanged);

    /// <inheritdoc/>
    public readonly RmpResult RmpAdjust(Vmpl target, RmpPermissions permissions) => GuestAccess.RmpAdjust(_address, _size, target, permissions);

    /// <inheritdoc/>
    public readonly bool TryZero() => GuestAccess.TryZero(_address, _size);

    /// <inheritdoc/>
    // SAFETY: the window is mapped until Unmap.
    public readonly GuestWindow Map(PhysicalAddress page) => new(ref *(byte*)AddressSpace.MapWindow(page));

    /// <inheritdoc/>
    // SAFETY: only the address is taken.
    public readonly void Unmap(GuestWindow window) => AddressSpace.UnmapWindow((ulong)Unsafe.AsPointer(ref window.Start));

    /// <inheritdoc/>
    public readonly void FlushGuestTranslations() => Processor.FlushTranslations();
}
