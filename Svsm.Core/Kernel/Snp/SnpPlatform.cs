// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The processor behind IGuestPlatform: PVALIDATE, RMPADJUST and access to pages, each through a mapping made for it.
//
// There is one window of each size on a CPU. The request loop uses them, which is not preempted; another task would have to hold the CPU
// (CpuLocks.Hold) from Open to Close. Translations: Translations.cs.

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
            AddressSpace.MapPageWindow(page);
            _address = KernelLayout.PageWindow;
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
            AddressSpace.UnmapPageWindow();
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
    public readonly GuestWindow Map(PhysicalAddress page) => new(ref *(byte*)AddressSpace.MapWindow(page), page.PageNumber);

    /// <inheritdoc/>
    // SAFETY: only the address is taken.
    public readonly void Unmap(GuestWindow window) => AddressSpace.UnmapWindow((ulong)Unsafe.AsPointer(ref window.Start));

    /// <inheritdoc/>
    public readonly void FlushGuestTranslations() => Translations.DropAll();

    /// <inheritdoc/>
    public readonly bool HasSpareFrames => SpareFrames.Count != 0;

    /// <inheritdoc/>
    public readonly bool TryAddSpareFrame(PhysicalAddress frame) => SpareFrames.TryAdd(frame);

    /// <inheritdoc/>
    public readonly bool TryTakeSpareFrame(out PhysicalAddress frame) => SpareFrames.TryTake(out frame);
}
