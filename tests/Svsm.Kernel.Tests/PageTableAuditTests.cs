// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class PageTableAuditTests
{
    private const ulong CBit = 1ul << 47;
    private const ulong Text = KernelAddressSpace.ImageBase;
    private const ulong ReadOnly = Text + 0x2000;
    private const ulong Data = Text + 0x3000;
    private const ulong Code = PageEntry.Present | PageEntry.Accessed;
    private const ulong Constant = Code | PageEntry.NoExecute;

    private readonly ulong[] _windows = new ulong[8];
    private readonly ushort[] _marks = new ushort[0x400];
    private ArrayTableMemory _memory = new();
    private readonly PhysicalAddress _root;

    // The array's frames are from 1 MiB on: all of them are the region.
    private PartitionFacts _facts = new()
    {
        TextStart = Text,
        TextEnd = Text + 0x1800,
        DataStart = Data,
        DataEnd = Data + 0x1000,
        Region = new PageRange(0x100, 0x200),
        Claim = new PageRange(0x1000, 0x200),
    };

    public PageTableAuditTests()
    {
        _root = _memory.Allocate();
        Map(Text, Code);
        Map(Text + 0x1000, Code);
        Map(ReadOnly, Constant);
        Map(Data, PageEntry.Data);
        Map(KernelAddressSpace.Configuration, Constant);
        Map(KernelAddressSpace.Secrets, PageEntry.Data);
        Map(KernelLayout.KernelPages + 0x1000, PageEntry.Data);
        Map(KernelLayout.PerCpuData, PageEntry.Data);
        Map(KernelLayout.GhcbPage, PageEntry.Data);
        Tables.Exchange(_root, KernelLayout.GhcbPage, 0, CBit, 0);
        Map(KernelLayout.StackBottom, PageEntry.Data);
        Map(KernelAddressSpace.WindowBase, PageEntry.Data);
        Tables.Exchange(_root, KernelAddressSpace.WindowBase, 0, ulong.MaxValue, 0);
        Assert.Equal(MemoryError.None, Tables.MapTableAliases(_root));
        Assert.Equal(MemoryError.None, Tables.Map(_root, KernelLayout.PageStates, PhysicalAddress.OfPage(0x1000), PageEntry.Data | PageEntry.Large));
    }

    private PageTables<ArrayTableMemory> Tables => new(ref _memory, CBit);

    [Fact]
    public void Run_TablesAsTheyShouldBe_CountsThem()
    {
        PageTableAudit<ArrayTableMemory> audit = Audit();
        Assert.Equal(PartitionFault.None, audit.Run(_root, 0));
        Assert.Equal(12 + 512, audit.Pages);
        Assert.Equal(PartitionFault.None, Audit().Run(_root, 0));
        Assert.True(_memory.IsIdle);
    }

    [Theory]
    [InlineData(true, true, PartitionFault.None)]
    [InlineData(false, false, PartitionFault.None)]
    [InlineData(true, false, PartitionFault.WrongEncryption)]
    [InlineData(false, true, PartitionFault.WrongEncryption)]
    public void Run_DoorbellPage_IsSharedIfTheCpuHasOne(bool isShared, bool hasDoorbell, object expected)
    {
        Map(KernelLayout.DoorbellPage, PageEntry.Data);
        Tables.Exchange(_root, KernelLayout.DoorbellPage, 0, isShared ? CBit : 0, 0);
        _facts.HasDoorbell = hasDoorbell;
        Assert.Equal(expected, Audit().Run(_root, 0));
    }

    [Fact]
    public void Run_AnotherCpu_SharesTheSharedPartOnly()
    {
        Assert.Equal(MemoryError.None, Tables.CreateCpu(_root, out PhysicalAddress root));
        Tables.Exchange(root, KernelLayout.GhcbPage, 0, CBit, 0);
        Assert.Equal(PartitionFault.None, Audit().Run(_root, 0));
        Assert.Equal(PartitionFault.None, Audit().Run(root, 1));
        Assert.Equal(PartitionFault.None, Audit().Run(_root, 0));

        // A stack page of the first CPU in the part of the second.
        ulong stolen = Tables.Read(_root, KernelLayout.StackBottom, 0);
        Tables.Exchange(root, KernelLayout.StackBottom, 0, ulong.MaxValue, stolen);
        Assert.Equal(PartitionFault.MappedTwice, Audit().Run(root, 1));
        Assert.True(_memory.IsIdle);
    }

    [Theory]
    [InlineData(0ul, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(0x7FFF_FFFF_F000ul, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(0xFFFF_8000_0000_0000ul, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelAddressSpace.PerCpuBase, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelLayout.StackTop, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelLayout.StackBottom - 0x1000, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelAddressSpace.WindowBase + 0x1000, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelLayout.PageWindow, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelLayout.LargeWindow, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelAddressSpace.GlobalBase, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(Data + 0x1000, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelAddressSpace.PageTables, PageEntry.Data, PartitionFault.Outside)]
    [InlineData(KernelAddressSpace.Configuration + 0x1000, Constant, PartitionFault.Outside)]
    [InlineData(KernelAddressSpace.MemoryMap, PageEntry.Data, PartitionFault.WrongRights)]
    [InlineData(KernelLayout.KernelPages + 0x3000, Constant, PartitionFault.WrongRights)]
    [InlineData(KernelLayout.KernelPages + 0x3000, Code, PartitionFault.WrongRights)]
    [InlineData(KernelLayout.KernelPages + 0x3000, Code | PageEntry.Writable, PartitionFault.WritableAndExecutable)]
    [InlineData(KernelLayout.KernelPages + 0x3000, PageEntry.Data | PageEntry.User, PartitionFault.UserMode)]
    public void Run_PageThatDoesNotBelong_IsFound(ulong address, ulong flags, object expected)
    {
        Map(address, flags);
        PageTableAudit<ArrayTableMemory> audit = Audit();
        Assert.Equal((PartitionFault)expected, audit.Run(_root, 0));

        // In the lower half, the first entry that leads there is enough.
        Assert.InRange(address - audit.Address, 0ul, address >> 63 == 0 || address < KernelAddressSpace.PerCpuBase ? (1ul << 39) - 1 : 0);
        Assert.True(_memory.IsIdle);
    }

    [Theory]
    [InlineData(Text, PageEntry.Writable, PartitionFault.WritableAndExecutable)]
    [InlineData(ReadOnly, PageEntry.Writable, PartitionFault.WrongRights)]
    [InlineData(KernelAddressSpace.Configuration, PageEntry.Writable, PartitionFault.WrongRights)]
    [InlineData(Data, PageEntry.User, PartitionFault.UserMode)]
    [InlineData(KernelLayout.GhcbPage, CBit, PartitionFault.WrongEncryption)]
    public void Run_RightsThatWereAdded_AreFound(ulong address, ulong bits, object expected)
    {
        Tables.Exchange(_root, address, 0, 0, bits);
        Assert.Equal((PartitionFault)expected, Audit().Run(_root, 0));
    }

    [Theory]
    [InlineData(Text, PageEntry.Present, PartitionFault.None)]
    [InlineData(Data, CBit, PartitionFault.WrongEncryption)]
    [InlineData(Data, PageEntry.NoExecute, PartitionFault.WritableAndExecutable)]
    [InlineData(ReadOnly, PageEntry.NoExecute, PartitionFault.WrongRights)]
    [InlineData(Data, PageEntry.Writable, PartitionFault.WrongRights)]
    public void Run_BitsThatWereTaken_AreFound(ulong address, ulong bits, object expected)
    {
        Tables.Exchange(_root, address, 0, bits, 0);
        Assert.Equal((PartitionFault)expected, Audit().Run(_root, 0));
    }

    [Theory]
    [InlineData(0xFFul)]
    [InlineData(0x300ul)]
    [InlineData(0x1200ul)]
    [InlineData(0ul)]
    public void Run_FrameOfTheGuest_IsFound(ulong page)
    {
        Assert.Equal(MemoryError.None, Tables.Map(_root, KernelLayout.KernelPages + 0x3000, PhysicalAddress.OfPage(page), PageEntry.Data));
        Assert.Equal(PartitionFault.NotOurs, Audit().Run(_root, 0));
    }

    [Fact]
    public void Run_FrameOfPageStatesElsewhere_IsFound()
    {
        Assert.Equal(MemoryError.None, Tables.Map(_root, KernelLayout.KernelPages + 0x3000, PhysicalAddress.OfPage(0x1005), PageEntry.Data));
        Assert.Equal(PartitionFault.MappedTwice, Audit().Run(_root, 0));
    }

    [Fact]
    public void Run_OpenWindow_MayShowAnything()
    {
        Assert.Equal(MemoryError.None, Tables.Map(_root, KernelAddressSpace.WindowBase + 0x5000, PhysicalAddress.OfPage(0x5_0000), PageEntry.Data));
        Assert.Equal(PartitionFault.Outside, Audit().Run(_root, 0));
        _windows[0] = 1 << 5;
        Assert.Equal(PartitionFault.None, Audit().Run(_root, 0));
    }

    [Fact]
    public void Run_SharedTable_IsFound()
    {
        Tables.Exchange(_root, Data, 1, CBit, 0);
        Assert.Equal(PartitionFault.WrongEncryption, Audit().Run(_root, 0));
    }

    private PageTableAudit<ArrayTableMemory> Audit() => new(ref _memory, CBit, in _facts, _marks, _windows);

    private void Map(ulong address, ulong flags) => Assert.Equal(MemoryError.None, Tables.Map(_root, address, _memory.Allocate(), flags));
}
