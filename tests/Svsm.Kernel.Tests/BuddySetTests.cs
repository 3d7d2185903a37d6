// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class BuddySetTests
{
    private const int Capacity = 2 * BuddySet.LargestBlock;

    private readonly ulong[] _words = new ulong[BuddySet.WordsFor(Capacity)];
    private readonly int[] _counts = new int[BuddySet.CountsLength];

    private BuddySet Set => new(_words, _counts, Capacity);

    [Fact]
    public void WordsFor_AllFramesOfTheKernel_IsWhatTheAllocatorHas() => Assert.Equal(1023, BuddySet.WordsFor(32768));

    [Theory]
    [InlineData(1, 0)]
    [InlineData(2, 1)]
    [InlineData(3, 2)]
    [InlineData(4, 2)]
    [InlineData(5, 3)]
    [InlineData(257, 9)]
    [InlineData(512, 9)]
    public void OrderOf_Frames_IsTheSmallestThatHoldsThem(int frames, int expected) => Assert.Equal(expected, BuddySet.OrderOf(frames));

    [Fact]
    public void TryTake_FreshSet_HasNothing() => Assert.All(Enumerable.Range(-1, 12), order => Assert.False(Set.TryTake(order, out _)));

    [Theory]
    [InlineData(1)]
    [InlineData(63)]
    [InlineData(64)]
    [InlineData(700)]
    [InlineData(Capacity)]
    public void TryTake_SingleFrames_GivesEachOnce(int count)
    {
        Give(count);
        var taken = new HashSet<int>();
        for (int i = 0; i < count; i++)
        {
            Assert.True(Set.TryTake(0, out int frame));
            Assert.InRange(frame, 0, count - 1);
            Assert.True(taken.Add(frame));
        }

        Assert.False(Set.TryTake(0, out _));
    }

    [Fact]
    public void TryReturn_AllHalves_GrowToTheLargestBlock()
    {
        Give(BuddySet.LargestBlock);
        Assert.True(Set.TryTake(BuddySet.MaxOrder, out int frame));
        Assert.Equal(0, frame);
        Assert.False(Set.TryTake(0, out _));
        Assert.True(Set.TryReturn(0, BuddySet.MaxOrder));
        Assert.Equal(1, _counts[BuddySet.MaxOrder]);
    }

    [Fact]
    public void TryTake_LargeBlockInPieces_IsRefused()
    {
        Give(BuddySet.LargestBlock);
        Assert.True(Set.TryTake(0, out int frame));
        Assert.False(Set.TryTake(BuddySet.MaxOrder, out _));
        Assert.True(Set.TryTake(BuddySet.MaxOrder - 1, out _));
        Assert.True(Set.TryReturn(frame, 0));
        Assert.False(Set.TryTake(BuddySet.MaxOrder, out _));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(-1, 0)]
    [InlineData(Capacity, 0)]
    [InlineData(4, 3)]
    [InlineData(0, 10)]
    [InlineData(0, -1)]
    public void TryReturn_WhatIsNotTaken_ChangesNothing(int frame, int order)
    {
        Give(8);
        int[] counts = [.. _counts];
        Assert.False(Set.TryReturn(frame, order));
        Assert.Equal(counts, _counts);
    }

    [Fact]
    public void TryReturn_BlockWithAFreeFrame_ChangesNothing()
    {
        Give(8);
        Assert.True(Set.TryTake(3, out int block));
        Assert.True(Set.TryReturn(block + 5, 0));
        Assert.False(Set.TryReturn(block, 3));
        Assert.False(Set.TryReturn(block + 4, 1));
        Assert.True(Set.TryReturn(block, 2));
    }

    // Against a plain set of frames: nothing is given twice, everything comes back, and halves that are both free are one block.
    [Fact]
    public void TakeAndReturn_InAnyOrder_MatchASet() =>
        Gen.Select(Gen.Int[0, 9], Gen.Bool, Gen.Int[0, 1000]).Array[0, 120].Sample(steps =>
        {
            ulong[] words = new ulong[BuddySet.WordsFor(Capacity)];
            int[] counts = new int[BuddySet.CountsLength];
            BuddySet set = new(words, counts, Capacity);
            for (int i = 0; i < Capacity; i++)
            {
                Assert.True(set.TryReturn(i, 0));
            }

            var taken = new List<(int Frame, int Order)>();
            var frames = new HashSet<int>();
            foreach ((int order, bool takes, int choice) in steps)
            {
                if (takes)
                {
                    if (set.TryTake(order, out int frame))
                    {
                        Assert.Equal(0, frame & ((1 << order) - 1));
                        Assert.All(Enumerable.Range(frame, 1 << order), number => Assert.True(frames.Add(number)));
                        taken.Add((frame, order));
                    }
                }
                else if (taken.Count > 0)
                {
                    (int frame, int blockOrder) = taken[choice % taken.Count];
                    taken.RemoveAt(choice % taken.Count);
                    frames.ExceptWith(Enumerable.Range(frame, 1 << blockOrder));
                    Assert.True(set.TryReturn(frame, blockOrder));
                    Assert.False(set.TryReturn(frame, blockOrder));
                }
            }

            foreach ((int frame, int order) in taken)
            {
                Assert.True(set.TryReturn(frame, order));
            }

            Assert.Equal(Capacity / BuddySet.LargestBlock, counts[BuddySet.MaxOrder]);
            Assert.All(Enumerable.Range(0, BuddySet.MaxOrder), order => Assert.Equal(0, counts[order]));
        });

    private void Give(int count)
    {
        for (int i = 0; i < count; i++)
        {
            Assert.True(Set.TryReturn(i, 0));
        }
    }
}
