// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The kernel's heap, for all CPUs: slabs for what is small, pages of its own for the rest.

using System;
using Svsm.Kernel.Locks;

namespace Svsm.Kernel.Memory;

/// <summary>The allocator of the kernel.</summary>
internal unsafe struct KernelHeap : IAllocator
{
    private static KernelLock s_lock;
    private static SlabHeads s_lists;

    /// <inheritdoc/>
    public static MemoryError Allocate(int bytes, out ulong address)
    {
        if (bytes > SlabHeap<MappedPages>.MaxBytes)
        {
            MemoryError error = KernelPages.Allocate((int)MemoryClaim.PagesOf((ulong)bytes), out KernelPages pages);
            address = pages.Release();
            return error;
        }

        MappedPages source = default;
        s_lock.Acquire(LockRank.Slabs);
        MemoryError result = new SlabHeap<MappedPages>(ref source, s_lists).Allocate(bytes, out address);
        s_lock.Release(LockRank.Slabs);
        if (result == MemoryError.None)
        {
            // SAFETY: a block that nobody owns yet.
            new Span<byte>((void*)address, bytes).Clear();
        }

        return result;
    }

    /// <inheritdoc/>
    public static void Free(ulong address, int bytes)
    {
        if (bytes > SlabHeap<MappedPages>.MaxBytes)
        {
            KernelPages pages = KernelPages.Adopt(address, (int)MemoryClaim.PagesOf((ulong)bytes));
            pages.Dispose();
            return;
        }

        MappedPages source = default;
        s_lock.Acquire(LockRank.Slabs);
        bool isFreed = new SlabHeap<MappedPages>(ref source, s_lists).TryFree(address, bytes);
        s_lock.Release(LockRank.Slabs);
        if (!isFreed)
        {
            throw new ArgumentOutOfRangeException(nameof(address));
        }
    }

    private struct MappedPages : ISlabPages
    {
        public readonly MemoryError Allocate(out ulong address)
        {
            MemoryError error = KernelPages.Allocate(1, out KernelPages page);
            address = page.Release();
            return error;
        }

        public readonly void Free(ulong address)
        {
            KernelPages page = KernelPages.Adopt(address, 1);
            page.Dispose();
        }
    }
}
