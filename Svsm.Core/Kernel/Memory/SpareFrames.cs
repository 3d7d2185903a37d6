// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Frames that the guest has lent to the SVSM (DEPOSIT_MEM) and that nothing uses: a list through the frames themselves, each holding the
// address of the next one in its first 8 bytes. FrameAllocator takes from it when everything else is used up, one frame at a time.
//
// They were the guest's, and it may have the host take them all the same. So every access here may fail. A frame that is gone takes those behind
// it in the list along: they stay the SVSM's and serve nobody. What the host puts in place of a frame is not validated, so no link is forged.

using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
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
    /// <returns>False: the frame is gone; it was not added.</returns>
    public static bool TryAdd(PhysicalAddress frame)
    {
        using FrameMapping mapping = FrameMapping.Map(frame);
        s_lock.Acquire(LockRank.Frames);
        ulong next = s_first.Value;
        bool isAdded = GuestAccess.TryCopy(ref FirstByte(in mapping), ref Unsafe.As<ulong, byte>(ref next), sizeof(ulong));
        if (isAdded)
        {
            s_first = frame;
            s_count++;
        }

        s_lock.Release(LockRank.Frames);
        return isAdded;
    }

    /// <summary>Takes a frame; its contents are any, and it may be gone.</summary>
    /// <returns>False: there is none.</returns>
    public static bool TryTake(out PhysicalAddress frame)
    {
        s_lock.Acquire(LockRank.Frames);
        bool isThere = s_count != 0;
        frame = s_first;
        if (isThere)
        {
            using FrameMapping mapping = FrameMapping.Map(frame);
            ulong next = 0;
            bool isRead = GuestAccess.TryCopy(ref Unsafe.As<ulong, byte>(ref next), ref FirstByte(in mapping), sizeof(ulong));
            s_first = new PhysicalAddress(next);
            s_count = isRead ? s_count - 1 : 0;
        }

        s_lock.Release(LockRank.Frames);
        return isThere;
    }

    // SAFETY: a mapped frame; accesses go through GuestAccess.
    private static ref byte FirstByte(in FrameMapping mapping) => ref *mapping.Pointer;
}
