// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class LinuxHandoverTests
{
    private static readonly PageRange s_region = new(0x8000, 0x1000);

    private static GuestRange Range(ulong address, ulong length, GuestRangeUse use) => new() { Base = address, Length = length, Use = use };

    private static List<(ulong Base, ulong End, uint Type)> Entries(byte[] page)
    {
        var entries = new List<(ulong, ulong, uint)>();
        for (int at = 0x2D0; at < 0x2D0 + (20 * page[0x1E8]); at += 20)
        {
            ulong start = BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan(at));
            entries.Add((start, start + BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan(at + 8)), BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(at + 16))));
        }

        return entries;
    }

    [Fact]
    public void TryFillMemoryMap_RamRegionAndRanges_AreInOrder()
    {
        byte[] page = new byte[4096];
        Assert.True(LinuxHandover.TryFillMemoryMap(
            page, [new(0, 0xA0), new(0x100, 0x7F00), new(0x9000, 0x77000)], s_region,
            [
                Range(0xC_0000, 0x4_0000, GuestRangeUse.Reserved), Range(0x80_0000, 0x9000, GuestRangeUse.Ram), Range(0x80_9000, 0x1000, GuestRangeUse.Reserved),
                Range(0x80_A000, 0x3000, GuestRangeUse.AcpiTables), Range(0x80_D000, 0x3000, GuestRangeUse.Reserved), Range(0x100_0000, 0x100_0000, GuestRangeUse.Ram),
            ]));
        Assert.Equal(
            [
                (0ul, 0xA_0000ul, 1u), (0x10_0000, 0x80_9000, 1), (0x80_9000, 0x80_A000, 2), (0x80_A000, 0x80_D000, 3), (0x80_D000, 0x81_0000, 2),
                (0x81_0000, 0x800_0000, 1), (0x800_0000, 0x900_0000, 2), (0x900_0000, 0x8000_0000, 1),
            ],
            Entries(page));
        Assert.Equal(0, page[0x1F1]);
    }

    [Fact]
    public void TryFillMemoryMap_RegionBehindAllRam_IsTheLastEntry()
    {
        byte[] page = new byte[4096];
        Assert.True(LinuxHandover.TryFillMemoryMap(page, [new(0x100, 0x100)], s_region, []));
        Assert.Equal([(0x10_0000ul, 0x20_0000ul, 1u), (0x800_0000, 0x900_0000, 2)], Entries(page));
    }

    [Fact]
    public void TryFillMemoryMap_RangeThatIsAWholeRamRange_LeavesNoEmptyEntry()
    {
        byte[] page = new byte[4096];
        Assert.True(LinuxHandover.TryFillMemoryMap(page, [new(0x100, 0x10), new(0x9000, 1)], s_region, [Range(0x10_0000, 0x1_0000, GuestRangeUse.Reserved)]));
        Assert.Equal([(0x10_0000ul, 0x11_0000ul, 2u), (0x800_0000, 0x900_0000, 2), (0x900_0000, 0x900_1000, 1)], Entries(page));
    }

    [Theory]
    [InlineData(127, true)]
    [InlineData(128, false)]
    public void TryFillMemoryMap_AsManyAsFit_NotMore(int count, bool fits)
    {
        byte[] page = new byte[4096];
        page.AsSpan(0xCD0).Fill(0xEE);
        PageRange[] ram = [.. Enumerable.Range(0, count).Select(i => new PageRange((ulong)i * 2, 1))];
        Assert.Equal(fits, LinuxHandover.TryFillMemoryMap(page, ram, s_region, []));
        Assert.Equal(fits ? 128 : 0, page[0x1E8]);
        Assert.True(page.AsSpan(0xCD0).IndexOfAnyExcept((byte)0xEE) < 0);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(256)]
    [InlineData(257)]
    [InlineData(512)]
    public void FinishInterruptControllers_AnyNumber_TableAddsUpToZero(int count)
    {
        byte[] pages = new byte[3 * 4096];
        Span<byte> head = pages.AsSpan(4096 - 56, 56);
        "APIC"u8.CopyTo(head);
        head[9] = 0x5A;
        head[36] = 0x77;
        byte sum = 0;
        for (int first = 0; first < count; first += 256)
        {
            sum += LinuxHandover.WriteProcessors(pages.AsSpan(4096 + (first * 16), 4096), (uint)first, Math.Min(256, count - first));
        }

        LinuxHandover.FinishInterruptControllers(head, (uint)count, sum);

        byte[] table = pages.AsSpan(4096 - 56, 56 + (count * 16)).ToArray();
        Assert.Equal((uint)table.Length, BinaryPrimitives.ReadUInt32LittleEndian(table.AsSpan(4)));
        Assert.Equal(0, (byte)table.Sum(b => b));
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> entry = table.AsSpan(56 + (i * 16), 16);
            Assert.Equal((9, 16, 0), (entry[0], entry[1], BinaryPrimitives.ReadUInt16LittleEndian(entry[2..])));
            Assert.Equal(((uint)i, 1u, (uint)i), (BinaryPrimitives.ReadUInt32LittleEndian(entry[4..]), BinaryPrimitives.ReadUInt32LittleEndian(entry[8..]), BinaryPrimitives.ReadUInt32LittleEndian(entry[12..])));
        }

        Assert.True(pages.AsSpan(4096 + (count * 16)).IndexOfAnyExcept((byte)0) < 0);
    }

    [Fact]
    public void Encrypt_PresentEntries_GetTheBitAndOthersDoNot()
    {
        ulong[] entries = [0x1023, 0, 0xE3, 0x2000, 0x8000_0000_0000_0001];
        LinuxHandover.Encrypt(entries, 1ul << 47);
        Assert.Equal([0x8000_0000_1023, 0, 0x8000_0000_00E3, 0x2000, 0x8000_8000_0000_0001], entries);
    }
}
