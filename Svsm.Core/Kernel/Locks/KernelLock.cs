// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A ticket spin lock with a rank (LockOrder.cs). A holder is not preempted: another task of its CPU could wait for it for ever.

using System;
using System.Diagnostics;
using Svsm.Platform;

namespace Svsm.Kernel.Locks;

/// <summary>A lock of the kernel. Must not be copied; the zeroed state is an open lock.</summary>
internal struct KernelLock
{
    private SpinLock _lock;

    /// <summary>Takes the lock; spins until all earlier callers have released it.</summary>
    /// <param name="rank">Rank of this lock: the same one in every call. No lock of this or of a higher rank may be held.</param>
    public void Acquire(LockRank rank)
    {
        CpuLocks.Hold();
        NoteEnter(rank);
        _lock.Acquire();
    }

    /// <summary>Takes the lock if nobody holds it or waits for it.</summary>
    /// <param name="rank">Rank of this lock. Any lock may be held.</param>
    /// <returns>True: the caller holds it now.</returns>
    public bool TryAcquire(LockRank rank)
    {
        CpuLocks.Hold();
        if (!_lock.TryAcquire())
        {
            CpuLocks.Release();
            return false;
        }

        NoteTried(rank);
        return true;
    }

    /// <summary>Releases the lock. Only its holder may.</summary>
    /// <param name="rank">Rank of this lock.</param>
    public void Release(LockRank rank)
    {
        NoteLeave(rank);
        _lock.Release();
        CpuLocks.Release();
    }

    [Conditional("DEBUG")]
    private static void NoteEnter(LockRank rank)
    {
        if (!CpuLocks.Current.TryEnter(rank))
        {
            throw new InvalidOperationException("a lock is waited for while one of the same or of a higher rank is held");
        }
    }

    [Conditional("DEBUG")]
    private static void NoteTried(LockRank rank) => CpuLocks.Current.NoteTried(rank);

    [Conditional("DEBUG")]
    private static void NoteLeave(LockRank rank)
    {
        if (!CpuLocks.Current.TryLeave(rank))
        {
            throw new InvalidOperationException("a lock is released that the CPU does not hold");
        }
    }
}
