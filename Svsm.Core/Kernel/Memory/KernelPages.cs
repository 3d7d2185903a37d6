// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Memory that the kernel asks for while it runs, mapped for all CPUs: stacks, slabs. Frames of its own for each page, in one piece of virtual
// addresses, with a page on either side that is mapped nowhere.

using System;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Locks;

namespace Svsm.Kernel.Memory;

/// <summary>Owner of mapped pages; unmapped and freed by <see cref="Dispose"/>. One owner: must not be copied and disposed twice.</summary>
[Owner]
internal unsafe struct KernelPages : IDisposable
{
    private const int WordCount = KernelLayout.KernelPagesCount / 64;

    [InlineArray(WordCount)]
    private struct Words
    {
        private ulong _element0;
    }

    private static KernelLock s_lock;
    private static Words s_taken;

    private ulong _address;
    private int _count;

    /// <summary>First byte.</summary>
    public readonly ulong Address => _address;

    /// <summary>First byte after the last one; the top of a stack.</summary>
    public readonly ulong End => _address + ((ulong)_count * Page.Size);

    /// <summary>The bytes, zero at first.</summary>
    // SAFETY: mapped until Dispose.
    public readonly Span<byte> Bytes => new((void*)_address, _count * Page.Size);

    /// <summary>Allocates and maps pages of zeroes.</summary>
    /// <param name="pageCount">Number of pages, 1 to 1024.</param>
    /// <param name="pages">Their owner; when there is an error, of nothing.</param>
    /// <returns>What was lacking: nothing was taken then.</returns>
    public static MemoryError Allocate(int pageCount, out KernelPages pages)
    {
        pages = default;
        if (pageCount is < 1 or > 1024)
        {
            return MemoryError.InvalidSize;
        }

        s_lock.Acquire(LockRank.AddressSpace);
        bool found = Addresses().TryTake(pageCount, out int first);
        s_lock.Release(LockRank.AddressSpace);
        if (!found)
        {
            return MemoryError.NoAddresses;
        }

        pages._address = KernelLayout.KernelPages + ((ulong)first * Page.Size);
        pages._count = pageCount;
        for (int i = 0; i < pageCount; i++)
        {
            MemoryError error = MemoryError.NoFrames;
            if (FrameAllocator.TryAllocate(out PhysicalAddress frame))
            {
                error = AddressSpace.MapShared(pages._address + ((ulong)i * Page.Size), frame, PageSize.Small);
                if (error != MemoryError.None)
                {
                    FrameAllocator.Free(frame);
                }
            }

            if (error != MemoryError.None)
            {
                pages.Dispose();
                return error;
            }
        }

        return MemoryError.None;
    }

    /// <summary>Gives the pages away: this one owns nothing afterwards, and <see cref="Adopt"/> makes another owner of them.</summary>
    /// <returns>Their address; 0 if it owned nothing.</returns>
    public ulong Release()
    {
        ulong address = _address;
        this = default;
        return address;
    }

    /// <summary>Makes the owner of pages that were given away.</summary>
    /// <param name="address">What <see cref="Release"/> returned, not 0.</param>
    /// <param name="pageCount">How many there are.</param>
    public static KernelPages Adopt(ulong address, int pageCount) => new() { _address = address, _count = pageCount };

    /// <summary>Unmaps and frees the pages, on all CPUs. Nothing happens the second time.</summary>
    public void Dispose()
    {
        if (_count == 0)
        {
            return;
        }

        // Unmapped as a whole before the first frame is free: else a CPU could write through an old translation to its new owner.
        Span<ulong> frames = stackalloc ulong[MaxBatch];
        for (int done = 0; done < _count; done += MaxBatch)
        {
            int batch = Math.Min(MaxBatch, _count - done);
            ulong start = _address + ((ulong)done * Page.Size);
            for (int i = 0; i < batch; i++)
            {
                frames[i] = AddressSpace.TryUnmapShared(start + ((ulong)i * Page.Size), out PhysicalAddress frame) ? frame.Value : 0;
            }

            Translations.DropEverywhere(start, batch);
            for (int i = 0; i < batch; i++)
            {
                if (frames[i] != 0)
                {
                    FrameAllocator.Free(new PhysicalAddress(frames[i]));
                }
            }
        }

        s_lock.Acquire(LockRank.AddressSpace);
        bool returned = Addresses().TryReturn((int)((_address - KernelLayout.KernelPages) / Page.Size), _count);
        s_lock.Release(LockRank.AddressSpace);
        if (!returned)
        {
            throw new InvalidOperationException("pages were freed twice");
        }

        this = default;
    }

    private const int MaxBatch = 16;

    private static AddressSet Addresses() => new(s_taken);
}
