// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using CsCheck;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class MemoryClaimTests
{
    private const ulong GiB = 1ul << 30;

    [Theory]
    [InlineData(256ul << 20, 0ul)]
    [InlineData(4 * GiB, 0ul)]
    [InlineData(8 * GiB, 1024ul)]
    [InlineData(1024 * GiB, 66048ul)]
    public void PagesForStates_Ram_AreClaimedForLargeVmsOnly(ulong ram, ulong expected)
    {
        ulong bytes = ram / Page.LargeSize * 516;
        Assert.Equal(expected, MemoryClaim.PagesForStates(bytes));
        Assert.True(expected * Page.Size < ram / 1000);
    }

    [Theory]
    [InlineData(1, 0ul)]
    [InlineData(8, 0ul)]
    [InlineData(9, 512ul)]
    [InlineData(512, 16384ul)]
    public void PagesForCpus_Cpus_AreClaimedForManyOnly(int cpus, ulong expected) => Assert.Equal(expected, MemoryClaim.PagesForCpus(cpus));

    [Fact]
    public void TryClaim_TakesTheTopOfTheHighestRange()
    {
        PageRange[] ram = [new(0, 0xA0), new(0x100, 0x7F00), new(0x10_0000, 0x1234), default];
        int count = 3;
        Assert.True(MemoryClaim.TryClaim(ram, ref count, 0x400, [], out PageRange claim));
        Assert.Equal((0x10_0E00ul, 0x400ul), (claim.First, claim.Count));
        Assert.Equal(4, count);
        Assert.Equal((0x10_0000ul, 0x10_0E00ul, 0x10_1200ul, 0x10_1234ul), (ram[2].First, ram[2].End, ram[3].First, ram[3].End));
    }

    [Fact]
    public void TryClaim_WhereTheImageHasSomething_GoesBelowIt()
    {
        PageRange[] ram = [new(0x100, 0x7F00), default];
        int count = 1;
        Assert.True(MemoryClaim.TryClaim(ram, ref count, 0x400, [new(0x10, 0x100), new(0x7C10, 1), new(0x7A10, 8)], out PageRange claim));
        Assert.Equal((0x7600ul, 0x400ul), (claim.First, claim.Count));
    }

    [Theory]
    [InlineData(0x200ul, 0x200ul)]
    [InlineData(0x100ul, 0x5FFul)]
    [InlineData(0x1ul, 0x3FFul)]
    public void TryClaim_NoRangeHasIt_TakesNothing(ulong first, ulong length)
    {
        PageRange[] ram = [new(first, length), default];
        int count = 1;
        Assert.False(MemoryClaim.TryClaim(ram, ref count, 0x400, [new(0x200, 1), new(0x5FF, 1)], out _));
        Assert.Equal((1, first, length), (count, ram[0].First, ram[0].Count));
    }

    [Fact]
    public void TryClaim_WithoutRoomForAnotherRange_TakesNothing()
    {
        PageRange[] ram = [new(0x100, 0x1234)];
        int count = 1;
        Assert.False(MemoryClaim.TryClaim(ram, ref count, 0x200, [], out _));
        Assert.Equal(0x1234ul, ram[0].Count);
    }

    [Fact]
    public void TryClaim_Anything_LiesInRamAndNowhereElse() =>
        Gen.Select(Gen.ULong[0, 0x3000], Gen.ULong[1, 0x3000], Gen.ULong[1, 4], Gen.Select(Gen.ULong[0, 0x6000], Gen.ULong[1, 0x100]).Array[0, 6]).Sample((first, length, large, image) =>
        {
            PageRange[] ram = [new(first, length), default];
            int count = 1;
            PageRange[] avoid = new PageRange[image.Length];
            for (int i = 0; i < image.Length; i++)
            {
                avoid[i] = new PageRange(image[i].Item1, image[i].Item2);
            }

            if (MemoryClaim.TryClaim(ram, ref count, large * 512, avoid, out PageRange claim))
            {
                Assert.Equal((0ul, large * 512), (claim.First % 512, claim.Count));
                Assert.True(claim.First >= first && claim.End <= first + length);
                Assert.All(avoid, range => Assert.False(range.Overlaps(claim)));
                Assert.All(ram[..count], range => Assert.False(range.Overlaps(claim)));
            }
        });
}
