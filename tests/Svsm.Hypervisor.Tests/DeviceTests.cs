// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>I/O APIC, serial port, clock and the MSRs that only hold a value.</summary>
public sealed unsafe class DeviceTests
{
    private const ulong Select = 0;
    private const ulong Window = 0x10;
    private const uint Com1Entry = 0x10 + (2 * MachinePorts.Com1Interrupt);
    private const ulong SharedPage = 0x90_1000;

    [Fact]
    public void IoApic_EdgeInterrupt_IsDeliveredOncePerEdgeToTheVmplThatAsked()
    {
        using var machine = new TestMachine();
        LocalApic apic = Enable(machine, 2);
        WriteEntry(machine, Com1Entry, 0x41, 0, vmpl: 2);
        machine.Machine.IoApic.SetLine(MachinePorts.Com1Interrupt, true);
        Assert.Equal((0x41, false), (apic.Pending, machine.Cpu.Contexts[0].Apic.HasRequests));
        apic.Accept(0x41);
        Assert.Equal(-1, apic.EndInterrupt());
        machine.Machine.IoApic.SetLine(MachinePorts.Com1Interrupt, true);
        Assert.False(apic.HasRequests);
        machine.Machine.IoApic.SetLine(MachinePorts.Com1Interrupt, false);
        machine.Machine.IoApic.SetLine(MachinePorts.Com1Interrupt, true);
        Assert.True(apic.HasRequests);
    }

    [Fact]
    public void IoApic_LevelInterrupt_ComesAgainUntilTheLineFalls()
    {
        using var machine = new TestMachine();
        LocalApic apic = Enable(machine, 0);
        WriteEntry(machine, Com1Entry, 0x8041, 0, vmpl: 0);
        machine.Machine.IoApic.SetLine(MachinePorts.Com1Interrupt, true);
        Assert.Equal(1u << 14, ReadRegister(machine, Com1Entry) & (1u << 14));
        apic.Accept(0x41);
        machine.Machine.IoApic.EndInterrupt(apic.EndInterrupt());
        Assert.Equal(0x41, apic.Pending);
        apic.Accept(0x41);
        machine.Machine.IoApic.SetLine(MachinePorts.Com1Interrupt, false);
        machine.Machine.IoApic.EndInterrupt(apic.EndInterrupt());
        Assert.False(apic.HasRequests);
        Assert.Equal(0u, ReadRegister(machine, Com1Entry) & (1u << 14));
    }

    [Theory]
    [InlineData(0x1_0041u, 0u)]
    [InlineData(0x41u, 1u)]
    [InlineData(0x841u, 2u)]
    public void IoApic_MaskedOrForAnother_IsNotDelivered(uint low, uint destination)
    {
        using var machine = new TestMachine();
        LocalApic apic = Enable(machine, 0);
        WriteEntry(machine, Com1Entry, low, destination << 24, vmpl: 0);
        machine.Machine.IoApic.SetLine(MachinePorts.Com1Interrupt, true);
        Assert.False(apic.HasRequests);
    }

    [Theory]
    [InlineData(1u, 0x17_0011u)]
    [InlineData(0x3Fu, 0u)]
    [InlineData(0x3Eu, 0x1_0000u)]
    [InlineData(0x40u, 0u)]
    [InlineData(0xFFu, 0u)]
    public void IoApic_Registers_ReadAsTheChipDoes(uint register, uint expected)
    {
        using var machine = new TestMachine();
        Assert.Equal(expected, ReadRegister(machine, register));
    }

    [Fact]
    public void Serial_TransmitterInterrupt_UntilIdentified()
    {
        using var machine = new TestMachine();
        LocalApic apic = Enable(machine, 0);
        WriteEntry(machine, Com1Entry, 0x41, 0, vmpl: 0);
        Port(machine, 4, 0x08);
        Port(machine, 1, 0x02);
        Assert.Equal(0x41, apic.Pending);
        Assert.Equal(0x02u, Port(machine, 2));
        Assert.Equal(0x01u, Port(machine, 2));
        apic.Accept(0x41);
        apic.EndInterrupt();
        Port(machine, 0, (byte)'x');
        Assert.Equal(0x41, apic.Pending);
        Assert.Equal(0x02u, Port(machine, 2));
        Port(machine, 1, 0);
        Assert.Equal(0x01u, Port(machine, 2));
    }

    [Fact]
    public void Serial_Typed_InterruptsUntilRead()
    {
        using var machine = new TestMachine();
        LocalApic apic = Enable(machine, 0);
        WriteEntry(machine, Com1Entry, 0x41, 0, vmpl: 0);
        Port(machine, 4, 0x08);
        Port(machine, 1, 0x01);
        Assert.True(machine.Machine.Ports.TryType("ab"u8));
        Assert.Equal((0x41, 0x04u, 0x61u), (apic.Pending, Port(machine, 2), Port(machine, 5)));
        Assert.Equal(((uint)'a', (uint)'b'), (Port(machine, 0), Port(machine, 0)));
        Assert.Equal((0x01u, 0x60u, 0u), (Port(machine, 2), Port(machine, 5), Port(machine, 0)));
        Assert.False(machine.Machine.Ports.TryType(new byte[SerialPort.InputCapacity + 1]));
    }

    [Fact]
    public void Pci_Pin_InterruptsUntilTheDeviceIsHandled()
    {
        const uint Interrupting = 1 << 19;
        const uint InterruptDisable = 1 << 10;
        using var machine = new TestMachine();
        var processor = (FakeProcessor)machine.Machine.Processor;
        uint[] device = [0x1042_1AF4, .. new uint[63]];
        processor.Pci[6 << 3] = device;
        machine.Machine.Pci.Scan();
        LocalApic apic = Enable(machine, 2);
        WriteEntry(machine, 0x10 + (2 * 22), 0xA051, 0, vmpl: 2);
        device[1] = Interrupting;
        processor.Pins = 1 << 2;
        machine.Machine.Interrupts.HandlePhysical(machine.Cpu);
        Assert.Equal(0x51, apic.Pending);

        // The end of the interrupt asks the device again.
        apic.Accept(0x51);
        machine.Machine.IoApic.EndInterrupt(apic.EndInterrupt());
        Assert.Equal(0x51, apic.Pending);
        device[1] = Interrupting | InterruptDisable;
        apic.Accept(0x51);
        machine.Machine.IoApic.EndInterrupt(apic.EndInterrupt());
        Assert.Equal(-1, apic.Pending);
        machine.Machine.Interrupts.HandlePhysical(machine.Cpu);
        Assert.Equal(-1, apic.Pending);
        processor.Pins = 1 << 2;
        machine.Machine.Interrupts.HandlePhysical(machine.Cpu);
        Assert.Equal(0x51, apic.Pending);
    }

    [Fact]
    public void Pci_PinWhileAllWait_WakesTheVcpu()
    {
        using var machine = new TestMachine();
        var processor = (FakeProcessor)machine.Machine.Processor;
        LocalApic apic = Enable(machine, 0);
        WriteEntry(machine, 0x10 + (2 * 20), 0xA051, 0, vmpl: 0);
        processor.Pci[2 << 3] = [0x1042_1AF4, .. new uint[63]];
        machine.Machine.Pci.Scan();
        machine.Cpu.State->Rflags |= Amd64.FlagInterrupt;
        machine.Cpu.Contexts[0].LaunchVmsa = (Vmsa*)machine.Pool.AllocateZeroed();
        machine.Cpu.Contexts[0].LaunchVmsa->SevFeatures = (ulong)SevFeatures.SnpActive;
        Assert.True(machine.Machine.Wait(machine.Cpu, ExitCode.Halt, length: 1));
        processor.Pins = 1;
        Assert.Same(machine.Cpu, machine.Machine.Schedule(machine.Cpu));
        Assert.Equal(0x51, apic.Pending);
    }

    [Theory]
    [InlineData(0x605, 1, 0x20u)]
    [InlineData(0x604, 2, 0x2001u)]
    public void Ports_SoftOff_EndsTheRunWithStatusZero(ushort port, int size, uint value)
    {
        using var machine = new TestMachine();
        Assert.True(machine.Machine.Ports.Write(machine.Cpu, 0x605, 1, 0));
        Assert.True(machine.Machine.Ports.Write(machine.Cpu, 0x605, 1, 0x20 | (3 << 2)));
        Assert.True(machine.Machine.Ports.Write(machine.Cpu, 0x604, 1, 0x20));
        Assert.Equal(0u, machine.Machine.Ports.Read(0x600, 4));
        Assert.False(machine.Machine.Ports.Write(machine.Cpu, port, size, value));
        Assert.Equal((StopReason.GuestExit, 0ul), (machine.Cpu.StopRequest.Reason, machine.Cpu.StopRequest.Detail));
    }

    [Fact]
    public void Ports_PowerTimer_CountsGuestTime()
    {
        using var machine = new TestMachine();
        machine.Machine.Clock = new GuestClock(5, 2);
        ((FakeProcessor)machine.Machine.Processor).TimeStamp = 0;
        uint start = machine.Machine.Ports.Read(MachinePorts.PowerTimer, 4);
        ((FakeProcessor)machine.Machine.Processor).TimeStamp = 2_500_000_000ul * 3600;
        Assert.Equal(unchecked((uint)(3_579_545ul * 3600)), machine.Machine.Ports.Read(MachinePorts.PowerTimer, 4) - start);
    }

    [Fact]
    public void Ports_NoItems_Float()
    {
        using var machine = new TestMachine();
        Assert.True(machine.Machine.Ports.Write(machine.Cpu, MachinePorts.FirmwareSelector, 2, 0));
        Assert.Equal(0xFFu, machine.Machine.Ports.Read(MachinePorts.FirmwareData, 1));
    }

    // Dates checked with another calendar: the .NET one.
    [Theory]
    [InlineData(0ul)]
    [InlineData(86_399ul)]
    [InlineData(86_400ul * 59)]
    [InlineData(86_400ul * 60)]
    [InlineData(86_400ul * 366)]
    [InlineData((86_400ul * 36_525) - 1)]
    [InlineData(86_400ul * (36_525 + 59))]
    [InlineData(820_497_600ul)]
    public void RealTimeClock_Seconds_AreADate(ulong seconds)
    {
        var clock = new RealTimeClock();
        DateTime expected = new DateTime(2000, 1, 1).AddSeconds(seconds);
        foreach ((byte index, int value) in (ReadOnlySpan<(byte, int)>)[
            (0, expected.Second), (2, expected.Minute), (4, expected.Hour), (6, (int)expected.DayOfWeek + 1), (7, expected.Day), (8, expected.Month),
            (9, expected.Year % 100), (0x32, expected.Year / 100)])
        {
            clock.Select(index);
            Assert.Equal(value, Convert.ToInt32(clock.Read(seconds).ToString("X2", System.Globalization.CultureInfo.InvariantCulture), System.Globalization.CultureInfo.InvariantCulture));
        }

        clock.Select(0x0A);
        Assert.Equal(0, clock.Read(seconds) & 0x80);
        clock.Select(0x0D);
        Assert.Equal(0x80, clock.Read(seconds));
    }

    [Fact]
    public void Clock_SharedPage_TellsHowToComputeNanoseconds()
    {
        using var machine = new TestMachine();
        machine.Machine.Clock = new GuestClock(5, 2);
        Assert.True(MsrModel.TryWrite(machine.Machine, machine.Cpu, ParavirtualClock.SystemTimeMsr, SharedPage | 0x41));
        byte* time = machine.Memory.SharedBytes(machine.Page(SharedPage)) + 0x40;
        uint factor = *(uint*)(time + 0x18);
        int shift = (sbyte)time[0x1C];
        ulong ticks = 2_500_000_000;
        ulong nanoseconds = (ulong)(((UInt128)(shift < 0 ? ticks >> -shift : ticks << shift) * factor) >> 32);
        Assert.InRange(nanoseconds, 999_999_000ul, 1_000_001_000ul);
        Assert.Equal((2u, 1), (*(uint*)time, time[0x1D]));
    }

    [Theory]
    [InlineData(0x10_0001ul)]
    [InlineData(SharedPage + 0xFE5)]
    [InlineData(SharedPage + 3)]
    [InlineData(0x7FFF_0000_0001ul)]
    public void Clock_NotSharedOrCrossingAPage_IsRefused(ulong value)
    {
        using var machine = new TestMachine();
        machine.Private(0x10_0000);
        Assert.False(MsrModel.TryWrite(machine.Machine, machine.Cpu, ParavirtualClock.SystemTimeMsr, value));
    }

    [Theory]
    [InlineData(1_000_000_001ul)]
    [InlineData(10_000ul)]
    [InlineData(2_300_000_000ul)]
    [InlineData(9_000_000_000ul)]
    public void Clock_AnyFrequency_IsExactToAPartInAMillion(ulong frequency)
    {
        ParavirtualClock.ComputeFactor(frequency, out uint factor, out sbyte shift);
        ulong nanoseconds = (ulong)(((UInt128)(shift < 0 ? frequency >> -shift : frequency << shift) * factor) >> 32);
        Assert.InRange(nanoseconds, 999_999_000ul, 1_000_001_000ul);
    }

    [Theory]
    [InlineData(0xFEu, 0x508ul, false)]
    [InlineData(0x2FFu, 0x806ul, true)]
    [InlineData(0x200u, 0ul, true)]
    [InlineData(0x20Fu, 0ul, true)]
    [InlineData(0x268u, 0ul, true)]
    [InlineData(0xC001_001Fu, 0ul, true)]
    [InlineData(0xC001_0010u, 0ul, false)]
    public void Msrs_OfEveryProcessor_AreThere(uint msr, ulong value, bool isKept)
    {
        using var machine = new TestMachine();
        Assert.True(MsrModel.TryRead(machine.Machine, machine.Cpu, msr, out ulong read));
        Assert.Equal(value, read);
        Assert.Equal(isKept, MsrModel.TryWrite(machine.Machine, machine.Cpu, msr, 0x1234));
        MsrModel.TryRead(machine.Machine, machine.Cpu, msr, out read);
        Assert.Equal(isKept ? 0x1234 : value, read);
    }

    [Theory]
    [InlineData(0x210u)]
    [InlineData(0x251u)]
    [InlineData(0x270u)]
    [InlineData(0xC001_0011u)]
    public void Msrs_Unknown_AreRefused(uint msr)
    {
        using var machine = new TestMachine();
        Assert.False(MsrModel.TryRead(machine.Machine, machine.Cpu, msr, out _));
        Assert.False(MsrModel.TryWrite(machine.Machine, machine.Cpu, msr, 0));
    }

    private static LocalApic Enable(TestMachine machine, int vmpl)
    {
        LocalApic apic = machine.Cpu.Contexts[vmpl].Apic;
        Assert.True(apic.TryWrite(0x80F, 0x1FF, machine.Machine.Clock, 0));
        return apic;
    }

    private static void WriteEntry(TestMachine machine, uint register, uint low, uint high, int vmpl)
    {
        IoApic ioApic = machine.Machine.IoApic;
        VirtualCpu cpu = machine.Cpu;
        int before = cpu.Vmpl;
        cpu.Vmpl = vmpl;
        ioApic.Write(cpu, Select, 4, register + 1);
        ioApic.Write(cpu, Window, 4, high);
        ioApic.Write(cpu, Select, 4, register);
        ioApic.Write(cpu, Window, 4, low);
        cpu.Vmpl = before;
    }

    private static uint ReadRegister(TestMachine machine, uint register)
    {
        machine.Machine.IoApic.Write(machine.Cpu, Select, 4, register);
        return (uint)machine.Machine.IoApic.Read(Window, 4);
    }

    private static uint Port(TestMachine machine, int register) => machine.Machine.Ports.Read((ushort)(MachinePorts.Com1 + register), 1);

    private static void Port(TestMachine machine, int register, byte value) =>
        Assert.True(machine.Machine.Ports.Write(machine.Cpu, (ushort)(MachinePorts.Com1 + register), 1, value));
}
