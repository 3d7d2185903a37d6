// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Arch;

/// <summary>Tables behind windows of the current CPU.</summary>
internal unsafe struct TableWindows : ITableMemory
{
    /// <inheritdoc/>
    public readonly bool TryAllocate(out PhysicalAddress frame) => FrameAllocator.TryAllocate(out frame);

    /// <inheritdoc/>
    public readonly void Free(PhysicalAddress frame) => FrameAllocator.Free(frame);

    /// <inheritdoc/>
    // SAFETY: the window is mapped until Unmap.
    public readonly ulong* Map(PhysicalAddress table) => (ulong*)AddressSpace.MapWindow(table);

    /// <inheritdoc/>
    public readonly void Unmap(ulong* table) => AddressSpace.UnmapWindow((ulong)table);
}
