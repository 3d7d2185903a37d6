// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using CsCheck;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed unsafe class PageStateTableTests
{
    [Fact]
    public void TryMakeRuns_Ranges_AreJoinedAndSorted()
    {
        ChunkRun[] runs = new ChunkRun[4];
        Assert.True(PageStateTable.TryMakeRuns([new(0, 0xA0), new(0x100, 0x700), new(0x10_0000, 1), new(0x8000, 0x1000)], runs, out int count));
        Assert.Equal([(0, 4, 0), (0x40, 8, 4), (0x800, 1, 12)], runs[..count].Select(run => ((int)run.First, (int)run.Count, (int)run.Index)));
        Assert.Equal((ulong)((13 * 4) + 4 + (13 * 512)), PageStateTable.BytesFor(runs.AsSpan(0, count)));
    }

    [Fact]
    public void TryMakeRuns_WithoutRoom_IsRefused() =>
        Assert.False(PageStateTable.TryMakeRuns([new(0, 1), new(0x1000, 1), new(0x2000, 1)], new ChunkRun[2], out _));

    [Fact]
    public void TryMakeRuns_AnyRanges_CoverThemAndNothingMore() =>
        Gen.Select(Gen.ULong[0, 40], Gen.ULong[0, 5]).Array[0, 10].Sample(ranges =>
        {
            ChunkRun[] runs = new ChunkRun[ranges.Length + 1];
            PageRange[] pages = [.. ranges.Select(range => new PageRange((range.Item1 * 512) + 3, range.Item2 * 300))];
            Assert.True(PageStateTable.TryMakeRuns(pages, runs, out int count));
            SortedSet<ulong> expected = [.. pages.Where(range => range.Count > 0).SelectMany(range => Numbers(range.First / 512, (range.End - 1) / 512))];
            Assert.Equal(expected, runs.Take(count).SelectMany(run => Numbers(run.First, run.First + run.Count - 1)));
            for (int i = 1; i < count; i++)
            {
                Assert.True(runs[i].First > runs[i - 1].First + runs[i - 1].Count);
                Assert.Equal(runs[i - 1].Index + runs[i - 1].Count, runs[i].Index);
            }
        });

    [Theory]
    [InlineData(0ul, PageState.Unvalidated)]
    [InlineData(0x9Ful, PageState.Unvalidated)]
    [InlineData(0xA0ul, PageState.Absent)]
    [InlineData(0xFFul, PageState.Absent)]
    [InlineData(0x100ul, PageState.Unvalidated)]
    [InlineData(0x7FFul, PageState.Unvalidated)]
    [InlineData(0x800ul, PageState.Absent)]
    [InlineData(0x8000ul, PageState.Unvalidated)]
    [InlineData(0x8001ul, PageState.Absent)]
    [InlineData(ulong.MaxValue, PageState.Absent)]
    [InlineData(1ul << 52, PageState.Absent)]
    [InlineData((1ul << 63) | 0x100, PageState.Absent)]
    [InlineData((1ul << 35) | 0x100, PageState.Absent)]
    public void Get_Page_IsThereOnlyInItsRange(ulong page, object expected) =>
        Assert.Equal((PageState)expected, new PageStates(new PageRange(0, 0xA0), new PageRange(0x100, 0x700), new PageRange(0x8000, 1)).Table.Get(page));

    [Fact]
    public void TrySet_Pages_ChangesThoseOnly()
    {
        var states = new PageStates(new PageRange(0, 0x1000));
        Assert.True(states.Table.TrySet(new PageRange(0x1FF, 0x202), PageState.Svsm));
        Assert.Equal(
            [PageState.Unvalidated, PageState.Svsm, PageState.Svsm, PageState.Svsm, PageState.Unvalidated],
            new ulong[] { 0x1FE, 0x1FF, 0x300, 0x400, 0x401 }.Select(page => states.Table.Get(page)));
    }

    // Of 2-MiB pages as a whole, and of 4-KiB pages; over a hole, and up to the last page.
    [Fact]
    public void TryFindNext_Pages_FindsEachOnce()
    {
        var states = new PageStates(new PageRange(0, 0x600), new PageRange(0x8000, 0x200));
        Assert.True(states.Table.TrySet(new PageRange(0x1FF, 0x202), PageState.Svsm));
        Assert.True(states.Table.TrySet(new PageRange(0x81FF, 1), PageState.Svsm));
        List<ulong> found = [];
        for (ulong page = 0; states.Table.TryFindNext(PageState.Svsm, ref page); page++)
        {
            found.Add(page);
        }

        Assert.Equal([.. Numbers(0x1FF, 0x400), 0x81FF], found);
        ulong last = 0x8200;
        Assert.False(states.Table.TryFindNext(PageState.Svsm, ref last));
        ulong none = 0;
        Assert.False(states.Table.TryFindNext(PageState.Vmsa, ref none));
    }

    [Theory]
    [InlineData(0xFFFul, 2ul)]
    [InlineData(0x1000ul, 1ul)]
    [InlineData(0ul, 0ul)]
    [InlineData(0x10ul, 0x8000ul)]
    public void TrySet_PagesThatAreNotThere_ChangesNothing(ulong first, ulong count)
    {
        var states = new PageStates(new PageRange(0, 0x1000), new PageRange(0x8000, 0x200));
        Assert.False(states.Table.TrySet(new PageRange(first, count), PageState.Svsm));
        Assert.All(Numbers(0, 0xFFF), page => Assert.Equal(PageState.Unvalidated, states.Table.Get(page)));
    }

    [Fact]
    public void Begin_SmallPageOfALargeOne_LeavesTheOthers()
    {
        var states = new PageStates(new PageRange(0, 0x400));
        Assert.Equal(PageResult.Success, states.Table.Begin(new PhysicalAddress(0x5000), PageSize.Small, PageState.Unvalidated, PageState.Guest));
        Assert.Equal((PageState.Unvalidated, PageState.Changing, PageState.Unvalidated), (states.Table.Get(4), states.Table.Get(5), states.Table.Get(6)));
        states.Table.End(new PhysicalAddress(0x5000), PageSize.Small, PageState.Guest);
        Assert.Equal((PageState.Unvalidated, PageState.Guest, PageState.Unvalidated), (states.Table.Get(4), states.Table.Get(5), states.Table.Get(6)));
    }

    // 512 transitions make a 2-MiB page of one state, which then changes as a whole.
    [Fact]
    public void Begin_LargePageOfSmallOnes_ChangesAsAWhole()
    {
        var states = new PageStates(new PageRange(0, 0x200));
        for (ulong page = 0; page < 512; page++)
        {
            PhysicalAddress address = PhysicalAddress.OfPage(page);
            Assert.Equal(PageResult.Success, states.Table.Begin(address, PageSize.Small, PageState.Unvalidated, PageState.Guest));
            states.Table.End(address, PageSize.Small, PageState.Guest);
        }

        Assert.Equal(PageResult.NoChange, states.Table.Begin(default, PageSize.Large, PageState.Unvalidated, PageState.Guest));
        Assert.Equal(PageResult.Success, states.Table.Begin(default, PageSize.Large, PageState.Guest, PageState.Unvalidated));
        Assert.All(Numbers(0, 511), page => Assert.Equal(PageState.Changing, states.Table.Get(page)));
        states.Table.End(default, PageSize.Large, PageState.Unvalidated);
        Assert.All(Numbers(0, 511), page => Assert.Equal(PageState.Unvalidated, states.Table.Get(page)));
    }

    [Fact]
    public void Pin_AsOftenAsCanBe_ThenBusy()
    {
        var states = new PageStates(new PageRange(0, 0x200));
        Assert.Equal(PageResult.InvalidAddress, states.Table.Pin(7));
        Assert.Equal(PageResult.InvalidAddress, states.Table.Pin(0x200));
        Assert.True(states.Table.TrySet(new PageRange(7, 1), PageState.Guest));
        for (int i = 0; i < 15; i++)
        {
            Assert.Equal(PageResult.Success, states.Table.Pin(7));
        }

        Assert.Equal(PageResult.Busy, states.Table.Pin(7));
        Assert.Equal(PageState.Guest, states.Table.Get(7));
        for (int i = 0; i < 15; i++)
        {
            states.Table.Unpin(7);
        }

        Assert.Throws<ArgumentOutOfRangeException>(() => states.Table.Unpin(7));
        Assert.Throws<ArgumentOutOfRangeException>(() => states.Table.Unpin(0x300));
    }

    // 1 TiB in two pieces with a hole of 1 TiB between them. The memory is not touched where pages are of one state.
    [Fact]
    public void Table_OfOneTebibyte_CostsLessThanAThousandthAndFindsEveryPage()
    {
        const ulong Half = 1ul << (39 - 12);
        PageRange[] ranges = [new(0, Half), new(3 * Half, Half)];
        ChunkRun[] runs = new ChunkRun[3];
        Assert.True(PageStateTable.TryMakeRuns(ranges, runs, out int count));
        ulong bytes = PageStateTable.BytesFor(runs.AsSpan(0, count));
        Assert.InRange(bytes, 1ul, (1ul << 40) / 1000);
        void* memory = NativeMemory.AllocZeroed((nuint)bytes);
        try
        {
            PageStateTable table = new(runs.AsSpan(0, count), memory);
            table.Clear();
            Assert.True(table.TrySet(ranges[0], PageState.Unvalidated));
            Assert.True(table.TrySet(ranges[1], PageState.Unvalidated));
            foreach (ulong page in new ulong[] { 0, Half - 512, 3 * Half, (4 * Half) - 512, (7 * Half) / 2 })
            {
                PhysicalAddress address = PhysicalAddress.OfPage(page);
                Assert.Equal(PageResult.Success, table.Begin(address, PageSize.Large, PageState.Unvalidated, PageState.Guest));
                table.End(address, PageSize.Large, PageState.Guest);
                Assert.Equal(PageResult.Success, table.Begin(address, PageSize.Small, PageState.Guest, PageState.Unvalidated));
                table.End(address, PageSize.Small, PageState.Unvalidated);
                Assert.Equal((PageState.Unvalidated, PageState.Guest), (table.Get(page), table.Get(page + 511)));
            }

            Assert.Equal(PageState.Absent, table.Get(Half));
            Assert.Equal(PageState.Absent, table.Get((3 * Half) - 1));
            Assert.Equal(PageState.Absent, table.Get(4 * Half));
            Assert.Equal(PageResult.InvalidAddress, table.Begin(PhysicalAddress.OfPage(2 * Half), PageSize.Large, PageState.Unvalidated, PageState.Guest));
        }
        finally
        {
            NativeMemory.Free(memory);
        }
    }

    private static IEnumerable<ulong> Numbers(ulong first, ulong last)
    {
        for (ulong number = first; number <= last; number++)
        {
            yield return number;
        }
    }
}
