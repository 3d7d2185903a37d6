// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Regions against a model that knows nothing but pages.

using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class RegionListTests
{
    private const ulong Base = 0x10_0000;
    private const int Pages = (2 * RegionList.Capacity) + 22;
    private const AccessRights ReadWrite = AccessRights.Read | AccessRights.Write;

    [Fact]
    public void TryAdd_Overlap_IsRefused()
    {
        RegionList list = default;
        Assert.True(list.TryAdd(Zero(4, 4, ReadWrite)));
        foreach ((int first, int count) in ((int, int)[])[(4, 4), (3, 2), (7, 1), (7, 5), (0, 20), (5, 1)])
        {
            Assert.False(list.TryAdd(Zero(first, count, ReadWrite)), $"{first}, {count}");
        }

        Assert.Equal((1, 4ul), (list.Count, list.WritablePages));
    }

    [Fact]
    public void TryAdd_BetweenNeighboursThatAreAlike_MakesOneOfThem()
    {
        RegionList list = default;
        Assert.True(list.TryAdd(Zero(0, 2, ReadWrite)));
        Assert.True(list.TryAdd(Zero(4, 2, ReadWrite)));
        Assert.True(list.TryAdd(Zero(2, 2, ReadWrite)));
        Assert.Equal((1, 6ul), (list.Count, list.WritablePages));
        Assert.Equal((Base, Base + 0x6000), (list.At(0).Start, list.At(0).End));
    }

    [Fact]
    public void TryAdd_BelowANeighbourThatIsAlike_MakesOneOfThem()
    {
        RegionList list = default;
        Assert.True(list.TryAdd(File(2, 2, RegionKind.PrivateFile, ReadWrite)));
        Assert.True(list.TryAdd(File(0, 2, RegionKind.PrivateFile, ReadWrite)));
        Assert.Equal((1, 4ul), (list.Count, list.WritablePages));
    }

    [Fact]
    public void TryAdd_NeighboursWithOtherContents_StayApart()
    {
        RegionList list = default;
        Region first = File(0, 2, RegionKind.PrivateFile, ReadWrite);
        Region second = File(2, 2, RegionKind.PrivateFile, ReadWrite);
        second.Source += Page.Size;
        Assert.True(list.TryAdd(first));
        Assert.True(list.TryAdd(second));
        second = File(4, 2, RegionKind.PrivateFile, ReadWrite);
        second.SourceEnd += 8;
        Assert.True(list.TryAdd(second));
        Assert.True(list.TryAdd(File(6, 1, RegionKind.SharedFile, AccessRights.Read)));
        Assert.True(list.TryAdd(Zero(7, 1, AccessRights.Read)));
        Assert.True(list.TryAdd(Zero(8, 1, AccessRights.None)));
        Assert.Equal(6, list.Count);
    }

    [Fact]
    public void Full_EachChangeThatWantsMore_LeavesAllAsItWas()
    {
        RegionList list = default;
        for (int i = 0; i < RegionList.Capacity; i++)
        {
            Assert.True(list.TryAdd(Zero(i * 4, 3, ReadWrite)));
        }

        Region[] before = Snapshot(in list);
        Assert.False(list.TryAdd(Zero(RegionList.Capacity * 4, 1, ReadWrite)));
        Assert.False(list.TryRemove(Address(1), Address(2)));
        Assert.False(list.TrySetRights(Address(0), Address(1), AccessRights.Read));
        Assert.False(list.TryRemove(Address(2), Address(5)));
        Assert.Equal(before, Snapshot(in list));
        Assert.Equal(RegionList.Capacity * 3ul, list.WritablePages);

        // What wants no more is done: whole regions, and what joins a neighbour.
        Assert.True(list.TryAdd(Zero(3, 1, ReadWrite)));
        Assert.Equal(RegionList.Capacity - 1, list.Count);
        Assert.True(list.TryRemove(Address(8), Address(11)));
        Assert.True(list.TrySetRights(Address(12), Address(15), AccessRights.None));
        Assert.Equal(RegionList.Capacity - 2, list.Count);
    }

    [Fact]
    public void TrySetRights_ProgramThatIsNeverWritten_BecomesACopy()
    {
        RegionList list = default;
        Assert.True(list.TryAdd(File(0, 3, RegionKind.SharedFile, AccessRights.Read)));
        Assert.Equal(1ul, list.CountReadOnly(Address(1), Address(2)));
        Assert.True(list.TrySetRights(Address(1), Address(2), ReadWrite));
        Assert.Equal((3, 1ul), (list.Count, list.WritablePages));
        Assert.Equal((RegionKind.SharedFile, RegionKind.PrivateFile, RegionKind.SharedFile), (list.At(0).Kind, list.At(1).Kind, list.At(2).Kind));
        Assert.Equal(File(1, 1, RegionKind.SharedFile, AccessRights.Read).Source, list.At(1).Source);

        // It stays one: the process may have written it.
        Assert.True(list.TrySetRights(Address(1), Address(2), AccessRights.Read));
        Assert.Equal((3, RegionKind.PrivateFile, 0ul), (list.Count, list.At(1).Kind, list.WritablePages));
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(Base - 1)]
    [InlineData(Base + 0x4000)]
    [InlineData(ulong.MaxValue)]
    public void TryFind_OtherAddress_FindsNothing(ulong address)
    {
        RegionList list = default;
        Assert.False(list.TryFind(address, out _));
        Assert.True(list.TryAdd(Zero(0, 4, ReadWrite)));
        Assert.False(list.TryFind(address, out Region region));
        Assert.Equal(0ul, region.End);
        Assert.True(list.TryFind(Base, out _));
        Assert.True(list.TryFind(Base + 0x3FFF, out _));
    }

    [Fact]
    public void TryFindGap_EmptyList_IsAllThereIs()
    {
        RegionList list = default;
        Assert.True(list.TryFindGap(0x3000, 0x1000, 0x4000, out ulong start));
        Assert.Equal(0x1000ul, start);
        Assert.False(list.TryFindGap(0x4000, 0x1000, 0x4000, out _));
        Assert.False(list.TryFindGap(ulong.MaxValue & ~0xFFFul, 0x1000, 0x4000, out _));
    }

    [Fact]
    public void AnyChanges_AgreeWithTheModel() => Sample(2000);

    [Fact]
    [Trait("Run", "all")]
    public void AMillionChanges_AgreeWithTheModel() => Sample(40_000);

    private static void Sample(int cases) =>
        Gen.Select(Gen.Int[0, RegionList.Capacity], Gen.Select(Gen.Int[0, 5], Gen.Int[0, Pages - 1], Gen.Int[1, 12], Gen.Int[0, 4], Gen.Int[0, 2]).Array[1, 60]).Sample(
            (filled, steps) =>
            {
                RegionList list = default;
                var model = new Model();
                for (int i = 0; i < filled; i++)
                {
                    Apply(ref list, model, (0, i * 2, 1, 3, 0));
                }

                foreach ((int What, int First, int Count, int Rights, int Kind) step in steps)
                {
                    Apply(ref list, model, step);
                    model.Check(in list);
                }
            },
            iter: cases, seed: "0000000000001");

    private static void Apply(ref RegionList list, Model model, (int What, int First, int Count, int Rights, int Kind) step)
    {
        int end = Math.Min(Pages, step.First + step.Count);
        AccessRights rights = step.Rights switch { 0 => AccessRights.None, 1 => AccessRights.Read, 2 => AccessRights.Read | AccessRights.Execute, _ => ReadWrite };
        Region[] before = Snapshot(in list);
        bool expected;
        bool done;
        switch (step.What)
        {
            case 0 or 1:
                // Files keep the rule that shared pages cannot be written.
                Region region = step.Kind switch
                {
                    0 => Zero(step.First, end - step.First, rights),
                    1 => File(step.First, end - step.First, RegionKind.PrivateFile, rights),
                    _ => File(step.First, end - step.First, RegionKind.SharedFile, rights & ~AccessRights.Write),
                };
                expected = model.TryAdd(step.First, end, region);
                done = list.TryAdd(in region);
                break;
            case 2 when model.Covers(step.First, end):
                expected = model.TrySetRights(step.First, end, rights);
                done = list.TrySetRights(Address(step.First), Address(end), rights);
                break;
            case 3:
                expected = model.TryRemove(step.First, end);
                done = list.TryRemove(Address(step.First), Address(end));
                break;
            default:
                model.Ask(in list, step.First, end, step.Rights + 1);
                return;
        }

        Assert.Equal(expected, done);
        if (!done)
        {
            AssertSame(before, Snapshot(in list));
        }
    }

    private static ulong Address(int page) => Base + ((ulong)page * Page.Size);

    private static Region Zero(int first, int count, AccessRights rights) => new() { Start = Address(first), End = Address(first + count), Rights = rights };

    // All of it is one file, whose contents end in the middle.
    private static Region File(int first, int count, RegionKind kind, AccessRights rights) => new()
    {
        Start = Address(first),
        End = Address(first + count),
        Source = 0x7000 + ((ulong)first * Page.Size),
        SourceEnd = Address(Pages / 2) + 0x123,
        Kind = kind,
        Rights = rights,
    };

    // Assert.Equal for a million lists, without looking at each field by name.
    private static void AssertSame(IEnumerable<Region> expected, IEnumerable<Region> actual)
    {
        static (ulong, ulong, ulong, ulong, RegionKind, AccessRights) Key(Region region) =>
            (region.Start, region.End, region.Source, region.SourceEnd, region.Kind, region.Rights);
        if (!expected.Select(Key).SequenceEqual(actual.Select(Key)))
        {
            Assert.Equal(expected, actual);
        }
    }

    private static Region[] Snapshot(in RegionList list)
    {
        var regions = new Region[list.Count];
        for (int i = 0; i < regions.Length; i++)
        {
            regions[i] = list.At(i);
        }

        return regions;
    }

    // Each page has a region of its own; the list has as many as there are when neighbours that are alike are one.
    private sealed class Model
    {
        private readonly Region?[] _pages = new Region?[Pages];

        public bool Covers(int first, int end) => _pages.Skip(first).Take(end - first).All(page => page != null);

        public bool TryAdd(int first, int end, Region region)
        {
            if (_pages.Skip(first).Take(end - first).Any(page => page != null))
            {
                return false;
            }

            Region?[] before = [.. _pages];
            for (int page = first; page < end; page++)
            {
                _pages[page] = Part(region, page);
            }

            if (Merged().Count > RegionList.Capacity)
            {
                before.CopyTo(_pages, 0);
                return false;
            }

            return true;
        }

        public bool TrySetRights(int first, int end, AccessRights rights)
        {
            if (!HasRoom(first, end))
            {
                return false;
            }

            for (int page = first; page < end; page++)
            {
                Region region = _pages[page]!.Value;
                region.Rights = rights;
                region.Kind = region.Kind == RegionKind.SharedFile && (rights & AccessRights.Write) != 0 ? RegionKind.PrivateFile : region.Kind;
                _pages[page] = region;
            }

            return true;
        }

        public bool TryRemove(int first, int end)
        {
            bool done = HasRoom(first, end);
            if (done)
            {
                Array.Clear(_pages, first, end - first);
            }

            return done;
        }

        public void Check(in RegionList list)
        {
            AssertSame(Merged(), Snapshot(in list));
            Assert.Equal((ulong)_pages.Count(page => page is Region region && (region.Rights & AccessRights.Write) != 0), list.WritablePages);
        }

        public void Ask(in RegionList list, int first, int end, int length)
        {
            Region?[] asked = _pages[first..end];
            Assert.Equal(Covers(first, end), list.Covers(Address(first), Address(end)));
            Assert.Equal((ulong)asked.Count(page => page is Region region && (region.Rights & AccessRights.Write) == 0), list.CountReadOnly(Address(first), Address(end)));
            Assert.Equal(asked.Any(page => page is Region region && (region.Rights & AccessRights.Execute) != 0), list.HasText(Address(first), Address(end)));
            foreach (ulong address in (ulong[])[Address(first), Address(first) + 1, Address(end) - 1])
            {
                bool found = list.TryFind(address, out Region region);
                Assert.Equal(_pages[(address - Base) / Page.Size] != null, found);
                Assert.True(!found || (region.Start <= address && address < region.End));
            }

            // The highest place between the bounds with a free page on either side of it, those outside of the bounds included.
            bool IsFree(int page) => page < 0 || page >= Pages || _pages[page] == null;
            int gap = end - length;
            while (gap >= first && !Enumerable.Range(gap - 1, length + 2).All(IsFree))
            {
                gap--;
            }

            bool hasGap = list.TryFindGap((ulong)length * Page.Size, Address(first), Address(end), out ulong start);
            Assert.Equal(gap >= first, hasGap);
            Assert.Equal(hasGap ? Address(gap) : 0, start);
        }

        private static Region Part(Region region, int page)
        {
            region.Source += region.Kind == RegionKind.Zero ? 0 : Address(page) - region.Start;
            region.Start = Address(page);
            region.End = Address(page + 1);
            return region;
        }

        private bool HasRoom(int first, int end)
        {
            List<Region> regions = Merged();
            return regions.Count + regions.Sum(region => (region.Start < Address(first) && Address(first) < region.End ? 1 : 0) + (region.Start < Address(end) && Address(end) < region.End ? 1 : 0)) <=
                RegionList.Capacity;
        }

        private List<Region> Merged()
        {
            var regions = new List<Region>();
            foreach (Region page in _pages.Where(page => page != null).Select(page => page!.Value))
            {
                bool isAlike = regions.Count > 0 && regions[^1] is Region last && last.End == page.Start && last.Kind == page.Kind && last.Rights == page.Rights &&
                    (page.Kind == RegionKind.Zero || (last.SourceEnd == page.SourceEnd && last.Source + (last.End - last.Start) == page.Source));
                if (isAlike)
                {
                    regions[^1] = regions[^1] with { End = page.End };
                }
                else
                {
                    regions.Add(page);
                }
            }

            return regions;
        }
    }
}
