// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Who may still hold a translation, and what makes sure that nobody does.</summary>
public sealed unsafe class StaleTranslationsTests : IDisposable
{
    private const ulong Gpa = 0x40_1000;
    private const ulong Linear = 0x7000;
    private const int Vmpl2 = 2;
    private const ulong All = 0xC;
    private const ulong ByAddress = 0xD;

    private readonly TestMachine _machine = new();
    private readonly VirtualCpu _second;

    public StaleTranslationsTests()
    {
        _second = new VirtualCpu(_machine.Pool, 1);
        _machine.Machine.Cpus = [_machine.Cpu, _second];
        _machine.Private(Gpa);
    }

    private StaleTranslations Stale => _machine.Memory.Stale;

    private GuestPage* Page => _machine.Page(Gpa);

    public void Dispose() => _machine.Dispose();

    [Fact]
    public void Lose_VmplThatNeverRan_LeavesNothing()
    {
        Stale.Lose(Page, Vmpl2);
        Assert.False(Stale.IsPending(Page, Gpa));
        Run(_machine.Cpu, Vmpl2);
        Assert.False(Stale.IsPending(Page, Gpa));
    }

    [Fact]
    public void Lose_VmplThatRan_IsPendingThereOnly()
    {
        Run(_second, Vmpl2);
        Stale.Lose(Page, Vmpl2);
        Assert.Equal(1 << Vmpl2, Stale.Pending(Page));
        Assert.Equal((0, 1 << Vmpl2), (Stale.PendingOn(Page, 0), Stale.PendingOn(Page, 1)));
        Assert.Equal(0, Stale.PendingOn(_machine.Page(Gpa + 4096), 1));
    }

    [Fact]
    public void Cr4_PagingBitChanges_FlushesThisVcpuOnly()
    {
        Run(_machine.Cpu, Vmpl2);
        Run(_second, Vmpl2);
        Stale.Lose(Page, Vmpl2);
        Stale.WriteCr4(_machine.Cpu, _machine.Cpu.State->Cr4 | Amd64.Cr4Smap);
        Assert.Equal(1 << Vmpl2, Stale.PendingOn(Page, 0));
        Stale.WriteCr4(_machine.Cpu, _machine.Cpu.State->Cr4 | Amd64.Cr4PageGlobal);
        Assert.Equal((0, 1 << Vmpl2), (Stale.PendingOn(Page, 0), Stale.PendingOn(Page, 1)));
        Stale.WriteCr4(_second, _second.State->Cr4 | Amd64.Cr4PageGlobal);
        Assert.False(Stale.IsPending(Page, Gpa));
        Assert.Equal(0, Page->StaleVmpls);
    }

    [Fact]
    public void Flush_BeforeTheLoss_DoesNotCount()
    {
        Run(_machine.Cpu, Vmpl2);
        Stale.WriteCr4(_machine.Cpu, Amd64.Cr4PageGlobal);

        // It was flushed and did not run since.
        Stale.Lose(Page, Vmpl2);
        Assert.False(Stale.IsPending(Page, Gpa));
        Run(_machine.Cpu, Vmpl2);
        Stale.Lose(Page, Vmpl2);
        Assert.True(Stale.IsPending(Page, Gpa));
    }

    [Fact]
    public void Flush_OfTheVmplThatRuns_DoesNotKeepItFromFillingAgain()
    {
        Run(_second, Vmpl2);
        _second.Vmpl = Vmpl2;
        _second.IsRunning = true;
        Stale.Broadcast(_machine.Cpu, All, 0, large: false);
        Stale.Synchronize(_machine.Cpu);
        Stale.Lose(Page, Vmpl2);
        Assert.True(Stale.IsPending(Page, Gpa));
    }

    [Theory]
    [InlineData(All, true)]
    [InlineData(All | 0xABC_0000, true)]
    [InlineData(0x8ul, true)]
    [InlineData(0x4ul, false)]
    [InlineData(0xEul, false)]
    [InlineData(ByAddress, false)]
    public void Broadcast_OfALowerVmpl_CountsOnlyIfItTakesEverything(ulong operand, bool flushes)
    {
        Run(_second, Vmpl2);
        Stale.Lose(Page, Vmpl2);
        Stale.Broadcast(_machine.Cpu, operand, 7, large: true);
        Assert.True(Stale.IsPending(Page, Gpa));
        Stale.Synchronize(_second);
        Assert.True(Stale.IsPending(Page, Gpa));
        Stale.Synchronize(_machine.Cpu);
        Assert.Equal(!flushes, Stale.IsPending(Page, Gpa));
    }

    [Fact]
    public void Broadcast_BeforeTheLoss_DoesNotCoverIt()
    {
        Run(_second, Vmpl2);
        _second.Vmpl = Vmpl2;
        _second.IsRunning = true;
        Stale.Broadcast(_machine.Cpu, All, 0, large: false);
        Stale.Lose(Page, Vmpl2);
        Stale.Synchronize(_machine.Cpu);
        Assert.True(Stale.IsPending(Page, Gpa));
    }

    [Theory]
    [InlineData(Linear, false)]
    [InlineData(Linear + 4095, false)]
    [InlineData(Linear - 1, true)]
    [InlineData(Linear + 4096, true)]
    public void InvalidatePage_OwnTranslation_ByItsAddress(ulong address, bool pending)
    {
        Stale.Rescind(_machine.Cpu, Gpa, Linear, 4096, isGlobal: true);
        Stale.InvalidatePage(_second, Linear);
        Assert.True(Stale.IsPending(Page, Gpa));
        Stale.InvalidatePage(_machine.Cpu, address);
        Assert.Equal(pending, Stale.IsPending(Page, Gpa));
    }

    [Theory]
    [InlineData(true, true)]
    [InlineData(false, false)]
    public void Cr3_OwnTranslation_UnlessGlobal(bool isGlobal, bool pending)
    {
        Stale.Rescind(_machine.Cpu, Gpa, Linear, 4096, isGlobal);
        Stale.WriteCr3(_machine.Cpu);
        Assert.Equal(pending, Stale.IsPending(Page, Gpa));
        Stale.WriteCr4(_machine.Cpu, Amd64.Cr4PageGlobal);
        Assert.False(Stale.IsPending(Page, Gpa));
    }

    // Rows: RAX, pages beyond the first, 2 MiB apart, flushed.
    [Theory]
    [InlineData(Linear | ByAddress, 0, false, true)]
    [InlineData((Linear - 0x3000) | ByAddress, 3, false, true)]
    [InlineData((Linear - 0x3000) | ByAddress, 2, false, false)]
    [InlineData((Linear + 0x1000) | ByAddress, 7, false, false)]
    [InlineData(0x20_0000 | ByAddress, 7, true, false)]
    [InlineData(Linear | 0x5ul, 0, false, false)]
    [InlineData(All, 0, false, true)]
    [InlineData(0x4ul, 0, false, false)]
    public void Broadcast_OwnTranslation_ByItsOperands(ulong operand, uint count, bool large, bool flushes)
    {
        Stale.Rescind(_second, Gpa, Linear, 4096, isGlobal: true);
        Stale.Broadcast(_machine.Cpu, operand, count, large);
        Assert.True(Stale.IsPending(Page, Gpa));
        Stale.Synchronize(_machine.Cpu);
        Assert.Equal(!flushes, Stale.IsPending(Page, Gpa));
    }

    [Theory]
    [InlineData(0x40_0000 | ByAddress, 0, true, true)]
    [InlineData(0x40_5000 | ByAddress, 0, false, true)]
    [InlineData(0x20_0000 | ByAddress, 1, true, true)]
    [InlineData(0x3F_F000 | ByAddress, 0, false, false)]
    [InlineData(0x60_0000 | ByAddress, 7, true, false)]
    public void Broadcast_OwnLargeTranslation_ByAnyOfItsAddresses(ulong operand, uint count, bool large, bool flushes)
    {
        Stale.Rescind(_second, 0x20_0000, 0x40_0000, Amd64.LargePageSize, isGlobal: false);
        Assert.True(Stale.IsPending(_machine.Page(0x3F_F000), 0x3F_F000));
        Assert.False(Stale.IsPending(_machine.Page(0x40_0000), 0x40_0000));
        Stale.Broadcast(_machine.Cpu, operand, count, large);
        Stale.Synchronize(_machine.Cpu);
        Assert.Equal(!flushes, Stale.IsPending(_machine.Page(0x20_0000), 0x20_0000));
    }

    [Fact]
    public void Rescind_MoreThanTheListHolds_ForgetsTheOldest()
    {
        for (ulong i = 0; i <= StaleTranslations.MaxOwn; i++)
        {
            Stale.Rescind(_machine.Cpu, Gpa + (i * 4096), Linear + (i * 4096), 4096, isGlobal: false);
        }

        Assert.False(Stale.IsOwnPending(Gpa, 0));
        Assert.True(Stale.IsOwnPending(Gpa + 4096, 0));
        Assert.True(Stale.IsOwnPending(Gpa + (StaleTranslations.MaxOwn * 4096), 0));
    }

    [Fact]
    public void Intercepts_FollowWhatIsToBeFlushed()
    {
        const uint Cr3Write = 1 << 19;
        const uint Cr4Write = 1 << 20;
        const ulong Invlpg = 1ul << 0x19;
        Vmcb* vmcb = _machine.Cpu.Vmcb;
        Run(_machine.Cpu, Vmpl2);
        Assert.Equal((0u, 0ul), (vmcb->InterceptControlRegisters, vmcb->Intercepts & Invlpg));
        Stale.Lose(Page, Vmpl2);
        Assert.Equal((Cr4Write, 0ul), (vmcb->InterceptControlRegisters, vmcb->Intercepts & Invlpg));
        Stale.Rescind(_machine.Cpu, Gpa, Linear, 4096, isGlobal: false);
        Assert.Equal((Cr3Write | Cr4Write, Invlpg), (vmcb->InterceptControlRegisters, vmcb->Intercepts & Invlpg));
        Stale.InvalidatePage(_machine.Cpu, Linear);
        Assert.Equal((Cr4Write, 0ul), (vmcb->InterceptControlRegisters, vmcb->Intercepts & Invlpg));
        Stale.WriteCr4(_machine.Cpu, Amd64.Cr4PageGlobal);
        Assert.Equal((0u, 0ul), (vmcb->InterceptControlRegisters, vmcb->Intercepts & Invlpg));
        Assert.Equal(0u, _second.Vmcb->InterceptControlRegisters);
    }

    [Fact]
    public void StateOfAPage_SurvivesWhatTheHostDoes()
    {
        Run(_machine.Cpu, Vmpl2);
        Page->SetPermissions(Vmpl2, RmpPermissions.All);
        byte* frame = Page->PrivateFrame;
        _machine.Memory.Unassign(Page, Gpa);
        Assert.True(Stale.IsPending(Page, Gpa));
        _machine.Memory.Assign(Page, Gpa, large: false);
        Assert.True(Stale.IsPending(Page, Gpa));
        Assert.Equal((RmpPermissions.None, false), (Page->GetPermissions(Vmpl2), Page->Validated));
        Assert.True(frame != null && Page->PrivateFrame == null && Page->SharedFrame == null);
        Page->StaleSince = 0xFEDC_BA98;
        Page->PrivateFrame = frame;
        Page->SharedFrame = frame;
        Assert.Equal(0xFEDC_BA98, Page->StaleSince);
        Assert.True(Page->PrivateFrame == frame && Page->SharedFrame == frame);
    }

    [Theory]
    [InlineData(RmpPermissions.All, false)]
    [InlineData(RmpPermissions.Read, true)]
    public void Adjust_LossThenGrant_NeedsAFlush(RmpPermissions second, bool passes)
    {
        Run(_machine.Cpu, Vmpl2);
        Assert.True(Adjust(RmpPermissions.Read | RmpPermissions.ExecuteUser));
        Assert.True(Adjust(RmpPermissions.Read));
        Assert.Equal(passes, Adjust(second));
        Assert.Equal(passes ? ViolationKind.None : ViolationKind.StaleTranslation, _machine.Cpu.StopRequest.Violation);
        Assert.Equal(passes ? 0 : Gpa, _machine.Cpu.StopRequest.Gpa);
    }

    // A write right that comes and goes, as when somebody looks for dirty pages.
    [Fact]
    public void Adjust_WriteRightGivenBack_NeedsNoFlush()
    {
        Run(_machine.Cpu, Vmpl2);
        Assert.True(Adjust(RmpPermissions.All));
        Assert.True(Adjust(RmpPermissions.All & ~RmpPermissions.Write));
        Assert.Equal((1 << Vmpl2, true), (Stale.Pending(Page), Page->AreOnlyWritesStale));
        Assert.True(Adjust(RmpPermissions.All));
        Assert.Equal(0, Stale.Pending(Page));
        Assert.True(Adjust(RmpPermissions.All & ~RmpPermissions.Write));
        Assert.Equal(1 << Vmpl2, Stale.Pending(Page));
    }

    // Rows: what VMPL2 has left, what it gets then.
    [Theory]
    [InlineData(RmpPermissions.ExecuteUser, RmpPermissions.ExecuteUser | RmpPermissions.Write)]
    [InlineData(RmpPermissions.Read, RmpPermissions.Read | RmpPermissions.Write)]
    [InlineData(RmpPermissions.Read | RmpPermissions.ExecuteUser, RmpPermissions.All)]
    public void Adjust_MoreThanTheWriteRight_NeedsAFlush(RmpPermissions left, RmpPermissions then)
    {
        Run(_machine.Cpu, Vmpl2);
        Assert.True(Adjust(RmpPermissions.Read | RmpPermissions.Write | RmpPermissions.ExecuteUser));
        Assert.True(Adjust(left));
        Assert.False(Adjust(then));
        Assert.Equal(ViolationKind.StaleTranslation, _machine.Cpu.StopRequest.Violation);
    }

    // Rows: what VMPL2 lost before, who accesses, whether it passes.
    [Theory]
    [InlineData(false, 0, false)]
    [InlineData(false, 1, true)]
    [InlineData(true, 1, false)]
    public void NestedFault_AfterTheLossOfTheWriteRight_HindersWhoTookIt(bool lostMore, int accessor, bool passes)
    {
        Run(_second, Vmpl2);
        Assert.True(Adjust(RmpPermissions.All));
        Assert.True(Adjust(lostMore ? RmpPermissions.Read : RmpPermissions.All & ~RmpPermissions.Write));
        VirtualCpu cpu = _machine.Machine.Cpus[accessor];
        cpu.State->Cr0 = _machine.Cpu.State->Cr0;
        cpu.Vmcb->ExitInfo1 = NestedFault.Final;
        cpu.Vmcb->ExitInfo2 = Gpa | Amd64.CBit;
        Assert.Equal(passes, NestedFaults.Handle(_machine.Machine, cpu));
    }

    [Fact]
    public void Adjust_VmsaBit_NeedsAFlush()
    {
        Run(_machine.Cpu, Vmpl2);
        Assert.True(Adjust(RmpPermissions.Read));
        Assert.True(Adjust(RmpPermissions.None));
        Assert.False(Adjust(RmpPermissions.VmsaPage));
        Assert.Equal(ViolationKind.StaleTranslation, _machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Adjust_VmsaBitThatIsSetAlready_IsNoReuse()
    {
        Run(_machine.Cpu, Vmpl2);
        Page->IsVmsa = true;
        Page->SetPermissions(Vmpl2, RmpPermissions.Read);
        Assert.True(Adjust(RmpPermissions.VmsaPage));
        Assert.True(Adjust(RmpPermissions.VmsaPage));
    }

    // Rows: who accesses after VMPL2 lost the page; whether VMPL2 had run.
    [Theory]
    [InlineData(0, true, false)]
    [InlineData(1, true, false)]
    [InlineData(2, true, true)]
    [InlineData(0, false, true)]
    public void NestedFault_ByAMorePrivilegedVmpl_NeedsAFlush(int vmpl, bool ran, bool passes)
    {
        if (ran)
        {
            Run(_machine.Cpu, Vmpl2);
        }

        Stale.Lose(Page, Vmpl2);
        Page->SetPermissions(1, RmpPermissions.All);
        Page->SetPermissions(2, RmpPermissions.Read);
        _machine.Cpu.Vmpl = vmpl;
        _machine.Cpu.Vmcb->ExitInfo1 = NestedFault.Final;
        _machine.Cpu.Vmcb->ExitInfo2 = Gpa | Amd64.CBit;
        Assert.Equal(passes, NestedFaults.Handle(_machine.Machine, _machine.Cpu));
        Assert.Equal(passes ? ViolationKind.None : ViolationKind.StaleTranslation, _machine.Cpu.StopRequest.Violation);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Validate_AfterARescind_NeedsAFlush(bool flush)
    {
        Assert.True(Validate(false));
        if (flush)
        {
            Stale.InvalidatePage(_machine.Cpu, Gpa);
        }

        Assert.Equal(flush, Validate(true));
        Assert.Equal(flush ? ViolationKind.None : ViolationKind.StaleTranslation, _machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Report_NamesTheHolders()
    {
        Run(_second, Vmpl2);
        Stale.Lose(Page, Vmpl2);
        Assert.False(_machine.Cpu.Stop(ViolationKind.StaleTranslation, Gpa));
        StopReporter.Send(_machine.Machine, _machine.Cpu);
        Assert.Contains("VMPL2 by vCPU 1", System.Text.Encoding.ASCII.GetString([.. _machine.Port.Bytes]), StringComparison.Ordinal);
    }

    private void Run(VirtualCpu cpu, int vmpl)
    {
        int before = cpu.Vmpl;
        bool running = cpu.IsRunning;
        cpu.Vmpl = vmpl;
        Stale.Enter(cpu);
        cpu.Vmpl = before;
        cpu.IsRunning = running;
    }

    private bool Adjust(RmpPermissions permissions)
    {
        Operands((ulong)permissions | Vmpl2);
        var instruction = new Instruction { Length = 4, AddressSize = 64, Segment = -1 };
        return RmpInstructions.Adjust(_machine.Machine, _machine.Cpu, in instruction);
    }

    private bool Validate(bool validate)
    {
        Operands(validate ? 1ul : 0);
        var instruction = new Instruction { Length = 4, AddressSize = 64, Segment = -1 };
        return RmpInstructions.Validate(_machine.Machine, _machine.Cpu, in instruction);
    }

    private void Operands(ulong rdx)
    {
        _machine.Cpu.Registers[VirtualCpu.Rax] = Gpa;
        _machine.Cpu.Registers[VirtualCpu.Rcx] = 0;
        _machine.Cpu.Registers[VirtualCpu.Rdx] = rdx;
    }
}
