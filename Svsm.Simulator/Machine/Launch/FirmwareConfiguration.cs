// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a firmware in an image asks its host for: items of QEMU's fw_cfg device, and the battery-backed memory. They describe the simulated
// machine; nothing of the QEMU around it is in them.
//
//   0x0000, 0x0001   signature, features (ports and DMA)
//   0x0003           RAM in bytes
//   0x0005, 0x000F   number of vCPUs, and the most that there can be
//   0x0008 to 0x0018 a Linux kernel that the firmware starts, when one was given: setup part, rest, initial RAM disk, command line with its end
//   0x0019           directory of the files, whose keys are 0x20 and above
//
//   etc/e820          the RAM
//   etc/acpi/tables   ACPI tables, etc/table-loader how to make them work where the firmware puts them
//
// Source: QEMU docs/specs/fw_cfg.rst, include/standard-headers/linux/qemu_fw_cfg.h and hw/acpi/bios-linker-loader.c for the formats; the places of
// memory sizes in battery-backed memory from SeaBIOS src/hw/rtc.h.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal static class FirmwareConfiguration
{
    private const string TablesFile = "etc/acpi/tables";

    private const uint Signature = 0x00;
    private const uint Features = 0x01;
    private const uint RamSize = 0x03;
    private const uint CpuCount = 0x05;
    private const uint KernelSize = 0x08;
    private const uint InitrdSize = 0x0B;
    private const uint MaxCpuCount = 0x0F;
    private const uint KernelData = 0x11;
    private const uint InitrdData = 0x12;
    private const uint CommandLineSize = 0x14;
    private const uint CommandLineData = 0x15;
    private const uint SetupSize = 0x17;
    private const uint SetupData = 0x18;
    private const uint Directory = 0x19;
    private const uint FirstFile = 0x20;

    // 0 ports, 1 DMA.
    private const uint Interfaces = 3;
    private const int FileNameLength = 56;
    private const uint E820Ram = 1;
    private const ulong HighBase = 1ul << 32;

    // A kernel's setup part: number of its sectors behind the first, the signature of the header.
    private const int SetupSectors = 0x1F1;
    private const int HeaderSignature = 0x202;
    private const int DefaultSetupSectors = 4;
    private const int SectorLength = 512;

    public static IReadOnlyList<LaunchItemData> Create(GuestRam ram, int vcpuCount, byte[]? kernel, byte[] initialRamDisk, string commandLine)
    {
        (byte[] tables, byte[] loader) = AcpiTables.CreateForFirmware(TablesFile, vcpuCount);
        (string Name, byte[] Contents)[] files =
        [
            (TablesFile, tables),
            ("etc/e820", [.. ram.Ranges.SelectMany(range => (byte[])[.. BitConverter.GetBytes(range.Base), .. BitConverter.GetBytes(range.Length), .. BitConverter.GetBytes(E820Ram)])]),
            ("etc/table-loader", loader),
        ];
        var items = new List<LaunchItemData>
        {
            new(Signature, "QEMU"u8.ToArray()),
            new(Features, BitConverter.GetBytes(Interfaces)),
            new(RamSize, BitConverter.GetBytes(ram.Ranges.Aggregate(0ul, (sum, range) => sum + range.Length))),
            new(CpuCount, BitConverter.GetBytes((ushort)vcpuCount)),
            new(MaxCpuCount, BitConverter.GetBytes((ushort)vcpuCount)),
            new(Directory, MakeDirectory(files)),
            new(LaunchItem.BatteryMemory, MakeBatteryMemory(ram)),
        };
        items.AddRange(files.Select((file, index) => new LaunchItemData(FirstFile + (uint)index, file.Contents)));
        if (kernel is not null)
        {
            items.AddRange(MakeKernel(kernel, initialRamDisk, commandLine));
        }

        return items;
    }

    private static IEnumerable<LaunchItemData> MakeKernel(byte[] kernel, byte[] initialRamDisk, string commandLine)
    {
        if (kernel.Length < HeaderSignature + 4 || !kernel.AsSpan(HeaderSignature, 4).SequenceEqual("HdrS"u8))
        {
            throw SvsmDiagnostics.GuestKernelRefused.Error($"a file of {kernel.Length} bytes without a setup header", "a bzImage, which has 'HdrS' at 0x202");
        }

        int setupLength = ((kernel[SetupSectors] == 0 ? DefaultSetupSectors : kernel[SetupSectors]) + 1) * SectorLength;
        if (setupLength >= kernel.Length)
        {
            throw SvsmDiagnostics.GuestKernelRefused.Error($"a setup part of {setupLength} bytes in a file of {kernel.Length}", "a kernel behind the setup part");
        }

        if (commandLine.Any(character => character is < ' ' or > '~'))
        {
            throw SvsmDiagnostics.RunOptionInvalid.Error("a command line with other characters than printable ASCII", "printable ASCII");
        }

        byte[] line = [.. Encoding.ASCII.GetBytes(commandLine), 0];
        return
        [
            .. Sized(SetupSize, SetupData, kernel.AsMemory(0, setupLength)),
            .. Sized(KernelSize, KernelData, kernel.AsMemory(setupLength)),
            .. Sized(InitrdSize, InitrdData, initialRamDisk),
            .. Sized(CommandLineSize, CommandLineData, line),
        ];
    }

    private static LaunchItemData[] Sized(uint sizeKey, uint dataKey, ReadOnlyMemory<byte> data) =>
        [new(sizeKey, BitConverter.GetBytes(data.Length)), new(dataKey, data)];

    // Big-endian numbers, unlike everything else.
    private static byte[] MakeDirectory((string Name, byte[] Contents)[] files)
    {
        const int EntryLength = 8 + FileNameLength;
        byte[] directory = new byte[sizeof(uint) + (files.Length * EntryLength)];
        BinaryPrimitives.WriteInt32BigEndian(directory, files.Length);
        for (int i = 0; i < files.Length; i++)
        {
            Span<byte> entry = directory.AsSpan(sizeof(uint) + (i * EntryLength), EntryLength);
            BinaryPrimitives.WriteInt32BigEndian(entry, files[i].Contents.Length);
            BinaryPrimitives.WriteUInt16BigEndian(entry[4..], (ushort)(FirstFile + i));
            Encoding.ASCII.GetBytes(files[i].Name, entry[8..]);
        }

        return directory;
    }

    // Sizes of memory, as far as each field reaches: up to 640 KiB; from 1 MiB in KiB; from 16 MiB up to 4 GiB, and above, in 64-KiB pieces.
    private static byte[] MakeBatteryMemory(GuestRam ram)
    {
        const ulong Megabyte = 1 << 20;
        byte[] memory = new byte[128];
        ulong low = ram.Ranges[0].Length;
        ulong high = ram.Ranges.Where(range => range.Base >= HighBase).Aggregate(0ul, (sum, range) => sum + range.Length);
        ulong extended = Math.Min((low - Megabyte) / 1024, ushort.MaxValue);
        ulong above16 = Math.Min((low - (16 * Megabyte)) >> 16, ushort.MaxValue);
        ulong aboveFour = high >> 16;
        foreach ((int first, int length, ulong value) in (ReadOnlySpan<(int, int, ulong)>)[
            (0x15, 2, 640), (0x17, 2, extended), (0x30, 2, extended), (0x34, 2, above16), (0x5B, 3, aboveFour)])
        {
            for (int i = 0; i < length; i++)
            {
                memory[first + i] = (byte)(value >> (8 * i));
            }
        }

        return memory;
    }
}
