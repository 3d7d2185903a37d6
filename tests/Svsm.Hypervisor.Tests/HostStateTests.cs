// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the hypervisor knows of a guest, from one machine of the model to another.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Saving what a hypervisor knows of a guest, and taking it.</summary>
public sealed unsafe class HostStateTests : IDisposable
{
    private const int Vmpl2 = 2;
    private const ulong Shared = 0x200_0000;
    private const ulong GuestVmsa = 0x90_3000;
    private const int Lpc = 0x1F << 3;
    private static readonly byte[] s_item = [1, 2, 3, 4, 5, 6, 7, 8];

    private readonly List<TestMachine> _machines = [];
    private readonly List<nint> _memory = [];
    private readonly TestMachine _source;
    private readonly TestMachine _target;

    public HostStateTests()
    {
        _source = Make(timeStamp: 5_000_000);
        _target = Make(timeStamp: 1_000_000);
    }

    public void Dispose()
    {
        foreach (TestMachine machine in _machines)
        {
            machine.Dispose();
        }

        foreach (nint memory in _memory)
        {
            NativeMemory.Free((void*)memory);
        }
    }

    [Fact]
    public void Model_SavedAndTaken_IsTheSame()
    {
        Use(_source);
        byte[] saved = Save(_source);
        byte[] before = Save(_target);
        Assert.NotEqual(before, saved);
        Assert.Equal(HostStateRefusal.None, Pass(_target, saved, StateMode.Check));
        Assert.Equal(before, Save(_target));
        Assert.Equal(HostStateRefusal.None, Pass(_target, saved, StateMode.Take));
        Assert.Equal(saved, Save(_target));
    }

    [Fact]
    public void Model_Taken_GoesOnAsItWould()
    {
        Use(_source);
        Move();
        foreach (TestMachine machine in (TestMachine[])[_source, _target])
        {
            VmplContext context = machine.Cpu.Contexts[Vmpl2];
            LocalApic apic = context.Apic;
            ulong now = machine.Machine.Interrupts.Now;
            Assert.Equal((0x1234ul, 0x5000ul, 0x6000ul, 0x8000_0B0Eul, true), (context.GhcbMsr, context.RegisteredGhcb, context.Doorbell, context.InterruptedEvent, context.HaltsOn));
            Assert.Equal((5_000_000ul, 5_000_000ul + 800), (now, apic.Deadline));
            Assert.Equal((0x71, true, true, (byte)0x30), (apic.Pending, apic.HasRequests, apic.IsAnyInService, apic.TaskPriority));
            Assert.True(apic.IsLevel(0x71));
            Assert.False(apic.Expire(machine.Machine.Clock, now + 799));
            Assert.True(apic.Expire(machine.Machine.Clock, now + 800));
            Assert.Equal(now + 1800, apic.Deadline);
            Assert.Equal(now + 1_000_000, machine.Cpu.Contexts[3].Apic.Deadline);

            PortSpace ports = machine.Machine.Ports;
            Assert.Equal((0x0Bu, 0x77u, (uint)'b', (uint)'c', 0u), (ports.Read(0x3FC, 1), ports.Read(0x3FF, 1), ports.Read(0x3F8, 1), ports.Read(0x3F8, 1), ports.Read(0x3F8, 1)));
            Assert.Equal(0x02u, ports.Read(0x71, 1));
            Assert.Equal((3u, 4u), (ports.Read(0x511, 1), ports.Read(0x511, 1)));
            Assert.Equal(0x8000_F840u, ports.Read(0xCF8, 4));
            Assert.Equal(0x55AA_1234u, ports.Read(0xCFC, 4));
            Assert.True(machine.Machine.Msrs.TryRead(0x2FF, out ulong value) && value == 0xC00);
            Assert.True(machine.Machine.Msrs.TryRead(0x20F, out value) && value == 0x99);

            // The edge that was before is none any more; the next one is.
            machine.Machine.IoApic.Write(machine.Cpu, 0, 4, 0x10 + (2 * MachinePorts.Com1Interrupt));
            Assert.Equal(0x61ul, machine.Machine.IoApic.Read(0x10, 4));
            Assert.Equal(5_000_000ul / machine.Machine.Clock.Frequency, machine.Machine.Interrupts.Now / machine.Machine.Clock.Frequency);
        }
    }

    // Both are VMPL0's: the SVSM's own timer, and what it has set in the I/O APIC.
    [Fact]
    public void Model_Taken_LeavesVmpl0Alone()
    {
        Use(_source);
        VirtualCpu cpu = _target.Cpu;
        Timer(_target, 0, initial: 700);
        _target.Machine.IoApic.Write(cpu, 0, 4, 0x10 + (2 * 9));
        _target.Machine.IoApic.Write(cpu, 0x10, 4, 0x45);
        cpu.Contexts[0].GhcbMsr = 0x4444;
        Move();
        Assert.Equal((0x4444ul, 5_000_000ul + 700), (cpu.Contexts[0].GhcbMsr, cpu.Contexts[0].Apic.Deadline));
        _target.Machine.IoApic.Write(cpu, 0, 4, 0x10 + (2 * 9));
        Assert.Equal(0x45ul, _target.Machine.IoApic.Read(0x10, 4));
    }

    // Rows: what the target's counter shows, and what it shows afterwards.
    [Theory]
    [InlineData(1_000_000ul, 5_000_000ul)]
    [InlineData(9_000_000ul, 9_000_000ul)]
    public void Time_Taken_GoesOnAndNeverBack(ulong target, ulong after)
    {
        Timer(_source, Vmpl2, initial: 100);
        _source.Cpu.Contexts[3].Apic.TryWrite(0x832, 2 << 17, _source.Machine.Clock, 0);
        _source.Cpu.Contexts[3].Apic.TryWrite(0x6E0, 20_000_000, _source.Machine.Clock, 0);
        ((FakeProcessor)_target.Machine.Processor).TimeStamp = target;
        Move();
        Assert.Equal(after, _target.Machine.Interrupts.Now);
        Assert.Equal((after + 100, 20_000_000ul), (_target.Cpu.Contexts[Vmpl2].Apic.Deadline, _target.Cpu.Contexts[3].Apic.Deadline));

        // A wait that began before the time was set does not set it back.
        _target.Machine.HoldTimeSince(0);
        Assert.Equal(after, _target.Machine.Interrupts.Now);
    }

    [Fact]
    public void TimerOverdue_Taken_ExpiresAtOnce()
    {
        Timer(_source, Vmpl2, initial: 100);
        ((FakeProcessor)_source.Machine.Processor).TimeStamp += 500;
        Move();
        Assert.Equal(0x41, _target.Cpu.Contexts[Vmpl2].Apic.Pending);
    }

    [Fact]
    public void ApCreation_AfterTaking_KeepsWhatWasTakenOnce()
    {
        Use(_source);
        Move();
        VmplContext context = _target.Cpu.Contexts[Vmpl2];
        Assert.True(context.IsTaken);
        Create(_target);
        Assert.Equal((0x1234ul, 0x8000_0B0Eul, true, GuestVmsa), (context.GhcbMsr, context.InterruptedEvent, context.HaltsOn, context.VmsaGpa));
        Create(_target);
        Assert.Equal((VmgExit.SevInfo, 0ul, false), (context.GhcbMsr, context.InterruptedEvent, context.HaltsOn));
    }

    // What is left of a VMSA that the source had no more, or never had, is not for the one that is made here.
    [Fact]
    public void ApCreation_AfterTakingOfAVmplThatHadNone_BeginsAnew()
    {
        Use(_source);
        _source.Cpu.Contexts[Vmpl2].VmsaGpa = 0;
        Move();
        VmplContext context = _target.Cpu.Contexts[Vmpl2];
        Assert.False(context.IsTaken);
        Create(_target);
        Assert.Equal((VmgExit.SevInfo, ulong.MaxValue, Doorbell.None, 0ul, false), (context.GhcbMsr, context.RegisteredGhcb, context.Doorbell, context.InterruptedEvent, context.HaltsOn));
    }

    [Fact]
    public void State_TakenAndGivenOn_BeforeItsVmsaIsThere_KeepsItForTheNextMachine()
    {
        Use(_source);
        Move();
        using TestMachine next = Make(0, keep: false);
        Assert.Equal(HostStateRefusal.None, Pass(next, Save(_target), StateMode.Take));
        Create(next);
        Assert.Equal(0x1234ul, next.Cpu.Contexts[Vmpl2].GhcbMsr);
    }

    [Fact]
    public void InterruptedEvent_Taken_IsInjectedWhenTheVmplRuns()
    {
        Use(_source);
        Move();
        Create(_target);
        var vmsa = (Vmsa*)_target.Private(GuestVmsa);
        TestMachine.Clear((byte*)vmsa);
        _target.Page(GuestVmsa)->IsVmsa = true;
        vmsa->Vmpl = Vmpl2;
        vmsa->SevFeatures = (ulong)SevFeatures.SnpActive;
        vmsa->Efer = Amd64.EferSvme;
        vmsa->Cr0 = 0x11;
        Assert.True(_target.Machine.Enter(_target.Cpu, Vmpl2));
        _target.Machine.Interrupts.Offer(_target.Cpu);
        Assert.Equal(0x8000_0B0Eul, _target.Cpu.Vmcb->EventInjection);
    }

    // Rows: not valid; of a kind that there is not; a software interrupt, which comes with its instruction; bits that mean nothing.
    [Theory]
    [InlineData(0x0000_0B0Eul)]
    [InlineData(0x8000_010Eul)]
    [InlineData(0x8000_0580ul)]
    [InlineData(0x8000_0480ul)]
    [InlineData(0x8000_1B0Eul)]
    [InlineData(0xC000_0B0Eul)]
    public void InterruptedEvent_ThatIsNone_IsRefused(ulong wrong)
    {
        const ulong Marked = 0x7654_3210_8000_0B0E;
        _source.Cpu.Contexts[Vmpl2].InterruptedEvent = Marked;
        byte[] saved = Save(_source);
        int at = saved.AsSpan().IndexOf(BitConverter.GetBytes(Marked));
        Assert.Equal(HostStateRefusal.None, Pass(_target, saved, StateMode.Check));
        MemoryMarshal.Write(saved.AsSpan(at), in wrong);
        Assert.Equal(HostStateRefusal.Damaged, Pass(_target, saved, StateMode.Check));
    }

    [Fact]
    public void ApCreation_BeforeTaking_IsNotUndone()
    {
        Use(_source);
        Create(_target);
        Move();
        Assert.Equal((0x1234ul, false, GuestVmsa), (_target.Cpu.Contexts[Vmpl2].GhcbMsr, _target.Cpu.Contexts[Vmpl2].IsTaken, _target.Cpu.Contexts[Vmpl2].VmsaGpa));
    }

    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Pass_GuestRuns_IsRefused(bool runs, bool halts)
    {
        byte[] saved = Save(_source);
        _target.Cpu.Vmpl = Vmpl2;
        _target.Cpu.IsRunning = runs;
        _target.Cpu.IsHalted = halts;
        foreach (StateMode mode in Enum.GetValues<StateMode>())
        {
            Assert.Equal(HostStateRefusal.GuestRuns, Pass(_target, saved, mode));
        }
    }

    [Fact]
    public void Pass_PciDevice_IsRefused()
    {
        using TestMachine machine = Make(0, hasDevice: true, keep: false);
        Assert.Equal(HostStateRefusal.PciDevices, HostState.Pass(machine.Machine, new byte[Link.WindowLength], StateMode.Save, out _));
    }

    [Fact]
    public void Pass_OtherMachine_IsRefused()
    {
        byte[] saved = Save(_source);
        Action<TestMachine>[] differences =
        [
            machine => machine.Machine.Cpus = [machine.Cpu, new VirtualCpu(machine.Pool, 1)],
            machine => machine.Machine.Options = LaunchOptions.SingleVmpl,
            machine => machine.Memory.TryAddRam(new LaunchRam { Base = 1ul << 32, Length = 0x1000 }),
            machine => machine.Machine.Ports.Firmware.TryAdd(9, null, 0),
            machine => machine.Machine.Clock = new GuestClock(2, 1),
            machine => machine.Machine.Clock = new GuestClock(1, 2),
        ];
        foreach (Action<TestMachine> difference in differences)
        {
            using TestMachine machine = Make(0, keep: false);
            difference(machine);
            byte[] before = Save(machine);
            Assert.Equal(HostStateRefusal.OtherMachine, Pass(machine, saved, StateMode.Check));
            Assert.Equal(before, Save(machine));
        }
    }

    [Fact]
    public void Model_AsManyVcpusAsThereCanBe_FitsTheWindow()
    {
        using TestMachine machine = Make(0, keep: false);
        machine.Machine.Cpus = [.. Enumerable.Range(0, VirtualMachine.MaxCpus).Select(id => new VirtualCpu(machine.Pool, id))];
        Assert.True(machine.Machine.Ports.TryType(new byte[SerialPort.InputCapacity - 3]));
        Assert.InRange(Save(machine).Length, 1, (int)Link.WindowLength);
    }

    [Fact]
    public void Model_Truncated_IsRefusedAndNothingChanges()
    {
        Use(_source);
        byte[] saved = Save(_source);
        byte[] before = Save(_target);
        for (int length = 0; length < saved.Length; length++)
        {
            Assert.NotEqual(HostStateRefusal.None, Pass(_target, saved[..length], StateMode.Check));
        }

        Assert.NotEqual(HostStateRefusal.None, Pass(_target, [.. saved, 0], StateMode.Check));
        Assert.Equal(before, Save(_target));
    }

    [Fact]
    public void Model_AnyBytesWrong_IsRefusedOrTakenWithoutHarm()
    {
        Use(_source);
        byte[] saved = Save(_source);
        byte[] before = Save(_target);
        var random = new Random(7);
        int taken = 0;
        for (int i = 0; i < saved.Length; i++)
        {
            byte[] wrong = (byte[])saved.Clone();
            wrong[i] ^= (byte)(1 << random.Next(8));
            wrong[random.Next(saved.Length)] = (byte)random.Next(256);
            bool passes = Pass(_target, wrong, StateMode.Check) == HostStateRefusal.None;
            Assert.Equal(before, Save(_target));
            if (passes)
            {
                taken++;
                using TestMachine machine = Make(0, keep: false);
                Assert.Equal(HostStateRefusal.None, Pass(machine, wrong, StateMode.Take));
                machine.Machine.Interrupts.Offer(machine.Cpu);
                machine.Machine.Ports.Read(0x3F8, 1);
                machine.Machine.Ports.Read(0x511, 1);
                machine.Machine.Ports.Read(0x71, 1);
                Save(machine);
            }
        }

        Assert.NotEqual(0, taken);
    }

    [Fact]
    public void Pages_SavedAndTaken_AreSharedWithTheirContents()
    {
        GuestMemory from = _source.Memory;
        for (ulong gpa = 0; gpa < TestMachine.RamLength; gpa += TestMachine.PageSize)
        {
            from.Assign(_source.Page(gpa), gpa, large: false);
        }

        foreach (ulong page in (ReadOnlySpan<ulong>)[0, 1, 2, 5, 6, 40])
        {
            from.Unassign(_source.Page(Shared + (page << 12)), Shared + (page << 12));
        }

        Bytes(_source, 0).Fill(7);
        Bytes(_source, 1).Clear();
        Bytes(_source, 5).Fill(9);
        Bytes(_source, 6).Fill(0xA5);

        // At the target they are anything.
        new Span<byte>(_target.Private(Shared), (int)TestMachine.PageSize).Fill(1);
        Bytes(_target, 1).Fill(3);
        Bytes(_target, 2).Fill(3);
        _target.Private(Shared + 0x6000);
        List<byte[]> pieces = SavePages(_source, Link.WindowLength);
        Assert.Single(pieces);
        Assert.Equal([(Shared, 1u, 2u), (Shared + 0x1000, 1u, 0u), (Shared + 0x2000, 1u, 1u), (Shared + 0x5000, 2u, 2u), (Shared + 0x2_8000, 1u, 1u)], Records(pieces[0]));
        foreach (bool take in (bool[])[false, true])
        {
            Assert.Equal(HostStateRefusal.None, HostState.PassPages(_target.Machine, pieces[0], take));
            Assert.Equal(!take, _target.Page(Shared)->Assigned);
        }

        foreach (ulong page in (ReadOnlySpan<ulong>)[0, 1, 2, 5, 6, 40])
        {
            Assert.False(_target.Page(Shared + (page << 12))->Assigned);
            Assert.Equal(Bytes(_source, page), Bytes(_target, page));
        }
    }

    [Fact]
    public void Pages_OfVmpl0_AreNotTheGuests()
    {
        VirtualMachine machine = _source.Machine;
        _source.Private(Shared);
        Assert.True(VmgExit.ChangePageState(machine, _source.Cpu, Shared, PageStateOperation.Shared, large: false, out _));
        Assert.DoesNotContain(SavePages(_source, Link.WindowLength).SelectMany(Records), record => Shared - record.Gpa < record.Count * TestMachine.PageSize);

        byte[] record = Record(Shared, 1, HostStatePages.Zeroes);
        Assert.Equal(HostStateRefusal.PageInUse, HostState.PassPages(machine, record, take: false));
        _source.Private(Shared);
        Assert.Equal(HostStateRefusal.None, HostState.PassPages(machine, record, take: false));
        _source.Page(Shared)->IsRunning = true;
        Assert.Equal(HostStateRefusal.PageInUse, HostState.PassPages(machine, record, take: false));
    }

    // Never touched: one record, for it takes no contents.
    [Fact]
    public void Pages_InPiecesOfAnyLength_AreAllTold()
    {
        for (ulong page = 0; page < 20; page++)
        {
            Bytes(_source, page).Fill((byte)(page + 1));
        }

        (ulong, uint, uint)[] whole = [.. SavePages(_source, 40 * 4096).SelectMany(Records)];
        Assert.Contains((Shared, 20u, 2u), whole);
        foreach (uint room in (ReadOnlySpan<uint>)[4112, 5000, 8208, 12_304])
        {
            List<byte[]> pieces = SavePages(_source, room);
            Assert.Equal(20, pieces.SelectMany(Records).Where(record => record.Kind == 2).Sum(record => record.Count));
            Assert.Equal(whole.Sum(record => record.Item2), pieces.SelectMany(Records).Sum(record => record.Count));
            foreach (byte[] piece in pieces)
            {
                Assert.Equal(HostStateRefusal.None, HostState.PassPages(_target.Machine, piece, take: true));
            }

            Assert.Equal(Bytes(_source, 19), Bytes(_target, 19));
        }
    }

    [Fact]
    public void Pages_Damaged_AreRefused()
    {
        byte[] good = [.. Record(Shared, 1, HostStatePages.Told), .. new byte[4096]];
        for (int length = 1; length < good.Length; length++)
        {
            Assert.Equal(HostStateRefusal.Damaged, HostState.PassPages(_target.Machine, good.AsSpan(0, length), take: false));
        }

        Assert.Equal(HostStateRefusal.Damaged, HostState.PassPages(_target.Machine, Record(Shared + 8, 1, HostStatePages.Zeroes), take: false));
        Assert.Equal(HostStateRefusal.Damaged, HostState.PassPages(_target.Machine, Record(Shared, 1, (HostStatePages)3), take: false));
        Assert.Equal(HostStateRefusal.Damaged, HostState.PassPages(_target.Machine, Record(Shared, uint.MaxValue, HostStatePages.Told), take: false));
        foreach (ulong gpa in (ReadOnlySpan<ulong>)[TestMachine.RamLength, TestMachine.RamLength - 0x1000, 1ul << 47, 1ul << 63, ulong.MaxValue - 0xFFF])
        {
            Assert.Equal(HostStateRefusal.OtherMachine, HostState.PassPages(_target.Machine, Record(gpa, uint.MaxValue, HostStatePages.Zeroes), take: false));
        }
    }

    [Fact]
    public void Commands_PassTheStateByTheWindow()
    {
        Use(_source);
        var window = new byte[Link.WindowLength];
        fixed (byte* bytes = window)
        {
            HostStateAnswer answer = Command(_source, CommandKind.SaveModel, 0, 0, out byte status);
            Assert.Equal((HostStateRefusal.Damaged, (byte)1), (answer.Refusal, status));
            _source.Machine.Window = bytes;
            _target.Machine.Window = bytes;
            answer = Command(_source, CommandKind.SaveModel, 0, 0, out status);
            Assert.Equal((HostStateRefusal.None, (byte)0), (answer.Refusal, status));
            Assert.Equal(Save(_source), window[..(int)answer.Length]);
            Assert.Equal(HostStateRefusal.Damaged, Command(_target, CommandKind.CheckModel, 0, Link.WindowLength + 1, out _).Refusal);
            Assert.Equal(HostStateRefusal.Damaged, Command(_target, CommandKind.CheckModel, 0, answer.Length - 1, out _).Refusal);
            Assert.Equal(HostStateRefusal.None, Command(_target, CommandKind.CheckModel, 0, answer.Length, out _).Refusal);
            Assert.Equal(HostStateRefusal.None, Command(_target, CommandKind.TakeModel, 0, answer.Length, out _).Refusal);
            Assert.Equal(Save(_source), Save(_target));
            answer = Command(_source, CommandKind.SavePages, 0, 0, out _);
            Assert.Equal(ulong.MaxValue, answer.Next);
            Assert.Equal(HostStateRefusal.None, Command(_target, CommandKind.CheckPages, 0, answer.Length, out _).Refusal);
            Assert.Equal(HostStateRefusal.None, Command(_target, CommandKind.TakePages, 0, answer.Length, out _).Refusal);
        }
    }

    // The guest stands still between the commands, and its time with it.
    [Fact]
    public void Hold_UntilRelease_CarriesOutCommandsAndHoldsTime()
    {
        var processor = (FakeProcessor)_source.Machine.Processor;
        processor.TimeStep = 1000;
        Queue(_source, new CommandHeader { Kind = CommandKind.Hold });
        for (int i = 0; i < 10; i++)
        {
            Queue(_source, new CommandHeader { Kind = CommandKind.ReadRegisters });
        }

        Queue(_source, new CommandHeader { Kind = CommandKind.Release });
        Assert.True(_source.Machine.Commands.Attend(_source.Cpu));
        Assert.Empty(_source.Port.Answers);
        Assert.NotEqual(0ul, _source.Cpu.TimeStampOffset);

        Queue(_source, new CommandHeader { Kind = CommandKind.Hold });
        Queue(_source, new CommandHeader { Kind = CommandKind.Stop });
        Assert.False(_source.Machine.Commands.Attend(_source.Cpu));
        Assert.Equal(StopReason.Stopped, _source.Cpu.StopRequest.Reason);
    }

    private TestMachine Make(ulong timeStamp, bool hasDevice = false, bool keep = true)
    {
        var processor = new FakeProcessor { TimeStamp = timeStamp };
        processor.Pci[0] = Function(0x29C0_8086);
        processor.Pci[Lpc] = Function(0x2918_8086);
        if (hasDevice)
        {
            processor.Pci[2 << 3] = Function(0x1042_1AF4);
        }

        var machine = new TestMachine(processor);
        if (keep)
        {
            _machines.Add(machine);
        }

        machine.Machine.Pci.Scan();
        byte* item = (byte*)NativeMemory.Alloc((nuint)s_item.Length);
        _memory.Add((nint)item);
        s_item.CopyTo(new Span<byte>(item, s_item.Length));
        Assert.True(machine.Machine.Ports.Firmware.TryAdd(0x19, item, (ulong)s_item.Length));
        for (int vmpl = 1; vmpl < 4; vmpl++)
        {
            machine.Cpu.Contexts[vmpl].Apic.TryWrite(0x80F, 0x1FF, machine.Machine.Clock, 0);
        }

        return machine;

        static uint[] Function(uint id)
        {
            uint[] registers = new uint[64];
            registers[0] = id;
            return registers;
        }
    }

    // Something of everything, as a guest at VMPL2 would leave it.
    private static void Use(TestMachine machine)
    {
        VirtualCpu cpu = machine.Cpu;
        VmplContext context = cpu.Contexts[Vmpl2];
        GuestClock clock = machine.Machine.Clock;
        ulong now = machine.Machine.Interrupts.Now;
        context.GhcbMsr = 0x1234;
        context.RegisteredGhcb = 0x5000;
        context.Doorbell = 0x6000;
        context.InterruptedEvent = 0x8000_0B0E;
        context.HaltsOn = true;
        machine.Private(GuestVmsa);
        Assert.True(machine.Machine.TrySetVmsa(context, GuestVmsa));
        LocalApic apic = context.Apic;
        apic.TaskPriority = 0x30;
        apic.Request(0x71, level: true);
        apic.Request(0x21);
        apic.Accept(0x21);
        apic.Request(3);
        apic.RequestNmi();
        apic.AcceptNmi();
        apic.EndsByDoorbell = true;
        Assert.True(apic.TryWrite(0x832, 0x41 | (1 << 17), clock, now) && apic.TryWrite(0x83E, 0xB, clock, now) && apic.TryWrite(0x835, 0x1_0700, clock, now));
        Assert.True(apic.TryWrite(0x838, 1000, clock, now - 200));
        Assert.True(cpu.Contexts[3].Apic.TryWrite(0x832, 0x42, clock, now) && cpu.Contexts[3].Apic.TryWrite(0x838, 500_000, clock, now));

        cpu.Vmpl = Vmpl2;
        PortSpace ports = machine.Machine.Ports;
        machine.Machine.IoApic.Write(cpu, 0, 4, 0x10 + (2 * MachinePorts.Com1Interrupt));
        machine.Machine.IoApic.Write(cpu, 0x10, 4, 0x61);
        machine.Machine.IoApic.Write(cpu, 0, 4, 0);
        machine.Machine.IoApic.Write(cpu, 0x10, 4, 0x0500_0000);
        foreach ((ushort port, uint value) in ((ushort, uint)[])[(0x3FC, 0x0B), (0x3F9, 1), (0x3FF, 0x77), (0x3FA, 1), (0x3FB, 0x13), (0x70, 0x8B)])
        {
            Assert.True(ports.Write(cpu, port, 1, value));
        }

        Assert.True(ports.TryType("abc"u8));
        Assert.Equal((uint)'a', ports.Read(0x3F8, 1));
        Assert.True(ports.Write(cpu, 0x510, 2, 0x19));
        ports.Read(0x511, 1);
        ports.Read(0x511, 1);
        Assert.True(ports.Write(cpu, 0x514, 4, 0x0100_0000));
        Assert.True(ports.Write(cpu, 0xCF8, 4, 0x8000_F840) && ports.Write(cpu, 0xCFC, 4, 0x55AA_1234));
        Assert.True(machine.Machine.Msrs.TryWrite(0x2FF, 0xC00) && machine.Machine.Msrs.TryWrite(0x20F, 0x99) && machine.Machine.Msrs.TryWrite(0x26F, 0x606));
        cpu.Vmpl = 0;
    }

    private static void Timer(TestMachine machine, int vmpl, uint initial)
    {
        LocalApic apic = machine.Cpu.Contexts[vmpl].Apic;
        ulong now = machine.Machine.Interrupts.Now;
        Assert.True(apic.TryWrite(0x83E, 0xB, machine.Machine.Clock, now) && apic.TryWrite(0x832, 0x41, machine.Machine.Clock, now) && apic.TryWrite(0x838, initial, machine.Machine.Clock, now));
    }

    private void Move()
    {
        byte[] saved = Save(_source);
        Assert.Equal(HostStateRefusal.None, Pass(_target, saved, StateMode.Check));
        Assert.Equal(HostStateRefusal.None, Pass(_target, saved, StateMode.Take));
    }

    // By the request of VMPL0, for its own vCPU.
    private static void Create(TestMachine machine)
    {
        const ulong Ghcb = 0x90_5000;
        machine.Private(GuestVmsa);
        VmplContext context = machine.Cpu.Current;
        context.RegisteredGhcb = Ghcb;
        context.GhcbMsr = Ghcb;
        var ghcb = (GhcbPage*)machine.Memory.SharedBytes(machine.Page(Ghcb));
        ghcb->ProtocolVersion = 2;
        ghcb->SwExitCode = (ulong)GhcbExitCode.ApCreation;
        ghcb->SwExitInfo1 = Vmpl2 << 16;
        ghcb->SwExitInfo2 = GuestVmsa;
        ghcb->Rax = (ulong)SevFeatures.SnpActive;
        foreach (int offset in (ReadOnlySpan<int>)[0x1F8, 0x390, 0x398, 0x3A0])
        {
            ((byte*)ghcb)[0x3F0 + (offset / 64)] |= (byte)(1 << (offset / 8 % 8));
        }

        Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
        Assert.Equal(0ul, ghcb->SwExitInfo2);
    }

    private static byte[] Save(TestMachine machine)
    {
        byte[] bytes = new byte[Link.WindowLength];
        Assert.Equal(HostStateRefusal.None, HostState.Pass(machine.Machine, bytes, StateMode.Save, out int length));
        return bytes[..length];
    }

    private static HostStateRefusal Pass(TestMachine machine, byte[] bytes, StateMode mode) => HostState.Pass(machine.Machine, bytes, mode, out _);

    private static List<byte[]> SavePages(TestMachine machine, uint room)
    {
        var pieces = new List<byte[]>();
        byte[] bytes = new byte[room];
        for (ulong cursor = 0; cursor != ulong.MaxValue;)
        {
            cursor = HostState.SavePages(machine.Machine, cursor, bytes, out int length);
            pieces.Add(bytes[..length]);
        }

        return pieces;
    }

    private static Span<byte> Bytes(TestMachine machine, ulong page) =>
        new(machine.Memory.SharedBytes(machine.Page(Shared + (page << 12))), (int)TestMachine.PageSize);

    private static byte[] Record(ulong gpa, uint count, HostStatePages kind) =>
        [.. BitConverter.GetBytes(gpa), .. BitConverter.GetBytes(count), .. BitConverter.GetBytes((uint)kind)];

    private static List<(ulong Gpa, uint Count, uint Kind)> Records(byte[] bytes)
    {
        var records = new List<(ulong, uint, uint)>();
        for (int at = 0; at < bytes.Length;)
        {
            (ulong gpa, uint count, uint kind) = (BitConverter.ToUInt64(bytes, at), BitConverter.ToUInt32(bytes, at + 8), BitConverter.ToUInt32(bytes, at + 12));
            records.Add((gpa, count, kind));
            at += 16 + (kind == 2 ? (int)count * 4096 : 0);
        }

        return records;
    }

    private static void Queue(TestMachine machine, CommandHeader header)
    {
        foreach (byte value in (byte[])[Link.Start, (byte)LinkFrame.Command, (byte)sizeof(CommandHeader), 0, .. MemoryMarshal.AsBytes(new ReadOnlySpan<CommandHeader>(in header))])
        {
            machine.Port.Answers.Enqueue(value);
        }
    }

    private static HostStateAnswer Command(TestMachine machine, CommandKind kind, ulong address, ulong value, out byte status)
    {
        machine.Port.Bytes.Clear();
        Queue(machine, new CommandHeader { Kind = kind, Address = address, Value = value });
        Assert.True(machine.Machine.Commands.Attend(machine.Cpu));
        byte[] frame = [.. machine.Port.Bytes];
        Assert.Equal(((byte)LinkFrame.CommandDone, (byte)kind, 28), (frame[1], frame[4], frame.Length));
        status = frame[8];
        return MemoryMarshal.Read<HostStateAnswer>(frame.AsSpan(12));
    }
}
