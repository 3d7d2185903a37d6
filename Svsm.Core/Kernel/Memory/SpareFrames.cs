// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Frames that the guest has lent to the SVSM (DEPOSIT_MEM) and that nothing uses: a list through the frames themselves, each holding the
// address of the next one in its first 8 bytes. FrameAllocator takes from it when everything else is used up, one frame at a time.

using Svsm.Kernel.Locks;

namespace Svsm.Kernel.Memory;

/// <summary>Frames of the guest that may be used and that may be given back.</summary>
internal static unsafe class SpareFrames
{
    private static KernelLock s_lock;
    private static PhysicalAddress s_first;
    private static int s_count;

    /// <summary>How many there are. Other CPUs may be changing it.</summary>
    public static int Count => s_count;

    /// <summary>Adds a frame that is the SVSM's and that nothing uses.</summary>
    public static void Add(PhysicalAddress frame)
    {
        using FrameMapping mapping = FrameMapping.Map(frame);
        s_lock.Acquire(LockRank.Frames);

        // SAFETY: a mapped frame of the SVSM.
        *(ulong*)mapping.Pointer = s_first.Value;
        s_first = frame;
        s_count++;
        s_lock.Release(LockRank.Frames);
    }

    /// <summary>Takes a frame; its contents are any.</summary>
    /// <returns>False: there is none.</returns>
    public static bool TryTake(out PhysicalAddress frame)
    {
        s_lock.Acquire(LockRank.Frames);
        bool isThere = s_count != 0;
        frame = s_first;
        if (isThere)
        {
            using FrameMapping mapping = FrameMapping.Map(frame);

            // SAFETY: a mapped frame of the list.
            s_first = new PhysicalAddress(*(ulong*)mapping.Pointer);
            s_count--;
        }

        s_lock.Release(LockRank.Frames);
        return isThere;
    }
}
