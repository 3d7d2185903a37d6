// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The PCI bus, with an outer machine of this test.</summary>
public sealed class PciBusTests
{
    private const int Lpc = 0x1F << 3;
    private const int Disk = 2 << 3;
    private const ulong Window = 0xE000_0000;

    [Fact]
    public void Scan_TakesChipsetAndVirtioOnly()
    {
        using var machine = Make();
        Assert.Equal(0x29C0_8086u, Config(machine, 0, 0));
        Assert.Equal(0x2918_8086u, Config(machine, Lpc, 0));
        Assert.Equal(0x1042_1AF4u, Config(machine, Disk, 0));
        Assert.Equal(uint.MaxValue, Config(machine, Lpc + 2, 0));
        Assert.Equal(uint.MaxValue, Config(machine, 4 << 3, 0));
        Assert.Equal(uint.MaxValue, Config(machine, 0x100, 0));
        Assert.True(machine.Machine.Pci.HasDevices);
    }

    [Fact]
    public void Chipset_Writes_StayInside()
    {
        using var machine = Make();
        uint[][] before = [.. ((FakeProcessor)machine.Machine.Processor).Pci.Select(function => function.Value.ToArray())];
        foreach (int function in (int[])[0, Lpc])
        {
            for (int register = 0; register < 256; register += 4)
            {
                SetConfig(machine, function, register, 0xFFFF_FFFF);
            }
        }

        Assert.Equal(before, ((FakeProcessor)machine.Machine.Processor).Pci.Values);
        Assert.Equal(0x29C0_8086u, Config(machine, 0, 0));
        Assert.Equal(0xFFFF_FFFFu, Config(machine, Lpc, 0x40));
        Assert.Equal(0xFFu, Config(machine, Lpc, 0x3C));
    }

    [Fact]
    public void Device_BaseAddress_IsTheGuestsAndQemusIsNot()
    {
        using var machine = Make();
        var processor = (FakeProcessor)machine.Machine.Processor;
        Assert.Equal(0u, Config(machine, Disk, 0x14));
        SetConfig(machine, Disk, 0x20, uint.MaxValue);
        SetConfig(machine, Disk, 0x24, uint.MaxValue);
        Assert.Equal((0xFFFF_C00Cu, uint.MaxValue), (Config(machine, Disk, 0x20), Config(machine, Disk, 0x24)));
        SetConfig(machine, Disk, 0x20, 0xC000_0000);
        SetConfig(machine, Disk, 0x24, 0x40);
        SetConfig(machine, Disk, 0x14, 0xFEC0_2000);
        SetConfig(machine, Disk, 0x18, 0x1234_5678);
        Assert.Equal(0u, Config(machine, Disk, 0x18));

        // The outer base addresses are those of the scan: 4 KiB, then 16 KiB, each at a multiple of its size.
        Assert.Equal([0u, (uint)Window, 0u, 0u, (uint)Window + 0x4000 | 0xC, 0u], processor.Pci[Disk][4..10]);
        Assert.False(Contains(machine, 0x40_C000_0000));
        SetConfig(machine, Disk, 4, 2);
        Assert.True(Contains(machine, 0x40_C000_3FFF));
        Assert.False(Contains(machine, 0x40_C000_4000));
        Assert.False(Contains(machine, 0x40_BFFF_FFFF));
        Assert.Equal(0x4433_2211ul, Read(machine, 0x40_C000_0010, 4));
        WriteMemory(machine, 0xFEC0_2FFE, 2, 0x55);
        WriteMemory(machine, 0xFEC0_3000, 2, 0x66);
        Assert.Equal([(Window + 0x4010, 4, (ulong?)null), (Window + 0xFFE, 2, 0x55)], processor.Accesses);
    }

    [Fact]
    public void Device_ExpansionRom_IsNotThere()
    {
        using var machine = Make();
        ((FakeProcessor)machine.Machine.Processor).Writable[(Disk, 0x30)] = uint.MaxValue;
        SetConfig(machine, Disk, 0x30, uint.MaxValue);
        Assert.Equal((0u, 0u), (Config(machine, Disk, 0x30), ((FakeProcessor)machine.Machine.Processor).Pci[Disk][0x30 / 4]));
    }

    [Theory]
    [InlineData(0u, 256)]
    [InlineData(2u, 128)]
    [InlineData(4u, 64)]
    public void ExpressMemory_AsThePciexbarSays(uint length, int buses)
    {
        using var machine = Make();
        Assert.False(Contains(machine, 0xB000_0000));
        SetConfig(machine, 0, 0x60, 0xB000_0001 | length);
        SetConfig(machine, 0, 0x64, 1);
        Assert.Equal(0x1042_1AF4u, (uint)Read(machine, 0x1_B001_0000, 4));
        Assert.Equal(0x1042u, (uint)Read(machine, 0x1_B001_0002, 2));
        Assert.Equal(uint.MaxValue, (uint)Read(machine, 0x1_B001_0100, 4));
        Assert.Equal(uint.MaxValue, (uint)Read(machine, 0x1_B001_0000, 8));
        Assert.Equal(uint.MaxValue, (uint)Read(machine, 0x1_B011_0000, 4));
        WriteMemory(machine, 0x1_B001_0004, 2, 2);
        Assert.Equal(2u, Config(machine, Disk, 4) & 2);
        Assert.True(Contains(machine, 0x1_B000_0000 + ((ulong)buses << 20) - 1));
        Assert.False(Contains(machine, 0x1_B000_0000 + ((ulong)buses << 20)));
    }

    [Fact]
    public void Ports_Parts_AreThoseOfTheRegister()
    {
        using var machine = Make();
        Write(machine, 0xCF8, 4, 0x8000_0000 | Lpc << 8 | 0x40);
        Write(machine, 0xCFD, 1, 0xAB);
        Write(machine, 0xCFE, 2, 0xCDEF);
        Write(machine, 0xCFF, 2, 0x1111);
        Assert.Equal(0xCDEF_AB00u, Config(machine, Lpc, 0x40));
        Assert.Equal(0xCDu, machine.Machine.Ports.Read(0xCFF, 1));
        Assert.Equal(0x8000_0000u | Lpc << 8 | 0x40, machine.Machine.Ports.Read(0xCF8, 4));
        Write(machine, 0xCF8, 4, 0x0000_0000 | Lpc << 8 | 0x40);
        Write(machine, 0xCFC, 4, 0);
        Assert.Equal(uint.MaxValue, machine.Machine.Ports.Read(0xCFC, 4));
        Assert.Equal(0xCDEF_AB00u, Config(machine, Lpc, 0x40));
    }

    // A host bridge, an LPC bridge, a SATA controller, and a virtio disk with 4 KiB at base 1, and 16 KiB at base 4 of 64 bits.
    private static TestMachine Make()
    {
        var machine = new TestMachine();
        var processor = (FakeProcessor)machine.Machine.Processor;
        processor.Pci[0] = Function(0x29C0_8086);
        processor.Pci[Lpc] = Function(0x2918_8086);
        processor.Pci[Lpc + 2] = Function(0x2922_8086);
        uint[] disk = Function(0x1042_1AF4);
        disk[8] = 0xC;
        processor.Pci[Disk] = disk;
        processor.Writable[(Disk, 0x04)] = 0x7;
        processor.Writable[(Disk, 0x14)] = 0xFFFF_F000;
        processor.Writable[(Disk, 0x20)] = 0xFFFF_C000;
        processor.Writable[(Disk, 0x24)] = 0xFFFF_FFFF;
        machine.Machine.Pci.Scan();
        return machine;
    }

    private static bool Contains(TestMachine machine, ulong gpa) => machine.Machine.Pci.Find(gpa) is not null;

    private static ulong Read(TestMachine machine, ulong gpa, int size)
    {
        Span<byte> buffer = stackalloc byte[sizeof(ulong)];
        buffer.Clear();
        machine.Machine.Devices.Read(gpa, buffer[..size]);
        return BitConverter.ToUInt64(buffer);
    }

    private static void WriteMemory(TestMachine machine, ulong gpa, int size, ulong value) =>
        Assert.True(machine.Machine.Devices.Write(machine.Cpu, gpa, BitConverter.GetBytes(value).AsSpan(0, size)));

    private static uint[] Function(uint id)
    {
        uint[] registers = new uint[64];
        registers[0] = id;
        return registers;
    }

    private static uint Config(TestMachine machine, int function, int register)
    {
        Write(machine, 0xCF8, 4, 0x8000_0000 | (uint)function << 8 | (uint)register);
        return machine.Machine.Ports.Read(0xCFC, 4);
    }

    private static void SetConfig(TestMachine machine, int function, int register, uint value)
    {
        Write(machine, 0xCF8, 4, 0x8000_0000 | (uint)function << 8 | (uint)register);
        Write(machine, 0xCFC, 4, value);
    }

    private static void Write(TestMachine machine, ushort port, int size, uint value) => Assert.True(machine.Machine.Ports.Write(machine.Cpu, port, size, value));
}
