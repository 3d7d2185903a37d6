// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using CsCheck;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class MemoryMapTests
{
    private const ulong Limit = 1ul << 35;

    [Fact]
    public void Check_SortedMap_ListsRam()
    {
        (MemoryMapError error, PageRange[] ram) = Check(
            Entry(0, 0x9F), Entry(0x9F, 1, MemoryMapEntryType.PlatformReserved), Entry(0x100, 0x7FF00), Entry(0xF_D000, 0x100, MemoryMapEntryType.PlatformReserved), Entry(0x10_0000, 0x8_0000), default);
        Assert.Equal(MemoryMapError.None, error);
        Assert.Equal([(0ul, 0x9Ful), (0x100ul, 0x7FF00ul), (0x10_0000ul, 0x8_0000ul)], ram.Select(range => (range.First, range.Count)));
    }

    [Fact]
    public void Check_NeighboursOfRam_AreJoined()
    {
        (MemoryMapError error, PageRange[] ram) = Check(Entry(0x100, 0x10), Entry(0x110, 0x10), Entry(0x121, 0x10), default);
        Assert.Equal(MemoryMapError.None, error);
        Assert.Equal([(0x100ul, 0x20ul), (0x121ul, 0x10ul)], ram.Select(range => (range.First, range.Count)));
    }

    [Fact]
    public void Check_RamAcrossTheLegacyArea_LeavesItOut()
    {
        (MemoryMapError error, PageRange[] ram) = Check(Entry(0, 0x1000), default);
        Assert.Equal(MemoryMapError.None, error);
        Assert.Equal([(0ul, 0xA0ul), (0x100ul, 0xF00ul)], ram.Select(range => (range.First, range.Count)));
    }

    [Fact]
    public void Check_EntriesBehindTheTerminator_AreIgnored()
    {
        (MemoryMapError error, PageRange[] ram) = Check(Entry(0x100, 1), default, Entry(0, ulong.MaxValue, (MemoryMapEntryType)99));
        Assert.Equal(MemoryMapError.None, error);
        Assert.Single(ram);
    }

    [Fact]
    public void Check_NoTerminator_IsRefused() => Assert.Equal(MemoryMapError.NotTerminated, Check(Entry(0x100, 1)).Error);

    [Fact]
    public void Check_Nothing_IsRefused() => Assert.Equal(MemoryMapError.NotTerminated, Check().Error);

    [Fact]
    public void Check_OnlyTerminator_HasNoMemory() => Assert.Equal(MemoryMapError.NoMemory, Check(default(MemoryMapEntry)).Error);

    [Fact]
    public void Check_OnlyReserved_HasNoMemory() => Assert.Equal(MemoryMapError.NoMemory, Check(Entry(0, 10, MemoryMapEntryType.PlatformReserved), default).Error);

    [Fact]
    public void Check_OnlyLegacyArea_HasNoMemory() => Assert.Equal(MemoryMapError.NoMemory, Check(Entry(0xA0, 0x60), default).Error);

    [Fact]
    public void Check_Overlap_IsRefused() => Assert.Equal(MemoryMapError.NotAscending, Check(Entry(0x100, 0x10), Entry(0x10F, 1), default).Error);

    [Fact]
    public void Check_OverlapWithReserved_IsRefused() =>
        Assert.Equal(MemoryMapError.NotAscending, Check(Entry(0x100, 0x10, MemoryMapEntryType.PlatformReserved), Entry(0x10F, 1), default).Error);

    [Fact]
    public void Check_Descending_IsRefused() => Assert.Equal(MemoryMapError.NotAscending, Check(Entry(0x200, 1), Entry(0x100, 1), default).Error);

    [Fact]
    public void Check_Flags_AreRefused() => Assert.Equal(MemoryMapError.ReservedFieldSet, Check(Entry(0x100, 1) with { Flags = 1 }, default).Error);

    [Fact]
    public void Check_ReservedField_IsRefused() => Assert.Equal(MemoryMapError.ReservedFieldSet, Check(Entry(0x100, 1) with { Reserved = 1 }, default).Error);

    [Fact]
    public void Check_UnknownType_IsRefused() => Assert.Equal(MemoryMapError.UnknownType, Check(Entry(0x100, 1, (MemoryMapEntryType)6), default).Error);

    [Theory]
    [InlineData(Limit - 1, 1ul, MemoryMapError.None)]
    [InlineData(Limit, 1ul, MemoryMapError.BeyondLimit)]
    [InlineData(Limit - 1, 2ul, MemoryMapError.BeyondLimit)]
    [InlineData(0x100ul, ulong.MaxValue, MemoryMapError.BeyondLimit)]
    [InlineData(ulong.MaxValue, 1ul, MemoryMapError.BeyondLimit)]
    [InlineData(ulong.MaxValue, ulong.MaxValue, MemoryMapError.BeyondLimit)]
    [InlineData(1ul << 52, 1ul, MemoryMapError.BeyondLimit)]
    public void Check_AddressLimit_IsExact(ulong start, ulong count, object expected) =>
        Assert.Equal((MemoryMapError)expected, Check(Entry(start, count), default).Error);

    [Fact]
    public void Check_MoreRangesThanRoom_IsRefused()
    {
        MemoryMapEntry[] map = [Entry(0x100, 1), Entry(0x102, 1), Entry(0x104, 1), default];
        Assert.Equal(MemoryMapError.TooManyRanges, MemoryMap.Check(map, Limit, new PageRange[2], out int count));
        Assert.Equal(0, count);
    }

    [Fact]
    public void Check_LegacyAreaWithoutRoomForTheSplit_IsRefused() =>
        Assert.Equal(MemoryMapError.TooManyRanges, MemoryMap.Check([Entry(0, 0x1000), default], Limit, new PageRange[1], out _));

    [Fact]
    public void Check_AnyMap_YieldsAscendingDisjointRamBelowTheLimit()
    {
        Gen<ulong> edge = Gen.OneOf(Gen.ULong[0, 0x200], Gen.ULong, Gen.OneOf(Gen.Const(Limit - 1), Gen.Const(Limit), Gen.Const(ulong.MaxValue), Gen.Const(0xA0ul), Gen.Const(0x100ul)));
        Gen<MemoryMapEntry> entry = Gen.Select(edge, edge, Gen.UShort[0, 6]).Select((start, pages, type) => Entry(start, pages, (MemoryMapEntryType)type));
        entry.Array[0, 8].Sample(map =>
        {
            var ram = new PageRange[16];
            MemoryMapError error = MemoryMap.Check(map, Limit, ram, out int count);
            Assert.Equal(error == MemoryMapError.None, count > 0);
            ulong end = 0;
            foreach (PageRange range in ram.Take(count))
            {
                Assert.True(range.Count > 0 && range.First >= end && range.Count <= Limit && range.First <= Limit - range.Count);
                Assert.False(range.Overlaps(new PageRange(MemoryMap.LegacyFirstPage, MemoryMap.LegacyPageCount)));
                end = range.End;
            }
        });
    }

    private static MemoryMapEntry Entry(ulong start, ulong pages, MemoryMapEntryType type = MemoryMapEntryType.Memory) =>
        new() { StartPage = start, PageCount = pages, Type = type };

    private static (MemoryMapError Error, PageRange[] Ram) Check(params MemoryMapEntry[] map)
    {
        var ram = new PageRange[16];
        MemoryMapError error = MemoryMap.Check(map, Limit, ram, out int count);
        return (error, ram[..count]);
    }
}
