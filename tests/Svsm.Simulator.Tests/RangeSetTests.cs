// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using System.Linq;
using CsCheck;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class RangeSetTests
{
    private static readonly Gen<LaunchRam[]> s_ranges =
        Gen.Select(Gen.ULong[0, 40], Gen.ULong[0, 8]).Select(pair => new LaunchRam { Base = pair.Item1 * 4096, Length = pair.Item2 * 4096 }).Array[0, 8];

    [Fact]
    public void Union_AnyRanges_HasTheSamePagesSortedAndApart() => s_ranges.Sample(ranges =>
    {
        IReadOnlyList<LaunchRam> union = RangeSet.Union(ranges);

        Assert.Equal(Pages(ranges).Distinct().Order(), Pages(union));
        Assert.All(union.Zip(union.Skip(1)), pair => Assert.True(pair.First.Base + pair.First.Length < pair.Second.Base));
    });

    [Fact]
    public void Subtract_AnyPages_LeavesTheOthers() => Gen.Select(s_ranges, Gen.ULong[0, 50].Array[0, 20]).Sample((ranges, numbers) =>
    {
        ulong[] removed = [.. numbers.Select(number => number * 4096)];

        Assert.Equal(Pages(ranges).Except(removed).Order(), Pages(RangeSet.Subtract(ranges, removed)));
    });

    private static IEnumerable<ulong> Pages(IEnumerable<LaunchRam> ranges) =>
        ranges.SelectMany(range => Enumerable.Range(0, (int)(range.Length / 4096)).Select(i => range.Base + ((ulong)i * 4096)));
}
