// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>A remembered translation is used only while a walk would end the same way.</summary>
public sealed unsafe class RememberedWalkTests
{
    private const ulong Window = 0x4000_0000;
    private const ulong Directory = TestMachine.Free;
    private const ulong Table = TestMachine.Free + 0x1000;
    private const ulong First = TestMachine.Free + 0x2000;
    private const ulong Second = TestMachine.Free + 0x3000;

    [Fact]
    public void Reach_Twice_GivesTheSameByte()
    {
        using TestMachine machine = Make();
        byte* expected = machine.Private(First) + 0x123;
        Assert.True(Reach(machine, 0x123) == expected);
        Assert.True(Reach(machine, 0x123) == expected);
        Assert.True(Reach(machine, 0) == expected - 0x123);
        Assert.True(Reach(machine, 0xFFF) == expected - 0x123 + 0xFFF);
    }

    // Rows: table, index of the entry that leads to the window in it.
    [Theory]
    [InlineData(TestMachine.Root, 0)]
    [InlineData(TestMachine.Root + 0x1000, 1)]
    [InlineData(Directory, 0)]
    [InlineData(Table, 0)]
    public void Reach_TableEntryCleared_IsForgotten(ulong table, ulong index)
    {
        using TestMachine machine = Make();
        Assert.True(Reach(machine, 0) != null);
        machine.Entry(table, index, 0);
        Assert.True(Reach(machine, 0) == null);
    }

    [Fact]
    public void Reach_PageMapped_IsTheNewOne()
    {
        using TestMachine machine = Make();
        Reach(machine, 0);
        machine.Entry(Table, 0, Second | Amd64.CBit | 7);
        Assert.True(Reach(machine, 8) == machine.Private(Second) + 8);
    }

    [Fact]
    public void Reach_SmallPageBecomesLarge_IsTheNewOne()
    {
        using TestMachine machine = Make();
        Reach(machine, 0);
        machine.Private(0x20_0000);
        machine.Entry(Directory, 0, 0x20_0000 | Amd64.CBit | Amd64.PteLarge | 7);
        Assert.True(Reach(machine, 8) == machine.Private(0x20_0000) + 8);
        Assert.True(Reach(machine, 8) == machine.Private(0x20_0000) + 8);
    }

    // Rows: a page that the walk goes through.
    [Theory]
    [InlineData(TestMachine.Root)]
    [InlineData(Directory)]
    [InlineData(Table)]
    [InlineData(First)]
    public void Reach_PageRescinded_IsForgotten(ulong gpa)
    {
        using TestMachine machine = Make();
        Assert.True(Reach(machine, 0) != null);
        machine.Page(gpa)->Validated = false;
        machine.Memory.Unmap(machine.Page(gpa), gpa);
        Assert.True(Reach(machine, 0) == null);
    }

    [Fact]
    public void Reach_PageBecameShared_IsForgotten()
    {
        using TestMachine machine = Make();
        Reach(machine, 0);
        machine.Memory.Unassign(machine.Page(First), First);
        Assert.True(Reach(machine, 0) == null);
    }

    [Fact]
    public void Reach_OtherPrivilege_IsWalkedAnew()
    {
        using TestMachine machine = Make();
        machine.Entry(Table, 0, First | Amd64.CBit | 3);
        Assert.True(Reach(machine, 0) != null);
        Assert.True(Reach(machine, 0, user: true) == null);
    }

    [Fact]
    public void Reach_OtherVmpl_HasItsOwn()
    {
        using TestMachine machine = Make();
        Assert.True(Reach(machine, 0) != null);
        machine.Cpu.Vmpl = 2;
        Assert.True(Reach(machine, 0) == null);
        machine.Cpu.Vmpl = 0;
        Assert.True(Reach(machine, 0) != null);
    }

    [Fact]
    public void Reach_ControlRegisters_AreLookedAt()
    {
        using TestMachine machine = Make();
        Vmsa* state = machine.Cpu.State;
        Assert.True(Reach(machine, 0) != null);

        // The window is a user page: SMEP keeps supervisor fetches out.
        state->Cr4 |= Amd64.Cr4Smep;
        Assert.True(Reach(machine, 0) == null);
        state->Cr4 &= ~Amd64.Cr4Smep;
        Assert.True(Reach(machine, 0) != null);
        state->Cr3 = Directory | Amd64.CBit;
        Assert.True(Reach(machine, 0) == null);
        state->Cr3 = TestMachine.Root | Amd64.CBit;
        Assert.True(Reach(machine, 0) != null);

        // Without paging the address is a physical one, beyond RAM.
        state->Cr0 &= ~Amd64.Cr0Paging;
        Assert.True(Reach(machine, 0) == null);
    }

    [Fact]
    public void Reach_AlignmentFlag_CountsForData()
    {
        using TestMachine machine = Make();
        Vmsa* state = machine.Cpu.State;
        state->Cr4 |= Amd64.Cr4Smap;
        state->Rflags |= Amd64.FlagAlignment;
        Assert.True(RememberedWalk.Reach(machine.Memory, machine.Cpu, WalkUse.Stack, Window, AccessKind.Write, user: false) != null);
        state->Rflags &= ~Amd64.FlagAlignment;
        Assert.True(RememberedWalk.Reach(machine.Memory, machine.Cpu, WalkUse.Stack, Window, AccessKind.Write, user: false) == null);
    }

    [Theory]
    [InlineData("0F30")]
    [InlineData("0F32")]
    [InlineData("F30F01D9")]
    [InlineData("F20F01FF")]
    [InlineData("F30F01FE")]
    public void TryDecodeUsual_Known_IsWhatDecodeSays(string hex)
    {
        byte[] code = Convert.FromHexString(hex + "909090");
        foreach (int mode in (ReadOnlySpan<int>)[64, 32, 16])
        {
            Assert.True(InstructionDecoder.TryDecodeUsual(BitConverter.ToUInt32(code), mode, out Instruction usual));
            Assert.Equivalent(InstructionDecoder.Decode(code, mode), usual, strict: true);
        }
    }

    [Theory]
    [InlineData("0FA29090")]
    [InlineData("0F01D990")]
    [InlineData("F20F01D9")]
    [InlineData("F30F01FF")]
    [InlineData("F20F01FE")]
    [InlineData("67F20F01")]
    public void TryDecodeUsual_Others_AreLeftToDecode(string hex)
    {
        Assert.False(InstructionDecoder.TryDecodeUsual(BitConverter.ToUInt32(Convert.FromHexString(hex)), 64, out _));
    }

    private static byte* Reach(TestMachine machine, ulong offset, bool user = false) =>
        RememberedWalk.Reach(machine.Memory, machine.Cpu, WalkUse.Code, Window + offset, AccessKind.Fetch, user);

    private static TestMachine Make()
    {
        var machine = new TestMachine();
        foreach (ulong page in (ReadOnlySpan<ulong>)[Directory, Table, First, Second])
        {
            TestMachine.Clear(machine.Private(page));
        }

        machine.Entry(TestMachine.Root + 0x1000, 1, Directory | Amd64.CBit | 7);
        machine.Entry(Directory, 0, Table | Amd64.CBit | 7);
        machine.Entry(Table, 0, First | Amd64.CBit | 7);
        return machine;
    }
}
