// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class PageStateRequestsTests
{
    private const ulong PageAddress = 0x800_3000;
    private const ulong Private = 1ul << 52;
    private const ulong Large = 1ul << 56;

    private readonly StrongBox<GhcbPage> _page = new();
    private Host _host;

    public PageStateRequestsTests() => _host = new Host(_page);

    [Fact]
    public void TryMakePrivate_OnePage_IsOneEntry()
    {
        Assert.True(Run(0x1000, 1));
        Assert.Equal([0x1000ul | Private], _host.Entries);
        Assert.Equal(PageAddress + 0x800, _page.Value.SwScratch);
        Assert.Equal((ulong)GhcbExitCode.PageStateChange, _page.Value.SwExitCode);
    }

    [Fact]
    public void TryMakePrivate_UnalignedRange_UsesLargeEntriesInside()
    {
        Assert.True(Run(0x1F_F000, 1 + 512 + 2));
        Assert.Equal([0x1F_F000ul | Private, 0x20_0000ul | Private | Large, 0x40_0000ul | Private, 0x40_1000ul | Private], _host.Entries);
    }

    [Fact]
    public void TryMakePrivate_AlmostALargePage_IsSmallEntries()
    {
        Assert.True(Run(0x20_0000, 511));
        Assert.Equal(511, _host.Entries.Count);
        Assert.Equal(3, _host.Exits);
        Assert.Equal(Enumerable.Range(0, 511).Select(i => (0x20_0000ul + ((ulong)i << 12)) | Private), _host.Entries);
    }

    [Fact]
    public void TryMakePrivate_NoPages_AsksNothing()
    {
        Assert.True(Run(0x1000, 0));
        Assert.Equal(0, _host.Exits);
    }

    [Fact]
    public void TryMakePrivate_HostStopsEarly_IsAskedAgain()
    {
        _host.MaxEntriesPerExit = 2;
        Assert.True(Run(0x1000, 5));
        Assert.Equal(3, _host.Exits);
        Assert.Equal(5, _host.Entries.Count);
    }

    [Fact]
    public void TryMakePrivate_HostMakesNoProgress_GivesUp()
    {
        _host.MaxEntriesPerExit = 0;
        Assert.False(Run(0x1000, 5));
        Assert.Equal(PageStateRequests.MaxStalls + 1, _host.Exits);
    }

    [Theory]
    [InlineData(6)]
    [InlineData(0xFFFF)]
    public void TryMakePrivate_HostClaimsMoreThanThereIs_IsRefused(int current)
    {
        _host.Override = (_, _) => current;
        Assert.False(Run(0x1000, 5));
    }

    [Fact]
    public void TryMakePrivate_HostGoesBackwards_IsRefused()
    {
        _host.Override = (exit, _) => exit == 0 ? 3 : 1;
        Assert.False(Run(0x1000, 5));
        Assert.Equal(2, _host.Exits);
    }

    [Theory]
    [InlineData(2ul, 0ul)]
    [InlineData(0ul, 0x1_0000_0001ul)]
    [InlineData(0ul, 0x100_0000_0000ul)]
    public void TryMakePrivate_Refusal_IsFalse(ulong info1, ulong info2)
    {
        _host.Info1 = info1;
        _host.Info2 = info2;
        Assert.False(Run(0x1000, 5));
        Assert.Equal(1, _host.Exits);
    }

    private bool Run(ulong first, ulong pages) =>
        PageStateRequests.TryMakePrivate(ref _page.Value, new PhysicalAddress(PageAddress), ref _host, new PhysicalAddress(first), pages);

    private sealed class Host(StrongBox<GhcbPage> page) : IGhcbPort
    {
        public List<ulong> Entries { get; } = [];

        public int Exits { get; private set; }

        public int MaxEntriesPerExit { get; set; } = int.MaxValue;

        public Func<int, int, int>? Override { get; set; }

        public ulong Info1 { get; set; }

        public ulong Info2 { get; set; }

        public void Exit()
        {
            Span<byte> buffer = page.Value.SharedBuffer;
            Span<ushort> head = MemoryMarshal.Cast<byte, ushort>(buffer);
            int current = head[0];
            int end = (int)Math.Min((long)current + MaxEntriesPerExit, head[1] + 1L);
            for (; current < end; current++)
            {
                Entries.Add(MemoryMarshal.Cast<byte, ulong>(buffer)[1 + current]);
            }

            head[0] = (ushort)(Override?.Invoke(Exits, current) ?? current);
            page.Value.SwExitInfo1 = Info1;
            page.Value.SwExitInfo2 = Info2;
            Exits++;
        }
    }
}
