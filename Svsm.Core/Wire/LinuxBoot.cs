// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a Linux kernel is handed when no firmware starts it: for the image builder (prepares it), the kernel (completes what only the run
// can know: memory map and processors), and their tests.
//
//   boot parameters ("zero page")  one page, a copy of the kernel file's setup header in it
//   setup data                     a list; one entry of type 7 leads to the confidential-computing blob
//   ACPI tables                    processors are type 9 entries (x2APIC) of the table "APIC"
//
// Source: Linux Documentation/arch/x86/boot.rst and zero-page.rst, arch/x86/include/asm/sev.h (struct cc_blob_sev_info); ACPI 6.5, 5.2.12.

using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>Offsets in the page of boot parameters; those of the setup header are the same in a kernel file.</summary>
public static class LinuxBootParameters
{
    /// <summary>u64: GPA of the ACPI root pointer (<c>acpi_rsdp_addr</c>), protocol 2.14.</summary>
    public const int AcpiRootPointer = 0x070;

    /// <summary>u8: number of memory map entries.</summary>
    public const int MemoryMapCount = 0x1E8;

    /// <summary>First byte of the setup header.</summary>
    public const int SetupHeader = 0x1F1;

    /// <summary>u8: 512-byte sectors of the real-mode part behind the first one; 0 means 4.</summary>
    public const int SetupSectors = 0x1F1;

    /// <summary>u32: length of the protected-mode part in 16-byte units.</summary>
    public const int ProtectedModeLength = 0x1F4;

    /// <summary>u16: video mode.</summary>
    public const int VideoMode = 0x1FA;

    /// <summary>u16: 0xAA55.</summary>
    public const int BootFlag = 0x1FE;

    /// <summary>u8: the setup header ends as many bytes behind <see cref="Magic"/>.</summary>
    public const int HeaderEnd = 0x201;

    /// <summary>u32: "HdrS".</summary>
    public const int Magic = 0x202;

    /// <summary>u16: version of the protocol.</summary>
    public const int Version = 0x206;

    /// <summary>u8: who loads; 0xFF without a number of its own.</summary>
    public const int LoaderType = 0x210;

    /// <summary>u8: bit 0 = the protected-mode part is loaded above 1 MiB.</summary>
    public const int LoadFlags = 0x211;

    /// <summary>u32: where the protected-mode part is.</summary>
    public const int ProtectedModeStart = 0x214;

    /// <summary>u32: where the initial RAM disk is.</summary>
    public const int InitialRamDisk = 0x218;

    /// <summary>u32: its length in bytes.</summary>
    public const int InitialRamDiskLength = 0x21C;

    /// <summary>u32: where the command line is.</summary>
    public const int CommandLine = 0x228;

    /// <summary>u32: highest address that the initial RAM disk may have.</summary>
    public const int InitialRamDiskLimit = 0x22C;

    /// <summary>u8: the kernel runs at other addresses than the preferred one.</summary>
    public const int IsRelocatable = 0x234;

    /// <summary>u16: bit 0 = there is a 64-bit entry, 0x200 bytes into the protected-mode part.</summary>
    public const int ExtendedLoadFlags = 0x236;

    /// <summary>u32: longest command line in bytes, without the zero that ends it.</summary>
    public const int CommandLineLimit = 0x238;

    /// <summary>u64: GPA of the first entry of the setup data.</summary>
    public const int SetupData = 0x250;

    /// <summary>u64: where the kernel wants to be.</summary>
    public const int PreferredAddress = 0x258;

    /// <summary>u32: memory that the kernel needs there before it has read its memory map.</summary>
    public const int InitialLength = 0x260;

    /// <summary>First byte behind the fields that protocol 2.14 has.</summary>
    public const int EndOfHeader = 0x26C;

    /// <summary>First memory map entry.</summary>
    public const int MemoryMap = 0x2D0;

    /// <summary>Most memory map entries.</summary>
    public const int MaxMemoryMapEntries = 128;
}

/// <summary>An entry of the E820 memory map. 20 bytes; types are those of <see cref="GuestRangeUse"/>.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct E820Entry
{
    /// <summary>First byte.</summary>
    public ulong Base;

    /// <summary>Length in bytes.</summary>
    public ulong Length;

    /// <summary>Kind of memory.</summary>
    public GuestRangeUse Type;
}

/// <summary>An entry of the setup data with the address of a <see cref="LinuxSevBlob"/>. 20 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct LinuxSevSetupData
{
    /// <summary><c>SETUP_CC_BLOB</c>.</summary>
    public const uint TypeValue = 7;

    /// <summary>GPA of the next entry; 0 = none.</summary>
    public ulong Next;

    /// <summary><see cref="TypeValue"/>.</summary>
    public uint Type;

    /// <summary>Length in bytes of what follows: 4.</summary>
    public uint Length;

    /// <summary>GPA of the <see cref="LinuxSevBlob"/>.</summary>
    public uint Blob;
}

/// <summary>Where an SEV-SNP guest has its secrets and CPUID pages (<c>struct cc_blob_sev_info</c>). 40 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct LinuxSevBlob
{
    /// <summary>"AMDE".</summary>
    public const uint MagicValue = 0x4544_4D41;

    /// <summary>The version that OVMF writes.</summary>
    public const ushort CurrentVersion = 1;

    /// <summary><see cref="MagicValue"/>.</summary>
    public uint Magic;

    /// <summary><see cref="CurrentVersion"/>; Linux does not look at it.</summary>
    public ushort Version;

    /// <summary>Zero.</summary>
    public ushort Reserved0;

    /// <summary>GPA of the secrets page.</summary>
    public ulong SecretsPage;

    /// <summary>Its length, 4096.</summary>
    public uint SecretsLength;

    /// <summary>Zero.</summary>
    public uint Reserved1;

    /// <summary>GPA of the CPUID page.</summary>
    public ulong CpuidPage;

    /// <summary>Its length, 4096.</summary>
    public uint CpuidLength;

    /// <summary>Zero.</summary>
    public uint Reserved2;
}

/// <summary>An entry of the ACPI table "APIC" for a processor with an x2APIC. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct AcpiX2ApicEntry
{
    /// <summary>Processor local x2APIC.</summary>
    public const byte TypeValue = 9;

    /// <summary>Bit 0 of <see cref="Flags"/>: the processor can be used.</summary>
    public const uint Enabled = 1;

    /// <summary><see cref="TypeValue"/>.</summary>
    public byte Type;

    /// <summary>16.</summary>
    public byte Length;

    /// <summary>Zero.</summary>
    public ushort Reserved;

    /// <summary>The x2APIC id.</summary>
    public uint ApicId;

    /// <summary><see cref="Enabled"/>.</summary>
    public uint Flags;

    /// <summary>Number of the processor in ACPI.</summary>
    public uint ProcessorUid;
}

/// <summary>Offsets in ACPI tables.</summary>
public static class AcpiTable
{
    /// <summary>u32: length of the table in bytes.</summary>
    public const int Length = 4;

    /// <summary>u8: makes the sum of all bytes zero.</summary>
    public const int Checksum = 9;

    /// <summary>Length of the head that all tables have.</summary>
    public const int HeadLength = 36;

    /// <summary>Length of the table "APIC" in front of the entries of processors, the I/O APIC's entry included.</summary>
    public const int InterruptControllersHeadLength = 56;
}
