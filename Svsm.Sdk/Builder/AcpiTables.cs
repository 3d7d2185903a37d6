// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The ACPI tables of a Linux guest: measured templates. No table and no AML of the host reaches the guest.
//
//   0x000  root pointer      to the XSDT
//   0x040  XSDT              FADT and APIC table
//   0x080  FADT              hardware-reduced: there is no fixed ACPI hardware, for a host without firmware has set up none
//   0x1C0  DSDT              Wire/AcpiDefinitions.cs
//   0xFC8  APIC table        its head, with the I/O APIC, ends with the page; the kernel writes one entry per vCPU into the two pages behind it, and
//                            corrects length and checksum
//
// Source: ACPI 6.5, chapters 5.2 (tables), 6.4 (resources), 20.2 (AML).

using System;
using System.Buffers.Binary;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>Makes the tables.</summary>
internal static class AcpiTables
{
    /// <summary>Offset of the table "APIC".</summary>
    public const int InterruptControllersOffset = PageSize - AcpiTable.InterruptControllersHeadLength;

    /// <summary>Number of pages: the tables, and room for the entries of 512 vCPUs.</summary>
    public const int PageCount = 3;

    private const int PageSize = 4096;
    private const int ExtendedRootOffset = 0x040;
    private const int FixedOffset = 0x080;
    private const int DefinitionOffset = 0x1C0;

    private const int RootPointerLength = 36;
    private const int RootPointerFirstLength = 20;
    private const int FixedLength = 276;

    // The bus has the local APICs at the usual place; Linux wants to know, x2APIC mode or not.
    private const uint LocalApicAddress = 0xFEE0_0000;

    private const byte IoApicType = 1;
    private const byte IoApicLength = 12;

    private const ushort BootLegacyDevices = 1 << 0;
    private const ushort BootNoVga = 1 << 2;
    private const uint FlagWriteBackInvalidate = 1 << 0;
    private const uint FlagNoPowerButton = 1 << 4;
    private const uint FlagNoSleepButton = 1 << 5;
    private const uint FlagResetRegister = 1 << 10;
    private const uint FlagHardwareReduced = 1 << 20;
    private const ushort ResetPort = 0xCF9;
    private const byte ResetValue = 0x06;

    /// <summary>Makes the pages.</summary>
    /// <param name="gpa">Their guest-physical address.</param>
    /// <returns><see cref="PageCount"/> pages.</returns>
    public static byte[] Create(ulong gpa)
    {
        byte[] pages = new byte[PageCount * PageSize];

        Span<byte> root = pages.AsSpan(0, RootPointerLength);
        "RSD PTR "u8.CopyTo(root);
        "SVSM  "u8.CopyTo(root[9..]);
        root[15] = 2;
        BinaryPrimitives.WriteUInt32LittleEndian(root[20..], RootPointerLength);
        BinaryPrimitives.WriteUInt64LittleEndian(root[24..], gpa + ExtendedRootOffset);
        root[8] = Checksum(root[..RootPointerFirstLength]);
        root[32] = Checksum(root);

        Span<byte> extended = Table(pages, ExtendedRootOffset, "XSDT"u8, AcpiTable.HeadLength + (2 * sizeof(ulong)), 1);
        BinaryPrimitives.WriteUInt64LittleEndian(extended[AcpiTable.HeadLength..], gpa + FixedOffset);
        BinaryPrimitives.WriteUInt64LittleEndian(extended[(AcpiTable.HeadLength + sizeof(ulong))..], gpa + InterruptControllersOffset);
        extended[AcpiTable.Checksum] = Checksum(extended);

        Span<byte> fixedTable = Table(pages, FixedOffset, "FACP"u8, FixedLength, 6);
        BinaryPrimitives.WriteUInt32LittleEndian(fixedTable[40..], (uint)gpa + DefinitionOffset);
        BinaryPrimitives.WriteUInt16LittleEndian(fixedTable[109..], BootLegacyDevices | BootNoVga);
        BinaryPrimitives.WriteUInt32LittleEndian(
            fixedTable[112..], FlagWriteBackInvalidate | FlagNoPowerButton | FlagNoSleepButton | FlagResetRegister | FlagHardwareReduced);
        WritePort(fixedTable[116..], ResetPort);
        fixedTable[128] = ResetValue;
        fixedTable[131] = 5; // minor version
        BinaryPrimitives.WriteUInt64LittleEndian(fixedTable[140..], gpa + DefinitionOffset);
        WritePort(fixedTable[244..], AcpiDefinitions.SleepControlPort);
        WritePort(fixedTable[256..], AcpiDefinitions.SleepStatusPort);
        fixedTable[AcpiTable.Checksum] = Checksum(fixedTable);

        Span<byte> definition = Table(pages, DefinitionOffset, "DSDT"u8, AcpiTable.HeadLength + AcpiDefinitions.Contents.Length, 2);
        AcpiDefinitions.Contents.CopyTo(definition[AcpiTable.HeadLength..]);
        definition[AcpiTable.Checksum] = Checksum(definition);

        Span<byte> controllers = Table(pages, InterruptControllersOffset, "APIC"u8, AcpiTable.InterruptControllersHeadLength, 5);
        BinaryPrimitives.WriteUInt32LittleEndian(controllers[AcpiTable.HeadLength..], LocalApicAddress);
        Span<byte> ioApic = controllers[(AcpiTable.InterruptControllersHeadLength - IoApicLength)..];
        ioApic[0] = IoApicType;
        ioApic[1] = IoApicLength;
        BinaryPrimitives.WriteUInt32LittleEndian(ioApic[4..], AcpiDefinitions.IoApicAddress);
        controllers[AcpiTable.Checksum] = Checksum(controllers);
        return pages;
    }

    // A generic address.
    private static void WritePort(Span<byte> address, ushort port)
    {
        address[0] = 1; // address space: I/O ports
        address[1] = 8; // bits
        address[3] = 1; // access: bytes
        BinaryPrimitives.WriteUInt64LittleEndian(address[4..], port);
    }

    private static Span<byte> Table(byte[] pages, int offset, ReadOnlySpan<byte> signature, int length, byte revision)
    {
        Span<byte> table = pages.AsSpan(offset, length);
        signature.CopyTo(table);
        BinaryPrimitives.WriteInt32LittleEndian(table[AcpiTable.Length..], length);
        table[8] = revision;
        "SVSM  "u8.CopyTo(table[10..]);
        "SVSM.SDK"u8.CopyTo(table[16..]);
        BinaryPrimitives.WriteUInt32LittleEndian(table[24..], 1);
        "SVSM"u8.CopyTo(table[28..]);
        BinaryPrimitives.WriteUInt32LittleEndian(table[32..], 1);
        return table;
    }

    private static byte Checksum(ReadOnlySpan<byte> table)
    {
        byte sum = 0;
        foreach (byte value in table)
        {
            sum += value;
        }

        return (byte)-sum;
    }
}
