// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Delivery of #VC by hand.</summary>
public sealed unsafe class VcDeliveryTests
{
    private const ulong Idt = 0x5_0000;
    private const ulong Gdt = 0x5_1000;
    private const ulong Tss = 0x5_2000;
    private const ulong Stack = 0x5_4000;
    private const ulong OtherStack = 0x5_6000;
    private const ulong Handler = 0x7_1234;

    [Fact]
    public void Deliver_SameLevel_PushesTheFrame()
    {
        using TestMachine machine = Make(interruptStack: 0, type: 0xE);
        VirtualCpu cpu = machine.Cpu;
        cpu.State->Rip = 0x9999;
        cpu.State->Rflags = Amd64.FlagReserved | Amd64.FlagInterrupt | Amd64.FlagTrap | Amd64.FlagCarry;
        cpu.Registers[VirtualCpu.Rsp] = Stack + 0x208;
        Assert.True(VcDelivery.Deliver(machine.Memory, cpu, 0x72));

        ulong rsp = cpu.Registers[VirtualCpu.Rsp];
        Assert.Equal(Stack + 0x200 - 48, rsp);
        ulong* frame = (ulong*)machine.Private(rsp);
        Assert.Equal(
            [0x72, 0x9999, 8, Amd64.FlagReserved | Amd64.FlagInterrupt | Amd64.FlagTrap | Amd64.FlagCarry | Amd64.FlagResume, Stack + 0x208, 16],
            new ReadOnlySpan<ulong>(frame, 6).ToArray());
        Assert.Equal(Handler, cpu.State->Rip);
        Assert.Equal(Amd64.FlagReserved | Amd64.FlagCarry, cpu.State->Rflags);
        Assert.Equal(8, cpu.State->Cs.Selector);
        Assert.Equal(1ul, cpu.Current.Statistics->VcExceptions);
    }

    // Device space without a device: the guest decodes the access and asks. A private access there, or a fetch, is the host's to refuse.
    [Theory]
    [InlineData(0xFEC0_0010ul, 0x1_0000_0004ul, true)]
    [InlineData(0xD000_0000ul, 0x1_0000_0006ul, true)]
    [InlineData(0xD000_0000ul | Amd64.CBit, 0x1_0000_0006ul, false)]
    [InlineData(0xD000_0000ul, 0x1_0000_0014ul, false)]
    [InlineData(0xA000_0000ul, 0x1_0000_0004ul, false)]
    public void Handle_AccessToDeviceSpace_IsVcNestedPageFault(ulong address, ulong info1, bool delivered)
    {
        using TestMachine machine = Make(interruptStack: 0, type: 0xE);
        VirtualCpu cpu = machine.Cpu;
        cpu.Registers[VirtualCpu.Rsp] = Stack + 0x200;
        cpu.State->Rip = 0x9999;
        cpu.Vmcb->ExitCode = ExitCode.NestedPageFault;
        cpu.Vmcb->ExitInfo1 = info1;
        cpu.Vmcb->ExitInfo2 = address;
        Assert.Equal(delivered, ExitHandler.Handle(machine.Machine, cpu));
        if (delivered)
        {
            Assert.Equal((Handler, 0x400ul, 0x9999ul), (cpu.State->Rip, *(ulong*)machine.Private(Stack + 0x200 - 48), *(ulong*)machine.Private(Stack + 0x200 - 40)));
        }
        else
        {
            Assert.Equal(ViolationKind.NoMemory, cpu.StopRequest.Violation);
        }
    }

    [Fact]
    public void Deliver_FrameAcrossPages_PushesTheFrame()
    {
        using TestMachine machine = Make(interruptStack: 0, type: 0xE);
        VirtualCpu cpu = machine.Cpu;
        cpu.State->Rip = 0x9999;
        ulong rflags = cpu.State->Rflags;
        cpu.Registers[VirtualCpu.Rsp] = OtherStack + 0x10;
        Assert.True(VcDelivery.Deliver(machine.Memory, cpu, 0x72));

        Assert.Equal(OtherStack + 0x10 - 48, cpu.Registers[VirtualCpu.Rsp]);
        ulong[] got = [.. Enumerable.Range(0, 6).Select(i => *(ulong*)machine.Private(OtherStack + 0x10 - 48 + ((ulong)i * 8)))];
        Assert.Equal([0x72, 0x9999, 8, rflags | Amd64.FlagResume, OtherStack + 0x10, 16], got);
    }

    [Fact]
    public void Deliver_TrapGate_LeavesInterruptsOn()
    {
        using TestMachine machine = Make(interruptStack: 0, type: 0xF);
        machine.Cpu.State->Rflags |= Amd64.FlagInterrupt;
        Assert.True(VcDelivery.Deliver(machine.Memory, machine.Cpu, 0x72));
        Assert.NotEqual(0ul, machine.Cpu.State->Rflags & Amd64.FlagInterrupt);
    }

    [Theory]
    [InlineData(0, OtherStack)]
    [InlineData(1, OtherStack + 0x800)]
    public void Deliver_FromCpl3_UsesTheStackOfTheTss(int interruptStack, ulong expected)
    {
        using TestMachine machine = Make(interruptStack, type: 0xE);
        VirtualCpu cpu = machine.Cpu;
        cpu.State->Cpl = 3;
        cpu.State->Cs = new SegmentRegister { Selector = 0x23, Attributes = 0xAFB, Limit = uint.MaxValue };
        cpu.State->Ss = new SegmentRegister { Selector = 0x1B, Attributes = 0xCF3, Limit = uint.MaxValue };
        Assert.True(VcDelivery.Deliver(machine.Memory, cpu, 0x7B));
        Assert.Equal(expected - 48, cpu.Registers[VirtualCpu.Rsp]);
        Assert.Equal(0, cpu.State->Cpl);
        Assert.Equal(0, cpu.State->Ss.Selector);
        Assert.Equal(0xC93, cpu.State->Ss.Attributes);
        Assert.Equal(0x1Bul, ((ulong*)machine.Private(expected - 8))[0]);
        Assert.Equal(0x23ul, ((ulong*)machine.Private(expected - 32))[0]);
    }

    [Fact]
    public void Deliver_CannotBeTaken_StopsTheRun()
    {
        Action<TestMachine>[] obstacles =
        [
            machine => machine.Cpu.State->Efer &= ~Amd64.EferLongModeActive,
            machine => machine.Cpu.State->Idtr.Limit = (29 * 16) + 14,
            machine => machine.Cpu.State->Idtr.Base = 0x4000_0000,
            machine => ((byte*)machine.Private(Idt))[(29 * 16) + 5] = 0x0E,
            machine => ((byte*)machine.Private(Idt))[(29 * 16) + 5] = 0x8C,
            machine => ((byte*)machine.Private(Idt))[(29 * 16) + 2] = 0,
            machine => ((byte*)machine.Private(Idt))[(29 * 16) + 2] = 0x10,
            machine => ((byte*)machine.Private(Idt))[(29 * 16) + 10] = 0x80,
            machine => machine.Cpu.State->Gdtr.Limit = 7,
            machine => machine.Cpu.Registers[VirtualCpu.Rsp] = 0x4000_0000,
            machine => machine.Memory.Unassign(machine.Page(Stack), Stack),
            machine => machine.Page(Stack)->Validated = false,
        ];
        foreach (Action<TestMachine> obstacle in obstacles)
        {
            using TestMachine machine = Make(interruptStack: 0, type: 0xE);
            obstacle(machine);
            Assert.False(VcDelivery.Deliver(machine.Memory, machine.Cpu, 0x72));
            Assert.Equal(ViolationKind.VcNotDelivered, machine.Cpu.StopRequest.Violation);
        }
    }

    [Theory]
    [InlineData(0xE, 0x9B, false)]
    [InlineData(0xF, 0x9B, true)]
    [InlineData(0xE, 0x9F, false)]
    public void Deliver_ProtectedMode_PushesTheFrame(int type, int access, bool keepsInterrupts)
    {
        using TestMachine machine = MakeProtected(type, access);
        VirtualCpu cpu = machine.Cpu;
        cpu.State->Rflags = Amd64.FlagReserved | Amd64.FlagInterrupt | Amd64.FlagTrap | Amd64.FlagCarry;
        Assert.True(VcDelivery.Deliver(machine.Memory, cpu, 0x72));

        Assert.Equal(Stack + 0x2F0, cpu.Registers[VirtualCpu.Rsp]);
        Assert.Equal(
            [0x72u, 0x9999, 0x18, (uint)(Amd64.FlagReserved | Amd64.FlagInterrupt | Amd64.FlagTrap | Amd64.FlagCarry | Amd64.FlagResume)],
            new ReadOnlySpan<uint>(machine.Private(Stack + 0x2F0), 4).ToArray());
        Assert.Equal(Handler, cpu.State->Rip);
        Assert.Equal((8, 0xC00 | access, 0xFFFF_FFFFu, 0ul), (cpu.State->Cs.Selector, cpu.State->Cs.Attributes, cpu.State->Cs.Limit, cpu.State->Cs.Base));
        Assert.Equal(keepsInterrupts, (cpu.State->Rflags & Amd64.FlagInterrupt) != 0);
        Assert.Equal(0ul, cpu.State->Rflags & Amd64.FlagTrap);
    }

    [Fact]
    public void Deliver_ProtectedModeSmallStack_WrapsInItsSegment()
    {
        using TestMachine machine = MakeProtected(0xE, 0x9B);
        VirtualCpu cpu = machine.Cpu;
        cpu.State->Ss = new SegmentRegister { Selector = 0x10, Attributes = 0x93, Limit = 0xFFFF, Base = Stack };
        cpu.Registers[VirtualCpu.Rsp] = 0x7777_0300;
        Assert.True(VcDelivery.Deliver(machine.Memory, cpu, 0x72));
        Assert.Equal(0x7777_02F0ul, cpu.Registers[VirtualCpu.Rsp]);
        Assert.Equal(0x72u, *(uint*)machine.Private(Stack + 0x2F0));
    }

    [Fact]
    public void Deliver_ProtectedModeCodeWithBaseAndBytes_IsLoadedAsItIs()
    {
        using TestMachine machine = MakeProtected(0xE, 0x9B);
        ((ulong*)machine.Private(Gdt))[1] = 0x1240_9B34_5678_9ABC | (7ul << 48);
        machine.Cpu.State->Cs.Selector = 0x18;
        Assert.True(VcDelivery.Deliver(machine.Memory, machine.Cpu, 0x72));
        Assert.Equal((0x49B, 0x7_9ABCu, 0x1234_5678ul), (machine.Cpu.State->Cs.Attributes, machine.Cpu.State->Cs.Limit, machine.Cpu.State->Cs.Base));
    }

    [Fact]
    public void Deliver_ProtectedModeCannotBeTaken_StopsTheRun()
    {
        Action<TestMachine>[] obstacles =
        [
            machine => machine.Cpu.State->Cr0 &= ~Amd64.Cr0ProtectedMode,
            machine => machine.Cpu.State->Rflags |= Amd64.FlagVirtual8086,
            machine => machine.Cpu.State->Idtr.Limit = (29 * 8) + 6,
            machine => machine.Cpu.State->Idtr.Base = 0x4000_0000,
            machine => ((byte*)machine.Private(Idt))[(29 * 8) + 5] = 0x0E,
            machine => ((byte*)machine.Private(Idt))[(29 * 8) + 5] = 0x85,
            machine => ((byte*)machine.Private(Idt))[(29 * 8) + 5] = 0x86,
            machine => ((byte*)machine.Private(Idt))[(29 * 8) + 2] = 0,
            machine => ((byte*)machine.Private(Idt))[(29 * 8) + 2] = 0x10,
            machine => ((ulong*)machine.Private(Gdt))[1] = 0x0040_9B00_0000_0FFF,
            machine => ((ulong*)machine.Private(Gdt))[1] = 0x00CF_FB00_0000_FFFF,
            machine => machine.Cpu.State->Cpl = 3,
            machine => machine.Cpu.State->Gdtr.Limit = 7,
            machine => machine.Cpu.Registers[VirtualCpu.Rsp] = 0x4000_0000,
            machine => machine.Cpu.Registers[VirtualCpu.Rsp] = Stack + 0x1002,
            machine => machine.Page(Stack)->Validated = false,
        ];
        foreach (Action<TestMachine> obstacle in obstacles)
        {
            using TestMachine machine = MakeProtected(0xE, 0x9B);
            obstacle(machine);
            Assert.False(VcDelivery.Deliver(machine.Memory, machine.Cpu, 0x72));
            Assert.Equal(ViolationKind.VcNotDelivered, machine.Cpu.StopRequest.Violation);
        }
    }

    // 32-bit code with paging off, and a handler of the same privilege.
    private static TestMachine MakeProtected(int type, int access)
    {
        TestMachine machine = Make(interruptStack: 0, type);
        *(ulong*)(machine.Private(Idt) + (29 * 8)) = (Handler & 0xFFFF) | (8ul << 16) | ((ulong)(0x80 | type) << 40) | (Handler >> 16 << 48);
        ((ulong*)machine.Private(Gdt))[1] = 0x00CF_0000_0000_FFFF | ((ulong)access << 40);
        VirtualCpu cpu = machine.Cpu;
        cpu.State->Efer &= ~(Amd64.EferLongModeActive | Amd64.EferLongModeEnable);
        cpu.State->Cr0 &= ~Amd64.Cr0Paging;
        cpu.State->Cs = new SegmentRegister { Selector = 0x18, Attributes = 0xC9B, Limit = uint.MaxValue };
        cpu.State->Ss = new SegmentRegister { Selector = 0x10, Attributes = 0xC93, Limit = uint.MaxValue };
        cpu.State->Rip = 0x9999;
        cpu.Registers[VirtualCpu.Rsp] = Stack + 0x300;
        return machine;
    }

    private static TestMachine Make(int interruptStack, int type)
    {
        var machine = new TestMachine();
        foreach (ulong page in new[] { Idt, Gdt, Tss, Stack, OtherStack, OtherStack - 0x1000 })
        {
            TestMachine.Clear(machine.Private(page));
        }

        ulong* gate = (ulong*)(machine.Private(Idt) + (29 * 16));
        gate[0] = (Handler & 0xFFFF) | (8ul << 16) | ((ulong)interruptStack << 32) | ((ulong)(0x80 | type) << 40) | (Handler >> 16 << 48);
        ulong* descriptors = (ulong*)machine.Private(Gdt);
        descriptors[1] = 0x00AF_9B00_0000_FFFF;
        descriptors[2] = 0x00CF_9300_0000_FFFF;
        *(ulong*)(machine.Private(Tss) + 4) = OtherStack;
        *(ulong*)(machine.Private(Tss) + 0x24) = OtherStack + 0x800;
        Vmsa* state = machine.Cpu.State;
        state->Idtr = new SegmentRegister { Base = Idt, Limit = 0xFFF };
        state->Gdtr = new SegmentRegister { Base = Gdt, Limit = 0x17 };
        state->Tr = new SegmentRegister { Base = Tss, Limit = 0x67 };
        machine.Cpu.Registers[VirtualCpu.Rsp] = Stack + 0x800;
        return machine;
    }
}
