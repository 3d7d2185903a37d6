// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The ACPI tables of the simulated machine, for a guest that is started without firmware, and for a firmware. Hardware-reduced: no SCI, no PIC, no
// PIT, nothing that an operating system would use of PM timer and CMOS. One I/O APIC, one x2APIC per vCPU; PCI and a serial port (Wire/AcpiDefinitions.cs);
// power off and reset by ports.
//
//   RSDP | XSDT | FADT | MADT | DSDT, each at a multiple of 64
//
// Source: ACPI 6.5, sections 5.2.5 to 5.2.12; QEMU hw/acpi/bios-linker-loader.c (commands to a firmware).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Text;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Simulator;

internal static class AcpiTables
{
    private const int HeaderLength = 36;
    private const int Alignment = 64;

    private const int FixedDescriptionDsdt = 40;
    private const int FixedDescriptionLongDsdt = 140;
    private const int ChecksumOffset = 9;

    // The tables for a number of vCPUs, to be put at a GPA, which is that of the RSDP.
    public static byte[] Create(ulong gpa, int vcpuCount) => Create(gpa, vcpuCount, out _, out _);

    // The same for a firmware: with offsets for addresses, and the commands that make the former the latter where the firmware puts the file.
    public static (byte[] Tables, byte[] Loader) CreateForFirmware(string file, int vcpuCount)
    {
        byte[] tables = Create(0, vcpuCount, out ulong fadt, out ulong xsdt);
        var commands = new List<byte>();
        Add(commands, 1, file, null, BitConverter.GetBytes((uint)Alignment), [1]);
        foreach ((ulong pointer, byte size) in (ReadOnlySpan<(ulong, byte)>)[
            (fadt + FixedDescriptionDsdt, 4), (fadt + FixedDescriptionLongDsdt, 8), (xsdt + HeaderLength, 8), (xsdt + HeaderLength + 8, 8)])
        {
            Add(commands, 2, file, file, BitConverter.GetBytes((uint)pointer), [size]);
        }

        foreach (ulong table in (ReadOnlySpan<ulong>)[fadt, xsdt])
        {
            // The sum is made with the checksum in it.
            tables[(int)table + ChecksumOffset] = 0;
            Add(commands, 3, file, null, BitConverter.GetBytes((uint)table + ChecksumOffset), [.. BitConverter.GetBytes((uint)table), .. tables[((int)table + 4)..((int)table + 8)]]);
        }

        return (tables, [.. commands]);
    }

    // A command: its number, one or two names of files, and the rest; 128 bytes.
    private static void Add(List<byte> commands, uint number, string file, string? other, byte[] first, byte[] rest)
    {
        const int Length = 128;
        const int NameLength = 56;
        byte[] command = new byte[Length];
        BinaryPrimitives.WriteUInt32LittleEndian(command, number);
        Encoding.ASCII.GetBytes(file).CopyTo(command, 4);
        Encoding.ASCII.GetBytes(other ?? "").CopyTo(command, 4 + NameLength);
        byte[] numbers = [.. first, .. rest];
        numbers.CopyTo(command, 4 + NameLength + (other is null ? 0 : NameLength));
        commands.AddRange(command);
    }

    private static byte[] Create(ulong gpa, int vcpuCount, out ulong fadtAt, out ulong xsdtAt)
    {
        byte[] dsdt = Table("DSDT", 2, AcpiDefinitions.Contents);
        byte[] madt = Table("APIC", 5, InterruptControllers(vcpuCount));
        ulong dsdtAt = gpa + Alignment;
        ulong madtAt = Align(dsdtAt + (ulong)dsdt.Length);
        fadtAt = Align(madtAt + (ulong)madt.Length);
        byte[] fadt = Table("FACP", 6, FixedDescription(dsdtAt));
        xsdtAt = Align(fadtAt + (ulong)fadt.Length);
        byte[] xsdt = Table("XSDT", 1, [.. BitConverter.GetBytes(fadtAt), .. BitConverter.GetBytes(madtAt)]);

        byte[] all = new byte[xsdtAt + (ulong)xsdt.Length - gpa];
        RootPointer(xsdtAt).CopyTo(all, 0);
        dsdt.CopyTo(all, (int)(dsdtAt - gpa));
        madt.CopyTo(all, (int)(madtAt - gpa));
        fadt.CopyTo(all, (int)(fadtAt - gpa));
        xsdt.CopyTo(all, (int)(xsdtAt - gpa));
        return all;
    }

    private static ulong Align(ulong address) => (address + Alignment - 1) / Alignment * Alignment;

    private static byte[] RootPointer(ulong xsdt)
    {
        byte[] pointer = new byte[36];
        Encoding.ASCII.GetBytes("RSD PTR ").CopyTo(pointer, 0);
        Encoding.ASCII.GetBytes("SVSMSD").CopyTo(pointer, 9);
        pointer[15] = 2;
        BinaryPrimitives.WriteUInt32LittleEndian(pointer.AsSpan(20), (uint)pointer.Length);
        BinaryPrimitives.WriteUInt64LittleEndian(pointer.AsSpan(24), xsdt);
        pointer[8] = Checksum(pointer.AsSpan(0, 20));
        pointer[32] = Checksum(pointer);
        return pointer;
    }

    private static byte[] Table(string signature, byte revision, ReadOnlySpan<byte> body)
    {
        byte[] table = new byte[HeaderLength + body.Length];
        Encoding.ASCII.GetBytes(signature).CopyTo(table, 0);
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(4), (uint)table.Length);
        table[8] = revision;
        Encoding.ASCII.GetBytes("SVSMSDSIMULATE").CopyTo(table, 10);
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(24), 1);
        Encoding.ASCII.GetBytes("SVSM").CopyTo(table, 28);
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(32), 1);
        body.CopyTo(table.AsSpan(HeaderLength));
        table[ChecksumOffset] = Checksum(table);
        return table;
    }

    // What makes the sum of all bytes 0.
    private static byte Checksum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte value in bytes)
        {
            sum += value;
        }

        return (byte)-sum;
    }

    private static byte[] FixedDescription(ulong dsdt)
    {
        const int Length = 276;
        const uint WriteBackInvalidate = 1 << 0;
        const uint PowerButtonIsDevice = 1 << 4;
        const uint SleepButtonIsDevice = 1 << 5;
        const uint ResetRegister = 1 << 10;
        const uint HardwareReduced = 1 << 20;
        const ushort NoVga = 1 << 2;
        const ushort NoCmosClock = 1 << 5;

        // Offsets from the start of the table.
        byte[] table = new byte[Length];
        BinaryPrimitives.WriteUInt32LittleEndian(table.AsSpan(FixedDescriptionDsdt), (uint)dsdt);
        BinaryPrimitives.WriteUInt16LittleEndian(table.AsSpan(109), NoVga | NoCmosClock);
        BinaryPrimitives.WriteUInt32LittleEndian(
            table.AsSpan(112), WriteBackInvalidate | PowerButtonIsDevice | SleepButtonIsDevice | ResetRegister | HardwareReduced);
        Port(MachinePorts.ResetControl).CopyTo(table, 116);
        table[128] = MachinePorts.ResetNow;
        table[131] = 5;
        BinaryPrimitives.WriteUInt64LittleEndian(table.AsSpan(FixedDescriptionLongDsdt), dsdt);
        Port(AcpiDefinitions.SleepControlPort).CopyTo(table, 244);
        Port(AcpiDefinitions.SleepStatusPort).CopyTo(table, 256);
        return table[HeaderLength..];
    }

    // A generic address: one byte in I/O space.
    private static byte[] Port(ushort port) => [1, 8, 0, 1, .. BitConverter.GetBytes((ulong)port)];

    private static byte[] InterruptControllers(int vcpuCount)
    {
        const uint LocalApicAddress = 0xFEE0_0000;
        const byte TypeIoApic = 1;
        const byte TypeX2Apic = 9;
        var table = new List<byte>();
        table.AddRange(BitConverter.GetBytes(LocalApicAddress));
        table.AddRange(BitConverter.GetBytes(0u));
        for (uint id = 0; id < vcpuCount; id++)
        {
            table.AddRange([TypeX2Apic, 16, 0, 0, .. BitConverter.GetBytes(id), .. BitConverter.GetBytes(1u), .. BitConverter.GetBytes(id)]);
        }

        table.AddRange([TypeIoApic, 12, (byte)vcpuCount, 0, .. BitConverter.GetBytes(MachinePorts.IoApicAddress), .. BitConverter.GetBytes(0u)]);
        return [.. table];
    }
}
