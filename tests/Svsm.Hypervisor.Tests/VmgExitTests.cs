// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Text;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The host's side of VMGEXIT.</summary>
public sealed unsafe class VmgExitTests
{
    private const ulong Ghcb = 0x80_0000;
    private const ulong Gpa = 0x90_1000;

    // Offsets of fields in the page.
    private const int Cpl = 0x0CB;
    private const int Rax = 0x1F8;
    private const int Rcx = 0x308;
    private const int Rdx = 0x310;

    [Fact]
    public void Registers_SevInfo_HasVersionsAndCBit()
    {
        using var machine = new TestMachine();
        Assert.Equal((2ul << 48) | (1ul << 32) | (47ul << 24) | 1, Ask(machine, GhcbMsr.SevInfoRequest));
    }

    [Theory]
    [InlineData(LaunchOptions.None, 0x37_081)]
    [InlineData(LaunchOptions.SingleVmpl, 0x17_081)]
    public void Registers_Features_FollowTheOptions(LaunchOptions options, ulong expected)
    {
        using var machine = new TestMachine();
        machine.Machine.Options = options;
        Assert.Equal(expected, Ask(machine, GhcbMsr.FeaturesRequest));
    }

    [Theory]
    [InlineData(0, 0x0000_003Aul)]
    [InlineData(1, 0x0000_406Ful)]
    [InlineData(2, 509ul)]
    [InlineData(3, 1ul)]
    public void Registers_Cpuid_AnswersTheRegisterAskedFor(ulong register, ulong expected)
    {
        using var machine = new TestMachine();
        ulong answer = Ask(machine, (0x8000_001Ful << 32) | (register << 30) | GhcbMsr.CpuidRequest);
        Assert.Equal((expected << 32) | (register << 30) | GhcbMsr.CpuidResponse, answer);
    }

    [Fact]
    public void Registers_PageStateChange_Changes()
    {
        using var machine = new TestMachine();
        Assert.Equal(GhcbMsr.PageStateChangeResponse, Ask(machine, (1ul << 52) | Gpa | GhcbMsr.PageStateChangeRequest));
        Assert.True(machine.Page(Gpa)->Assigned);
        Assert.Equal(GhcbMsr.PageStateChangeResponse, Ask(machine, (2ul << 52) | Gpa | GhcbMsr.PageStateChangeRequest));
        Assert.False(machine.Page(Gpa)->Assigned);
    }

    [Theory]
    [InlineData(1ul, TestMachine.RamLength)]
    [InlineData(3ul, Gpa)]
    [InlineData(0ul, Gpa)]
    public void Registers_PageStateChange_RefusesNonsense(ulong operation, ulong gpa)
    {
        using var machine = new TestMachine();
        Assert.Equal((1ul << 32) | GhcbMsr.PageStateChangeResponse, Ask(machine, (operation << 52) | gpa | GhcbMsr.PageStateChangeRequest));
    }

    [Fact]
    public void Registers_SharingARunningVmsa_IsRefused()
    {
        using var machine = new TestMachine();
        machine.Private(Gpa);
        machine.Page(Gpa)->IsRunning = true;
        Assert.Equal((1ul << 32) | GhcbMsr.PageStateChangeResponse, Ask(machine, (2ul << 52) | Gpa | GhcbMsr.PageStateChangeRequest));
        Assert.True(machine.Page(Gpa)->Assigned);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(0xFF)]
    public void Registers_RunVmplThatCannotRun_IsRefused(ulong vmpl)
    {
        using var machine = new TestMachine();
        Assert.Equal((1ul << 32) | GhcbMsr.RunVmplResponse, Ask(machine, (vmpl << 32) | GhcbMsr.RunVmplRequest));
        Assert.Equal(0, machine.Cpu.Vmpl);
    }

    [Fact]
    public void Registers_Termination_EndsTheRun()
    {
        using var machine = new TestMachine();
        Assert.False(TryAsk(machine, GhcbMsr.TerminateRequest | (0x3ul << 12) | (0x21ul << 16)));
        Assert.Equal((StopReason.Terminate, 0x213ul), (machine.Cpu.StopRequest.Reason, machine.Cpu.StopRequest.Detail));
    }

    [Theory]
    [InlineData(0x003)]
    [InlineData(0x00A)]
    [InlineData(0xFFF)]
    public void Registers_UnknownCode_StopsTheRun(ulong code)
    {
        using var machine = new TestMachine();
        Assert.False(TryAsk(machine, code));
        Assert.Equal(ViolationKind.Ghcb, machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Page_NotRegisteredOrPrivate_StopsTheRun()
    {
        using var machine = new TestMachine();
        Assert.False(TryAsk(machine, Ghcb));
        Assert.Equal(ViolationKind.Ghcb, machine.Cpu.StopRequest.Violation);

        using var other = new TestMachine();
        Register(other);
        other.Private(Ghcb);
        Assert.False(TryAsk(other, Ghcb));
        Assert.Equal(ViolationKind.Ghcb, other.Cpu.StopRequest.Violation);
    }

    [Theory]
    [InlineData(0x390)]
    [InlineData(0x398)]
    [InlineData(0x3A0)]
    public void Page_FieldNotMarked_IsMissingInput(int offset)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.HypervisorFeatures, 0, 0);
        Mark(ghcb, offset, valid: false);
        AssertRefused(machine, ghcb, GhcbError.MissingInput);
    }

    [Fact]
    public void Page_OutWithoutRax_IsMissingInput()
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Ioio, (0x3F8ul << 16) | 0x10, 0);
        AssertRefused(machine, ghcb, GhcbError.MissingInput);
    }

    [Fact]
    public void Page_OutWithoutSize_IsInvalidInput()
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Ioio, 0x3F8ul << 16, 0);
        ghcb->Rax = 1;
        Mark(ghcb, 0x1F8, valid: true);
        AssertRefused(machine, ghcb, GhcbError.InvalidInput);
    }

    // OVMF leaves the version at 0 while it has no page of its own choosing.
    [Theory]
    [InlineData(0, GhcbCompletion.Success)]
    [InlineData(1, GhcbCompletion.Success)]
    [InlineData(2, GhcbCompletion.Success)]
    [InlineData(3, GhcbCompletion.BadRequest)]
    public void Page_Version_UpToTheHighestIsTaken(ushort version, GhcbCompletion completion)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Wbinvd, 0, 0);
        ghcb->ProtocolVersion = version;
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal((ulong)completion, ghcb->SwExitInfo1);
    }

    [Fact]
    public void Page_ApicIdList_HasEveryVcpu()
    {
        const ulong List = 0x90_2000;
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.ApicIdList, List, 0);
        Mark(ghcb, 0x1F8, valid: true);
        ghcb->Rax = 0;
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal((0ul, 1ul), (ghcb->SwExitInfo1, ghcb->Rax));

        ghcb = Begin(machine, GhcbExitCode.ApicIdList, List, 0);
        Mark(ghcb, 0x1F8, valid: true);
        ghcb->Rax = 1;
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0ul, ghcb->SwExitInfo1);
        uint[] list = new ReadOnlySpan<uint>(machine.Memory.SharedBytes(machine.Page(List)), machine.Machine.Cpus.Length + 1).ToArray();
        Assert.Equal((uint)machine.Machine.Cpus.Length, list[0]);
        Assert.Equal(Enumerable.Range(0, machine.Machine.Cpus.Length).Select(i => (uint)i), list[1..]);
    }

    [Theory]
    [InlineData(0x90_2001ul, true, GhcbError.InvalidInput)]
    [InlineData(0x7FFF_0000_0000ul, true, GhcbError.InvalidInput)]
    [InlineData(TestMachine.Free, true, GhcbError.InvalidInput)]
    [InlineData(0x90_2000ul, false, GhcbError.MissingInput)]
    public void Page_ApicIdListElsewhere_IsRefused(ulong list, bool hasRax, GhcbError error)
    {
        using var machine = new TestMachine();
        machine.Private(TestMachine.Free);
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.ApicIdList, list, 0);
        ghcb->Rax = 1;
        Mark(ghcb, 0x1F8, hasRax);
        AssertRefused(machine, ghcb, error);
    }

    [Fact]
    public void Page_GuestExitPort_EndsTheRun()
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Ioio, ((ulong)Link.GuestExitPort << 16) | 0x10, 0);
        ghcb->Rax = 0x142;
        Mark(ghcb, 0x1F8, valid: true);
        Assert.False(TryAsk(machine, Ghcb));
        Assert.Equal((StopReason.GuestExit, 0x42ul), (machine.Cpu.StopRequest.Reason, machine.Cpu.StopRequest.Detail));
    }

    [Theory]
    [InlineData(0x7FFul)]
    [InlineData(0xFF1ul)]
    [InlineData(0x0ul)]
    public void Page_StringOutsideTheBuffer_IsInvalidScratch(ulong offset)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Ioio, (0x3F8ul << 16) | 0x1C, 1);
        ghcb->SwScratch = Ghcb + offset;
        Mark(ghcb, 0x3A8, valid: true);
        AssertRefused(machine, ghcb, GhcbError.InvalidScratch);
    }

    [Theory]
    [InlineData(0x7F1ul)]
    [InlineData(0x1000_0000_0000_0000ul)]
    [InlineData(ulong.MaxValue)]
    public void Page_StringTooLong_IsInvalidScratch(ulong count)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Ioio, (0x3F8ul << 16) | 0x1C, count);
        ghcb->SwScratch = Ghcb + 0x800;
        Mark(ghcb, 0x3A8, valid: true);
        AssertRefused(machine, ghcb, GhcbError.InvalidScratch);
    }

    [Fact]
    public void Page_StringOfTheWholeBuffer_IsWritten()
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Ioio, (0x3F8ul << 16) | 0x1C, GhcbPage.SharedBufferSize);
        new Span<byte>((byte*)ghcb + 0x800, GhcbPage.SharedBufferSize).Fill((byte)'x');
        ghcb->SwScratch = Ghcb + 0x800;
        Mark(ghcb, 0x3A8, valid: true);
        Assert.True(TryAsk(machine, Ghcb));
        machine.Machine.Link.FlushConsole();
        Assert.Equal(GhcbPage.SharedBufferSize, Encoding.Latin1.GetString(machine.Port.Bytes.ToArray()).Split('x').Length - 1);
    }

    [Fact]
    public void Page_ScratchInPrivateMemory_IsInvalidScratch()
    {
        using var machine = new TestMachine();
        machine.Private(Gpa);
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.PageStateChange, 0, 0);
        ghcb->SwScratch = Gpa;
        Mark(ghcb, 0x3A8, valid: true);
        AssertRefused(machine, ghcb, GhcbError.InvalidScratch);
    }

    [Theory]
    [InlineData(2, 1)]
    [InlineData(0, 253)]
    public void Page_PageStateChangeHeader_OutOfRangeIsToldInInfo2(ushort current, ushort last)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = BeginPageStateChange(machine, current, last);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0x1_0000_0001ul, ghcb->SwExitInfo2);
    }

    [Fact]
    public void Page_PageStateChange_StopsAtTheFirstBadEntry()
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = BeginPageStateChange(machine, 0, 2);
        ulong* entries = (ulong*)((byte*)ghcb + 0x808);
        entries[0] = Gpa | (1ul << 52);
        entries[1] = TestMachine.RamLength | (1ul << 52);
        entries[2] = (Gpa + 0x1000) | (1ul << 52);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0x1_0000_0002ul, ghcb->SwExitInfo2);
        Assert.Equal(1, *(ushort*)((byte*)ghcb + 0x800));
        Assert.True(machine.Page(Gpa)->Assigned);
        Assert.False(machine.Page(Gpa + 0x1000)->Assigned);
    }

    // The host reads the list and writes the answer there until it has answered.
    [Theory]
    [InlineData(Ghcb, Ghcb + 0x800)]
    [InlineData(Ghcb, Gpa + 0x10)]
    [InlineData(Gpa, Gpa + 0x10)]
    public void Page_PageStateChange_OfItsOwnListOrGhcb_IsRefused(ulong target, ulong scratch)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = BeginPageStateChange(machine, 0, 0);
        ghcb->SwScratch = scratch;
        machine.Memory.Unassign(machine.Page(Gpa), Gpa);
        byte* list = machine.Memory.SharedBytes(machine.Page(scratch)) + (scratch & 0xFFF);
        *(uint*)list = 0;
        ((ulong*)list)[1] = target | (1ul << 52);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0x1_0000_0002ul, ghcb->SwExitInfo2);
        Assert.False(machine.Page(target)->Assigned);
    }

    [Fact]
    public void Page_PageStateChangeLarge_MakesALargeEntryWhereItCan()
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = BeginPageStateChange(machine, 0, 1);
        ulong* entries = (ulong*)((byte*)ghcb + 0x808);
        machine.Memory.Assign(machine.Page(0x60_5000), 0x60_5000, large: false);
        entries[0] = 0x40_0000 | (1ul << 52) | PageStateChangeBuffer.Large;
        entries[1] = 0x60_0000 | (1ul << 52) | PageStateChangeBuffer.Large;
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0ul, ghcb->SwExitInfo2);
        Assert.True(machine.Page(0x40_0000)->IsLarge);
        Assert.True(machine.Page(0x5F_F000)->IsLarge);
        Assert.True(machine.Page(0x60_0000)->Assigned);
        Assert.False(machine.Page(0x60_0000)->IsLarge);
    }

    // What is marked in the page when it is asked, and in the answer. SW_EXITINFO1 and 2 are zero in each, and marked.
    [Theory]
    [InlineData(GhcbExitCode.Dr7Write, new[] { Rax }, new int[0])]
    [InlineData(GhcbExitCode.Rdpmc, new[] { Rcx }, new[] { Rax, Rdx })]
    [InlineData(GhcbExitCode.Invd, new int[0], new int[0])]
    [InlineData(GhcbExitCode.Wbinvd, new int[0], new int[0])]
    [InlineData(GhcbExitCode.Vmmcall, new[] { Cpl, Rax }, new[] { Rax })]
    [InlineData(GhcbExitCode.Monitor, new[] { Rax, Rcx, Rdx }, new int[0])]
    [InlineData(GhcbExitCode.Mwait, new[] { Rax, Rcx }, new int[0])]
    [InlineData(GhcbExitCode.NmiComplete, new int[0], new int[0])]
    public void Page_InstructionThatTheHostCompletes_NeedsItsInputs(GhcbExitCode code, int[] inputs, int[] outputs)
    {
        using var machine = new TestMachine();
        for (int missing = -1; missing < inputs.Length; missing++)
        {
            GhcbPage* ghcb = Begin(machine, code, 0, 0);
            ghcb->Rax = ghcb->Rcx = ghcb->Rdx = 0x5A5A_5A5A_5A5A_5A5A;
            foreach (int offset in inputs)
            {
                Mark(ghcb, offset, valid: missing < 0 || offset != inputs[missing]);
            }

            if (missing >= 0)
            {
                AssertRefused(machine, ghcb, GhcbError.MissingInput);
                AssertMarked(ghcb, []);
                continue;
            }

            Assert.True(TryAsk(machine, Ghcb));
            Assert.Equal((0ul, 0ul), (ghcb->SwExitInfo1, ghcb->SwExitInfo2));
            AssertMarked(ghcb, outputs);
            if (outputs.Length != 0)
            {
                // There are no performance counters, and no hypercall that the host knows.
                Assert.Equal(code == GhcbExitCode.Vmmcall ? unchecked((ulong)-1000) : 0ul, ghcb->Rax);
            }

            Assert.Equal(outputs.Contains(Rdx) ? 0ul : 0x5A5A_5A5A_5A5A_5A5Aul, ghcb->Rdx);
        }
    }

    [Fact]
    public void Page_NmiComplete_LetsTheNextNmiCome()
    {
        using var machine = new TestMachine();
        machine.Cpu.Current.Apic.AcceptNmi();
        Assert.True(machine.Cpu.Current.Apic.NmiMasked);
        Begin(machine, GhcbExitCode.NmiComplete, 0, 0);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.False(machine.Cpu.Current.Apic.NmiMasked);
    }

    // The last ones: of DR7 the guest keeps a copy; a doorbell page is for who has restricted injection; timers are MSRs; the others are no requests.
    [Theory]
    [InlineData((ulong)GhcbExitCode.ApJumpTable, 0)]
    [InlineData((ulong)GhcbExitCode.ApJumpTable, 1)]
    [InlineData((ulong)GhcbExitCode.HvDoorbellPage, 0)]
    [InlineData((ulong)GhcbExitCode.HvDoorbellPage, 1)]
    [InlineData((ulong)GhcbExitCode.HvDoorbellPage, 2)]
    [InlineData((ulong)GhcbExitCode.HvDoorbellPage, 3)]
    [InlineData((ulong)GhcbExitCode.Dr7Read, 0)]
    [InlineData(0x8000_0016ul, 0)]
    [InlineData(0x8000_0000ul, 0)]
    [InlineData(0x8000_FFFCul, 0)]
    [InlineData(0x1_8000_FFFDul, 0)]
    [InlineData(0ul, 0)]
    [InlineData(ulong.MaxValue, 0)]
    public void Page_RequestThatTheHostDoesNotServe_IsInvalidEvent(ulong code, ulong info1)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, (GhcbExitCode)code, info1, Gpa);
        Mark(ghcb, Rax, valid: true);
        AssertRefused(machine, ghcb, GhcbError.InvalidEvent);
        AssertMarked(ghcb, []);
        Assert.Equal(Doorbell.None, machine.Cpu.Current.Doorbell);
    }

    [Fact]
    public void Page_Termination_EndsTheRun()
    {
        using var machine = new TestMachine();
        Begin(machine, GhcbExitCode.Terminate, 0x3 | (0x21 << 4) | (1ul << 40), 0);
        Assert.False(TryAsk(machine, Ghcb));
        Assert.Equal((StopReason.Terminate, 0x213ul), (machine.Cpu.StopRequest.Reason, machine.Cpu.StopRequest.Detail));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ApResetHold_OfTheOnlyVcpu_IsHaltForEver(bool byPage)
    {
        using var machine = new TestMachine();
        if (byPage)
        {
            Begin(machine, GhcbExitCode.ApResetHold, 0, 0);
        }

        Assert.False(TryAsk(machine, byPage ? Ghcb : GhcbMsr.ApResetHoldRequest));
        Assert.Equal(ViolationKind.HaltForever, machine.Cpu.StopRequest.Violation);
    }

    // It waits for its start, not for interrupts; what it reads when it is started again is the answer, which says that no start-up IPI came.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ApResetHold_WhileOthersRun_TakesTheVcpuOff(bool byPage)
    {
        using var machine = new TestMachine();
        Vmsa* vmsa = MakeVmsa(machine, 0x90_1000, 0);
        Assert.True(machine.Machine.Enter(machine.Cpu, 0));
        machine.Machine.Cpus = [machine.Cpu, new VirtualCpu(machine.Pool, 1) { IsRunning = true }];
        GhcbPage* ghcb = byPage ? Begin(machine, GhcbExitCode.ApResetHold, 0, 0) : null;
        machine.Cpu.State->Rip = 0x1234;
        machine.Cpu.State->Rflags |= Amd64.FlagInterrupt;

        Assert.True(TryAsk(machine, byPage ? Ghcb : GhcbMsr.ApResetHoldRequest));

        Assert.Equal((false, false, false), (machine.Cpu.IsRunning, machine.Cpu.IsHalted, machine.Page(0x90_1000)->IsRunning));
        Assert.Equal((0x1234ul, ExitCode.VmgExit), (vmsa->Rip, vmsa->ExitCode));
        if (byPage)
        {
            Assert.Equal((0ul, 0ul), (ghcb->SwExitInfo1, ghcb->SwExitInfo2));
            AssertMarked(ghcb, []);
        }
        else
        {
            Assert.Equal(GhcbMsr.ApResetHoldResponse, machine.Cpu.Contexts[0].GhcbMsr);
        }

        machine.Cpu.Contexts[0].Apic.Request(0x41, level: false);
        machine.Machine.Interrupts.Expire();
        Assert.False(machine.Cpu.IsRunning);
        Assert.True(machine.Machine.Start(machine.Cpu, 0));
        Assert.True(machine.Cpu.IsRunning);
    }

    // Contents, validation and rights stay: the guest sees only that a PVALIDATE or RMPADJUST of 4 KiB fits now.
    [Fact]
    public void Page_PageStateChangeSmash_SplitsTheEntry()
    {
        const ulong Large = 0x40_0000;
        using var machine = new TestMachine();
        for (ulong offset = 0; offset < Amd64.LargePageSize; offset += Amd64.PageSize)
        {
            machine.Memory.Assign(machine.Page(Large + offset), Large + offset, large: true);
            machine.Page(Large + offset)->Validated = true;
            machine.Page(Large + offset)->SetPermissions(2, RmpPermissions.Read);
        }

        AssertHint(PageStateOperation.Unsmash, Large, isLarge: true);
        AssertHint(PageStateOperation.Psmash, Large, isLarge: false);
        AssertHint(PageStateOperation.Psmash, Large, isLarge: false);
        AssertHint(PageStateOperation.Unsmash, Large, isLarge: false);

        void AssertHint(PageStateOperation operation, ulong gpa, bool isLarge)
        {
            GhcbPage* ghcb = BeginPageStateChange(machine, 0, 0);
            ulong* entry = (ulong*)((byte*)ghcb + 0x808);
            *entry = gpa | ((ulong)operation << 52) | PageStateChangeBuffer.Large;
            Assert.True(TryAsk(machine, Ghcb));
            Assert.Equal((0ul, 0ul), (ghcb->SwExitInfo1, ghcb->SwExitInfo2));
            Assert.Equal((1, 512ul), (*(ushort*)((byte*)ghcb + 0x800), *entry & 0xFFF));
            AssertMarked(ghcb, []);
            for (ulong offset = 0; offset < Amd64.LargePageSize; offset += Amd64.PageSize)
            {
                GuestPage* page = machine.Page(gpa + offset);
                Assert.Equal(
                    (true, true, isLarge, RmpPermissions.Read), (page->Assigned, page->Validated, page->IsLarge, (RmpPermissions)page->GetPermissions(2)));
            }
        }
    }

    // Hints, which cannot fail: for 4-KiB entries, shared pages, and where there is no RAM.
    [Theory]
    [InlineData(PageStateOperation.Psmash, TestMachine.Free)]
    [InlineData(PageStateOperation.Unsmash, TestMachine.Free)]
    [InlineData(PageStateOperation.Psmash, Gpa)]
    [InlineData(PageStateOperation.Unsmash, Gpa)]
    [InlineData(PageStateOperation.Psmash, Ghcb)]
    [InlineData(PageStateOperation.Psmash, TestMachine.RamLength)]
    [InlineData(PageStateOperation.Unsmash, TestMachine.RamLength)]
    [InlineData(PageStateOperation.Psmash, 0x000F_FFFF_FFE0_0000ul)]
    public void Page_PageStateChangeSmash_WhereNothingIsToSplit_IsDone(PageStateOperation operation, ulong gpa)
    {
        using var machine = new TestMachine();
        machine.Private(TestMachine.Free);
        bool? wasAssigned = machine.Page(gpa) == null ? null : machine.Page(gpa)->Assigned;
        GhcbPage* ghcb = BeginPageStateChange(machine, 0, 0);
        ulong* entry = (ulong*)((byte*)ghcb + 0x808);
        *entry = gpa | ((ulong)operation << 52);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal((0ul, 0ul), (ghcb->SwExitInfo1, ghcb->SwExitInfo2));
        Assert.Equal((1, 1ul), (*(ushort*)((byte*)ghcb + 0x800), *entry & 0xFFF));
        Assert.Equal(wasAssigned, machine.Page(gpa) == null ? null : machine.Page(gpa)->Assigned);
    }

    [Theory]
    [InlineData(PageStateOperation.Psmash)]
    [InlineData(PageStateOperation.Unsmash)]
    public void Page_PageStateChangeSmash_NotOn2MiB_IsInvalidEntry(PageStateOperation operation)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = BeginPageStateChange(machine, 0, 0);
        *(ulong*)((byte*)ghcb + 0x808) = Gpa | ((ulong)operation << 52) | PageStateChangeBuffer.Large;
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0x1_0000_0002ul, ghcb->SwExitInfo2);
        Assert.Equal(0, *(ushort*)((byte*)ghcb + 0x800));
    }

    [Theory]
    [InlineData(0ul, 2ul, 0x90_1000ul, true)]
    [InlineData(1ul, 2ul, 0x90_1000ul, true)]
    [InlineData(3ul, 2ul, 0x90_1000ul, false)]
    [InlineData(1ul, 4ul, 0x90_1000ul, false)]
    [InlineData(1ul, 0ul, 0x90_1000ul, false)]
    [InlineData(1ul, 2ul, 0x90_1008ul, false)]
    [InlineData(1ul, 2ul, 0xA0_0000ul, false)]
    [InlineData(1ul, 2ul, 0x91_0000ul, false)]
    public void Page_ApCreation_ChecksItsOperands(ulong operation, ulong vmpl, ulong gpa, bool accepted)
    {
        using var machine = new TestMachine();
        machine.Private(0x90_1000);
        machine.Private(0xA0_0000);
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.ApCreation, operation | (vmpl << 16), gpa);
        ghcb->Rax = (ulong)SevFeatures.SnpActive;
        Mark(ghcb, 0x1F8, valid: true);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(accepted ? 0u : (uint)GhcbCompletion.BadRequest, (uint)ghcb->SwExitInfo1);
        Assert.Equal(accepted ? gpa : 0, vmpl < 4 ? machine.Cpu.Contexts[(int)vmpl].VmsaGpa : 0);
    }

    // Rows: VMPL that asks, VMPL that it asks for.
    [Theory]
    [InlineData(2, 0, 0, false)]
    [InlineData(2, 1, 0, false)]
    [InlineData(2, 3, 0, true)]
    [InlineData(2, 0, 2, false)]
    [InlineData(2, 3, 2, true)]
    [InlineData(0, 1, 0, true)]
    public void Page_ApCreation_OfAMorePrivilegedVmpl_IsRefused(int asks, ulong vmpl, ulong operation, bool accepted)
    {
        const ulong Old = 0x90_3000;
        using var machine = new TestMachine();
        machine.Private(0x90_1000);
        machine.Private(Old);
        Assert.True(machine.Machine.TrySetVmsa(machine.Cpu.Contexts[(int)vmpl], Old));
        machine.Cpu.Vmpl = asks;
        machine.Cpu.Current.RegisteredGhcb = Ghcb;
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.ApCreation, operation | (vmpl << 16), 0x90_1000);
        ghcb->Rax = (ulong)SevFeatures.SnpActive;
        Mark(ghcb, 0x1F8, valid: true);
        machine.Cpu.Current.RegisteredGhcb = Ghcb;
        machine.Cpu.Current.GhcbMsr = Ghcb;
        Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
        Assert.Equal(accepted ? 0u : (uint)GhcbCompletion.BadRequest, (uint)ghcb->SwExitInfo1);
        Assert.Equal(!accepted ? Old : operation == 2 ? 0 : 0x90_1000ul, machine.Cpu.Contexts[(int)vmpl].VmsaGpa);
    }

    [Fact]
    public void SwitchVmpl_ThereAndBack_MovesRegistersThroughTheVmsas()
    {
        using var machine = new TestMachine();
        Vmsa* upper = MakeVmsa(machine, 0x90_1000, 0);
        Vmsa* lower = MakeVmsa(machine, 0x90_3000, 2);
        lower->R15 = 0x1234;
        VirtualCpu cpu = machine.Cpu;
        Assert.True(machine.Machine.Enter(cpu, 0));
        Assert.True(machine.Page(0x90_1000)->IsRunning);
        cpu.Registers[15] = 0x5678;

        Assert.Equal(GhcbMsr.RunVmplResponse, AskAt(machine, 0, (2ul << 32) | GhcbMsr.RunVmplRequest));
        Assert.Equal((2, 0x1234ul), (cpu.Vmpl, cpu.Registers[15]));
        Assert.Equal((0x5678ul, ExitCode.VmgExit), (upper->R15, upper->ExitCode));
        Assert.False(machine.Page(0x90_1000)->IsRunning);
        Assert.True(machine.Page(0x90_3000)->IsRunning);

        Assert.Equal(GhcbMsr.RunVmplResponse, AskAt(machine, 2, GhcbMsr.RunVmplRequest));
        Assert.Equal((0, 0x5678ul), (cpu.Vmpl, cpu.Registers[15]));
        Assert.Equal(ExitCode.VmgExit, lower->ExitCode);
    }

    [Fact]
    public void SwitchVmpl_SvmeClear_IsRefusedAndNothingMoves()
    {
        using var machine = new TestMachine();
        MakeVmsa(machine, 0x90_1000, 0);
        Vmsa* lower = MakeVmsa(machine, 0x90_3000, 2);
        lower->Efer &= ~Amd64.EferSvme;
        Assert.True(machine.Machine.Enter(machine.Cpu, 0));
        Assert.Equal((1ul << 32) | GhcbMsr.RunVmplResponse, Ask(machine, (2ul << 32) | GhcbMsr.RunVmplRequest));
        Assert.Equal(0, machine.Cpu.Vmpl);
    }

    [Fact]
    public void SwitchVmpl_UnsoundVmsa_StopsTheRun()
    {
        using var machine = new TestMachine();
        MakeVmsa(machine, 0x90_1000, 0);
        MakeVmsa(machine, 0x90_3000, 2)->SevFeatures = 0;
        Assert.True(machine.Machine.Enter(machine.Cpu, 0));
        Assert.False(TryAsk(machine, (2ul << 32) | GhcbMsr.RunVmplRequest));
        Assert.Equal((ViolationKind.InvalidVmsa, 0x90_3000ul), (machine.Cpu.StopRequest.Violation, machine.Cpu.StopRequest.Gpa));
    }

    [Fact]
    public void GuestRequest_Wait_IsNoTimeOfTheGuest()
    {
        using var machine = new TestMachine();
        var processor = (FakeProcessor)machine.Machine.Processor;
        processor.TimeStep = 1000;
        Answer(machine, QemuRun.GuestResponse(0x0B, 0, []));
        Begin(machine, GhcbExitCode.GuestRequest, Gpa, Gpa + 0x1000);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(unchecked((ulong)-1000), machine.Cpu.TimeStampOffset);

        processor.TimeStep = 0;
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.Rdtsc, 0, 0);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(processor.TimeStamp - 1000, (uint)ghcb->Rax | (ghcb->Rdx << 32));
    }

    [Fact]
    public void GuestRequest_Response_ReplacesOnlyItsBytes()
    {
        using var machine = new TestMachine();
        Answer(machine, QemuRun.GuestResponse(0, 0, [1, 2, 3]));
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.GuestRequest, Gpa, Gpa + 0x1000);
        byte* response = machine.Memory.SharedBytes(machine.Page(Gpa + 0x1000));
        new Span<byte>(response, 4096).Fill(9);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0ul, ghcb->SwExitInfo1);
        Assert.Equal(0ul, ghcb->SwExitInfo2);
        Assert.Equal((byte[])[1, 2, 3, 9], new Span<byte>(response, 4).ToArray());
    }

    [Fact]
    public void GuestRequest_MoreRoomThanEver_IsCapped()
    {
        using var machine = new TestMachine();
        Answer(machine, QemuRun.GuestResponse(0, 0, []));
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.ExtendedGuestRequest, Gpa, Gpa + 0x1000);
        machine.Memory.SharedBytes(machine.Page(Gpa))[0x34] = 5;
        ghcb->Rax = Gpa + 0x2000;
        ghcb->Rbx = ulong.MaxValue;
        Mark(ghcb, 0x1F8, valid: true);
        Mark(ghcb, 0x318, valid: true);
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal(0ul, ghcb->SwExitInfo1);
        Assert.Equal(Link.MaxCertificatePages, machine.Port.Bytes[Link.HeaderLength]);
    }

    [Fact]
    public void GuestRequest_BrokenAnswer_StopsTheRun()
    {
        byte[][] answers =
        [
            [0x5A],
            QemuRun.Frame(LinkFrame.Hello, new byte[16]),
            QemuRun.Frame(LinkFrame.GuestResponse, new byte[15]),
            QemuRun.Frame(LinkFrame.Certificates, new byte[4096]),
            [Link.Start, (byte)LinkFrame.GuestResponse, 0xFF, 0xFF],
        ];
        foreach (byte[] answer in answers)
        {
            using var machine = new TestMachine();
            Answer(machine, answer);
            Begin(machine, GhcbExitCode.GuestRequest, Gpa, Gpa + 0x1000);
            Assert.False(TryAsk(machine, Ghcb));
            Assert.Equal(StopReason.HypervisorFault, machine.Cpu.StopRequest.Reason);
        }
    }

    private static void Answer(TestMachine machine, byte[] frames)
    {
        foreach (byte value in frames)
        {
            machine.Port.Answers.Enqueue(value);
        }
    }

    private static Vmsa* MakeVmsa(TestMachine machine, ulong gpa, int vmpl)
    {
        var vmsa = (Vmsa*)machine.Private(gpa);
        TestMachine.Clear((byte*)vmsa);
        machine.Page(gpa)->IsVmsa = true;
        vmsa->Vmpl = (byte)vmpl;
        vmsa->SevFeatures = (ulong)SevFeatures.SnpActive;
        vmsa->Efer = Amd64.EferSvme;
        vmsa->Cr0 = 0x11;
        Assert.True(machine.Machine.TrySetVmsa(machine.Cpu.Contexts[vmpl], gpa));
        return vmsa;
    }

    private static bool TryAsk(TestMachine machine, ulong request)
    {
        machine.Cpu.Current.GhcbMsr = request;
        return VmgExit.Handle(machine.Machine, machine.Cpu);
    }

    private static ulong Ask(TestMachine machine, ulong request) => AskAt(machine, machine.Cpu.Vmpl, request);

    private static ulong AskAt(TestMachine machine, int vmpl, ulong request)
    {
        Assert.True(TryAsk(machine, request));
        return machine.Cpu.Contexts[vmpl].GhcbMsr;
    }

    private static void Register(TestMachine machine)
    {
        Assert.Equal(Ghcb | GhcbMsr.RegisterGhcbResponse, Ask(machine, Ghcb | GhcbMsr.RegisterGhcbRequest));
    }

    private static GhcbPage* Begin(TestMachine machine, GhcbExitCode exitCode, ulong info1, ulong info2)
    {
        Register(machine);
        var ghcb = (GhcbPage*)machine.Memory.SharedBytes(machine.Page(Ghcb));
        ghcb->ProtocolVersion = 2;
        ghcb->SwExitCode = (ulong)exitCode;
        ghcb->SwExitInfo1 = info1;
        ghcb->SwExitInfo2 = info2;
        Mark(ghcb, 0x390, valid: true);
        Mark(ghcb, 0x398, valid: true);
        Mark(ghcb, 0x3A0, valid: true);
        return ghcb;
    }

    private static GhcbPage* BeginPageStateChange(TestMachine machine, ushort current, ushort last)
    {
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.PageStateChange, 0, 0);
        ghcb->SwScratch = Ghcb + 0x800;
        Mark(ghcb, 0x3A8, valid: true);
        *(ushort*)((byte*)ghcb + 0x800) = current;
        *(ushort*)((byte*)ghcb + 0x802) = last;
        return ghcb;
    }

    private static void Mark(GhcbPage* ghcb, int offset, bool valid)
    {
        byte* bitmap = (byte*)ghcb + 0x3F0 + (offset / 64);
        var bit = (byte)(1 << (offset / 8 % 8));
        *bitmap = (byte)(valid ? *bitmap | bit : *bitmap & ~bit);
    }

    // The fields of an answer, and nothing else: SW_EXITINFO1 and 2 and what it returns.
    private static void AssertMarked(GhcbPage* ghcb, ReadOnlySpan<int> offsets)
    {
        byte[] expected = new byte[16];
        foreach (int offset in (ReadOnlySpan<int>)[0x398, 0x3A0, .. offsets])
        {
            expected[offset / 64] |= (byte)(1 << (offset / 8 % 8));
        }

        Assert.Equal(expected, new Span<byte>((byte*)ghcb + 0x3F0, 16).ToArray());
    }

    private static void AssertRefused(TestMachine machine, GhcbPage* ghcb, GhcbError error)
    {
        Assert.True(TryAsk(machine, Ghcb));
        Assert.Equal((uint)GhcbCompletion.BadRequest, (uint)ghcb->SwExitInfo1);
        Assert.Equal((ulong)error, ghcb->SwExitInfo2);
    }
}
