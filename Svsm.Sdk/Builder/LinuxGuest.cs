// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a Linux guest starts with, beside kernel and initial RAM disk. All but the last three are launched, so measured.
//
//   0xC_0000    zeroes up to 1 MiB: where Linux looks for tables of a firmware
//   0x80_0000   boot parameters     the kernel adds the memory map
//   0x80_1000   command line
//   0x80_2000   descriptor table    null, null, code (selector 0x10), data (0x18), as the boot protocol wants them
//   0x80_3000   page tables         PML4, PDPT, four page directories: the first 4 GiB in 2-MiB pages; the kernel adds the C-bit
//   0x80_9000   setup data          entry of type 7, and the blob that it leads to; Linux keeps it, and shows it in sysfs: by a shared mapping,
//                                   where its memory map does not have RAM
//   0x80_A000   ACPI tables         3 pages, AcpiTables.cs
//   0x80_D000   secrets page, CPUID page, calling area: where payloads and OVMF have them, too

using System;
using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Builder;

/// <summary>Addresses and contents of a Linux guest's first pages.</summary>
internal static class LinuxGuest
{
    /// <summary>First GPA of the area, up to 1 MiB, in which Linux looks for tables of a firmware.</summary>
    public const ulong FirmwareArea = 0xC_0000;

    /// <summary>GPA of the boot parameters.</summary>
    public const ulong BootParameters = 0x80_0000;

    /// <summary>GPA of the command line.</summary>
    public const ulong CommandLine = 0x80_1000;

    /// <summary>GPA of the global descriptor table.</summary>
    public const ulong Descriptors = 0x80_2000;

    /// <summary>GPA of the page tables, PML4 first.</summary>
    public const ulong PageTables = 0x80_3000;

    /// <summary>GPA of the setup data.</summary>
    public const ulong SetupData = 0x80_9000;

    /// <summary>GPA of the ACPI tables; the root pointer comes first.</summary>
    public const ulong AcpiTables = 0x80_A000;

    /// <summary>First GPA that a kernel may have.</summary>
    public const ulong End = 0x81_0000;

    /// <summary>Number of page table pages.</summary>
    public const int PageTableCount = 2 + Directories;

    /// <summary>Bytes of the global descriptor table.</summary>
    public const int DescriptorsLength = 4 * sizeof(ulong);

    private const int PageSize = 4096;
    private const int Directories = 4;
    private const ulong LargePageSize = 0x20_0000;
    private const int BlobOffset = 0x100;

    private const ulong TableEntry = 0x23;
    private const ulong LargePageEntry = 0xE3;
    private const ulong CodeDescriptor = 0x00AF_9B00_0000_FFFF;
    private const ulong DataDescriptor = 0x00CF_9300_0000_FFFF;

    /// <summary>The page with the global descriptor table.</summary>
    public static byte[] MakeDescriptors()
    {
        byte[] page = new byte[PageSize];
        Span<ulong> entries = MemoryMarshal.Cast<byte, ulong>(page.AsSpan());
        entries[2] = CodeDescriptor;
        entries[3] = DataDescriptor;
        return page;
    }

    /// <summary>The page tables, without C-bit.</summary>
    public static byte[] MakePageTables()
    {
        byte[] pages = new byte[PageTableCount * PageSize];
        Span<ulong> entries = MemoryMarshal.Cast<byte, ulong>(pages.AsSpan());
        const int PerTable = PageSize / sizeof(ulong);
        entries[0] = (PageTables + PageSize) | TableEntry;
        for (int i = 0; i < Directories; i++)
        {
            entries[PerTable + i] = (PageTables + ((2 + (ulong)i) * PageSize)) | TableEntry;
        }

        for (int i = 0; i < Directories * PerTable; i++)
        {
            entries[(2 * PerTable) + i] = ((ulong)i * LargePageSize) | LargePageEntry;
        }

        return pages;
    }

    /// <summary>The page with the setup data and the confidential-computing blob.</summary>
    public static byte[] MakeSetupData()
    {
        byte[] page = new byte[PageSize];
        var data = new LinuxSevSetupData { Type = LinuxSevSetupData.TypeValue, Length = sizeof(uint), Blob = (uint)SetupData + BlobOffset };
        var blob = new LinuxSevBlob
        {
            Magic = LinuxSevBlob.MagicValue,
            Version = LinuxSevBlob.CurrentVersion,
            SecretsPage = SvsmImageBuilder.GuestSecretsPage,
            SecretsLength = PageSize,
            CpuidPage = SvsmImageBuilder.GuestCpuidPage,
            CpuidLength = PageSize,
        };
        MemoryMarshal.Write(page, in data);
        MemoryMarshal.Write(page.AsSpan(BlobOffset), in blob);
        return page;
    }
}
