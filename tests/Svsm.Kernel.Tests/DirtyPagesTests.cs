// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which pages of the guest have changed. One test with everything: what is tracked is the kernel's, once for all.

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

[CollectionDefinition(nameof(DirtyPagesTests), DisableParallelization = true)]
[Collection(nameof(DirtyPagesTests))]
public sealed class DirtyPagesTests
{
    private const ulong Ram = 0x7000;
    private const ulong Rom = 0xF_FF00;
    private const int RamPages = 1000;

    [Fact]
    public unsafe void Pages_AreDirtyWhenTheyChange()
    {
        DirtyPages.Add(new(Rom, 16));
        DirtyPages.Add(new(Ram, RamPages));
        Assert.Equal([new(Ram, RamPages), new(Rom, 16)], DirtyPages.Ranges.ToArray());
        Assert.True(DirtyPages.Contains(Ram) && DirtyPages.Contains(Rom + 15));
        Assert.False(DirtyPages.Contains(Ram + RamPages) || DirtyPages.Contains(Rom - 1));
        Assert.False(DirtyPages.IsDirty(Ram));
        Assert.Equal(128ul, DirtyPages.BytesOfBits);
        byte[] bits = GC.AllocateArray<byte>(128, pinned: true);
        fixed (byte* pointer = bits)
        {
            DirtyPages.Begin(pointer);
        }

        byte[] memory = GC.AllocateArray<byte>(1 << 20, pinned: true);
        ChunkRun[] runs = new ChunkRun[4];
        Assert.True(PageStateTable.TryMakeRuns([new(Ram, RamPages)], runs, out int count));
        fixed (byte* pointer = memory)
        {
            var table = new PageStateTable(runs.AsSpan(0, count), pointer);
            table.Clear();
            Assert.True(table.TrySet(new(Ram, RamPages), PageState.Guest));
            Assert.True(table.TrySet(new(Ram + 5, 1), PageState.Unvalidated));
            Assert.True(table.TrySet(new(Ram + 6, 1), PageState.CallingArea));
            Assert.True(table.TrySet(new(Ram + 7, 1), PageState.Vmsa));
            var platform = new SimulatedPlatform();
            foreach (ulong page in Enumerable.Range(0, RamPages).Select(i => Ram + (ulong)i).Concat(Enumerable.Range(0, 16).Select(i => Rom + (ulong)i)))
            {
                platform[page << 12].IsValidated = true;
            }

            Check(table, platform);
        }
    }

    private static void Check(in PageStateTable table, SimulatedPlatform platform)
    {
        Assert.True(DirtyPages.IsDirty(Ram) && DirtyPages.IsDirty(Ram + RamPages - 1) && DirtyPages.IsDirty(Rom + 15));
        Assert.False(DirtyPages.IsDirty(Ram - 1) || DirtyPages.IsDirty(Ram + RamPages) || DirtyPages.IsDirty(Rom + 16));

        foreach (ulong page in (ulong[])[Ram, Ram + 5, Ram + 6, Ram + 7, Rom + 1, Ram - 1])
        {
            DirtyPages.Take(table, ref platform, page, Vmpl.Vmpl2);
            Assert.False(DirtyPages.IsDirty(page));
        }

        // The guest's pages, calling areas and ROM lose the right; what is not the guest's to write is not touched.
        foreach (ulong page in (ulong[])[Ram, Ram + 6, Rom + 1])
        {
            Assert.Equal(DirtyPages.Taken, platform[page << 12].Permissions[2]);
        }

        Assert.Equal(RmpPermissions.None, platform[(Ram + 5) << 12].Permissions[2]);
        Assert.Equal(RmpPermissions.None, platform[(Ram + 7) << 12].Permissions[2]);
        Assert.True(DirtyPages.IsDirty(Ram + 1));

        // It wants to write.
        Assert.Equal(GiveBackResult.Given, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Ram << 12) + 0x123), Vmpl.Vmpl2, hasWaited: false));
        Assert.Equal((RmpPermissions.All, true), (platform[Ram << 12].Permissions[2], DirtyPages.IsDirty(Ram)));
        Assert.Equal(GiveBackResult.NotGuest, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Ram + 5) << 12), Vmpl.Vmpl2, hasWaited: false));
        Assert.Equal(GiveBackResult.NotGuest, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Ram + 7) << 12), Vmpl.Vmpl2, hasWaited: false));
        Assert.Equal(GiveBackResult.NotGuest, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Ram - 1) << 12), Vmpl.Vmpl2, hasWaited: false));
        Assert.Equal(GiveBackResult.Given, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Rom + 1) << 12), Vmpl.Vmpl2, hasWaited: false));

        // A page in the middle of a change keeps its bit.
        Assert.Equal(PageResult.Success, table.Begin(new PhysicalAddress(Ram << 12), PageSize.Small, PageState.Guest, PageState.Unvalidated));
        DirtyPages.Take(table, ref platform, Ram, Vmpl.Vmpl2);
        Assert.True(DirtyPages.IsDirty(Ram));
        Assert.Equal(GiveBackResult.NotGuest, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress(Ram << 12), Vmpl.Vmpl2, hasWaited: false));
        table.End(new PhysicalAddress(Ram << 12), PageSize.Small, PageState.Guest);

        // A right that the processor does not let go: what the guest writes would not be noticed.
        platform.FailAt = platform.Operations.Count;
        DirtyPages.Take(table, ref platform, Ram + 3, Vmpl.Vmpl2);
        Assert.True(DirtyPages.IsDirty(Ram + 3));
        DirtyPages.Take(table, ref platform, Ram + 3, Vmpl.Vmpl2);
        Assert.False(DirtyPages.IsDirty(Ram + 3));

        // The SVSM writes, and a page becomes the guest's.
        DirtyPages.Take(table, ref platform, Ram, Vmpl.Vmpl2);
        Assert.False(DirtyPages.IsDirty(Ram));
        GuestWindow window = platform.Map(new PhysicalAddress(Ram << 12));
        Assert.True(window.TryReadByte(3, out _));
        Assert.False(DirtyPages.IsDirty(Ram));
        Assert.True(window.TryWriteByte(3, 4));
        Assert.True(DirtyPages.IsDirty(Ram));
        platform.Unmap(window);
        platform[(Ram + 5) << 12].IsValidated = false;
        Assert.Equal(PageResult.Success, GuestPages.Validate(table, ref platform, new PhysicalAddress((Ram + 5) << 12), PageSize.Small, Vmpl.Vmpl2));
        Assert.True(DirtyPages.IsDirty(Ram + 5));

        DirtyPages.Take(table, ref platform, Ram + 9, Vmpl.Vmpl2);
        DirtyPages.MarkAll();
        Assert.True(DirtyPages.IsDirty(Ram + 9));
        CheckPacing(table, platform);
    }

    // One clean page for two that are taken, and no more; a dirty one, and one that was waited for, whatever there is.
    private static void CheckPacing(in PageStateTable table, SimulatedPlatform platform)
    {
        DirtyPages.Pace(true);
        foreach (ulong page in (ulong[])[Ram + 10, Ram + 11, Ram + 12])
        {
            DirtyPages.Take(table, ref platform, page, Vmpl.Vmpl2);
            DirtyPages.Take(table, ref platform, Ram + 7, Vmpl.Vmpl2);
            Assert.Equal(page == Ram + 11, TryGiveBack(table, platform, page));
        }

        Assert.Equal(GiveBackResult.Later, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Ram + 12) << 12), Vmpl.Vmpl2, hasWaited: false));
        Assert.Equal((DirtyPages.Taken, false), (platform[(Ram + 12) << 12].Permissions[2], DirtyPages.IsDirty(Ram + 12)));
        Assert.True(TryGiveBack(table, platform, Ram + 11));
        DirtyPages.Mark(Ram + 12, 1);
        Assert.True(TryGiveBack(table, platform, Ram + 12));
        Assert.Equal(GiveBackResult.NotGuest, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Ram + 7) << 12), Vmpl.Vmpl2, hasWaited: false));
        Assert.Equal(GiveBackResult.Given, DirtyPages.GiveBack(table, ref platform, new PhysicalAddress((Ram + 10) << 12), Vmpl.Vmpl2, hasWaited: true));
        Assert.True(DirtyPages.IsDirty(Ram + 10));

        // What was taken before does not count.
        DirtyPages.Take(table, ref platform, Ram + 10, Vmpl.Vmpl2);
        DirtyPages.Take(table, ref platform, Ram + 11, Vmpl.Vmpl2);
        DirtyPages.Pace(true);
        Assert.False(TryGiveBack(table, platform, Ram + 10));
        DirtyPages.Pace(false);
        Assert.True(TryGiveBack(table, platform, Ram + 10) && TryGiveBack(table, platform, Ram + 11));
    }

    private static bool TryGiveBack(in PageStateTable table, SimulatedPlatform platform, ulong page) =>
        DirtyPages.GiveBack(table, ref platform, new PhysicalAddress(page << 12), Vmpl.Vmpl2, hasWaited: false) == GiveBackResult.Given;
}
