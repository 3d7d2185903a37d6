// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Arch;

namespace Svsm.Kernel.Memory;

/// <summary>A mapped frame; reachable as long as this lives, unmapped by <see cref="Dispose"/>.</summary>
[Owner]
internal readonly unsafe ref struct FrameMapping
{
    private readonly ulong _address;

    private FrameMapping(ulong address) => _address = address;

    /// <summary>First of 4096 bytes.</summary>
    // SAFETY: Map mapped them; they stay mapped until Dispose.
    public byte* Pointer => (byte*)_address;

    /// <summary>Maps a frame, private and writable.</summary>
    public static FrameMapping Map(PhysicalAddress frame) => new(AddressSpace.MapWindow(frame));

    /// <summary>Unmaps it.</summary>
    public void Dispose() => AddressSpace.UnmapWindow(_address);
}
