// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class LaunchBlobTests
{
    [Fact]
    public void Write_Plan_IsReadBack()
    {
        LaunchPlan plan = HostLoader.Load(TestImage.File, new GuestRam(4ul << 30), 5);
        var stream = new MemoryStream();

        LaunchBlob.Write(plan, LaunchOptions.None, [], stream, hostDevices: 0x23);

        byte[] blob = stream.ToArray();
        LaunchHeader header = MemoryMarshal.Read<LaunchHeader>(blob);
        Assert.Equal("SVSMLNCH"u8, blob.AsSpan(0, 8));
        Assert.Equal(LaunchHeader.CurrentVersion, header.Version);
        Assert.Equal(5u, header.VcpuCount);
        Assert.Equal(0x23u, header.HostDevices);
        Assert.Equal(TestImage.Policy, header.Policy);
        Assert.Equal((ulong)blob.Length, header.TotalLength);
        Assert.Equal(0ul, header.DataOffset % 4096);

        int at = 72;
        LaunchRam[] ram = MemoryMarshal.Cast<byte, LaunchRam>(blob.AsSpan(at, (int)header.RamCount * 16)).ToArray();
        Assert.Equal([(0, 0x8000_0000), (0x1_0000_0000, 0x8000_0000)], ram.Select(range => (range.Base, range.Length)));

        at += ram.Length * 16;
        LaunchPage[] pages = MemoryMarshal.Cast<byte, LaunchPage>(blob.AsSpan(at, (int)header.PageCount * 32)).ToArray();
        Assert.Equal(plan.Updates.Count + 1, pages.Length);
        for (int i = 0; i < plan.Updates.Count; i++)
        {
            Assert.Equal((plan.Updates[i].Type, plan.Updates[i].Gpa, 1ul), (pages[i].Type, pages[i].Gpa, pages[i].PageCount));
            int data = (int)(header.DataOffset + (pages[i].DataBlock * 4096));
            Assert.Equal(plan.Updates[i].Contents.Span, blob.AsSpan(data, 4096));
        }

        Assert.Equal((LaunchPageType.Required, 0x800_2000ul, 0xEul, LaunchPage.NoData), (pages[^1].Type, pages[^1].Gpa, pages[^1].PageCount, pages[^1].DataBlock));
    }

    [Fact]
    public void Write_PageWithoutContents_HasNoBlock()
    {
        LaunchPlan plan = HostLoader.Load(TestImage.With(TestImage.Page(0x1000, default), TestImage.Context(TestImage.Vmsa)), new GuestRam(256 << 20), 1);
        var stream = new MemoryStream();

        LaunchBlob.Write(plan, LaunchOptions.None, [], stream, hostDevices: 0x23);

        LaunchPage[] pages = MemoryMarshal.Cast<byte, LaunchPage>(stream.ToArray().AsSpan(72 + 16, 2 * 32)).ToArray();
        Assert.Equal([LaunchPage.NoData, 0], pages.Select(page => page.DataBlock));
        Assert.Equal(2 * 4096, stream.Length);
    }

    [Fact]
    public void Write_Items_AreBehindThePages()
    {
        byte[] longItem = [.. Enumerable.Range(0, 5000).Select(i => (byte)i)];
        LaunchPlan plan = HostLoader.Load(TestImage.With(TestImage.Page(0x1000, default), TestImage.Context(TestImage.Vmsa)), new GuestRam(256 << 20), 1) with
        {
            Items = [new LaunchItemData(0x20, longItem), new LaunchItemData(0x21, default), new LaunchItemData(LaunchItem.BatteryMemory, new byte[128])],
        };
        var stream = new MemoryStream();

        LaunchBlob.Write(plan, LaunchOptions.None, [], stream);

        byte[] blob = stream.ToArray();
        LaunchHeader header = MemoryMarshal.Read<LaunchHeader>(blob);
        LaunchItem[] items = MemoryMarshal.Cast<byte, LaunchItem>(blob.AsSpan(72 + 16 + (2 * 32), (int)header.ItemCount * 24)).ToArray();
        Assert.Equal([(0x20u, 5000ul, 1ul), (0x21, 0, 3), (LaunchItem.BatteryMemory, 128, 3)], items.Select(item => (item.Key, item.Length, item.DataBlock)));
        Assert.Equal(longItem, blob.AsSpan((int)header.DataOffset + 4096, 5000));
        Assert.Equal((ulong)blob.Length, header.TotalLength);
    }

    [Fact]
    public void WireStructures_HaveTheirSizes()
    {
        Assert.Equal(72, Unsafe.SizeOf<LaunchHeader>());
        Assert.Equal(16, Unsafe.SizeOf<LaunchRam>());
        Assert.Equal(32, Unsafe.SizeOf<LaunchPage>());
        Assert.Equal(24, Unsafe.SizeOf<LaunchItem>());
        Assert.Equal(320, Unsafe.SizeOf<StopReport>());
        Assert.Equal(64, Unsafe.SizeOf<VmplStatistics>());
    }
}
