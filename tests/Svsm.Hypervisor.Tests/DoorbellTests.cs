// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Restricted injection: what the #HV doorbell page shows, when #HV comes, and who runs.</summary>
public sealed unsafe class DoorbellTests
{
    private const ulong Page = 0x90_2000;
    private const ulong LowerVmsa = 0x90_3000;
    private const ulong UpperVmsa = 0x90_4000;
    private const ulong Hypervisor = 0x8000_031C;
    private const HvDoorbellFlags Rung = HvDoorbellFlags.NoFurtherSignal;

    [Fact]
    public void Offer_Vector_IsShownAndSignalledOnce()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        Assert.Equal(Hypervisor, Offer(machine, 0x41));
        Assert.Equal(((byte)0x41, Rung, HvDoorbellPage.NoEoi), (page->Vector, page->Flags, page->NoEoiRequired));
        Assert.Equal(0ul, machine.Cpu.Vmcb->VirtualInterrupt & (1 << 8));

        // Not taken yet: the next one waits, and is not signalled when it is shown.
        Assert.Equal(0ul, Offer(machine, 0x51));
        Assert.Equal(0x41, page->Vector);
        page->Vector = 0;
        Assert.Equal(0ul, Offer(machine));
        Assert.Equal(((byte)0x51, Rung), (page->Vector, page->Flags));
        page->Events = 0;
        Assert.Equal(Hypervisor, Offer(machine, 0x61));
    }

    [Fact]
    public void Offer_AnotherEventIsInjected_ShowsNothingUntilLater()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        machine.Cpu.Raise(Amd64.VectorGeneralProtection, 0);
        ulong injected = machine.Cpu.Vmcb->EventInjection;
        Assert.Equal(injected, Offer(machine, 0x41));
        Assert.Equal(0u, page->Events);
        Assert.Equal(Hypervisor, Offer(machine));
        Assert.Equal(0x41, page->Vector);
    }

    [Fact]
    public void NoEoi_TakenOrWithdrawnOrIgnored_EndsTheInterruptAsTheGuestSaid()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        LocalApic apic = machine.Cpu.Current.Apic;

        // The guest takes the offer.
        Offer(machine, 0x41);
        page->Events = 0;
        Doorbell.SettleEnd(machine.Memory, machine.Cpu.Current);
        Assert.False(apic.IsAnyInService);

        // One of the same priority comes first: the offer is withdrawn, and only an EOI lets that one through.
        Offer(machine, 0x41);
        page->Vector = 0;
        Offer(machine, 0x42);
        Assert.Equal(((byte)0, (byte)0), (page->Vector, page->NoEoiRequired));
        Assert.True(MsrModel.TryWrite(machine.Machine, machine.Cpu, LocalApic.EndOfInterruptMsr, 0));
        Offer(machine);
        Assert.Equal(0x42, page->Vector);

        // An EOI in spite of the offer ends one interrupt, not two.
        page->Vector = 0;
        Assert.True(MsrModel.TryWrite(machine.Machine, machine.Cpu, LocalApic.EndOfInterruptMsr, 0));
        page->NoEoiRequired = 0;
        Doorbell.SettleEnd(machine.Memory, machine.Cpu.Current);
        Assert.False(apic.IsAnyInService || apic.EndsByDoorbell);
    }

    [Fact]
    public void NoEoi_LevelTriggered_IsNotOffered()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Fixed, 0x41, level: true);
        Offer(machine);
        Assert.Equal(((byte)0x41, (byte)0), (page->Vector, page->NoEoiRequired));
    }

    [Fact]
    public void Offer_Nmi_IsAFlag()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Nmi, 0, level: false);
        Assert.Equal(Hypervisor, Offer(machine));
        Assert.Equal(((byte)0, Rung | HvDoorbellFlags.Nmi), (page->Vector, page->Flags));
        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Nmi, 0, level: false);
        Assert.False(machine.Machine.Interrupts.HasEvent(machine.Cpu, interruptible: true));
        page->Events = 0;
        Assert.Equal(Hypervisor, Offer(machine));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Offer_NoPageOrPrivateByNow_Waits(bool isPrivate)
    {
        using var machine = new TestMachine();
        Restrict(machine);
        if (isPrivate)
        {
            machine.Private(Page);
        }
        else
        {
            machine.Cpu.Current.Doorbell = Doorbell.None;
        }

        Assert.Equal(0ul, Offer(machine, 0x41));
        Assert.False(machine.Machine.Interrupts.HasEvent(machine.Cpu, interruptible: true));
        Assert.Equal(0x41, machine.Cpu.Current.Apic.Pending);
    }

    [Fact]
    public void Offer_HostWithholds_ShowsNothing()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        machine.Machine.Interrupts.Withholds = true;
        Assert.Equal((0ul, 0u), (Offer(machine, 0x41), page->Events));
        Assert.False(machine.Machine.Interrupts.HasEvent(machine.Cpu, interruptible: true));
    }

    [Theory]
    [InlineData(Page + 1)]
    [InlineData(TestMachine.RamLength)]
    [InlineData(UpperVmsa)]
    public void TrySet_NoSharedPage_LeavesNone(ulong gpa)
    {
        using var machine = new TestMachine();
        Restrict(machine);
        machine.Private(UpperVmsa);
        Assert.False(Doorbell.TrySet(machine.Memory, machine.Cpu.Current, gpa));
        Assert.Equal(Doorbell.None, machine.Cpu.Current.Doorbell);
    }

    [Fact]
    public void Deliver_MorePrivilegedVmplWithPage_TakesThePlaceAndKeepsWhatWasInjected()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = RunLower(machine);
        machine.Cpu.Raise(Amd64.VectorGeneralProtection, 0);
        ulong injected = machine.Cpu.Vmcb->EventInjection;

        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        Assert.Equal(Hypervisor, Offer(machine));
        Assert.Equal((0, true, 0x60ul), (machine.Cpu.Vmpl, machine.Cpu.IsRunning, Vmsa(machine, LowerVmsa)->ExitCode));
        Assert.Equal(0x41, page->Vector);

        // And back: VMPL2 gets its exception.
        page->Events = 0;
        machine.Cpu.Vmcb->EventInjection = 0;
        Assert.True(VmgExit.SwitchVmpl(machine.Machine, machine.Cpu, 2, out bool refused));
        Assert.False(refused);
        Assert.Equal((2, injected), (machine.Cpu.Vmpl, Offer(machine)));
    }

    [Fact]
    public void Deliver_MorePrivilegedVmplWithoutPageOrRunnableVmsa_Waits()
    {
        using var machine = new TestMachine();
        RunLower(machine);
        Vmsa(machine, UpperVmsa)->Efer = 0;
        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        Assert.Equal((0ul, 2), (Offer(machine), machine.Cpu.Vmpl));
        Vmsa(machine, UpperVmsa)->Efer = Amd64.EferSvme;
        machine.Cpu.Contexts[0].Doorbell = Doorbell.None;
        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Fixed, 0x51, level: false);
        Assert.Equal((0ul, 2), (Offer(machine), machine.Cpu.Vmpl));
        Assert.Equal(0x51, machine.Cpu.Contexts[0].Apic.Pending);
    }

    [Fact]
    public void Deliver_VmplHalts_HaltsOnWhenItsTurnComes()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = RunLower(machine);
        machine.Cpu.Contexts[0].Apic.TryWrite(0x832, 0x43, machine.Machine.Clock, 0);
        machine.Cpu.Contexts[0].Apic.TryWrite(0x838, 1000, machine.Machine.Clock, machine.Machine.Interrupts.Now);
        Assert.True(machine.Machine.Wait(machine.Cpu, ExitCode.Halt, length: 1));
        Assert.Equal((false, true), (machine.Cpu.IsRunning, machine.Cpu.IsHalted));

        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Fixed, 0x51, level: false);
        Assert.Equal((0, true, 0x78ul), (machine.Cpu.Vmpl, machine.Cpu.IsRunning, Vmsa(machine, LowerVmsa)->ExitCode));
        Offer(machine);
        page->Events = 0;
        Assert.True(VmgExit.SwitchVmpl(machine.Machine, machine.Cpu, 2, out _));
        Assert.Equal((2, false, true), (machine.Cpu.Vmpl, machine.Cpu.IsRunning, machine.Cpu.IsHalted));

        // Its own interrupt wakes it.
        machine.Cpu.HaltIsInterruptible = true;
        machine.Machine.Interrupts.Deliver(machine.Cpu, 2, DeliveryMode.Fixed, 0x61, level: false);
        Assert.Equal((2, true), (machine.Cpu.Vmpl, machine.Cpu.IsRunning));
    }

    [Fact]
    public void SwitchVmpl_CallerHasAnEvent_ComesBackAtOnce()
    {
        using var machine = new TestMachine();
        RunLower(machine);
        Assert.True(VmgExit.SwitchVmpl(machine.Machine, machine.Cpu, 0, out bool refused));
        machine.Machine.Interrupts.Deliver(machine.Cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        Assert.True(VmgExit.SwitchVmpl(machine.Machine, machine.Cpu, 2, out refused));
        Assert.Equal((false, 0), (refused, machine.Cpu.Vmpl));
        Offer(machine);
        Assert.True(VmgExit.SwitchVmpl(machine.Machine, machine.Cpu, 2, out _));
        Assert.Equal(2, machine.Cpu.Vmpl);
    }

    // The machine's host side has something for VMPL0: it gets its turn, whatever VMPL2 does.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TryNotify_LowerVmplRunsOrHalts_RunsVmpl0(bool halts)
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = RunLower(machine);
        machine.Machine.IsNotified = true;
        if (halts)
        {
            Assert.True(machine.Machine.Wait(machine.Cpu, ExitCode.Halt, length: 1));
        }

        Assert.True(machine.Machine.Interrupts.TryNotify(machine.Cpu));
        machine.Machine.Interrupts.Offer(machine.Cpu);
        Assert.Equal((0, true, (byte)0xE2), (machine.Cpu.Vmpl, machine.Cpu.IsRunning, page->Vector));
    }

    [Fact]
    public void TryNotify_NobodyWhoTakesIt_SaysSo()
    {
        using var machine = new TestMachine();
        machine.Machine.IsNotified = true;
        Interrupts interrupts = machine.Machine.Interrupts;
        Assert.False(interrupts.TryNotify(machine.Cpu));
        Restrict(machine);
        MsrOf(machine, 0, 0x80F, 0xFF);
        Assert.False(interrupts.TryNotify(machine.Cpu));
        MsrOf(machine, 0, 0x80F, 0x1FF);
        Assert.True(interrupts.TryNotify(machine.Cpu));
        machine.Cpu.Contexts[0].Doorbell = Doorbell.None;
        Assert.False(interrupts.TryNotify(machine.Cpu));
    }

    // Rows: whether there is a channel that may have something some day.
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Halt_OfVmpl0WithNothingToComeButARelay_IsNotForEver(bool isNotified)
    {
        using var machine = new TestMachine();
        Restrict(machine);
        MakeVmsa(machine, UpperVmsa, 0, SevFeatures.SnpActive | SevFeatures.RestrictedInjection);
        machine.Machine.IsNotified = isNotified;
        Assert.Equal(isNotified, machine.Machine.Wait(machine.Cpu, ExitCode.Halt, length: 1));
        Assert.Equal(isNotified ? ViolationKind.None : ViolationKind.HaltForever, machine.Cpu.StopRequest.Violation);
    }

    [Fact]
    public void Deliver_LessPrivilegedVmpl_SetsItsBitAndWaits()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        MsrOf(machine, 2, 0x80F, 0x1FF);
        machine.Machine.Interrupts.Deliver(machine.Cpu, 2, DeliveryMode.Fixed, 0x41, level: false);
        Assert.Equal((0, (byte)2, 0ul), (machine.Cpu.Vmpl, page->VmplEvents, Offer(machine)));
        Assert.Equal(0x41, machine.Cpu.Contexts[2].Apic.Pending);
    }

    [Fact]
    public void Attacks_RingAndWithhold_DoWhatTheySay()
    {
        using var machine = new TestMachine();
        HvDoorbellPage* page = Restrict(machine);
        Attacks attacks = machine.Machine.Attacks;
        Assert.True(attacks.TryAdd(Attack(AttackAction.Ring, first: 1)));
        Assert.True(attacks.TryAdd(Attack(AttackAction.Withhold, first: 2)));
        Assert.True(attacks.AfterExit(machine.Cpu, 0, 0x72));
        Assert.Equal((0x1234_56FFu, Hypervisor), (page->Events, machine.Cpu.Vmcb->EventInjection));
        Assert.False(machine.Machine.Interrupts.Withholds);
        Assert.True(attacks.AfterExit(machine.Cpu, 0, 0x72));
        Assert.True(machine.Machine.Interrupts.Withholds);
    }

    [Fact]
    public void Attacks_PowerOff_EndsTheRun()
    {
        using var machine = new TestMachine();
        Attacks attacks = machine.Machine.Attacks;
        Assert.True(attacks.TryAdd(Attack(AttackAction.PowerOff, first: 2)));
        Assert.True(attacks.AfterExit(machine.Cpu, 0, 0x72));
        Assert.False(attacks.AfterExit(machine.Cpu, 0, 0x72));
        Assert.Equal(StopReason.PowerOff, machine.Cpu.StopRequest.Reason);
    }

    private static LaunchAttack Attack(AttackAction action, ulong first) => new()
    {
        Action = action,
        Trigger = AttackTrigger.Exit,
        Code = LaunchAttack.AnyCode,
        Vmpl = LaunchAttack.AnyVmpl,
        First = first,
        Repeat = 1,
        Value = 0x1234_56FF,
    };

    // VMPL0 has the feature, an APIC that is on, and a doorbell page.
    private static HvDoorbellPage* Restrict(TestMachine machine)
    {
        machine.Cpu.Features |= SevFeatures.RestrictedInjection;
        MsrOf(machine, 0, 0x80F, 0x1FF);
        Assert.True(Doorbell.TrySet(machine.Memory, machine.Cpu.Contexts[0], Page));
        HvDoorbellPage* page = Doorbell.Find(machine.Memory, machine.Cpu.Contexts[0]);
        TestMachine.Clear((byte*)page);
        return page;
    }

    // The same, and VMPL2 runs.
    private static HvDoorbellPage* RunLower(TestMachine machine)
    {
        HvDoorbellPage* page = Restrict(machine);
        MsrOf(machine, 2, 0x80F, 0x1FF);
        MakeVmsa(machine, LowerVmsa, 2, SevFeatures.SnpActive);
        MakeVmsa(machine, UpperVmsa, 0, SevFeatures.SnpActive | SevFeatures.RestrictedInjection);
        Assert.True(VmgExit.SwitchVmpl(machine.Machine, machine.Cpu, 2, out bool refused));
        Assert.False(refused);
        return page;
    }

    private static void MakeVmsa(TestMachine machine, ulong gpa, int vmpl, SevFeatures features)
    {
        var vmsa = (Vmsa*)machine.Private(gpa);
        TestMachine.Clear((byte*)vmsa);
        machine.Page(gpa)->IsVmsa = true;
        vmsa->Vmpl = (byte)vmpl;
        vmsa->SevFeatures = (ulong)features;
        vmsa->Efer = Amd64.EferSvme;
        vmsa->Cr0 = 0x11;
        Assert.True(machine.Machine.TrySetVmsa(machine.Cpu.Contexts[vmpl], gpa));
    }

    private static Vmsa* Vmsa(TestMachine machine, ulong gpa) => (Vmsa*)machine.Memory.PrivateBytes(machine.Page(gpa));

    private static void MsrOf(TestMachine machine, int vmpl, uint msr, ulong value) =>
        Assert.True(machine.Cpu.Contexts[vmpl].Apic.TryWrite(msr, value, machine.Machine.Clock, 0));

    // EVENTINJ of the next entry. The processor takes it.
    private static ulong Offer(TestMachine machine, int vector = 0)
    {
        if (vector != 0)
        {
            machine.Machine.Interrupts.Deliver(machine.Cpu, machine.Cpu.Vmpl, DeliveryMode.Fixed, vector, level: false);
        }

        machine.Machine.Interrupts.Offer(machine.Cpu);
        ulong injected = machine.Cpu.Vmcb->EventInjection;
        machine.Cpu.Vmcb->EventInjection = 0;
        Interrupts.Settle(machine.Cpu);
        return injected;
    }
}
