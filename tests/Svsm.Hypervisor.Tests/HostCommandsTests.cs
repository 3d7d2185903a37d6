// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Commands of the machine's host side.</summary>
public sealed unsafe class HostCommandsTests
{
    [Fact]
    public void QueryRmp_SendsEveryPageOnce()
    {
        using var machine = new TestMachine();
        machine.Private(0x20_0000);
        machine.Page(0x20_0000)->SetPermissions(2, RmpPermissions.All);

        List<(LinkFrame Type, byte[] Payload)> frames = Send(machine, new CommandHeader { Kind = CommandKind.QueryRmp });

        RmpRange[] ranges = [.. frames.Where(frame => frame.Type == LinkFrame.RmpMap).SelectMany(frame => MemoryMarshal.Cast<byte, RmpRange>(frame.Payload).ToArray())];
        Assert.Equal(TestMachine.RamLength / TestMachine.PageSize, (ulong)ranges.Sum(range => range.PageCount));
        RmpRange page = Assert.Single(ranges, range => range.Gpa == 0x20_0000);
        Assert.Equal((1u, 0xF003u), (page.PageCount, page.Entry));
        Assert.Equal([1, 0, 0, 0, 0, 0, 0, 0], frames[^1].Payload);
    }

    [Fact]
    public void Stop_EndsTheRun()
    {
        using var machine = new TestMachine();
        Queue(machine, new CommandHeader { Kind = CommandKind.Stop }, []);

        Assert.False(machine.Machine.Commands.Attend(machine.Cpu));

        Assert.Equal(StopReason.Stopped, machine.Cpu.StopRequest.Reason);
    }

    [Fact]
    public void NmiExit_TakesItAndAttends()
    {
        using var machine = new TestMachine();
        machine.Cpu.Vmcb->ExitCode = ExitCode.NonMaskableInterrupt;
        Queue(machine, new CommandHeader { Kind = CommandKind.Stop }, []);

        Assert.True(machine.Machine.Commands.TryHandle(machine.Cpu, out bool resume));

        Assert.False(resume);
        Assert.Equal(1, ((FakeProcessor)machine.Machine.Processor).NonMaskableInterrupts);
    }

    [Fact]
    public void ConsoleInput_IsReadFromTheUart()
    {
        using var machine = new TestMachine();

        Send(machine, new CommandHeader { Kind = CommandKind.ConsoleInput }, "ab"u8.ToArray());

        PortSpace ports = machine.Machine.Ports;
        Assert.Equal((0x61u, (uint)'a', 0x61u, (uint)'b', 0x60u), (ports.Read(0x3FD, 1), ports.Read(0x3F8, 1), ports.Read(0x3FD, 1), ports.Read(0x3F8, 1), ports.Read(0x3FD, 1)));

        const int Half = SerialPort.InputCapacity / 2;
        Assert.Equal(0, Status(Send(machine, new CommandHeader { Kind = CommandKind.ConsoleInput }, new byte[Half])));
        Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = CommandKind.ConsoleInput }, new byte[Half + 1])));
        Assert.Equal(0, Status(Send(machine, new CommandHeader { Kind = CommandKind.ConsoleInput }, new byte[Half])));
        Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = CommandKind.ConsoleInput }, new byte[1])));
    }

    [Fact]
    public void Memory_ReadAndWritten_IsWhatTheVmplSees()
    {
        using var machine = new TestMachine();
        byte* page = machine.Private(0x20_0000);

        Assert.Equal(0, Status(Send(machine, new CommandHeader { Kind = CommandKind.WriteMemory, Address = 0x20_0010 }, [1, 2, 3])));
        List<(LinkFrame Type, byte[] Payload)> read = Send(machine, new CommandHeader { Kind = CommandKind.ReadMemory, Address = 0x20_000F, Value = 4 });

        Assert.Equal(2, page[0x11]);
        Assert.Equal([page[0xF], 1, 2, 3], read[^1].Payload[8..]);

        // Not validated, not mapped, shared: not what the guest could read.
        Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = CommandKind.ReadMemory, Address = 0x50_0000, Value = 4 })));
        Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = CommandKind.ReadMemory, Address = 0x7000_0000_0000, Value = 4 })));
        Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = CommandKind.WriteMemory, Address = 0x50_0000 }, [1])));
    }

    [Fact]
    public void Shared_PartsGoThroughTheWindow_OrNoneOfThem()
    {
        const ulong Here = 0x20_0FFE;
        const ulong There = 0x30_0000;
        using var machine = new TestMachine();
        byte[] bytes = GC.AllocateArray<byte>((int)Link.WindowLength, pinned: true);
        fixed (byte* window = bytes)
        {
            machine.Machine.Window = window;

            // Behind each other and over the end of a page; what is written later to the same place stays.
            Assert.Equal(0, Copy(CommandKind.WriteShared, [(Here, 4), (There, 2), (There + 1, 1), (There + 4, 0)], [1, 2, 3, 4, 5, 6, 7]));
            Assert.Equal(0, Copy(CommandKind.ReadShared, [(There, 2), (Here + 1, 3)], new byte[5]));
            Assert.Equal([5, 7, 2, 3, 4], bytes[32..37]);

            // Up to the last byte of the window, and not beyond.
            ulong all = Link.WindowLength - 16;
            Assert.Equal(0, Copy(CommandKind.ReadShared, [(There, all)], []));
            Assert.Equal(1, Copy(CommandKind.ReadShared, [(There, all + 1)], []));
            Assert.Equal(1, Copy(CommandKind.ReadShared, [(There, all - 16), (There, 1)], []));
            Assert.Equal(1, Copy(CommandKind.ReadShared, [(There, 1), (There, ulong.MaxValue)], []));
            (ulong, ulong)[] most = [.. Enumerable.Repeat((There, 1ul), Link.MaxSharedParts)];
            Assert.Equal(0, Copy(CommandKind.ReadShared, most, []));
            Assert.Equal(1, Copy(CommandKind.ReadShared, [.. most, (There, 1)], []));
            Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = CommandKind.ReadShared, Value = ulong.MaxValue })));

            // A private page, and what is no RAM: nothing is copied, not even what could be.
            machine.Private(0x20_1000);
            Assert.Equal(1, Copy(CommandKind.WriteShared, [(There, 1), (Here, 3)], [9, 9, 9, 9]));
            Assert.Equal(1, Copy(CommandKind.WriteShared, [(There, 1), (TestMachine.RamLength - 1, 2)], [9, 9, 9]));
            Assert.Equal(1, Copy(CommandKind.WriteShared, [(There, 1), (ulong.MaxValue, 1)], [9, 9]));
            Assert.Equal(0, Copy(CommandKind.ReadShared, [(There, 1), (Here, 2)], new byte[3]));
            Assert.Equal([5, 1, 2], bytes[32..35]);
            machine.Machine.Window = null;
        }

        Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = CommandKind.ReadShared, Value = 0 })));

        int Copy(CommandKind kind, (ulong Address, ulong Length)[] parts, byte[] data)
        {
            for (int i = 0; i < parts.Length; i++)
            {
                var part = new SharedPart { Address = parts[i].Address, Length = parts[i].Length };
                MemoryMarshal.Write(bytes.AsSpan(i * sizeof(SharedPart)), in part);
            }

            data.CopyTo(bytes, parts.Length * sizeof(SharedPart));
            return Status(Send(machine, new CommandHeader { Kind = kind, Value = (ulong)parts.Length }));
        }
    }

    [Fact]
    public void Breakpoint_IsInMemoryAndNotInWhatIsRead()
    {
        using var machine = new TestMachine();
        machine.Code(0x90, 0xC3);
        byte* code = machine.Memory.PrivateBytes(machine.Page(TestMachine.Free));

        Assert.Equal(0, Status(Send(machine, new CommandHeader { Kind = CommandKind.Breakpoint, Address = TestMachine.Free, Value = 1 })));
        Assert.NotEqual(0x90, code[0]);
        Assert.Equal([0x90, 0xC3], Send(machine, new CommandHeader { Kind = CommandKind.ReadMemory, Address = TestMachine.Free, Value = 2 })[^1].Payload[8..]);

        // It is met: the guest stands still until it is told to go on.
        machine.Cpu.Vmcb->ExitCode = ExitCode.InvalidOpcode;
        Queue(machine, new CommandHeader { Kind = CommandKind.Breakpoint, Address = TestMachine.Free }, []);
        Queue(machine, new CommandHeader { Kind = CommandKind.Resume }, []);
        Assert.True(machine.Machine.Commands.TryHandle(machine.Cpu, out bool resume));
        Assert.True(resume);
        Assert.Contains(Frames(machine), frame => frame.Type == LinkFrame.Paused && frame.Payload[4] == (byte)PauseReason.Breakpoint);
        Assert.Equal(0x90, code[0]);
        Assert.False(machine.Machine.Commands.TryHandle(machine.Cpu, out _));
    }

    [Fact]
    public void Breakpoint_WhereNothingIsMapped_WaitsForIt()
    {
        using var machine = new TestMachine();
        const ulong Later = 0x60_0000;

        Assert.Equal(0, Status(Send(machine, new CommandHeader { Kind = CommandKind.Breakpoint, Address = Later, Value = 1 })));
        byte* code = machine.Private(Later);
        *code = 0xC3;
        Assert.True(machine.Machine.Commands.BeforeEntry(machine.Cpu));

        Assert.NotEqual(0xC3, *code);
    }

    [Fact]
    public void Step_OneInstruction_PausesAndHidesTheTrapFlag()
    {
        using var machine = new TestMachine();
        HostCommands commands = machine.Machine.Commands;
        Send(machine, new CommandHeader { Kind = CommandKind.Step });

        Assert.True(commands.BeforeEntry(machine.Cpu));
        Assert.NotEqual(0ul, machine.Cpu.State->Rflags & Amd64.FlagTrap);
        Assert.NotEqual(0u, machine.Cpu.Vmcb->InterceptExceptions & (1u << Amd64.VectorDebug));
        machine.Cpu.Vmcb->ExitCode = ExitCode.Debug;
        machine.Cpu.State->Dr6 = 0xFFFF_4FF0;
        Queue(machine, new CommandHeader { Kind = CommandKind.Resume }, []);
        Assert.True(commands.TryHandle(machine.Cpu, out bool resume));

        Assert.True(resume);
        Assert.Equal(0ul, machine.Cpu.State->Rflags & Amd64.FlagTrap);
        Assert.Equal(0ul, machine.Cpu.State->Dr6);
        Assert.Contains(Frames(machine), frame => frame.Type == LinkFrame.Paused && frame.Payload[4] == (byte)PauseReason.Stepped);
    }

    [Theory]
    [InlineData(0u, 0)]
    [InlineData(99u, 0)]
    [InlineData((uint)CommandKind.Attack, 0)]
    [InlineData((uint)CommandKind.Attack, 64)]
    [InlineData((uint)CommandKind.NotifySvsm, 0)]
    public void Command_Unknown_IsAnsweredWithFailure(uint kind, int length)
    {
        using var machine = new TestMachine();

        Assert.Equal(1, Status(Send(machine, new CommandHeader { Kind = (CommandKind)kind, Vcpu = 77 }, new byte[length])));
    }

    [Fact]
    public void Command_ShorterThanItsHeader_IsPassedOver()
    {
        using var machine = new TestMachine();
        foreach (byte value in (byte[])[Link.Start, (byte)LinkFrame.Command, 3, 0, 1, 2, 3])
        {
            machine.Port.Answers.Enqueue(value);
        }

        Assert.True(machine.Machine.Commands.Attend(machine.Cpu));
        Assert.Empty(machine.Port.Bytes);
    }

    private static void Queue(TestMachine machine, CommandHeader header, byte[] data)
    {
        int length = sizeof(CommandHeader) + data.Length;
        foreach (byte value in (byte[])[Link.Start, (byte)LinkFrame.Command, (byte)length, (byte)(length >> 8), .. MemoryMarshal.AsBytes(new ReadOnlySpan<CommandHeader>(in header)), .. data])
        {
            machine.Port.Answers.Enqueue(value);
        }
    }

    private static List<(LinkFrame Type, byte[] Payload)> Send(TestMachine machine, CommandHeader header, byte[]? data = null)
    {
        machine.Port.Bytes.Clear();
        Queue(machine, header, data ?? []);
        Assert.True(machine.Machine.Commands.Attend(machine.Cpu));
        return Frames(machine);
    }

    private static int Status(List<(LinkFrame Type, byte[] Payload)> frames)
    {
        Assert.Equal(LinkFrame.CommandDone, frames[^1].Type);
        return frames[^1].Payload[4];
    }

    private static List<(LinkFrame Type, byte[] Payload)> Frames(TestMachine machine)
    {
        var frames = new List<(LinkFrame, byte[])>();
        byte[] bytes = [.. machine.Port.Bytes];
        for (int start = 0; start < bytes.Length;)
        {
            int length = bytes[start + 2] | (bytes[start + 3] << 8);
            frames.Add(((LinkFrame)bytes[start + 1], bytes[(start + 4)..(start + 4 + length)]));
            start += 4 + length;
        }

        return frames;
    }
}
