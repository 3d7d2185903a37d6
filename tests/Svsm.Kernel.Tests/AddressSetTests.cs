// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using System.Linq;
using CsCheck;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class AddressSetTests
{
    private const int Pages = 192;

    private readonly ulong[] _taken = new ulong[Pages / 64];

    private AddressSet Set => new(_taken);

    [Theory]
    [InlineData(1)]
    [InlineData(63)]
    [InlineData(64)]
    [InlineData(Pages - 2)]
    public void TryTake_Pages_HaveAFreePageOnEitherSide(int count)
    {
        Assert.True(Set.TryTake(count, out int first));
        Assert.Equal(1, first);
        Assert.True(Set.TryReturn(first, count));
    }

    [Theory]
    [InlineData(Pages - 1)]
    [InlineData(Pages)]
    [InlineData(int.MaxValue - 2)]
    public void TryTake_MoreThanThereIs_IsRefused(int count) => Assert.False(Set.TryTake(count, out _));

    [Fact]
    public void TryTake_UntilEmpty_ThenAgainAfterReturn()
    {
        var taken = new List<int>();
        while (Set.TryTake(3, out int first))
        {
            taken.Add(first);
        }

        Assert.Equal(Pages / 4, taken.Count + 1);
        Assert.True(Set.TryReturn(taken[5], 3));
        Assert.True(Set.TryTake(3, out int again));
        Assert.Equal(taken[5], again);
    }

    // Page tables of the kernel's addresses stay: whoever takes and returns for ever must not come past all of them.
    [Fact]
    public void TryTake_AfterReturn_TheLowestPagesThatAreFree()
    {
        Assert.True(Set.TryTake(2, out int low));
        Assert.True(Set.TryTake(3, out int middle));
        Assert.True(Set.TryTake(1, out int high));
        for (int i = 0; i < 10; i++)
        {
            Assert.True(Set.TryReturn(middle, 3));
            Assert.True(Set.TryTake(3, out int again));
            Assert.Equal(middle, again);
        }

        Assert.True(Set.TryReturn(middle, 3));
        Assert.True(Set.TryReturn(low, 2));
        Assert.True(Set.TryTake(6, out int joined));
        Assert.Equal(1, joined);
        Assert.True(Set.TryReturn(joined, 6));
        Assert.True(Set.TryTake(1, out int lowest));
        Assert.Equal(low, lowest);
        Assert.True(Set.TryReturn(high, 1));
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(1, 3)]
    [InlineData(2, 2)]
    [InlineData(-1, 1)]
    [InlineData(1, 0)]
    [InlineData(1, -1)]
    [InlineData(int.MaxValue, 1)]
    [InlineData(1, int.MaxValue)]
    public void TryReturn_WhatIsNotTaken_ChangesNothing(int first, int count)
    {
        Assert.True(Set.TryTake(2, out _));
        ulong[] before = [.. _taken];
        Assert.False(Set.TryReturn(first, count));
        Assert.Equal(before, _taken);
    }

    [Fact]
    public void TakeAndReturn_InAnyOrder_KeepRangesApart() =>
        Gen.Select(Gen.Int[1, 40], Gen.Bool, Gen.Int[0, 1000]).Array[0, 100].Sample(steps =>
        {
            ulong[] words = new ulong[Pages / 64];
            var ranges = new List<(int First, int Count)>();
            foreach ((int count, bool takes, int choice) in steps)
            {
                AddressSet set = new(words);
                if (takes && set.TryTake(count, out int first))
                {
                    Assert.InRange(first, 1, Pages - count - 1);
                    Assert.All(ranges, range => Assert.True(first > range.First + range.Count || first + count < range.First));
                    ranges.Add((first, count));
                }
                else if (!takes && ranges.Count > 0)
                {
                    (int start, int length) = ranges[choice % ranges.Count];
                    ranges.RemoveAt(choice % ranges.Count);
                    Assert.True(set.TryReturn(start, length));
                }
            }

            Assert.Equal(ranges.Sum(range => range.Count), words.Sum(word => (int)ulong.PopCount(word)));
        });
}
