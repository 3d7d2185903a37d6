// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The ACPI tables of a Linux guest: measured templates. No table and no AML of the host reaches the guest.
//
//   0x000  root pointer      to the XSDT
//   0x040  XSDT              FADT and APIC table
//   0x080  FADT              hardware-reduced: there is no fixed ACPI hardware, for a host without firmware has set up none
//   0x1C0  DSDT              COM1 without an interrupt: there is no controller that could deliver one
//   0xFD4  APIC table        its head ends with the page; the kernel writes one entry per vCPU into the two pages behind it, and corrects
//                            length and checksum
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

    private const ushort BootLegacyDevices = 1 << 0;
    private const ushort BootNoVga = 1 << 2;
    private const uint FlagWriteBackInvalidate = 1 << 0;
    private const uint FlagNoPowerButton = 1 << 4;
    private const uint FlagNoSleepButton = 1 << 5;
    private const uint FlagResetRegister = 1 << 10;
    private const uint FlagHardwareReduced = 1 << 20;
    private const ushort ResetPort = 0xCF9;
    private const byte ResetValue = 0x06;

    // Scope (\_SB) { Device (COM1) { Name (_HID, EisaId ("PNP0501")) Name (_CRS, Buffer: IO (Decode16, 0x3F8, 0x3F8, 0, 8), end tag) } }
    private static ReadOnlySpan<byte> Definitions =>
    [
        0x10, 0x2A, (byte)'\\', (byte)'_', (byte)'S', (byte)'B', (byte)'_',
        0x5B, 0x82, 0x22, (byte)'C', (byte)'O', (byte)'M', (byte)'1',
        0x08, (byte)'_', (byte)'H', (byte)'I', (byte)'D', 0x0C, 0x41, 0xD0, 0x05, 0x01,
        0x08, (byte)'_', (byte)'C', (byte)'R', (byte)'S', 0x11, 0x0D, 0x0A, 0x0A,
        0x47, 0x01, 0xF8, 0x03, 0xF8, 0x03, 0x00, 0x08, 0x79, 0x00,
    ];

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
        fixedTable[116] = 1; // address space: I/O ports
        fixedTable[117] = 8; // bits
        fixedTable[119] = 1; // access: bytes
        BinaryPrimitives.WriteUInt64LittleEndian(fixedTable[120..], ResetPort);
        fixedTable[128] = ResetValue;
        fixedTable[131] = 5; // minor version
        BinaryPrimitives.WriteUInt64LittleEndian(fixedTable[140..], gpa + DefinitionOffset);
        fixedTable[AcpiTable.Checksum] = Checksum(fixedTable);

        Span<byte> definition = Table(pages, DefinitionOffset, "DSDT"u8, AcpiTable.HeadLength + Definitions.Length, 2);
        Definitions.CopyTo(definition[AcpiTable.HeadLength..]);
        definition[AcpiTable.Checksum] = Checksum(definition);

        Span<byte> controllers = Table(pages, InterruptControllersOffset, "APIC"u8, AcpiTable.InterruptControllersHeadLength, 5);
        BinaryPrimitives.WriteUInt32LittleEndian(controllers[AcpiTable.HeadLength..], LocalApicAddress);
        controllers[AcpiTable.Checksum] = Checksum(controllers);
        return pages;
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
