// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The guest page walk.</summary>
public sealed unsafe class GuestPageWalkTests
{
    // A 4-KiB mapping of its own: PML4 slot 2 -> tables behind the common ones.
    private const ulong Linear = 0x100_0000_0000;
    private const ulong Directory = 0x2_0000;
    private const ulong Target = 0x30_0000;
    private const ulong Leaf = Directory + (2 * TestMachine.PageSize);

    [Fact]
    public void Translate_Paging_Off_IsPrivateAndOneToOne()
    {
        using var machine = new TestMachine();
        machine.Cpu.State->Cr0 &= ~Amd64.Cr0Paging;
        WalkResult result = Translate(machine, 0x1_0000_1234, AccessKind.Write);
        Assert.Equal(WalkStatus.Done, result.Status);
        Assert.Equal(0x1234ul, result.Gpa);
        Assert.True(result.IsPrivate);
    }

    [Fact]
    public void Translate_SmallPage_GivesAddressAndCBit()
    {
        using TestMachine machine = MakeMapping(7, 7, Target | 7 | Amd64.CBit);
        WalkResult result = Translate(machine, Linear + 0x123, AccessKind.Read);
        Assert.Equal((WalkStatus.Done, Target + 0x123, true), (result.Status, result.Gpa, result.IsPrivate));
    }

    [Fact]
    public void Translate_LargePage_AddsTheOffset()
    {
        using var machine = new TestMachine();
        WalkResult result = Translate(machine, TestMachine.SharedView + 0x32_1234, AccessKind.Read);
        Assert.Equal((WalkStatus.Done, 0x32_1234ul, false), (result.Status, result.Gpa, result.IsPrivate));
    }

    [Fact]
    public void Translate_TablePointersWithoutCBit_ReadPrivateMemory()
    {
        using TestMachine machine = MakeMapping(7, 7, Target | 7 | Amd64.CBit);
        machine.Entry(TestMachine.Root, 2, Directory | 7);
        machine.Cpu.State->Cr3 = TestMachine.Root;
        Assert.Equal(WalkStatus.Done, Translate(machine, Linear, AccessKind.Read).Status);
    }

    [Theory]
    [InlineData(0ul, AccessKind.Read, false, 0u)]
    [InlineData(0ul, AccessKind.Write, true, 6u)]
    [InlineData(5ul, AccessKind.Write, false, 3u)]
    [InlineData(3ul, AccessKind.Read, true, 5u)]
    [InlineData(0x8000_0000_0000_0007ul, AccessKind.Fetch, false, 0x11u)]
    [InlineData(0x0001_0000_0000_0007ul, AccessKind.Read, false, 9u)]
    internal void Translate_RefusedByThePageTable_HasTheErrorCode(ulong leafFlags, AccessKind kind, bool user, uint errorCode)
    {
        using TestMachine machine = MakeMapping(7, 7, leafFlags == 0 ? 0 : Target | leafFlags | Amd64.CBit);
        WalkResult result = GuestPageWalk.Translate(machine.Memory, machine.Cpu.State, 0, Linear, kind, user);
        Assert.Equal(WalkStatus.PageFault, result.Status);
        Assert.Equal(errorCode, result.ErrorCode);
    }

    [Theory]
    [InlineData(5, 7)]
    [InlineData(7, 5)]
    public void Translate_UpperLevelReadOnly_RefusesWrites(ulong first, ulong second)
    {
        using TestMachine machine = MakeMapping(first, second, Target | 7 | Amd64.CBit);
        Assert.Equal(WalkStatus.PageFault, Translate(machine, Linear, AccessKind.Write).Status);
        machine.Cpu.State->Cr0 &= ~Amd64.Cr0WriteProtect;
        Assert.Equal(WalkStatus.Done, Translate(machine, Linear, AccessKind.Write).Status);
    }

    [Fact]
    public void Translate_Smap_RefusesUserPagesUnlessAc()
    {
        using TestMachine machine = MakeMapping(7, 7, Target | 7 | Amd64.CBit);
        machine.Cpu.State->Cr4 |= Amd64.Cr4Smap | Amd64.Cr4Smep;
        Assert.Equal(WalkStatus.PageFault, Translate(machine, Linear, AccessKind.Read).Status);
        Assert.Equal(WalkStatus.PageFault, Translate(machine, Linear, AccessKind.Fetch).Status);
        machine.Cpu.State->Rflags |= Amd64.FlagAlignment;
        Assert.Equal(WalkStatus.Done, Translate(machine, Linear, AccessKind.Read).Status);
    }

    [Fact]
    public void Translate_Access_SetsAccessedAndDirty()
    {
        using TestMachine machine = MakeMapping(7, 7, Target | 7 | Amd64.CBit);
        Translate(machine, Linear, AccessKind.Read);
        Assert.Equal(Amd64.PteAccessed, *(ulong*)machine.Private(Leaf) & (Amd64.PteAccessed | Amd64.PteDirty));
        Translate(machine, Linear, AccessKind.Write);
        Assert.Equal(Amd64.PteAccessed | Amd64.PteDirty, *(ulong*)machine.Private(Leaf) & (Amd64.PteAccessed | Amd64.PteDirty));
        Assert.Equal(Amd64.PteAccessed, *(ulong*)machine.Private(Directory) & (Amd64.PteAccessed | Amd64.PteDirty));
    }

    [Fact]
    public void Translate_TableInSharedMemory_IsRefused()
    {
        using TestMachine machine = MakeMapping(7, 7, Target | 7 | Amd64.CBit);
        machine.Memory.Unassign(machine.Page(Leaf), Leaf);
        WalkResult result = Translate(machine, Linear, AccessKind.Read);
        Assert.Equal((WalkStatus.Refused, AccessVerdict.PrivateAccessToSharedPage, Leaf), (result.Status, result.Verdict, result.Gpa));
    }

    [Fact]
    public void Translate_NotCanonical_IsToldApart()
    {
        using var machine = new TestMachine();
        Assert.Equal(WalkStatus.NotCanonical, Translate(machine, 0x0000_8000_0000_0000, AccessKind.Read).Status);
    }

    [Fact]
    public void Translate_OtherModes_AreUnsupported()
    {
        using var machine = new TestMachine();
        machine.Cpu.State->Cr4 |= Amd64.Cr4La57;
        Assert.Equal(WalkStatus.Unsupported, Translate(machine, 0, AccessKind.Read).Status);
        machine.Cpu.State->Cr4 &= ~Amd64.Cr4La57;
        machine.Cpu.State->Efer &= ~Amd64.EferLongModeActive;
        Assert.Equal(WalkStatus.Unsupported, Translate(machine, 0, AccessKind.Read).Status);
    }

    private static TestMachine MakeMapping(ulong first, ulong second, ulong leaf)
    {
        var machine = new TestMachine();
        for (ulong table = 0; table < 3; table++)
        {
            TestMachine.Clear(machine.Private(Directory + (table * TestMachine.PageSize)));
        }

        machine.Entry(TestMachine.Root, 2, Directory | Amd64.CBit | 7);
        machine.Entry(Directory, 0, (Directory + TestMachine.PageSize) | Amd64.CBit | first);
        machine.Entry(Directory + TestMachine.PageSize, 0, Leaf | Amd64.CBit | second);
        machine.Entry(Leaf, 0, leaf);
        return machine;
    }

    private static WalkResult Translate(TestMachine machine, ulong linear, AccessKind kind)
    {
        return GuestPageWalk.Translate(machine.Memory, machine.Cpu.State, 0, linear, kind, user: false);
    }
}
