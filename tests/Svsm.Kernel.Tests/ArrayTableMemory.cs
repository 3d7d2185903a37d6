// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

/// <summary>Frames as arrays. Counts what is allocated and mapped, and can be told to run out.</summary>
internal sealed unsafe class ArrayTableMemory : ITableMemory
{
    private readonly Dictionary<ulong, ulong[]> _frames = [];
    private ulong _next = 0x10_0000;
    private int _mapped;

    /// <summary>Allocations until there is no frame any more; -1 = never.</summary>
    public int Left { get; set; } = -1;

    public int Allocated => _frames.Count;

    public bool IsIdle => _mapped == 0;

    public ulong[] this[PhysicalAddress frame] => _frames[frame.Value];

    public PhysicalAddress Allocate()
    {
        Assert.True(TryAllocate(out PhysicalAddress frame));
        return frame;
    }

    public bool TryAllocate(out PhysicalAddress frame)
    {
        frame = default;
        if (Left == 0)
        {
            return false;
        }

        Left--;
        frame = new PhysicalAddress(_next);
        _next += Page.Size;
        _frames.Add(frame.Value, GC.AllocateArray<ulong>(512, pinned: true));
        return true;
    }

    public void Free(PhysicalAddress frame) => Assert.True(_frames.Remove(frame.Value), "a frame that is not allocated was freed");

    public ulong* Map(PhysicalAddress table)
    {
        _mapped++;
        return (ulong*)Unsafe.AsPointer(ref MemoryMarshal.GetArrayDataReference(_frames[table.Value]));
    }

    public void Unmap(ulong* table) => _mapped--;
}
