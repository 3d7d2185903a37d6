// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class PageRangeTests
{
    [Theory]
    [InlineData(0, 5, "10+10")]
    [InlineData(20, 5, "10+10")]
    [InlineData(5, 5, "10+10")]
    [InlineData(10, 10, "")]
    [InlineData(0, 100, "")]
    [InlineData(5, 10, "15+5")]
    [InlineData(15, 10, "10+5")]
    [InlineData(12, 3, "10+2 15+5")]
    [InlineData(10, 1, "11+9")]
    [InlineData(19, 1, "10+9")]
    public void TrySubtract_OneRange_LeavesTheRest(int first, int count, string expected) =>
        Assert.Equal(expected, Subtract([new PageRange(10, 10)], new PageRange((ulong)first, (ulong)count), 4));

    [Fact]
    public void TrySubtract_CutAcrossRanges_TrimsBothEndsAndDropsTheMiddle() =>
        Assert.Equal("0+5 25+5", Subtract([new PageRange(0, 10), new PageRange(12, 4), new PageRange(20, 10)], new PageRange(5, 20), 4));

    [Fact]
    public void TrySubtract_SplitWithoutRoom_IsFalse()
    {
        PageRange[] ranges = [new(0, 10)];
        int count = 1;
        Assert.False(PageRange.TrySubtract(ranges, ref count, new PageRange(4, 2)));
        Assert.Equal(1, count);
        Assert.Equal(10ul, ranges[0].Count);
    }

    [Fact]
    public void TrySubtract_AnyRanges_IsTheDifferenceOfTheSets() =>
        Gen.Select(Gen.Int[0, 8].Array[0, 12], Gen.Int[0, 40], Gen.Int[1, 40]).Sample((lengths, first, length) =>
        {
            var ranges = new List<PageRange>();
            var pages = new HashSet<ulong>();
            ulong at = 0;
            for (int i = 0; i + 1 < lengths.Length; i += 2)
            {
                at += (ulong)lengths[i] + 1;
                if (lengths[i + 1] != 0)
                {
                    ranges.Add(new PageRange(at, (ulong)lengths[i + 1]));
                    pages.UnionWith(ranges[^1].Pages());
                    at += (ulong)lengths[i + 1];
                }
            }

            PageRange cut = new((ulong)first, (ulong)length);
            pages.ExceptWith(cut.Pages());
            PageRange[] room = [.. ranges, default];
            int count = ranges.Count;
            Assert.True(PageRange.TrySubtract(room, ref count, cut));
            Assert.Equal(pages.Order(), room.Take(count).SelectMany(range => range.Pages()));
        });

    private static string Subtract(PageRange[] ranges, PageRange cut, int room)
    {
        var list = new PageRange[room];
        ranges.CopyTo(list, 0);
        int count = ranges.Length;
        Assert.True(PageRange.TrySubtract(list, ref count, cut));
        return string.Join(' ', list.Take(count).Select(range => FormattableString.Invariant($"{range.First}+{range.Count}")));
    }
}

internal static class PageRangeExtensions
{
    public static IEnumerable<ulong> Pages(this PageRange range) => Enumerable.Range(0, (int)range.Count).Select(i => range.First + (ulong)i);
}
