// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The hypervisor's memory: 4-KiB frames out of what the outer machine has, minus the hypervisor itself and the launch blob.
// Addresses are host-physical; the hypervisor's own page tables map all of them one to one.

using System;

namespace Svsm.Hypervisor;

/// <summary>Allocates 4-KiB frames.</summary>
internal sealed unsafe class FramePool
{
    private const int MaxRanges = 16;

    private readonly ulong[] _next = new ulong[MaxRanges];
    private readonly ulong[] _limit = new ulong[MaxRanges];
    private int _rangeCount;
    private ulong _freeList;

    /// <summary>Frames that can still be allocated.</summary>
    public ulong FreeCount { get; private set; }

    /// <summary>Adds a range of free memory. A partial page at either end is left out, as is a range beyond the sixteenth.</summary>
    /// <param name="start">First address.</param>
    /// <param name="end">First address that is not part of it.</param>
    public void AddRange(ulong start, ulong end)
    {
        start = Amd64.PageOf(start + Amd64.PageSize - 1);
        end = Amd64.PageOf(end);
        if (start >= end || _rangeCount == MaxRanges)
        {
            return;
        }

        _next[_rangeCount] = start;
        _limit[_rangeCount] = end;
        _rangeCount++;
        FreeCount += (end - start) / Amd64.PageSize;
    }

    /// <summary>Allocates a frame with undefined contents.</summary>
    /// <returns>Its address.</returns>
    /// <exception cref="InvalidOperationException">The outer machine has no more memory; ends the run.</exception>
    public byte* Allocate()
    {
        if (_freeList != 0)
        {
            // SAFETY: Free put the frame on the list and its first quadword holds the next one.
            byte* frame = (byte*)_freeList;
            _freeList = *(ulong*)frame;
            FreeCount--;
            return frame;
        }

        return AllocateContiguous(1);
    }

    /// <summary>Allocates neighbouring frames with undefined contents. They cannot be freed.</summary>
    /// <param name="count">Number of frames, at least 1.</param>
    /// <returns>Address of the first.</returns>
    /// <exception cref="InvalidOperationException">The outer machine has no more memory; ends the run.</exception>
    public byte* AllocateContiguous(ulong count)
    {
        for (int i = 0; i < _rangeCount; i++)
        {
            if ((_limit[i] - _next[i]) / Amd64.PageSize >= count)
            {
                ulong frame = _next[i];
                _next[i] += count * Amd64.PageSize;
                FreeCount -= count;
                return (byte*)frame;
            }
        }

        throw new InvalidOperationException("The outer machine has no memory left for the guest. Give it more (-m).");
    }

    /// <summary>Allocates neighbouring frames of zeroes. They cannot be freed unless there is one.</summary>
    /// <param name="count">Number of frames, at least 1.</param>
    /// <returns>Address of the first.</returns>
    /// <exception cref="InvalidOperationException">The outer machine has no more memory; ends the run.</exception>
    public byte* AllocateZeroed(ulong count = 1)
    {
        byte* frame = count == 1 ? Allocate() : AllocateContiguous(count);
        Fill(frame, count, 0);
        return frame;
    }

    /// <summary>Gives a frame back.</summary>
    /// <param name="frame">Address of a frame from <see cref="Allocate"/>.</param>
    public void Free(byte* frame)
    {
        // SAFETY: the frame belongs to the pool again; nothing else uses it.
        *(ulong*)frame = _freeList;
        _freeList = (ulong)frame;
        FreeCount++;
    }

    /// <summary>Fills frames with one quadword, over and over.</summary>
    public static void Fill(byte* frame, ulong count, ulong value)
    {
        // SAFETY: the caller owns count frames at this address.
        new Span<ulong>(frame, (int)(count * (Amd64.PageSize / sizeof(ulong)))).Fill(value);
    }
}
