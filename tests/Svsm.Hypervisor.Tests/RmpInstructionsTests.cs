// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>PVALIDATE and RMPADJUST: results, flags, exceptions, stops.</summary>
public sealed unsafe class RmpInstructionsTests
{
    private const ulong Gpa = 0x20_0000;
    private const ulong Other = 0x40_1000;
    private const ulong GpEvent = 0x8000_0B0D;
    private const ulong Large = 0x20_0000;

    private static readonly Instruction s_instruction = new() { Length = 4, AddressSize = 64, Segment = -1 };

    [Fact]
    public void Validate_FreshPage_SucceedsWithClearCarry()
    {
        using var machine = new TestMachine();
        machine.Memory.Assign(machine.Page(Other), Other, large: false);
        machine.Cpu.State->Rip = 0x100;
        machine.Cpu.State->Rflags |= Amd64.FlagCarry | Amd64.FlagSign;
        Assert.True(Validate(machine, Other, large: false, validate: true));
        Assert.Equal(RmpResult.Success, (RmpResult)machine.Cpu.Registers[VirtualCpu.Rax]);
        Assert.Equal(Amd64.FlagZero | Amd64.FlagParity, machine.Cpu.State->Rflags & ~Amd64.FlagReserved);
        Assert.Equal(0x104ul, machine.Cpu.State->Rip);
        Assert.True(machine.Page(Other)->Validated);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Validate_SameStateAgain_SetsCarry(bool validate)
    {
        using var machine = new TestMachine();
        machine.Private(Other);
        machine.Page(Other)->Validated = validate;
        Assert.True(Validate(machine, Other, large: false, validate));
        Assert.Equal(0ul, machine.Cpu.Registers[VirtualCpu.Rax]);
        Assert.NotEqual(0ul, machine.Cpu.State->Rflags & Amd64.FlagCarry);
    }

    [Theory]
    [InlineData(3, 0)]
    [InlineData(0, 1)]
    [InlineData(0, 3)]
    public void Validate_NotCpl0OrNotVmpl0_RaisesGeneralProtection(byte cpl, int vmpl)
    {
        using var machine = new TestMachine();
        machine.Private(Other);
        machine.Cpu.State->Cpl = cpl;
        machine.Cpu.Vmpl = vmpl;
        machine.Cpu.State->Rip = 0x100;
        Assert.True(Validate(machine, Other, large: false, validate: false));
        Assert.Equal(GpEvent, machine.Cpu.Vmcb->EventInjection);
        Assert.Equal(0x100ul, machine.Cpu.State->Rip);
        Assert.True(machine.Page(Other)->Validated);
    }

    [Fact]
    public void Validate_LargeOnSmallEntry_IsSizeMismatch()
    {
        using var machine = new TestMachine();
        machine.Memory.Assign(machine.Page(Gpa), Gpa, large: false);
        Assert.True(Validate(machine, Gpa, large: true, validate: true));
        Assert.Equal(RmpResult.FailSizeMismatch, (RmpResult)machine.Cpu.Registers[VirtualCpu.Rax]);
        Assert.False(machine.Page(Gpa)->Validated);
    }

    [Fact]
    public void Validate_LargeMisaligned_IsFailInput()
    {
        using var machine = new TestMachine();
        Assert.True(Validate(machine, Gpa + 0x1000, large: true, validate: true));
        Assert.Equal(RmpResult.FailInput, (RmpResult)machine.Cpu.Registers[VirtualCpu.Rax]);
    }

    [Fact]
    public void Validate_LargeEntry_ValidatesAllPages()
    {
        using var machine = new TestMachine();
        AssignLarge(machine);
        Assert.True(Validate(machine, Gpa, large: true, validate: true));
        Assert.Equal(0ul, machine.Cpu.Registers[VirtualCpu.Rax]);
        for (ulong offset = 0; offset < Large; offset += TestMachine.PageSize)
        {
            Assert.True(machine.Page(Gpa + offset)->Validated);
            Assert.True(machine.Page(Gpa + offset)->IsLarge);
        }
    }

    [Fact]
    public void Validate_SmallOnLargeEntry_SplitsIt()
    {
        using var machine = new TestMachine();
        AssignLarge(machine);
        Assert.True(Validate(machine, Gpa + 0x3000, large: false, validate: true));
        Assert.Equal(0ul, machine.Cpu.Registers[VirtualCpu.Rax]);
        Assert.True(machine.Page(Gpa + 0x3000)->Validated);
        Assert.False(machine.Page(Gpa)->Validated);
        Assert.False(machine.Page(Gpa)->IsLarge);
    }

    [Fact]
    public void Validate_UnassignedPage_StopsTheRun()
    {
        using var machine = new TestMachine();
        Assert.False(Validate(machine, Other, large: false, validate: true));
        Assert.Equal(ViolationKind.PrivateAccessToSharedPage, machine.Cpu.StopRequest.Violation);
        Assert.Equal(Other, machine.Cpu.StopRequest.Gpa);
    }

    [Fact]
    public void Validate_SharedMapping_StopsTheRun()
    {
        using var machine = new TestMachine();
        machine.Private(Other);
        Assert.False(Validate(machine, TestMachine.SharedView + Other, large: false, validate: false));
        Assert.Equal(ViolationKind.SharedAccessToPrivatePage, machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Validate_BeyondRam_StopsTheRun()
    {
        using var machine = new TestMachine();
        Assert.False(Validate(machine, TestMachine.RamLength, large: false, validate: true));
        Assert.Equal(ViolationKind.NoMemory, machine.Cpu.StopRequest.Violation);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Validate_RunningVmsa_IsInUse(bool validate)
    {
        using var machine = new TestMachine();
        machine.Private(Other);
        machine.Page(Other)->IsRunning = true;
        Assert.True(Validate(machine, Other, large: false, validate));
        Assert.Equal(RmpResult.FailInUse, (RmpResult)machine.Cpu.Registers[VirtualCpu.Rax]);
        Assert.True(machine.Page(Other)->Validated);
    }

    [Fact]
    public void Adjust_LargeOnSmallEntryThatIsNotValidated_RaisesVcFirst()
    {
        using var machine = new TestMachine();
        machine.Memory.Assign(machine.Page(Gpa), Gpa, large: false);
        machine.Cpu.State->Idtr = default;
        machine.Cpu.Registers[VirtualCpu.Rax] = Gpa;
        machine.Cpu.Registers[VirtualCpu.Rcx] = 1;
        machine.Cpu.Registers[VirtualCpu.Rdx] = 1;
        Assert.False(RmpInstructions.Adjust(machine.Machine, machine.Cpu, in s_instruction));
        Assert.Equal(ViolationKind.VcNotDelivered, machine.Cpu.StopRequest.Violation);
        Assert.Equal(Gpa, machine.Cpu.State->Cr2);
    }

    [Fact]
    public void Validate_UnmappedAddress_RaisesPageFault()
    {
        using var machine = new TestMachine();
        Assert.True(Validate(machine, 0x4000_0000, large: false, validate: true));
        Assert.Equal(0x8000_0B0Eul, machine.Cpu.Vmcb->EventInjection);
        Assert.Equal(0x4000_0000ul, machine.Cpu.State->Cr2);
    }

    [Fact]
    public void Validate_NotCanonical_RaisesGeneralProtection()
    {
        using var machine = new TestMachine();
        Assert.True(Validate(machine, 0x8000_0000_0000, large: false, validate: true));
        Assert.Equal(GpEvent, machine.Cpu.Vmcb->EventInjection);
    }

    [Theory]
    [InlineData(0, 0ul, RmpResult.FailPermission)]
    [InlineData(0, 1ul, RmpResult.Success)]
    [InlineData(0, 3ul, RmpResult.Success)]
    [InlineData(0, 4ul, RmpResult.FailInput)]
    [InlineData(0, 1ul | (1ul << 12), RmpResult.FailInput)]
    [InlineData(0, 1ul | (1ul << 17), RmpResult.FailInput)]
    [InlineData(2, 1ul, RmpResult.FailPermission)]
    [InlineData(2, 2ul, RmpResult.FailPermission)]
    [InlineData(2, 3ul | 0x100, RmpResult.Success)]
    [InlineData(2, 3ul | 0x300, RmpResult.FailPermission)]
    [InlineData(3, 3ul, RmpResult.FailPermission)]
    public void Adjust_Operands_GiveTheResultOfHardware(int vmpl, ulong operand, RmpResult expected)
    {
        using var machine = new TestMachine();
        PrepareLower(machine);
        machine.Page(Other)->SetPermissions(2, RmpPermissions.Read);
        machine.Cpu.Vmpl = vmpl;
        Assert.True(Adjust(machine, Other, operand));
        Assert.Equal(expected, (RmpResult)machine.Cpu.Registers[VirtualCpu.Rax]);
        if (expected == RmpResult.Success)
        {
            Assert.Equal((RmpPermissions)(operand & 0xF00), machine.Page(Other)->GetPermissions((int)(operand & 3)));
        }
    }

    [Fact]
    public void Adjust_VmsaBit_FollowsRdxAtVmpl0Only()
    {
        using var machine = new TestMachine();
        PrepareLower(machine);
        Assert.True(Adjust(machine, Other, 1 | (1ul << 16)));
        Assert.True(machine.Page(Other)->IsVmsa);
        machine.Page(Other)->SetPermissions(2, RmpPermissions.All);
        machine.Cpu.Vmpl = 2;
        Assert.True(Adjust(machine, Other, 3));
        Assert.Equal(0ul, machine.Cpu.Registers[VirtualCpu.Rax]);
        Assert.True(machine.Page(Other)->IsVmsa);
        machine.Cpu.Vmpl = 0;
        Assert.True(Adjust(machine, Other, 1));
        Assert.False(machine.Page(Other)->IsVmsa);
    }

    [Fact]
    public void Adjust_RunningVmsa_IsInUse()
    {
        using var machine = new TestMachine();
        machine.Private(Other);
        machine.Page(Other)->IsRunning = true;
        Assert.True(Adjust(machine, Other, 1));
        Assert.Equal(RmpResult.FailInUse, (RmpResult)machine.Cpu.Registers[VirtualCpu.Rax]);
    }

    [Fact]
    public void Adjust_NotCpl0_RaisesGeneralProtection()
    {
        using var machine = new TestMachine();
        machine.Private(Other);
        machine.Cpu.State->Cpl = 3;
        Assert.True(Adjust(machine, Other, 1));
        Assert.Equal(GpEvent, machine.Cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void Adjust_TakesRightsAway_UnmapsThePage()
    {
        using var machine = new TestMachine();
        machine.Private(Other);
        GuestPage* page = machine.Page(Other);
        page->SetPermissions(2, RmpPermissions.All);
        machine.Memory.MapNested(page, Other, 2, isPrivate: true, out _);
        Assert.True(Adjust(machine, Other, 2));
        Assert.Equal(0ul, machine.Memory.NestedTables.Lookup(2, Other, isPrivate: true));
    }

    private static void PrepareLower(TestMachine machine)
    {
        machine.Private(Other);
        for (ulong table = 0; table < 5; table++)
        {
            for (int vmpl = 1; vmpl <= 3; vmpl++)
            {
                machine.Page(TestMachine.Root + (table * TestMachine.PageSize))->SetPermissions(vmpl, RmpPermissions.All);
            }
        }
    }

    private static void AssignLarge(TestMachine machine)
    {
        for (ulong offset = 0; offset < Large; offset += TestMachine.PageSize)
        {
            machine.Memory.Assign(machine.Page(Gpa + offset), Gpa + offset, large: true);
        }
    }

    private static bool Validate(TestMachine machine, ulong linear, bool large, bool validate)
    {
        machine.Cpu.Registers[VirtualCpu.Rax] = linear;
        machine.Cpu.Registers[VirtualCpu.Rcx] = large ? 1ul : 0;
        machine.Cpu.Registers[VirtualCpu.Rdx] = validate ? 1ul : 0;
        return RmpInstructions.Validate(machine.Machine, machine.Cpu, in s_instruction);
    }

    private static bool Adjust(TestMachine machine, ulong linear, ulong operand)
    {
        machine.Cpu.Registers[VirtualCpu.Rax] = linear;
        machine.Cpu.Registers[VirtualCpu.Rcx] = 0;
        machine.Cpu.Registers[VirtualCpu.Rdx] = operand;
        return RmpInstructions.Adjust(machine.Machine, machine.Cpu, in s_instruction);
    }
}
