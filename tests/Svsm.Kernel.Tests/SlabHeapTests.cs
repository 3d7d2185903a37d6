// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using CsCheck;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class SlabHeapTests : IDisposable
{
    private readonly ulong[] _lists = new ulong[SlabHeads.Count];
    private TestPages _pages = new();

    private SlabHeap<TestPages> Heap => new(ref _pages, _lists);

    public void Dispose() => _pages.Dispose();

    [Theory]
    [InlineData(0)]
    [InlineData(-1)]
    [InlineData(int.MinValue)]
    [InlineData(1025)]
    public void Allocate_SizeThatNoSlabHas_IsRefused(int bytes)
    {
        Assert.Equal(MemoryError.InvalidSize, Heap.Allocate(bytes, out _));
        Assert.Equal(0, _pages.Count);
    }

    [Theory]
    [InlineData(1, 126)]
    [InlineData(32, 126)]
    [InlineData(33, 63)]
    [InlineData(512, 7)]
    [InlineData(513, 3)]
    [InlineData(1024, 3)]
    public void Allocate_Blocks_FillASlabBeforeTheNext(int bytes, int perSlab)
    {
        var blocks = new HashSet<ulong>();
        for (int i = 0; i < perSlab; i++)
        {
            Assert.Equal(MemoryError.None, Heap.Allocate(bytes, out ulong block));
            Assert.Equal(0ul, block % 32);
            Assert.True(blocks.Add(block));
        }

        Assert.Equal(1, _pages.Count);
        Assert.Equal(MemoryError.None, Heap.Allocate(bytes, out ulong another));
        Assert.Equal(2, _pages.Count);
        Assert.True(Heap.TryFree(another, bytes));
        Assert.All(blocks, block => Assert.True(Heap.TryFree(block, bytes)));
        Assert.Equal(0, _pages.Count);
        Assert.All(_lists, list => Assert.Equal(0ul, list));
    }

    [Fact]
    public void Allocate_WithoutPage_SaysWhy()
    {
        _pages.Error = MemoryError.NoAddresses;
        Assert.Equal(MemoryError.NoAddresses, Heap.Allocate(100, out ulong address));
        Assert.Equal(0ul, address);
        _pages.Error = MemoryError.None;
        Assert.Equal(MemoryError.None, Heap.Allocate(100, out _));
    }

    [Fact]
    public void TryFree_WhatIsNoBlock_ChangesNothing()
    {
        Assert.Equal(MemoryError.None, Heap.Allocate(64, out ulong block));
        Assert.Equal(MemoryError.None, Heap.Allocate(64, out ulong other));
        Assert.False(Heap.TryFree(block + 32, 64));
        Assert.False(Heap.TryFree(block, 32));
        Assert.False(Heap.TryFree(block, 128));
        Assert.False(Heap.TryFree(block, 0));
        Assert.False(Heap.TryFree(other + 64, 64));
        Assert.False(Heap.TryFree(block & ~0xFFFul, 64));
        Assert.True(Heap.TryFree(block, 64));
        Assert.False(Heap.TryFree(block, 64));
        Assert.True(Heap.TryFree(other, 64));
    }

    [Fact]
    public void AllocateAndFree_InAnyOrder_KeepBlocksApart() =>
        Gen.Select(Gen.Int[1, 1024], Gen.Bool, Gen.Int[0, 1000]).Array[0, 150].Sample(steps =>
        {
            var pages = new TestPages();
            ulong[] lists = new ulong[SlabHeads.Count];
            var blocks = new List<(ulong Address, int Bytes)>();
            foreach ((int bytes, bool takes, int choice) in steps)
            {
                SlabHeap<TestPages> heap = new(ref pages, lists);
                if (takes)
                {
                    Assert.Equal(MemoryError.None, heap.Allocate(bytes, out ulong address));
                    Assert.All(blocks, block => Assert.True(address >= block.Address + (ulong)block.Bytes || address + (ulong)bytes <= block.Address));
                    Assert.InRange(address % Page.Size, 64ul, Page.Size - (ulong)bytes);
                    blocks.Add((address, bytes));
                }
                else if (blocks.Count > 0)
                {
                    (ulong address, int length) = blocks[choice % blocks.Count];
                    blocks.RemoveAt(choice % blocks.Count);
                    Assert.True(heap.TryFree(address, length));
                }
            }

            foreach ((ulong address, int length) in blocks)
            {
                Assert.True(new SlabHeap<TestPages>(ref pages, lists).TryFree(address, length));
            }

            Assert.Equal(0, pages.Count);
        });

    private sealed unsafe class TestPages : ISlabPages, IDisposable
    {
        private readonly HashSet<ulong> _pages = [];

        public int Count => _pages.Count;

        public MemoryError Error { get; set; }

        public MemoryError Allocate(out ulong address)
        {
            address = 0;
            if (Error == MemoryError.None)
            {
                void* page = NativeMemory.AlignedAlloc(Page.Size, Page.Size);
                new Span<byte>(page, Page.Size).Clear();
                address = (ulong)page;
                _pages.Add(address);
            }

            return Error;
        }

        public void Free(ulong address)
        {
            Assert.True(_pages.Remove(address));
            NativeMemory.AlignedFree((void*)address);
        }

        public void Dispose()
        {
            foreach (ulong page in _pages)
            {
                NativeMemory.AlignedFree((void*)page);
            }
        }
    }
}
