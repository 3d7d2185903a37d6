// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Exits of the level-1 processor become what an SNP processor does.</summary>
public sealed unsafe class ExitHandlerTests
{
    private const ulong UdEvent = 0x8000_0306;
    private const ulong GpEvent = 0x8000_0B0D;

    [Fact]
    public void GhcbMsr_WriteThenRead_KeepsTheValuePerVmpl()
    {
        using var machine = new TestMachine();
        machine.Code(0x0F, 0x30);
        VirtualCpu cpu = machine.Cpu;
        cpu.Registers[VirtualCpu.Rcx] = SevMsr.Ghcb;
        cpu.Registers[VirtualCpu.Rax] = 0xFFFF_FFFF_1234_5678;
        cpu.Registers[VirtualCpu.Rdx] = 0x9ABC;
        Assert.True(Exit(machine, ExitCode.Msr, info1: 1));
        Assert.Equal(0x9ABC_1234_5678ul, cpu.Contexts[0].GhcbMsr);
        Assert.Equal(0ul, cpu.Contexts[2].GhcbMsr);
        Assert.Equal(TestMachine.Free + 2, cpu.State->Rip);
        Assert.Equal(1ul, cpu.Current.Statistics->Ticks);

        machine.Code(0x0F, 0x32);
        cpu.Registers[VirtualCpu.Rax] = 0;
        Assert.True(Exit(machine, ExitCode.Msr, info1: 0));
        Assert.Equal((0x1234_5678ul, 0x9ABCul), (cpu.Registers[VirtualCpu.Rax], cpu.Registers[VirtualCpu.Rdx]));
    }

    [Fact]
    public void SevStatus_Read_ShowsTheFeaturesOfTheVmsa()
    {
        using var machine = new TestMachine();
        machine.Code(0x0F, 0x32);
        machine.Cpu.Features = SevFeatures.SnpActive | SevFeatures.DebugSwap;
        machine.Cpu.Registers[VirtualCpu.Rcx] = SevMsr.SevStatus;
        Assert.True(Exit(machine, ExitCode.Msr, info1: 0));
        Assert.Equal(0x87ul, machine.Cpu.Registers[VirtualCpu.Rax]);
    }

    [Fact]
    public void SevStatus_Write_RaisesGeneralProtection()
    {
        using var machine = new TestMachine();
        machine.Code(0x0F, 0x30);
        machine.Cpu.Registers[VirtualCpu.Rcx] = SevMsr.SevStatus;
        Assert.True(Exit(machine, ExitCode.Msr, info1: 1));
        Assert.Equal(GpEvent, machine.Cpu.Vmcb->EventInjection);
    }

    [Theory]
    [InlineData("0F0B")]
    [InlineData("F30F01FF")]
    [InlineData("F20F01FE")]
    [InlineData("F30F01FD")]
    public void InvalidOpcode_NotOurs_GoesToTheGuest(string code)
    {
        using var machine = new TestMachine();
        machine.Code(Convert.FromHexString(code));
        Assert.True(Exit(machine, ExitCode.InvalidOpcode));
        Assert.Equal(UdEvent, machine.Cpu.Vmcb->EventInjection);
        Assert.Equal(TestMachine.Free, machine.Cpu.State->Rip);
    }

    [Theory]
    [InlineData(0, 7, 0ul)]
    [InlineData(0, 8, GpEvent)]
    [InlineData(3, 0, GpEvent)]
    public void Invlpgb_CountAndCpl_AreChecked(byte cpl, uint count, ulong raised)
    {
        using var machine = new TestMachine();
        machine.Code(0x0F, 0x01, 0xFE);
        machine.Cpu.State->Cpl = cpl;
        for (ulong i = 0; i < 512; i++)
        {
            // The code's page for CPL 3 as well.
            machine.Entry(TestMachine.Root + (2 * TestMachine.PageSize), i, (i << 21) | Amd64.CBit | 0x87);
        }

        machine.Cpu.Registers[VirtualCpu.Rcx] = count;
        Assert.True(Exit(machine, ExitCode.InvalidOpcode));
        Assert.Equal(raised, machine.Cpu.Vmcb->EventInjection);
        Assert.Equal(raised == 0 ? TestMachine.Free + 3 : TestMachine.Free, machine.Cpu.State->Rip);
    }

    [Theory]
    [InlineData(0x40ul, 0u)]
    [InlineData(0x800ul, 0u)]
    [InlineData(0ul, 0x1_0000u)]
    public void Invlpgb_ReservedBits_RaiseGeneralProtection(ulong rax, uint ecx)
    {
        using var machine = new TestMachine();
        machine.Code(0x0F, 0x01, 0xFE);
        machine.Cpu.Registers[VirtualCpu.Rax] = rax;
        machine.Cpu.Registers[VirtualCpu.Rcx] = ecx;
        Assert.True(Exit(machine, ExitCode.InvalidOpcode));
        Assert.Equal(GpEvent, machine.Cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void Flushes_ThatExit_AreNotedAndDone()
    {
        const ulong Gpa = 0x40_0000;
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        StaleTranslations stale = machine.Memory.Stale;
        stale.Rescind(cpu, Gpa, Gpa, 4096, isGlobal: false);
        machine.Code(0x0F, 0x01, 0x3F);
        cpu.Registers[VirtualCpu.Rdi] = Gpa;
        Assert.True(Exit(machine, ExitCode.Invlpg));
        Assert.Equal((false, TestMachine.Free + 3), (stale.IsOwnPending(Gpa, 0), cpu.State->Rip));

        stale.Rescind(cpu, Gpa, Gpa, 4096, isGlobal: false);
        machine.Code(0x0F, 0x22, 0xD8);
        cpu.Registers[VirtualCpu.Rax] = TestMachine.Root | Amd64.CBit | 0x18;
        Assert.True(Exit(machine, ExitCode.Cr3Write));
        Assert.Equal((false, TestMachine.Free + 3, TestMachine.Root | Amd64.CBit | 0x18), (stale.IsOwnPending(Gpa, 0), cpu.State->Rip, cpu.State->Cr3));
    }

    [Fact]
    public void Cr4_PageGlobal_IsWrittenAndFlushes()
    {
        const ulong Gpa = 0x40_0000;
        using var machine = new TestMachine();
        machine.Memory.Stale.Rescind(machine.Cpu, Gpa, Gpa, 4096, isGlobal: true);
        machine.Code(0x0F, 0x22, 0xE7);
        machine.Cpu.Registers[VirtualCpu.Rdi] = Amd64.Cr4Pae | Amd64.Cr4PageGlobal;
        Assert.True(Exit(machine, ExitCode.Cr4Write));
        Assert.False(machine.Memory.Stale.IsOwnPending(Gpa, 0));
        Assert.Equal((Amd64.Cr4Pae | Amd64.Cr4PageGlobal, TestMachine.Free + 3), (machine.Cpu.State->Cr4, machine.Cpu.State->Rip));
    }

    // Values that may fault: the processor tries them itself.
    [Theory]
    [InlineData(ExitCode.Cr3Write, 0xD8, 1ul << 52)]
    [InlineData(ExitCode.Cr4Write, 0xE0, 1ul << 40)]
    public void PagingWrite_UnusualValue_IsLeftToTheProcessor(ulong exitCode, byte modRm, ulong value)
    {
        using var machine = new TestMachine();
        machine.Memory.Stale.Rescind(machine.Cpu, 0x40_0000, 0x40_0000, 4096, isGlobal: true);
        machine.Code(0x0F, 0x22, modRm);
        machine.Cpu.Registers[VirtualCpu.Rax] = value;
        Assert.True(Exit(machine, exitCode));
        Assert.Equal((TestMachine.Free, 0u), (machine.Cpu.State->Rip, machine.Cpu.Vmcb->InterceptControlRegisters));
    }

    [Fact]
    public void Cr0_PagingOn_EntersLongModeAndShowsTheViews()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        Protected32(machine);
        machine.Code(0x0F, 0x22, 0xC0);
        cpu.Registers[VirtualCpu.Rax] = 0x8001_0031;
        Assert.True(Exit(machine, ExitCode.Cr0SelectiveWrite));
        Assert.Equal(0x8001_0031ul, cpu.State->Cr0);
        Assert.NotEqual(0ul, cpu.State->Efer & Amd64.EferLongModeActive);
        Assert.Equal(machine.Memory.NestedTables.GetRoot(0, paging: true), cpu.Vmcb->NestedCr3);
        Assert.Equal(TestMachine.Free + 3, cpu.State->Rip);
    }

    [Theory]
    [InlineData(0x8000_0030ul, Amd64.Cr4Pae)]
    [InlineData(0x2000_0011ul, Amd64.Cr4Pae)]
    [InlineData(0x8000_0011ul, 0ul)]
    public void Cr0_InvalidValue_RaisesGeneralProtection(ulong value, ulong cr4)
    {
        using var machine = new TestMachine();
        Protected32(machine);
        machine.Code(0x0F, 0x22, 0xC0);
        machine.Cpu.State->Cr4 = cr4;
        machine.Cpu.Registers[VirtualCpu.Rax] = value;
        Assert.True(Exit(machine, ExitCode.Cr0SelectiveWrite));
        Assert.Equal(GpEvent, machine.Cpu.Vmcb->EventInjection);
        Assert.Equal(0x31ul, machine.Cpu.State->Cr0);
    }

    [Fact]
    public void Cr0_Lmsw_CannotLeaveProtectedMode()
    {
        using var machine = new TestMachine();
        Protected32(machine);
        machine.Code(0x0F, 0x01, 0xF0);
        machine.Cpu.Registers[VirtualCpu.Rax] = 0x8;
        Assert.True(Exit(machine, ExitCode.Cr0SelectiveWrite));
        Assert.Equal(0x39ul, machine.Cpu.State->Cr0);
    }

    [Theory]
    [InlineData(ExitCode.Halt, ViolationKind.HaltForever)]
    [InlineData(ExitCode.Invalid, ViolationKind.InvalidVmsa)]
    [InlineData(0x1234ul, ViolationKind.Unsupported)]
    public void Exit_ThatNothingFollows_StopsTheRun(ulong exitCode, ViolationKind expected)
    {
        using var machine = new TestMachine();
        Assert.False(Exit(machine, exitCode));
        Assert.Equal(expected, machine.Cpu.StopRequest.Violation);
    }

    [Theory]
    [InlineData(0x80ul)]
    [InlineData(0x83ul)]
    [InlineData(0x86ul)]
    [InlineData(0x7Aul)]
    public void Exit_OfSvmInstructions_RaisesInvalidOpcode(ulong exitCode)
    {
        using var machine = new TestMachine();
        Assert.True(Exit(machine, exitCode));
        Assert.Equal(UdEvent, machine.Cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void Exit_WithSvmeCleared_StopsTheRun()
    {
        using var machine = new TestMachine();
        machine.Cpu.State->Efer &= ~Amd64.EferSvme;
        Assert.False(Exit(machine, ExitCode.Cpuid));
        Assert.Equal(ViolationKind.InvalidVmsa, machine.Cpu.StopRequest.Violation);
    }

    // Rows: what the page is, EXITINFO1, alias of the address, violation.
    [Theory]
    [InlineData("shared", 0x1_0000_0004ul, true, ViolationKind.PrivateAccessToSharedPage)]
    [InlineData("private", 0x1_0000_0004ul, false, ViolationKind.SharedAccessToPrivatePage)]
    [InlineData("private", 0x1_0000_0014ul, false, ViolationKind.SharedFetch)]
    [InlineData("shared", 0x1_0000_0014ul, false, ViolationKind.SharedFetch)]
    [InlineData("running", 0x1_0000_0006ul, true, ViolationKind.VmsaPage)]
    [InlineData("none", 0x1_0000_0004ul, true, ViolationKind.NoMemory)]
    [InlineData("none", 0x1_0000_0004ul, false, ViolationKind.NoMemory)]
    public void NestedFault_AgainstTheRmp_StopsTheRun(string kind, ulong info1, bool isPrivate, ViolationKind expected)
    {
        using var machine = new TestMachine();
        ulong gpa = kind == "none" ? TestMachine.RamLength : 0x90_1000;
        if (kind is "private" or "running")
        {
            machine.Private(gpa);
            machine.Page(gpa)->IsRunning = kind == "running";
        }

        Assert.False(Exit(machine, ExitCode.NestedPageFault, info1, gpa | (isPrivate ? Amd64.CBit : 0)));
        Assert.Equal((expected, gpa), (machine.Cpu.StopRequest.Violation, machine.Cpu.StopRequest.Gpa));
        Assert.NotEqual(0ul, machine.Cpu.Vmcb->ExitInfo1 & NestedFault.Rmp);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void NestedFault_Allowed_FillsTheTables(bool isPrivate)
    {
        using var machine = new TestMachine();
        if (isPrivate)
        {
            machine.Private(0x90_1000);
        }

        ulong address = 0x90_1008 | (isPrivate ? Amd64.CBit : 0);
        Assert.True(Exit(machine, ExitCode.NestedPageFault, 0x1_0000_0006, address));
        Assert.NotEqual(0ul, machine.Memory.NestedTables.Lookup(0, 0x90_1000, isPrivate) & Amd64.PtePresent);
        Assert.Equal(0ul, machine.Memory.NestedTables.Lookup(0, 0x90_1000, !isPrivate));

        // The same fault again is one that nothing explains.
        Assert.False(Exit(machine, ExitCode.NestedPageFault, 0x1_0000_0007, address));
        Assert.Equal(ViolationKind.Unsupported, machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void NestedFault_InterruptedEvent_IsInjectedAgain()
    {
        using var machine = new TestMachine();
        machine.Private(0x90_1000);
        machine.Cpu.Vmcb->ExitIntInfo = 0x12_8000_0B0E;
        Interrupts.Settle(machine.Cpu);
        Assert.True(Exit(machine, ExitCode.NestedPageFault, 0x1_0000_0006, 0x90_1000 | Amd64.CBit));
        machine.Machine.Interrupts.Offer(machine.Cpu);
        Assert.Equal(0x12_8000_0B0Eul, machine.Cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void NestedFault_UnvalidatedWhileDeliveringAnEvent_StopsTheRun()
    {
        using var machine = new TestMachine();
        machine.Private(0x90_1000);
        machine.Page(0x90_1000)->Validated = false;
        machine.Cpu.Vmcb->ExitIntInfo = 0x8000_030E;
        Assert.False(Exit(machine, ExitCode.NestedPageFault, 0x1_0000_0006, 0x90_1000 | Amd64.CBit));
        Assert.Equal(ViolationKind.VcNotDelivered, machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void NestedFault_TableWalkWithoutCBit_ReachesThePrivatePageUntilItChanges()
    {
        using var machine = new TestMachine();
        machine.Cpu.State->Cr3 = TestMachine.Root;
        Assert.True(Exit(machine, ExitCode.NestedPageFault, 0x2_0000_0006, TestMachine.Root));
        Assert.Equal(TestMachine.Root, machine.Cpu.State->Cr3);
        ulong entry = machine.Memory.NestedTables.Lookup(0, TestMachine.Root, isPrivate: false);
        Assert.Equal((ulong)machine.Private(TestMachine.Root), entry & Amd64.PteAddress);
        Assert.Equal(Amd64.PteWritable | Amd64.PteNoExecute, entry & (Amd64.PteWritable | Amd64.PteNoExecute));

        machine.Memory.Unassign(machine.Page(TestMachine.Root), TestMachine.Root);
        Assert.Equal(0ul, machine.Memory.NestedTables.Lookup(0, TestMachine.Root, isPrivate: false));
    }

    // A firmware that looks for its flash: the host makes what was launched where devices are the guest's shared memory.
    [Fact]
    public void NestedFault_SharedAccessWhereDevicesAre_MakesThePageShared()
    {
        const ulong Firmware = 0xFFC0_0000;
        using var machine = new TestMachine();
        Assert.True(machine.Memory.TryAddRam(new LaunchRam { Base = Firmware, Length = 0x1000 }));
        machine.Private(Firmware);
        Assert.True(Exit(machine, ExitCode.NestedPageFault, 0x1_0000_0004, Firmware + 0x37));
        Assert.False(machine.Page(Firmware)->Assigned);
        Assert.True(Exit(machine, ExitCode.NestedPageFault, 0x1_0000_0006, Firmware + 0x37));
        Assert.NotEqual(0ul, machine.Memory.NestedTables.Lookup(0, Firmware, isPrivate: false));
    }

    [Theory]
    [InlineData(0x00ul, 0x00)]
    [InlineData(0x0Ful, 0xF0)]
    public void Cr8Write_Priority_IsTheTaskPriority(ulong value, byte priority)
    {
        using var machine = new TestMachine();
        machine.Code(0x44, 0x0F, 0x22, 0xC3);
        machine.Cpu.Registers[VirtualCpu.Rbx] = value;
        machine.Cpu.Current.Apic.TaskPriority = 0x55;
        ulong rip = machine.Cpu.State->Rip;
        Assert.True(Exit(machine, ExitCode.Cr8Write));
        Assert.Equal((priority, rip + 4), (machine.Cpu.Current.Apic.TaskPriority, machine.Cpu.State->Rip));
    }

    [Fact]
    public void Cr8Write_ReservedBits_IsGeneralProtection()
    {
        using var machine = new TestMachine();
        machine.Code(0x44, 0x0F, 0x22, 0xC3);
        machine.Cpu.Registers[VirtualCpu.Rbx] = 0x10;
        Assert.True(Exit(machine, ExitCode.Cr8Write));
        Assert.Equal((byte)13, (byte)machine.Cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void NestedFault_SharedAccessToAPageTable_StopsTheRun()
    {
        using var machine = new TestMachine();
        Assert.False(Exit(machine, ExitCode.NestedPageFault, 0x1_0000_0006, TestMachine.Root));
        Assert.Equal(ViolationKind.SharedAccessToPrivatePage, machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Report_OfAStop_HasRegistersCodeAndFrames()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        machine.Code(0xF4, 0x90);
        ulong* frames = (ulong*)machine.Private(0x90_1000);
        TestMachine.Clear((byte*)frames);
        frames[0] = 0x90_1010;
        frames[1] = 0x1111;
        frames[2] = 0;
        frames[3] = 0x2222;
        cpu.Registers[VirtualCpu.Rbp] = 0x90_1000;
        cpu.Registers[15] = 0xF;
        Assert.False(Exit(machine, ExitCode.Halt));
        StopReport report = StopReporter.Build(machine.Machine, cpu);
        Assert.Equal((StopReason.Violation, ViolationKind.HaltForever, TestMachine.Free), (report.Reason, report.Violation, report.Rip));
        Assert.Equal(0xFul, report.Registers[15]);
        Assert.Equal((16, 0xF4), (report.CodeLength, report.Code[0]));
        Assert.Equal((0x1111ul, 0x2222ul, 0ul), (report.Frames[0], report.Frames[1], report.Frames[2]));
    }

    private static void Protected32(TestMachine machine)
    {
        Vmsa* state = machine.Cpu.State;
        state->Cr0 = 0x31;
        state->Efer = Amd64.EferLongModeEnable | Amd64.EferSvme;
        state->Cs.Attributes = 0xC9B;
        machine.Cpu.SelectNestedTables(machine.Memory.NestedTables);
    }

    private static bool Exit(TestMachine machine, ulong exitCode, ulong info1 = 0, ulong info2 = 0)
    {
        machine.Cpu.Vmcb->ExitCode = exitCode;
        machine.Cpu.Vmcb->ExitInfo1 = info1;
        machine.Cpu.Vmcb->ExitInfo2 = info2;
        return ExitHandler.Handle(machine.Machine, machine.Cpu);
    }
}
