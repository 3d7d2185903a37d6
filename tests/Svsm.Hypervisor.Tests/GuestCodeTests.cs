// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The guest's code and the addresses that its instructions touch.</summary>
public sealed unsafe class GuestCodeTests
{
    private const ulong Page = 0x90_1000;

    [Fact]
    public void Read_AcrossPages_GivesBoth()
    {
        using var machine = new TestMachine();
        machine.Private(TestMachine.Free)[4095] = 0x11;
        machine.Private(TestMachine.Free + 4096)[0] = 0x22;
        machine.Cpu.State->Rip = TestMachine.Free + 4095;
        Span<byte> code = stackalloc byte[2];
        Assert.Equal(2, GuestCode.Read(machine.Memory, machine.Cpu, code));
        Assert.Equal([0x11, 0x22], code.ToArray());
    }

    [Fact]
    public void Read_NextPageUnreachable_GivesWhatThereIs()
    {
        using var machine = new TestMachine();
        machine.Private(TestMachine.Free);
        machine.Cpu.State->Rip = TestMachine.Free + 4090;
        Assert.Equal(6, GuestCode.Read(machine.Memory, machine.Cpu, stackalloc byte[15]));
        machine.Cpu.State->Rip = Page;
        Assert.Equal(0, GuestCode.Read(machine.Memory, machine.Cpu, stackalloc byte[15]));
    }

    [Fact]
    public void Mode_CodeSegment_Decides()
    {
        using var machine = new TestMachine();
        Assert.Equal(64, GuestCode.Mode(machine.Cpu));
        machine.Cpu.State->Cs.Attributes = 0xC9B;
        Assert.Equal(32, GuestCode.Mode(machine.Cpu));
        machine.Cpu.State->Cs.Attributes = 0x09B;
        Assert.Equal(16, GuestCode.Mode(machine.Cpu));
    }

    // Rows: code, register that holds the address, what it holds less the page.
    [Theory]
    [InlineData("488B4010", VirtualCpu.Rax, 0)]
    [InlineData("48894008", VirtualCpu.Rax, 0x20)]
    [InlineData("F3A4", VirtualCpu.Rsi, 0)]
    [InlineData("F3AB", VirtualCpu.Rdi, 0)]
    [InlineData("50", VirtualCpu.Rsp, 0x100)]
    [InlineData("C3", VirtualCpu.Rsp, 0)]
    [InlineData("0FAE00", VirtualCpu.Rax, -0x100)]
    public void TryFindFaultAddress_Operand_IsFound(string code, int register, long offset)
    {
        using var machine = new TestMachine();
        machine.Code(Convert.FromHexString(code));
        machine.Cpu.Registers[register] = Page + (ulong)offset;
        Assert.True(GuestCode.TryFindFaultAddress(machine.Memory, machine.Cpu, Page + 0x18, isFetch: false, out ulong linear));
        Assert.Equal(Page + 0x18, linear);
    }

    [Fact]
    public void TryFindFaultAddress_GsRelative_UsesTheBase()
    {
        using var machine = new TestMachine();
        machine.Code(0x65, 0x48, 0x8B, 0x04, 0x25, 0x18, 0, 0, 0);
        machine.Cpu.State->Gs.Base = Page;
        Assert.True(GuestCode.TryFindFaultAddress(machine.Memory, machine.Cpu, Page + 0x18, isFetch: false, out ulong linear));
        Assert.Equal(Page + 0x18, linear);
    }

    [Fact]
    public void TryFindFaultAddress_TableNotValidated_GivesTheOperand()
    {
        using var machine = new TestMachine();
        machine.Code(0x48, 0x8B, 0x00);
        ulong table = 0xA0_0000;
        machine.Entry(TestMachine.Root, 2, table | Amd64.CBit | 7);
        machine.Private(table);
        machine.Page(table)->Validated = false;
        machine.Cpu.Registers[VirtualCpu.Rax] = 0x100_0000_0123;
        Assert.True(GuestCode.TryFindFaultAddress(machine.Memory, machine.Cpu, table, isFetch: false, out ulong linear));
        Assert.Equal(0x100_0000_0123ul, linear);
    }

    [Fact]
    public void TryFindFaultAddress_NothingMatches_IsNotFound()
    {
        using var machine = new TestMachine();
        machine.Code(0x48, 0x8B, 0x00);
        Assert.False(GuestCode.TryFindFaultAddress(machine.Memory, machine.Cpu, Page, isFetch: false, out _));
    }
}
