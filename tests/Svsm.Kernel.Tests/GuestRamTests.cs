// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using System.Linq;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class GuestRamTests
{
    private static GuestRange Range(ulong firstPage, ulong pages) => new() { Base = firstPage << 12, Length = pages << 12 };

    private static List<(ulong First, ulong End)> Gaps(PageRange[] ram, params GuestRange[] ranges)
    {
        var gaps = new List<(ulong, ulong)>();
        for (ulong next = 0; GuestRam.TryNextGap(ram, ranges, next, out PageRange gap); next = gap.End)
        {
            gaps.Add((gap.First, gap.End));
        }

        return gaps;
    }

    [Fact]
    public void TryNextGap_NoRanges_IsAllRam() => Assert.Equal([(0ul, 0xA0ul), (0x100, 0x1000)], Gaps([new(0, 0xA0), new(0x100, 0xF00)]));

    [Fact]
    public void TryNextGap_RangesInside_AreLeftOut() =>
        Assert.Equal([(0ul, 0xA0ul), (0x100, 0x200), (0x210, 0x300), (0x310, 0x1000)], Gaps([new(0, 0xA0), new(0x100, 0xF00)], Range(0xC0, 0x40), Range(0x200, 0x10), Range(0x300, 0x10)));

    [Fact]
    public void TryNextGap_RangesAtTheEdges_LeaveNothingThere() =>
        Assert.Equal([(0x10ul, 0x90ul)], Gaps([new(0, 0xA0), new(0x100, 0x10)], Range(0, 0x8), Range(0x8, 0x8), Range(0x90, 0x10), Range(0x100, 0x10)));

    [Fact]
    public void TryNextGap_RangeOverTwoRamRanges_IsCutOutOfBoth() => Assert.Equal([(0ul, 0x90ul), (0x110, 0x120)], Gaps([new(0, 0xA0), new(0x100, 0x20)], Range(0x90, 0x80)));

    [Fact]
    public void TryNextGap_AllTaken_IsNone() => Assert.Empty(Gaps([new(0x100, 0x10)], Range(0x80, 0x1000)));

    [Theory]
    [InlineData(true, 3)]
    [InlineData(false, 515)]
    public void Validate_Run_UsesLargePagesWhereTheHostHasThem(bool isLarge, int steps)
    {
        TestVm vm = new();
        if (isLarge)
        {
            vm.Platform.MakeLarge(0x20_0000);
        }

        Assert.Equal(PageResult.Success, vm.ValidateRam(0x1FF, 0x202, out _));
        Assert.Equal(PageState.Unvalidated, vm.StateOf(0x1F_E000));
        Assert.All((ulong[])[0x1F_F000, 0x20_0000, 0x3F_F000, 0x40_0000], page => Assert.Equal(PageState.Guest, vm.StateOf(page)));
        Assert.Equal(PageState.Unvalidated, vm.StateOf(0x40_1000));
        Assert.Equal(steps, vm.Platform.Operations.Count(operation => operation.Name == "validate"));
        Assert.True(vm.Platform.IsIdle);
    }

    [Fact]
    public void Validate_PageThatIsTheGuestsAlready_IsNamed()
    {
        TestVm vm = new();
        vm.Give(0x30_0000);
        vm.Platform.Operations.Clear();
        Assert.Equal(PageResult.NoChange, vm.ValidateRam(0x2FF, 3, out PhysicalAddress failed));
        Assert.Equal(0x30_0000ul, failed.Value);
        Assert.Equal(PageState.Unvalidated, vm.StateOf(0x30_1000));
    }
}
