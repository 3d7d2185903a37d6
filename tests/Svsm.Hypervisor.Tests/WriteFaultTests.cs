// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Writes of a VMPL that may only read: VMPL0 is told.</summary>
public sealed unsafe class WriteFaultTests : IDisposable
{
    private const ulong UpperVmsa = 0x90_1000;
    private const ulong LowerVmsa = 0x90_3000;
    private const ulong Gpa = 0x40_1000;
    private const ulong Idt = 0x5_0000;
    private const ulong Gdt = 0x5_1000;
    private const ulong Stack = 0x5_4000;
    private const ulong Handler = 0x7_1234;
    private const ulong Write = 0x1_0000_0006;
    private const ulong Walk = 0x2_0000_0006;
    private const int Vmpl2 = 2;
    private const int MostTold = 100_000;

    private readonly TestMachine _machine = new();

    public WriteFaultTests()
    {
        Vmsa* state = _machine.Cpu.State;
        for (ulong table = TestMachine.Root; table < TestMachine.Root + (5 * TestMachine.PageSize); table += TestMachine.PageSize)
        {
            _machine.Page(table)->SetPermissions(Vmpl2, RmpPermissions.Read | RmpPermissions.Write);
        }

        foreach (ulong page in (ReadOnlySpan<ulong>)[Gpa, Idt, Gdt, Stack])
        {
            TestMachine.Clear(_machine.Private(page));
            _machine.Page(page)->SetPermissions(Vmpl2, RmpPermissions.Read);
        }

        *(ulong*)(_machine.Private(Idt) + (29 * 16)) = (Handler & 0xFFFF) | (8ul << 16) | (0x8Eul << 40) | (Handler >> 16 << 48);
        ((ulong*)_machine.Private(Gdt))[1] = 0x00AF_9B00_0000_FFFF;
        MakeVmsa(UpperVmsa, 0);
        Vmsa* lower = MakeVmsa(LowerVmsa, Vmpl2);
        lower->Cr0 = state->Cr0;
        lower->Cr3 = state->Cr3;
        lower->Cr4 = state->Cr4;
        lower->Efer = state->Efer;
        lower->Cs = state->Cs;
        lower->Ss = state->Ss;
        lower->Rip = 0x1234;
        lower->Rflags = Amd64.FlagReserved;
        lower->Rsp = Stack + 0x800;
        lower->Idtr = new SegmentRegister { Base = Idt, Limit = 0xFFF };
        lower->Gdtr = new SegmentRegister { Base = Gdt, Limit = 0x17 };
        Assert.True(_machine.Machine.Enter(_machine.Cpu, Vmpl2));
    }

    private VirtualCpu Cpu => _machine.Cpu;

    private Vmsa* Lower => (Vmsa*)_machine.Memory.PrivateBytes(_machine.Page(LowerVmsa));

    public void Dispose() => _machine.Dispose();

    // Rows: EXITINFO1 of the emulator, CPL, EXITINFO1 of the VMSA.
    [Theory]
    [InlineData(Write, 0, 0x15_8000_0003ul)]
    [InlineData(Write, 3, 0x15_8000_0007ul)]
    [InlineData(Walk, 0, 0x16_8000_0007ul)]
    public void Write_ToAPageToRead_IsToldToVmpl0(ulong info1, byte cpl, ulong told)
    {
        Cpu.State->Cpl = cpl;
        Assert.True(Fault(info1, Gpa + 8));
        Assert.Equal((0, true), (Cpu.Vmpl, Cpu.IsRunning));
        Assert.Equal((ExitCode.NestedPageFault, told, Gpa + 8, 0ul), (Lower->ExitCode, Lower->ExitInfo1, Lower->ExitInfo2, Lower->ExitIntInfo));
        Assert.Equal((0x1234ul, false, true), (Lower->Rip, _machine.Page(LowerVmsa)->IsRunning, _machine.Page(UpperVmsa)->IsRunning));
        Assert.False(Cpu.StopRequest.IsSet);

        // The right is given back, and the same access passes.
        _machine.Page(Gpa)->SetPermissions(Vmpl2, RmpPermissions.Read | RmpPermissions.Write);
        SwitchDown();
        Assert.True(Fault(info1, Gpa + 8));
        Assert.Equal(Vmpl2, Cpu.Vmpl);
    }

    // Rows: what VMPL2 may do, EXITINFO1.
    [Theory]
    [InlineData(RmpPermissions.None, Write)]
    [InlineData(RmpPermissions.None, Walk)]
    [InlineData(RmpPermissions.ExecuteSupervisor, Write)]
    [InlineData(RmpPermissions.Write, 0x1_0000_0004ul)]
    [InlineData(RmpPermissions.Read, 0x1_0000_0014ul)]
    public void Access_ThatIsNoWriteToAPageToRead_StopsTheRun(RmpPermissions rights, ulong info1)
    {
        _machine.Page(Gpa)->SetPermissions(Vmpl2, rights);
        Assert.False(Fault(info1, Gpa));
        Assert.Equal((ViolationKind.VmplPermission, Vmpl2), (Cpu.StopRequest.Violation, Cpu.Vmpl));
    }

    [Fact]
    public void Write_WithoutAVmpl0ThatCanRun_StopsTheRun()
    {
        ((Vmsa*)_machine.Memory.PrivateBytes(_machine.Page(UpperVmsa)))->Efer = 0;
        Assert.False(Fault(Write, Gpa));
        Assert.Equal(ViolationKind.VmplPermission, Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Write_ToldOverAndOver_StopsTheRunInTheEnd()
    {
        for (int i = 0; i < MostTold; i++)
        {
            Assert.True(Fault(Write, Gpa));
            SwitchDown();
        }

        Assert.False(Fault(Write, Gpa));
        Assert.Equal(ViolationKind.VmplPermission, Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Write_ElsewhereInBetween_CountsAnew()
    {
        for (int i = 0; i < MostTold + 10; i++)
        {
            Assert.True(Fault(Write, i % 500 == 0 ? Idt : Gpa));
            SwitchDown();
        }
    }

    [Fact]
    public void Write_WhileAnEventIsDelivered_InjectsItAgainWhenTheVmplRuns()
    {
        const ulong PageFault = 0x2_8000_0B0E;
        Cpu.Vmcb->ExitIntInfo = PageFault;
        Interrupts.Settle(Cpu);
        Assert.True(Fault(Write, Stack));
        Assert.Equal(PageFault, Lower->ExitIntInfo);
        _machine.Machine.Interrupts.Offer(Cpu);
        Assert.Equal(0ul, Cpu.Vmcb->EventInjection);
        Cpu.Vmcb->ExitIntInfo = 0;
        SwitchDown();
        _machine.Machine.Interrupts.Offer(Cpu);
        Assert.Equal(PageFault, Cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void Vc_WhoseFrameIsTheWrite_IsDeliveredAfterwards()
    {
        Cpu.Vmcb->ExitCode = ExitCode.Cpuid;
        Assert.False(ExitHandler.Handle(_machine.Machine, Cpu));
        Assert.True(NestedFaults.TryLeaveForWrite(_machine.Machine, Cpu));
        Assert.False(Cpu.StopRequest.IsSet);
        Assert.Equal((0, ExitCode.NestedPageFault, Stack + 0x7F8, 0x1234ul), (Cpu.Vmpl, Lower->ExitCode, Lower->ExitInfo2, Lower->Rip));

        _machine.Page(Stack)->SetPermissions(Vmpl2, RmpPermissions.Read | RmpPermissions.Write);
        SwitchDown();
        Cpu.Vmcb->ExitCode = ExitCode.Cpuid;
        Assert.True(ExitHandler.Handle(_machine.Machine, Cpu));
        Assert.Equal((Handler, ExitCode.Cpuid), (Cpu.State->Rip, *(ulong*)(_machine.Memory.PrivateBytes(_machine.Page(Stack)) + 0x7D0)));
    }

    [Fact]
    public void Vc_ThatCannotBeTakenForAnotherReason_StopsTheRun()
    {
        Cpu.State->Idtr.Limit = 0;
        Cpu.Vmcb->ExitCode = ExitCode.Cpuid;
        Assert.False(ExitHandler.Handle(_machine.Machine, Cpu));
        Assert.False(NestedFaults.TryLeaveForWrite(_machine.Machine, Cpu));
        Assert.Equal(ViolationKind.VcNotDelivered, Cpu.StopRequest.Violation);
    }

    // The exit before was refused a write as well, and has been got over with in another way.
    [Fact]
    public void Refusal_OfAnEarlierExit_IsNoReason()
    {
        Cpu.Vmcb->ExitCode = ExitCode.Cpuid;
        Assert.False(ExitHandler.Handle(_machine.Machine, Cpu));
        Cpu.WithdrawStop();
        Cpu.State->Idtr.Limit = 0;
        Assert.False(ExitHandler.Handle(_machine.Machine, Cpu));
        Assert.False(NestedFaults.TryLeaveForWrite(_machine.Machine, Cpu));
        Assert.Equal((ViolationKind.VcNotDelivered, Vmpl2), (Cpu.StopRequest.Violation, Cpu.Vmpl));
    }

    // The bits in a table are a write of the VMPL whose table it is.
    [Theory]
    [InlineData(false, true)]
    [InlineData(true, true)]
    [InlineData(false, false)]
    public void Walk_OfATableToRead_SetsNoBits(bool write, bool refused)
    {
        AccessKind kind = write ? AccessKind.Write : AccessKind.Read;
        ulong table = TestMachine.Root + (2 * TestMachine.PageSize);
        ulong* entry = (ulong*)_machine.Memory.PrivateBytes(_machine.Page(table)) + (Gpa >> 21);
        if (!refused || write)
        {
            *entry |= Amd64.PteAccessed;
        }

        ulong before = *entry;
        _machine.Page(table)->SetPermissions(Vmpl2, RmpPermissions.Read);
        WalkResult result = GuestPageWalk.Translate(_machine.Memory, Cpu.State, Vmpl2, Gpa, kind, user: false);
        Assert.Equal(refused ? WalkStatus.Refused : WalkStatus.Done, result.Status);
        Assert.Equal(before, *entry);
        Assert.Equal(WalkStatus.Done, GuestPageWalk.Translate(_machine.Memory, Cpu.State, 0, Gpa, kind, user: false).Status);
    }

    [Fact]
    public void Told_IsCountedAndTraced()
    {
        _machine.Machine.Options = LaunchOptions.TraceRmp;
        Assert.True(Fault(Write, Gpa));
        int at = _machine.Port.Bytes.IndexOf((byte)LinkFrame.Trace);
        Assert.Equal((byte)EventKind.WriteFault, _machine.Port.Bytes[at + 3]);
        _machine.Port.Bytes.Clear();
        _machine.Machine.Events.SendCounts();
        byte[] counted = [(byte)EventKind.Exit, Vmpl2, 0, 0, .. BitConverter.GetBytes(EventCounters.WriteFault), .. BitConverter.GetBytes(1ul)];
        Assert.True(_machine.Port.Bytes.ToArray().AsSpan().IndexOf(counted) >= 0);
    }

    private bool Fault(ulong info1, ulong gpa)
    {
        Cpu.Vmcb->ExitCode = ExitCode.NestedPageFault;
        Cpu.Vmcb->ExitInfo1 = info1;
        Cpu.Vmcb->ExitInfo2 = gpa | Amd64.CBit;
        return ExitHandler.Handle(_machine.Machine, Cpu);
    }

    private void SwitchDown()
    {
        Assert.True(VmgExit.SwitchVmpl(_machine.Machine, Cpu, Vmpl2, out bool refused));
        Assert.False(refused);
    }

    private Vmsa* MakeVmsa(ulong gpa, int vmpl)
    {
        var vmsa = (Vmsa*)_machine.Private(gpa);
        TestMachine.Clear((byte*)vmsa);
        _machine.Page(gpa)->IsVmsa = true;
        vmsa->Vmpl = (byte)vmpl;
        vmsa->SevFeatures = (ulong)SevFeatures.SnpActive;
        vmsa->Efer = Amd64.EferSvme;
        vmsa->Cr0 = 0x11;
        Assert.True(_machine.Machine.TrySetVmsa(Cpu.Contexts[vmpl], gpa));
        return vmsa;
    }
}
