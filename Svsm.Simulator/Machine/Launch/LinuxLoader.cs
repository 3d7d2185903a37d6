// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Launches a Linux kernel as a plain SNP guest at VMPL0: no firmware and no SVSM. What firmware does before a kernel is done here: all RAM is
// validated, tables and boot parameters are in place, and vCPU 0 starts in 64-bit mode.
//
//   0x00000  zeroes (an empty BIOS data area)        0x15000  page tables: the first 4 GiB one to one, private
//   0x10000  boot parameters                         0x20000  command line
//   0x11000  setup data, confidential-computing blob 0xE0000  ACPI tables
//   0x12000  secrets page  0x13000  CPUID page       the kernel at its preferred address
//   0x14000  descriptor table                        the initial RAM disk at the end of the low RAM
//
// As on a PC, 0xA0000 to 0xFFFFF is not in the memory map, but for the ACPI tables. Drivers look for firmware's structures from 0xC0000 on.
//
// Source: Linux Documentation/arch/x86/boot.rst (64-bit boot protocol) and zero-page.rst; arch/x86/include/asm/sev.h (struct cc_blob_sev_info).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Igvm.Imaging;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using LaunchPageType = Svsm.Simulator.Shared.LaunchPageType;

namespace Svsm.Simulator;

internal static class LinuxLoader
{
    private const ulong PageSize = SecurityProcessor.PageSize;
    private const ulong Policy = 0x3_0000;
    private const ulong CBit = 1ul << 47;

    private const ulong BiosData = 0;
    private const ulong BootParameters = 0x1_0000;
    private const ulong SetupData = 0x1_1000;
    private const ulong ConfidentialBlob = SetupData + 0x100;
    private const ulong Secrets = 0x1_2000;
    private const ulong Cpuid = 0x1_3000;
    private const ulong Descriptors = 0x1_4000;
    private const ulong PageTables = 0x1_5000;
    private const ulong CommandLine = 0x2_0000;
    private const ulong LowEnd = 0xA_0000;
    private const ulong RomStart = 0xC_0000;
    private const ulong Acpi = 0xE_0000;
    private const ulong HighStart = 0x10_0000;
    private const ulong LaunchVmsa = 0xFFFF_FFFF_F000;

    // Offsets in the kernel file; the setup header is copied to the same offsets of the boot parameters.
    private const int SetupSectors = 0x1F1;
    private const int BootFlag = 0x1FE;
    private const int HeaderEnd = 0x201;
    private const int Magic = 0x202;
    private const int Version = 0x206;
    private const int RamDiskLimitOffset = 0x22C;
    private const int ExtendedLoadFlags = 0x236;
    private const int CommandLineLimitOffset = 0x238;
    private const int PreferredAddress = 0x258;
    private const int InitialLength = 0x260;
    private const int HeaderLength = 0x264;
    private const int SectorLength = 512;
    private const int EntryOffset = 0x200;
    private const uint MagicValue = 0x5372_6448;
    private const ushort BootFlagValue = 0xAA55;
    private const ushort VersionWith64BitEntry = 0x20C;

    private const uint EntryRam = 1;
    private const uint EntryReserved = 2;
    private const uint EntryAcpi = 3;

    // What the kernel asks, beside what every guest asks: the hypervisor's own leaves.
    private static readonly CpuidLeaf[] s_leaves = [.. CpuidPage.DefaultLeaves, new(0x4000_0000), new(0x4000_0001)];

    // Throws SvsmDiagnosticException when kernel or initial RAM disk cannot be booted. The initial RAM disk may be empty.
    public static LaunchPlan Load(ReadOnlyMemory<byte> kernel, ReadOnlyMemory<byte> initialRamDisk, string commandLine, GuestRam ram, int vcpuCount, ReadOnlyMemory<byte> hostData = default)
    {
        ulong lowRam = ram.Ranges[0].Base + ram.Ranges[0].Length;
        Kernel image = Kernel.Parse(kernel, lowRam);
        ulong diskAt = PlaceInitialRamDisk(initialRamDisk, image, lowRam);
        byte[] text = Encoding.UTF8.GetBytes(commandLine);
        if (text.Length > image.CommandLineLimit || text.Contains((byte)0))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error($"a kernel command line of {text.Length} bytes", $"at most {image.CommandLineLimit} bytes, none of them zero");
        }

        var processor = new SecurityProcessor(Policy);
        var updates = new List<LaunchUpdate>();
        void Launch(LaunchPageType type, ulong gpa, ReadOnlyMemory<byte> contents)
        {
            processor.Update((SnpPageType)type, gpa, contents.Span);
            updates.Add(new LaunchUpdate(type, gpa, contents));
        }

        void LaunchAll(ulong gpa, ReadOnlyMemory<byte> contents)
        {
            for (int offset = 0; offset < contents.Length; offset += (int)PageSize)
            {
                ReadOnlyMemory<byte> page = contents[offset..Math.Min(offset + (int)PageSize, contents.Length)];
                Launch(LaunchPageType.Normal, gpa + (ulong)offset, page.Length == (int)PageSize ? page : PadToPage(page.Span));
            }
        }

        Launch(LaunchPageType.Normal, BiosData, default);
        LaunchAll(BootParameters, MakeBootParameters(kernel.Span, ram, diskAt, initialRamDisk.Length));
        LaunchAll(SetupData, MakeSetupData());
        Launch(LaunchPageType.Secrets, Secrets, processor.CreateSecretsPage());
        Launch(LaunchPageType.Cpuid, Cpuid, CpuidPage.Create(s_leaves));
        LaunchAll(Descriptors, MakeDescriptors());
        LaunchAll(PageTables, MakePageTables());
        LaunchAll(CommandLine, (byte[])[.. text, 0]);
        LaunchAll(Acpi, AcpiTables.Create(Acpi, vcpuCount));
        LaunchAll(image.Address, image.Code);
        LaunchAll(diskAt, initialRamDisk);

        LaunchRam hole = new() { Base = LowEnd, Length = RomStart - LowEnd };
        IEnumerable<ulong> taken = updates.Select(update => update.Gpa)
            .Concat(Enumerable.Range(0, (int)(hole.Length / PageSize)).Select(page => hole.Base + ((ulong)page * PageSize)));
        IReadOnlyList<LaunchRam> validated = RangeSet.Subtract(ram.Ranges, taken);
        Launch(LaunchPageType.Vmsa, LaunchVmsa, MakeVmsa(image.Address + EntryOffset));
        return new LaunchPlan
        {
            Policy = Policy,
            VcpuCount = vcpuCount,
            Ram = ram.Ranges,
            Updates = updates,
            Required = [],
            Validated = validated,
            Guest = processor.Finish(idBlock: null, hostData),
            Options = LaunchOptions.HostFlushes,
            Digest = processor.Digest,
        };
    }

    private static ulong PlaceInitialRamDisk(ReadOnlyMemory<byte> disk, Kernel kernel, ulong lowRam)
    {
        CheckInitialRamDisk(disk.Span);
        ulong limit = Math.Min(lowRam, (ulong)kernel.InitialRamDiskLimit + 1);
        ulong length = ((ulong)disk.Length + PageSize - 1) / PageSize * PageSize;
        ulong room = limit - kernel.End;
        return length <= room
            ? (limit - length) / PageSize * PageSize
            : throw SvsmDiagnostics.InitialRamDiskRefused.Error($"{disk.Length} bytes", $"at most {room}, the RAM behind the kernel; give the guest more (option --memory)");
    }

    // A kernel takes any number of archives, compressed or not; what does not begin with one is not taken for one.
    private static void CheckInitialRamDisk(ReadOnlySpan<byte> disk)
    {
        ReadOnlySpan<byte> start = disk[..Math.Min(disk.Length, 6)];
        bool known = start.IsEmpty
            || start.SequenceEqual("070701"u8) || start.SequenceEqual("070702"u8)
            || start.StartsWith<byte>([0x1F, 0x8B]) || start.StartsWith<byte>([0xFD, .. "7zXZ"u8]) || start.StartsWith<byte>([0x28, 0xB5, 0x2F, 0xFD])
            || start.StartsWith<byte>([0x02, 0x21, 0x4C, 0x18]) || start.StartsWith("BZh"u8) || start.StartsWith<byte>([0x5D, 0, 0])
            || start.StartsWith<byte>([0x89, .. "LZO"u8]);
        if (!known)
        {
            throw SvsmDiagnostics.InitialRamDiskRefused.Error(
                $"a file that begins with {Convert.ToHexStringLower(start)}", "a cpio archive of format 'newc', or one that gzip, xz, zstd, lz4, bzip2, lzma or lzop compressed");
        }
    }

    private static byte[] MakeBootParameters(ReadOnlySpan<byte> kernel, GuestRam ram, ulong diskAt, int diskLength)
    {
        const int AcpiRootPointer = 0x070;
        const int LoaderType = 0x210;
        const int InitialRamDisk = 0x218;
        const int InitialRamDiskLength = 0x21C;
        const int CommandLinePointer = 0x228;
        const int SetupDataPointer = 0x250;
        const int MemoryMapCount = 0x1E8;
        const int MemoryMap = 0x2D0;
        const byte UnknownLoader = 0xFF;

        byte[] page = new byte[PageSize];
        kernel[SetupSectors..(Magic + kernel[HeaderEnd])].CopyTo(page.AsSpan(SetupSectors));
        page[LoaderType] = UnknownLoader;
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(AcpiRootPointer), Acpi);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(InitialRamDisk), diskLength == 0 ? 0 : (uint)diskAt);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(InitialRamDiskLength), (uint)diskLength);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(CommandLinePointer), (uint)CommandLine);
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(SetupDataPointer), SetupData);

        int count = 0;
        void Add(ulong start, ulong end, uint type)
        {
            Span<byte> entry = page.AsSpan(MemoryMap + (count++ * 20));
            BinaryPrimitives.WriteUInt64LittleEndian(entry, start);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], end - start);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], type);
        }

        Add(0, Secrets, EntryRam);
        Add(Secrets, Descriptors, EntryReserved);
        Add(Descriptors, LowEnd, EntryRam);
        Add(Acpi, HighStart, EntryAcpi);
        Add(HighStart, ram.Ranges[0].Base + ram.Ranges[0].Length, EntryRam);
        foreach (LaunchRam range in ram.Ranges.Skip(1))
        {
            Add(range.Base, range.Base + range.Length, EntryRam);
        }

        page[MemoryMapCount] = (byte)count;
        return page;
    }

    // setup_data: u64 next, u32 type, u32 length, data. The data of type 7 is the address of the blob: u32 magic, u16 version, u16 zero,
    // u64 address of the secrets page, u32 its length, u32 zero, the same for the CPUID page.
    private static byte[] MakeSetupData()
    {
        const uint TypeConfidentialBlob = 7;
        const uint BlobMagic = 0x4544_4D41;
        const int At = (int)(ConfidentialBlob - SetupData);
        byte[] page = new byte[PageSize];
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(8), TypeConfidentialBlob);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(12), sizeof(uint));
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(16), (uint)ConfidentialBlob);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(At), BlobMagic);
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(At + 8), Secrets);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(At + 16), (uint)PageSize);
        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(At + 24), Cpuid);
        BinaryPrimitives.WriteUInt32LittleEndian(page.AsSpan(At + 32), (uint)PageSize);
        return page;
    }

    // Selectors 0x10 and 0x18, as the boot protocol wants them: flat 64-bit code, flat data.
    private static byte[] MakeDescriptors() => MemoryMarshal.AsBytes<ulong>([0, 0, 0x00AF_9B00_0000_FFFF, 0x00CF_9300_0000_FFFF]).ToArray();

    private static byte[] MakePageTables()
    {
        const int EntriesPerTable = 512;
        const int Directories = 4;
        const ulong Present = 1;
        const ulong Writable = 2;
        const ulong Large = 0x80;
        const int LargeShift = 21;
        ulong[] tables = new ulong[(2 + Directories) * EntriesPerTable];
        tables[0] = (PageTables + PageSize) | CBit | Present | Writable;
        for (int i = 0; i < Directories; i++)
        {
            tables[EntriesPerTable + i] = (PageTables + ((2 + (ulong)i) * PageSize)) | CBit | Present | Writable;
        }

        for (int i = 0; i < Directories * EntriesPerTable; i++)
        {
            tables[(2 * EntriesPerTable) + i] = ((ulong)i << LargeShift) | CBit | Present | Writable | Large;
        }

        return MemoryMarshal.AsBytes(tables.AsSpan()).ToArray();
    }

    private static byte[] MakeVmsa(ulong entry)
    {
        const ushort FlatCode64 = 0xA9B;
        const ushort FlatData = 0xC93;
        const ushort BusyTaskSegment = 0x8B;
        const ushort LocalTable = 0x82;
        var data = new SegmentRegister { Selector = 0x18, Attributes = FlatData, Limit = uint.MaxValue };
        var vmsa = new Vmsa
        {
            Cs = new SegmentRegister { Selector = 0x10, Attributes = FlatCode64, Limit = uint.MaxValue },
            Ss = data,
            Ds = data,
            Es = data,
            Fs = data,
            Gs = data,
            Gdtr = new SegmentRegister { Base = Descriptors, Limit = (4 * sizeof(ulong)) - 1 },
            Tr = new SegmentRegister { Attributes = BusyTaskSegment, Limit = ushort.MaxValue },
            Ldtr = new SegmentRegister { Attributes = LocalTable },

            // SVME, LMA, LME; PG, ET, PE; PAE.
            Efer = 0x1500,
            Cr0 = 0x8000_0011,
            Cr4 = 0x20,
            Cr3 = PageTables | CBit,
            Dr6 = 0xFFFF_0FF0,
            Dr7 = 0x400,
            Rflags = 2,
            Rip = entry,
            Rsi = BootParameters,
            Pat = 0x0007_0406_0007_0406,
            Xcr0 = 1,
            Mxcsr = 0x1F80,
            X87ControlWord = 0x37F,
            X87TagWord = 0xFFFF,
            SevFeatures = (ulong)SevFeatures.SnpActive,
        };
        byte[] page = new byte[PageSize];
        MemoryMarshal.Write(page, in vmsa);
        return page;
    }

    private static byte[] PadToPage(ReadOnlySpan<byte> bytes)
    {
        byte[] page = new byte[PageSize];
        bytes.CopyTo(page);
        return page;
    }

    // The part of a kernel file that runs, and what its header says.
    private sealed record Kernel(ReadOnlyMemory<byte> Code, ulong Address, ulong End, uint InitialRamDiskLimit, uint CommandLineLimit)
    {
        public static Kernel Parse(ReadOnlyMemory<byte> file, ulong lowRam)
        {
            const ushort Has64BitEntry = 1;
            const int DefaultSetupSectors = 4;
            ReadOnlySpan<byte> bytes = file.Span;
            if (bytes.Length < HeaderLength || BinaryPrimitives.ReadUInt16LittleEndian(bytes[BootFlag..]) != BootFlagValue
                || BinaryPrimitives.ReadUInt32LittleEndian(bytes[Magic..]) != MagicValue)
            {
                throw Refused(bytes.Length < HeaderLength ? $"a file of {bytes.Length} bytes" : "no setup header at offset 0x1F1", "a Linux kernel for x86-64 (bzImage, as in /boot/vmlinuz-*)");
            }

            ushort version = BinaryPrimitives.ReadUInt16LittleEndian(bytes[Version..]);
            int headerEnd = Magic + bytes[HeaderEnd];
            if (version < VersionWith64BitEntry || headerEnd < HeaderLength || headerEnd > bytes.Length
                || (BinaryPrimitives.ReadUInt16LittleEndian(bytes[ExtendedLoadFlags..]) & Has64BitEntry) == 0)
            {
                throw Refused($"boot protocol 0x{version:X}, a header that ends at 0x{headerEnd:X}, flags 0x{BinaryPrimitives.ReadUInt16LittleEndian(bytes[ExtendedLoadFlags..]):X}",
                    $"protocol 0x{VersionWith64BitEntry:X} or newer with a 64-bit entry");
            }

            int sectors = bytes[SetupSectors] == 0 ? DefaultSetupSectors : bytes[SetupSectors];
            int codeAt = (sectors + 1) * SectorLength;
            if (codeAt + EntryOffset >= bytes.Length)
            {
                throw Refused($"{bytes.Length} bytes", $"more than {codeAt + EntryOffset}; the file is cut short");
            }

            ReadOnlyMemory<byte> code = file[codeAt..];
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(bytes[PreferredAddress..]);
            ulong length = Math.Max(BinaryPrimitives.ReadUInt32LittleEndian(bytes[InitialLength..]), (ulong)code.Length);
            if ((address & (PageSize - 1)) != 0 || address < HighStart || address >= lowRam || length > lowRam - address)
            {
                throw Refused($"a kernel that wants {length} bytes at GPA 0x{address:X}", $"an address of at least 0x{HighStart:X} and an end within 0x{lowRam:X}, the low RAM (option --memory)");
            }

            ulong end = (address + length + PageSize - 1) / PageSize * PageSize;
            return new Kernel(
                code,
                address,
                end,
                Math.Max(BinaryPrimitives.ReadUInt32LittleEndian(bytes[RamDiskLimitOffset..]), (uint)end - 1),
                Math.Min(BinaryPrimitives.ReadUInt32LittleEndian(bytes[CommandLineLimitOffset..]), (uint)(LowEnd - CommandLine) / 2));
        }

        private static SvsmDiagnosticException Refused(string seen, string wanted) => SvsmDiagnostics.GuestKernelRefused.Error(seen, wanted);
    }
}
