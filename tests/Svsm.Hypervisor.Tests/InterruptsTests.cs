// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Delivery to vCPUs and VMPLs, waking, timers.</summary>
public sealed unsafe class InterruptsTests
{
    private const ulong VirtualRequest = 1 << 8;

    [Fact]
    public void Offer_Request_IsAVirtualInterruptUntilTaken()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        Enable(machine, cpu, 0);
        machine.Machine.Interrupts.Deliver(cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal((VirtualRequest, 0x41ul), (cpu.Vmcb->VirtualInterrupt & VirtualRequest, cpu.Vmcb->VirtualInterrupt >> 32));
        Assert.NotEqual(0u, cpu.Vmcb->InterceptControlRegisters & Intercepts.Cr8Write);

        // Not taken: it stays requested.
        Interrupts.Settle(cpu);
        Assert.Equal(0u, cpu.Vmcb->InterceptControlRegisters & Intercepts.Cr8Write);
        Assert.Equal(0x41, cpu.Current.Apic.Pending);
        machine.Machine.Interrupts.Offer(cpu);
        cpu.Vmcb->VirtualInterrupt &= ~VirtualRequest;
        Interrupts.Settle(cpu);
        Assert.False(cpu.Current.Apic.HasRequests);
        Assert.Equal(-1, cpu.Current.Apic.EndInterrupt());
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(0ul, cpu.Vmcb->VirtualInterrupt & VirtualRequest);
    }

    // The emulator may lose the timer's interrupt at an entry with an offer. Nothing else would ever tell that the time is up.
    [Fact]
    public void Schedule_TimerInterruptLostAtAnEntryWithAnOffer_TimerExpires()
    {
        const uint TimerEntry = 0x832;
        const uint InitialCount = 0x838;
        using var machine = new TestMachine();
        var processor = (FakeProcessor)machine.Machine.Processor;
        VirtualCpu cpu = machine.Cpu;
        Enable(machine, cpu, 0);
        LocalApic apic = cpu.Current.Apic;
        Assert.True(apic.TryWrite(TimerEntry, 0x42, machine.Machine.Clock, machine.Machine.Interrupts.Now));
        Assert.True(apic.TryWrite(InitialCount, 1000, machine.Machine.Clock, machine.Machine.Interrupts.Now));
        machine.Machine.Interrupts.NoteTimer(apic);
        Assert.NotEqual(0ul, processor.Timer);
        machine.Machine.Interrupts.Deliver(cpu, 0, DeliveryMode.Fixed, 0x41, level: false);

        machine.Machine.Interrupts.Offer(cpu);
        cpu.Vmcb->VirtualInterrupt &= ~VirtualRequest;
        processor.TimeStamp += 1_000_000_000;
        Interrupts.Settle(cpu);
        Assert.Same(cpu, machine.Machine.Schedule(cpu));

        Assert.Equal(-1, apic.EndInterrupt());
        Assert.Equal(0x42, apic.Pending);
    }

    [Theory]
    [InlineData(0x8000_0041ul, true)]
    [InlineData(0x8000_0341ul, true)]
    [InlineData(0x8000_0341ul, false)]
    public void Settle_DeliveryWasInterrupted_OffersItAgainAndNothingElse(ulong interrupted, bool stillRequested)
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        Enable(machine, cpu, 0);
        machine.Machine.Interrupts.Deliver(cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        machine.Machine.Interrupts.Offer(cpu);
        cpu.Vmcb->VirtualInterrupt &= stillRequested ? ulong.MaxValue : ~VirtualRequest;
        cpu.Vmcb->ExitIntInfo = interrupted;
        Interrupts.Settle(cpu);
        Assert.Equal(0x41, cpu.Current.Apic.Pending);
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal((0ul, VirtualRequest), (cpu.Vmcb->EventInjection, cpu.Vmcb->VirtualInterrupt & VirtualRequest));
    }

    [Theory]
    [InlineData(0x8000_0202ul, 0x8000_0202ul)]
    [InlineData(0x1_8000_0B0Dul, 0x1_8000_0B0Dul)]
    [InlineData(0x8000_0480ul, 0ul)]
    [InlineData(0x0000_0341ul, 0ul)]
    public void Settle_OtherEventWasInterrupted_IsInjectedAgainUnlessItHappensAgain(ulong interrupted, ulong injected)
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        cpu.Vmcb->ExitIntInfo = interrupted;
        Interrupts.Settle(cpu);
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(injected, cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void Offer_RestrictedInjection_NeverInterrupts()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        Enable(machine, cpu, 0);
        cpu.Features = SevFeatures.SnpActive | SevFeatures.RestrictedInjection;
        machine.Machine.Interrupts.Deliver(cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(0ul, cpu.Vmcb->VirtualInterrupt & VirtualRequest);
    }

    [Fact]
    public void Deliver_VmplThatDoesNotRun_Waits()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        Enable(machine, cpu, 2);
        machine.Machine.Interrupts.Deliver(cpu, 2, DeliveryMode.Fixed, 0x41, level: false);
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(0ul, cpu.Vmcb->VirtualInterrupt & VirtualRequest);
        cpu.Vmpl = 2;
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(0x41ul, cpu.Vmcb->VirtualInterrupt >> 32);
    }

    [Fact]
    public void Offer_Nmi_IsInjectedOnceUntilTheHandlerIsDone()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        Assert.True(machine.Machine.Interrupts.TrySend(cpu, new InterruptCommand((1 << 18) | (4 << 8))));
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(0x8000_0202ul, cpu.Vmcb->EventInjection);
        cpu.Vmcb->EventInjection = 0;
        machine.Machine.Interrupts.TrySend(cpu, new InterruptCommand((1 << 18) | (4 << 8)));
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(0ul, cpu.Vmcb->EventInjection);
        cpu.Current.Apic.NmiMasked = false;
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(0x8000_0202ul, cpu.Vmcb->EventInjection);
    }

    [Fact]
    public void Settle_Cr8Written_IsTheTaskPriority()
    {
        using var machine = new TestMachine();
        machine.Machine.Interrupts.Offer(machine.Cpu);
        machine.Cpu.Vmcb->VirtualInterrupt |= 5;
        Interrupts.Settle(machine.Cpu);
        Assert.Equal(0x50, machine.Cpu.Current.Apic.TaskPriority);
    }

    [Fact]
    public void Offer_ShadowOfStiBeforeHalt_EndsTheHalt()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        machine.Code(0xF4);
        Enable(machine, cpu, 0);
        cpu.State->Rflags |= Amd64.FlagInterrupt;
        cpu.Vmcb->InterruptShadow = 1;
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal(TestMachine.Free, cpu.State->Rip);
        machine.Machine.Interrupts.Deliver(cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        machine.Machine.Interrupts.Offer(cpu);
        Assert.Equal((TestMachine.Free + 1, 0ul), (cpu.State->Rip, cpu.Vmcb->InterruptShadow));
    }

    [Fact]
    public void Halt_InterruptWaits_DoesNotHalt()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        machine.Code(0xF4);
        Enable(machine, cpu, 0);
        cpu.State->Rflags |= Amd64.FlagInterrupt;
        machine.Machine.Interrupts.Deliver(cpu, 0, DeliveryMode.Fixed, 0x41, level: false);
        Assert.True(machine.Machine.Wait(cpu, ExitCode.Halt, 1));
        Assert.True(cpu.IsRunning);
        Assert.Equal(TestMachine.Free + 1, cpu.State->Rip);
    }

    [Theory]
    [InlineData(0x500ul)]
    [InlineData(0x608ul)]
    [InlineData(0x200ul)]
    public void TrySend_OtherThanInterruptOrNmi_IsRefused(ulong command)
    {
        using var machine = new TestMachine();
        Assert.False(machine.Machine.Interrupts.TrySend(machine.Cpu, new InterruptCommand(command)));
    }

    [Theory]
    [InlineData(0x1_0000_0041ul, 0b0010)]
    [InlineData(0x0_0004_0041ul, 0b0001)]
    [InlineData(0x0_0008_0041ul, 0b1111)]
    [InlineData(0x0_000C_0041ul, 0b1110)]
    [InlineData(0x6_0000_0841ul, 0b0110)]
    [InlineData(0xFFFF_FFFF_0000_0041ul, 0b1111)]
    [InlineData(0x6_0000_0941ul, 0b0010)]
    public void TrySend_Command_ReachesWhomItMeans(ulong command, int targets)
    {
        using var machine = new TestMachine();
        machine.Machine.Cpus = [machine.Cpu, new VirtualCpu(machine.Pool, 1), new VirtualCpu(machine.Pool, 2), new VirtualCpu(machine.Pool, 3)];
        int reached = 0;
        foreach (VirtualCpu cpu in machine.Machine.Cpus)
        {
            Enable(machine, cpu, 0);
        }

        Assert.True(machine.Machine.Interrupts.TrySend(machine.Cpu, new InterruptCommand(command)));
        for (int i = 0; i < 4; i++)
        {
            reached |= machine.Machine.Cpus[i].Contexts[0].Apic.Pending == 0x41 ? 1 << i : 0;
        }

        Assert.Equal(targets, reached);
    }

    [Fact]
    public void Timer_Expires_IsRequestedAndEndsTheTurn()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        var processor = (FakeProcessor)machine.Machine.Processor;
        Enable(machine, cpu, 2);
        WriteApic(machine, cpu, 2, 0x83E, 0xB);
        WriteApic(machine, cpu, 2, 0x832, 0x44);
        WriteApic(machine, cpu, 2, 0x838, 1000);
        Assert.Equal(1001ul, processor.Timer);
        processor.TimeStamp += 500;
        machine.Machine.Interrupts.HandlePhysical(cpu);
        Assert.False(cpu.Contexts[2].Apic.HasRequests);
        Assert.Equal((501ul, true, 1), (processor.Timer, cpu.Yields, processor.Taken));
        processor.TimeStamp += 500;
        machine.Machine.Interrupts.HandlePhysical(cpu);
        Assert.Equal(0x44, cpu.Contexts[2].Apic.Pending);
    }

    [Fact]
    public void Timer_EarlierOneSet_RearmsAndLaterOneDoesNot()
    {
        using var machine = new TestMachine();
        VirtualCpu cpu = machine.Cpu;
        var processor = (FakeProcessor)machine.Machine.Processor;
        WriteApic(machine, cpu, 0, 0x83E, 0xB);
        WriteApic(machine, cpu, 2, 0x83E, 0xB);
        WriteApic(machine, cpu, 0, 0x838, 1000);
        WriteApic(machine, cpu, 2, 0x838, 3000);
        Assert.Equal(1001ul, processor.Timer);
        WriteApic(machine, cpu, 2, 0x838, 300);
        Assert.Equal(301ul, processor.Timer);
    }

    private static void Enable(TestMachine machine, VirtualCpu cpu, int vmpl) => WriteApic(machine, cpu, vmpl, 0x80F, 0x1FF);

    private static void WriteApic(TestMachine machine, VirtualCpu cpu, int vmpl, uint msr, ulong value)
    {
        int running = cpu.Vmpl;
        cpu.Vmpl = vmpl;
        Assert.True(MsrModel.TryWrite(machine.Machine, cpu, msr, value));
        cpu.Vmpl = running;
    }
}
