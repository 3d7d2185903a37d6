// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A machine of the model on .NET: its "host-physical" memory is native memory of this process, which the model addresses one to one as the
// hypervisor does. One vCPU at VMPL0 in 64-bit mode; tables map the first GiB one to one, private below, shared at SharedView.

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Svsm.Platform;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Collects the link's bytes.</summary>
internal sealed class ListPort : LinkPort
{
    /// <summary>What was sent.</summary>
    public List<byte> Bytes { get; } = [];

    /// <inheritdoc/>
    public override void Write(byte value)
    {
        Bytes.Add(value);
        WrittenWithInterrupts |= InterruptsEnabled;
    }

    /// <summary>Whether what the machine sends interrupts the guest.</summary>
    public bool InterruptsEnabled { get; private set; } = true;

    /// <summary>Whether anything was sent while it did.</summary>
    public bool WrittenWithInterrupts { get; set; }

    /// <summary>What the machine answers.</summary>
    public Queue<byte> Answers { get; } = new();

    /// <inheritdoc/>
    public override byte Read() => Answers.Dequeue();

    /// <inheritdoc/>
    public override bool CanRead => Answers.Count != 0;

    /// <inheritdoc/>
    public override void SetInterrupts(bool enabled) => InterruptsEnabled = enabled;
}

/// <summary>A processor with recognisable answers.</summary>
internal unsafe class FakeProcessor : HostProcessor
{
    /// <summary>The time-stamp counter.</summary>
    public ulong TimeStamp { get; set; } = 0x1_2345_6789;

    /// <summary>What passes from one reading to the next.</summary>
    public ulong TimeStep { get; set; }

    /// <summary>Debug registers 0 to 3.</summary>
    public ulong[] DebugRegisters { get; } = [1, 2, 3, 4];

    /// <summary>What the timer was set to, 0 = not set.</summary>
    public ulong Timer { get; set; }

    /// <summary>Interrupts taken.</summary>
    public int Taken { get; private set; }

    /// <inheritdoc/>
    public override ulong TscAux { get; set; }

    /// <inheritdoc/>
    public override void SetTimer(ulong nanoseconds) => Timer = nanoseconds;

    /// <inheritdoc/>
    public override void AcknowledgeInterrupt() => Taken++;

    /// <summary>Pins that interrupt, the first of PCI devices in bit 0.</summary>
    public uint Pins { get; set; }

    /// <inheritdoc/>
    public override uint TakePins()
    {
        uint pins = Pins;
        Pins = 0;
        return pins;
    }

    /// <summary>Time goes on until the timer expires, unless a pin interrupts.</summary>
    public override void WaitForInterrupt()
    {
        Taken++;
        if (Pins == 0)
        {
            Assert.NotEqual(0ul, Timer);
            TimeStamp += Timer;
            Timer = 0;
        }
    }

    /// <summary>Configuration space of the outer machine's bus 0: function number, then registers. Empty functions are not there.</summary>
    public Dictionary<int, uint[]> Pci { get; } = [];

    /// <summary>Bits of a register that can be written.</summary>
    public Dictionary<(int Function, int Register), uint> Writable { get; } = [];

    /// <summary>Accesses to memory of devices: address, size, value; null = read.</summary>
    public List<(ulong Address, int Size, ulong? Value)> Accesses { get; } = [];

    private uint _address;

    private uint[]? Selected => (_address >> 31) != 0 && Pci.TryGetValue((int)(_address >> 8 & 0x7F_FFFF), out uint[]? registers) ? registers : null;

    /// <inheritdoc/>
    public override uint ReadPort(ushort port, int size) => Selected is { } registers ? registers[(_address & 0xFF) / 4] >> (8 * (port & 3)) : uint.MaxValue;

    /// <inheritdoc/>
    public override void WritePort(ushort port, int size, uint value)
    {
        if (port == 0xCF8)
        {
            _address = value;
        }
        else if (Selected is { } registers)
        {
            int register = (int)(_address & 0xFF);
            uint mask = (size == 4 ? uint.MaxValue : (1u << (8 * size)) - 1) << (8 * (port & 3));
            mask &= Writable.GetValueOrDefault(((int)(_address >> 8 & 0xFFFF), register));
            registers[register / 4] = (registers[register / 4] & ~mask) | ((value << (8 * (port & 3))) & mask);
        }
    }

    /// <inheritdoc/>
    public override ulong ReadDevice(ulong address, int size)
    {
        Accesses.Add((address, size, null));
        return 0x8877_6655_4433_2211;
    }

    /// <inheritdoc/>
    public override void WriteDevice(ulong address, int size, ulong value) => Accesses.Add((address, size, value));

    /// <summary>Processors that were interrupted.</summary>
    public List<int> Interrupted { get; } = [];

    /// <inheritdoc/>
    public override void Interrupt(int processor) => Interrupted.Add(processor);

    /// <inheritdoc/>
    public override void Relax()
    {
    }

    /// <inheritdoc/>
    public override CpuidResult Cpuid(uint function, uint index) => new() { Eax = uint.MaxValue, Ebx = uint.MaxValue, Ecx = uint.MaxValue, Edx = uint.MaxValue };

    /// <inheritdoc/>
    public override ulong ReadTimeStampCounter() => TimeStamp += TimeStep;

    /// <summary>How often an NMI was taken.</summary>
    public int NonMaskableInterrupts { get; private set; }

    /// <inheritdoc/>
    public override void TakeNonMaskableInterrupt() => NonMaskableInterrupts++;

    /// <inheritdoc/>
    public override void ReadDebugRegisters(ulong* values) => DebugRegisters.CopyTo(new Span<ulong>(values, 4));

    /// <inheritdoc/>
    public override void WriteDebugRegisters(ulong* values) => new ReadOnlySpan<ulong>(values, 4).CopyTo(DebugRegisters);
}

/// <summary>The machine.</summary>
internal sealed unsafe class TestMachine : IDisposable
{
    public const ulong RamLength = 64ul << 20;
    public const ulong SharedView = 0x80_0000_0000;
    public const ulong Root = 0x1000;
    public const ulong Free = 0x10_0000;
    public const ulong PageSize = 4096;

    private const nuint PoolLength = 24 << 20;
    private readonly void* _memory;

    public TestMachine(FakeProcessor? processor = null)
    {
        _memory = NativeMemory.AlignedAlloc(PoolLength, (nuint)PageSize);
        Pool = new FramePool();
        Pool.AddRange((ulong)_memory, (ulong)_memory + PoolLength);
        Port = new ListPort();
        Machine = new VirtualMachine(Pool, new LinkWriter(Port), processor ?? new FakeProcessor());
        Assert.True(Machine.Memory.TryAddRam(new LaunchRam { Base = 0, Length = RamLength }));
        Machine.Memory.Seal();
        Cpu = new VirtualCpu(Pool, 0);
        Machine.Cpus = [Cpu];

        // PML4 | PDPT, PD of the private view | PDPT, PD of the shared view
        for (ulong table = 0; table < 5; table++)
        {
            Clear(Private(Root + (table * PageSize)));
        }

        Entry(Root, 0, Root + PageSize | Amd64.CBit | 7);
        Entry(Root, 1, (Root + (3 * PageSize)) | Amd64.CBit | 7);
        Entry(Root + PageSize, 0, (Root + (2 * PageSize)) | Amd64.CBit | 7);
        Entry(Root + (3 * PageSize), 0, (Root + (4 * PageSize)) | Amd64.CBit | 7);
        for (ulong i = 0; i < 512; i++)
        {
            Entry(Root + (2 * PageSize), i, (i << 21) | Amd64.CBit | 0x83);
            Entry(Root + (4 * PageSize), i, (i << 21) | 0x83);
        }

        Vmsa* state = Cpu.State;
        state->Efer = Amd64.EferLongModeActive | Amd64.EferLongModeEnable | Amd64.EferNoExecute | Amd64.EferSvme;
        state->Cr0 = Amd64.Cr0Paging | Amd64.Cr0ProtectedMode | Amd64.Cr0WriteProtect | Amd64.Cr0ExtensionType;
        state->Cr3 = Root | Amd64.CBit;
        state->Cr4 = Amd64.Cr4Pae;
        state->Cs = new SegmentRegister { Selector = 8, Attributes = 0xA9B, Limit = uint.MaxValue };
        state->Ss = new SegmentRegister { Selector = 16, Attributes = 0xC93, Limit = uint.MaxValue };
        state->Rflags = Amd64.FlagReserved;
        Cpu.Features = SevFeatures.SnpActive;
        Cpu.IsRunning = true;
        Cpu.SelectNestedTables(Machine.Memory.NestedTables);
    }

    public FramePool Pool { get; }

    public ListPort Port { get; }

    public VirtualMachine Machine { get; }

    public VirtualCpu Cpu { get; }

    public GuestMemory Memory => Machine.Memory;

    public void Dispose() => NativeMemory.AlignedFree(_memory);

    /// <summary>Makes a page private and validated, and gives its bytes.</summary>
    public byte* Private(ulong gpa)
    {
        GuestPage* page = Memory.Find(gpa);
        Memory.Assign(page, Amd64.PageOf(gpa), large: false);
        page->Validated = true;
        return Memory.PrivateBytes(page) + (gpa & (PageSize - 1));
    }

    /// <summary>Puts code at RIP.</summary>
    public void Code(params byte[] code)
    {
        Cpu.State->Rip = Free;
        code.CopyTo(new Span<byte>(Private(Free), code.Length));
    }

    public void Entry(ulong table, ulong index, ulong value) => *(ulong*)(Private(table) + (index * 8)) = value;

    public static void Clear(byte* page) => new Span<byte>(page, (int)PageSize).Clear();

    public GuestPage* Page(ulong gpa) => Memory.Find(gpa);
}
