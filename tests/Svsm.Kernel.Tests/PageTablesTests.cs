// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class PageTablesTests
{
    private const ulong CBit = 1ul << 47;
    private const ulong Address = KernelLayout.KernelPages + 0x5000;

    // The pages of the boot CPU, as Kernel.ld has them.
    private static readonly ulong[] s_cpuPages = [1, 3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 17, 18, 20, 21, 28, 30, 31];

    private ArrayTableMemory _memory = new();
    private readonly PhysicalAddress _root;

    public PageTablesTests() => _root = _memory.Allocate();

    private PageTables<ArrayTableMemory> Tables => new(ref _memory, CBit);

    [Fact]
    public void Map_Page_IsReadBackWithTheCBit()
    {
        PhysicalAddress frame = new(0x1234_5000);
        Assert.Equal(MemoryError.None, Tables.Map(_root, Address, frame, PageEntry.Data));
        ulong entry = Tables.Read(_root, Address, 0);
        Assert.Equal(0x1234_5000 | CBit | PageEntry.Data, entry);
        Assert.Equal(frame.Value, Tables.AddressOf(entry).Value);
        Assert.Equal(0ul, Tables.Read(_root, Address + Page.Size, 0));
        Assert.Equal(4, _memory.Allocated);
        Assert.True(_memory.IsIdle);
    }

    [Fact]
    public void Map_LargePage_EndsAtTheDirectory()
    {
        Assert.Equal(MemoryError.None, Tables.Map(_root, KernelLayout.PageStates, new PhysicalAddress(0x20_0000), PageEntry.Data | PageEntry.Large));
        Assert.Equal(0x20_0000 | CBit | PageEntry.Data | PageEntry.Large, Tables.Read(_root, KernelLayout.PageStates, 1));
        Assert.Equal(0ul, Tables.Read(_root, KernelLayout.PageStates, 0));
        Assert.Equal(MemoryError.NoAddresses, Tables.Map(_root, KernelLayout.PageStates + 0x1000, new PhysicalAddress(0x1000), PageEntry.Data));
    }

    [Fact]
    public void Map_Twice_KeepsTheFirst()
    {
        Tables.Map(_root, Address, new PhysicalAddress(0x1000), PageEntry.Data);
        Assert.Equal(MemoryError.NoAddresses, Tables.Map(_root, Address, new PhysicalAddress(0x2000), PageEntry.Data));
        Assert.Equal(0x1000ul, Tables.AddressOf(Tables.Read(_root, Address, 0)).Value);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Map_WithoutFramesForTables_MapsNothing(int left)
    {
        _memory.Left = left;
        Assert.Equal(MemoryError.NoFrames, Tables.Map(_root, Address, new PhysicalAddress(0x1000), PageEntry.Data));
        Assert.True(_memory.IsIdle);

        // Tables that were made stay, empty; the next attempt uses them.
        _memory.Left = -1;
        Assert.Equal(MemoryError.None, Tables.Map(_root, Address, new PhysicalAddress(0x1000), PageEntry.Data));
        Assert.Equal(4, _memory.Allocated);
    }

    [Fact]
    public void Exchange_WithoutTables_ChangesNothing()
    {
        Assert.Equal(0ul, Tables.Exchange(_root, Address, 0, ulong.MaxValue, 5));
        Assert.Equal(1, _memory.Allocated);
        Assert.All(_memory[_root], entry => Assert.Equal(0ul, entry));
    }

    [Fact]
    public void Exchange_Page_ClearsThenSets()
    {
        Tables.Map(_root, Address, new PhysicalAddress(0x1000), PageEntry.Data);
        Assert.Equal(0x1000 | CBit | PageEntry.Data, Tables.Exchange(_root, Address, 0, CBit, 0));
        Assert.Equal(0x1000 | PageEntry.Data, Tables.Read(_root, Address, 0));
        Tables.Exchange(_root, Address, 0, ulong.MaxValue, 0);
        Assert.Equal(0ul, Tables.Read(_root, Address, 0));
    }

    [Fact]
    public void CreateCpu_HasTheShapeOfTheModel_OnItsOwnFrames()
    {
        MakeBootCpu();
        int before = _memory.Allocated;
        Assert.Equal(MemoryError.None, Tables.CreateCpu(_root, out PhysicalAddress root));
        Assert.Equal(CpuAreaFrames, _memory.Allocated - before);
        Assert.Equal(Tables.Read(_root, KernelAddressSpace.GlobalBase, 3), Tables.Read(root, KernelAddressSpace.GlobalBase, 3));
        Assert.Equal(0x77_0000ul, Tables.AddressOf(Tables.Read(root, Address, 0)).Value);
        var frames = new HashSet<ulong>();
        for (ulong page = 0; page < 512; page++)
        {
            ulong address = KernelAddressSpace.PerCpuBase + (page * Page.Size);
            ulong model = Tables.Read(_root, address, 0);
            ulong entry = Tables.Read(root, address, 0);
            Assert.Equal(model != 0, entry != 0);
            if (entry != 0)
            {
                Assert.Equal(PageEntry.Data | CBit, entry & ~PageEntry.AddressMask | (entry & CBit));
                Assert.NotEqual(Tables.AddressOf(model).Value, Tables.AddressOf(entry).Value);
                Assert.True(frames.Add(Tables.AddressOf(entry).Value));
            }
        }

        Assert.Equal(Tables.AddressOf(Tables.Read(root, KernelAddressSpace.WindowBase, 1)).Value, Tables.AddressOf(Tables.Read(root, KernelLayout.WindowTable, 0)).Value);
        Assert.Equal(Tables.AddressOf(Tables.Read(root, KernelAddressSpace.PerCpuBase, 2)).Value, Tables.AddressOf(Tables.Read(root, KernelLayout.WindowDirectory, 0)).Value);
        Tables.DestroyCpu(root);
        Assert.Equal(before, _memory.Allocated);
        Assert.True(_memory.IsIdle);
    }

    // Every allocation fails once: nothing is left behind, and nothing of the model changes.
    [Fact]
    public void CreateCpu_AnyAllocationFails_LeavesNothing()
    {
        MakeBootCpu();
        int before = _memory.Allocated;
        for (int left = 0; left < CpuAreaFrames; left++)
        {
            _memory.Left = left;
            Assert.Equal(MemoryError.NoFrames, Tables.CreateCpu(_root, out PhysicalAddress root));
            Assert.Equal(0ul, root.Value);
            Assert.Equal(before, _memory.Allocated);
            Assert.True(_memory.IsIdle);
        }

        _memory.Left = CpuAreaFrames;
        Assert.Equal(MemoryError.None, Tables.CreateCpu(_root, out _));
        Assert.Equal(0, _memory.Left);
    }

    private const int CpuAreaFrames = 24;

    private void MakeBootCpu()
    {
        foreach (ulong page in s_cpuPages)
        {
            Assert.Equal(MemoryError.None, Tables.Map(_root, KernelAddressSpace.PerCpuBase + (page * Page.Size), _memory.Allocate(), PageEntry.Data));
        }

        Assert.Equal(MemoryError.None, Tables.Map(_root, KernelAddressSpace.WindowBase, new PhysicalAddress(0x1000), PageEntry.Data));
        Assert.Equal(MemoryError.None, Tables.MapTableAliases(_root));
        Assert.Equal(MemoryError.None, Tables.Map(_root, Address, new PhysicalAddress(0x77_0000), PageEntry.Data));
    }
}
