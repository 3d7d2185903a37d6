// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

/// <summary>A table of page states on memory of its own, all pages of its ranges unvalidated. The memory is full of other bytes at first.</summary>
internal sealed unsafe class PageStates
{
    private readonly ChunkRun[] _runs;
    private readonly ulong[] _memory;

    public PageStates(params ReadOnlySpan<PageRange> ranges)
    {
        ChunkRun[] runs = new ChunkRun[ranges.Length + 1];
        Assert.True(PageStateTable.TryMakeRuns(ranges, runs, out int count));
        _runs = runs[..count];
        _memory = GC.AllocateUninitializedArray<ulong>((int)((PageStateTable.BytesFor(_runs) + 7) / 8), pinned: true);
        _memory.AsSpan().Fill(0x1212_1212_1212_1212);
        Table.Clear();
        foreach (PageRange range in ranges)
        {
            Assert.True(Table.TrySet(range, PageState.Unvalidated));
        }
    }

    public PageStateTable Table => new(_runs, Unsafe.AsPointer(ref _memory[0]));
}
