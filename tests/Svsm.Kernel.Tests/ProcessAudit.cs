// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What holds for the memory of a process between any two calls, seen from its page tables: every page that is mapped lies in a region and has the
// rights of that region, every frame is mapped once, frames of the archive are the program's and cannot be written, and the number of frames is
// exactly the number of those that were allocated.

using System.Collections.Generic;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Xunit;

namespace Svsm.Kernel.Tests;

internal static class ProcessAudit
{
    public const ulong CBit = 1ul << 51;

    private const ulong Present = 1;
    private const ulong Writable = 1 << 1;
    private const ulong User = 1 << 2;
    private const ulong Accessed = 1 << 5;
    private const ulong Dirty = 1 << 6;
    private const ulong Borrowed = 1 << 9;
    private const ulong NoExecute = 1ul << 63;
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;
    private const int TopLevel = 3;

    /// <summary>Checks all of it.</summary>
    /// <param name="memory">The memory.</param>
    /// <param name="platform">Its platform, which has no other process.</param>
    /// <param name="text">Pages of the archive that the process may have.</param>
    /// <returns>The frame of each page that has one of its own.</returns>
    public static Dictionary<ulong, PhysicalAddress> Check(ref ProcessMemory memory, SimulatedProcessPlatform platform, (ulong Start, ulong End) text)
    {
        var pages = new Dictionary<ulong, PhysicalAddress>();
        var frames = new HashSet<ulong>();
        Walk(ref memory, platform, memory.Root, TopLevel, 0, text, pages, frames);
        Assert.Equal(platform.Frames.Allocated, frames.Count);
        Assert.Equal((ulong)frames.Count, memory.PageCount);
        Assert.True(memory.PageCount <= memory.PageLimit, "more frames than there may be");
        Assert.True(memory.Regions.WritablePages <= memory.PageLimit, "more may be written than there may be");
        Assert.True(platform.IsIdle, "a frame is still mapped");
        CheckRegions(in memory.Regions);
        return pages;
    }

    private static void Walk(
        ref ProcessMemory memory, SimulatedProcessPlatform platform, PhysicalAddress table, int level, ulong from, (ulong Start, ulong End) text,
        Dictionary<ulong, PhysicalAddress> pages, HashSet<ulong> frames)
    {
        Assert.True(frames.Add(table.Value), "a table is used twice");
        ulong[] entries = platform.Frames[table];
        for (int i = 0; i < entries.Length; i++)
        {
            ulong entry = entries[i];
            if (entry == 0)
            {
                continue;
            }

            ulong address = from + ((ulong)i << (12 + (9 * level)));
            PhysicalAddress next = new(entry & AddressMask & ~CBit);
            Assert.True((entry & CBit) != 0, "a page without the C-bit");
            if (level != 0)
            {
                Assert.Equal(Present | Writable | User | Accessed, entry & ~AddressMask);
                Walk(ref memory, platform, next, level - 1, address, text, pages, frames);
                continue;
            }

            Assert.True(memory.Regions.TryFind(address, out Region region), "a page outside of the regions");
            bool isBorrowed = (entry & Borrowed) != 0;
            Assert.Equal(FlagsOf(region.Rights) | (isBorrowed ? Borrowed : 0), entry & ~AddressMask);
            Assert.Equal(platform.IsInArchive(next), isBorrowed);
            Assert.True(!isBorrowed || (next.Value >= text.Start && next.Value < text.End), "a page of another file");
            Assert.True(!isBorrowed || (entry & Writable) == 0, "the archive can be written");
            Assert.Equal(region.Kind == RegionKind.SharedFile, isBorrowed);
            if (!isBorrowed)
            {
                Assert.True(frames.Add(next.Value), "a frame is mapped twice");
                pages.Add(address, next);
            }
        }
    }

    private static ulong FlagsOf(AccessRights rights) => rights switch
    {
        AccessRights.None => User | NoExecute,
        AccessRights.Read => Present | User | Accessed | NoExecute,
        AccessRights.Read | AccessRights.Execute => Present | User | Accessed,
        _ => Present | User | Accessed | NoExecute | Writable | Dirty,
    };

    private static void CheckRegions(in RegionList regions)
    {
        ulong end = 0;
        ulong writable = 0;
        Assert.InRange(regions.Count, 0, RegionList.Capacity);
        for (int i = 0; i < regions.Count; i++)
        {
            Region region = regions.At(i);
            Assert.True(region.Start >= end && region.End > region.Start && region.End <= ProcessMemory.UserEnd && (region.Start | region.End) % Page.Size == 0);
            Assert.True((region.Rights & (AccessRights.Write | AccessRights.Execute)) != (AccessRights.Write | AccessRights.Execute), "writable and executable");
            Assert.True(region.Kind != RegionKind.SharedFile || (region.Rights & AccessRights.Write) == 0, "the archive can be written");
            writable += (region.Rights & AccessRights.Write) != 0 ? region.PageCount : 0;
            end = region.End;
        }

        Assert.Equal(writable, regions.WritablePages);
    }
}
