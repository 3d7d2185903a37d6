// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Snp;

/// <summary>Frames of the SVSM for VMSAs that it makes itself.</summary>
internal static class VmsaFrame
{
    /// <summary>Hands out a frame of zeroes that may become a VMSA.</summary>
    /// <returns>False: none is free.</returns>
    public static bool TryAllocate(out PhysicalAddress frame)
    {
        // Some processors mishandle a VMSA at a 2-MiB boundary: such a frame is not used.
        bool isAllocated = FrameAllocator.TryAllocate(out frame);
        if (isAllocated && frame.IsAlignedTo(PageSize.Large))
        {
            PhysicalAddress unsuitable = frame;
            isAllocated = FrameAllocator.TryAllocate(out frame);
            FrameAllocator.Free(unsuitable);
        }

        return isAllocated;
    }
}
