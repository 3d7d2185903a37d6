// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

/// <summary>What a firmware finds: it describes the simulated machine.</summary>
public sealed class FirmwareConfigurationTests
{
    private const ulong MiB = 1 << 20;

    private static Dictionary<uint, byte[]> Create(ulong memory = 512 * MiB, int vcpuCount = 4, byte[]? kernel = null, byte[]? disk = null, string line = "") =>
        FirmwareConfiguration.Create(new GuestRam(memory), vcpuCount, kernel, disk ?? [], line).ToDictionary(item => item.Key, item => item.Contents.ToArray());

    private static Dictionary<string, byte[]> Files(Dictionary<uint, byte[]> items)
    {
        byte[] directory = items[0x19];
        var files = new Dictionary<string, byte[]>();
        int count = BinaryPrimitives.ReadInt32BigEndian(directory);
        Assert.Equal(4 + (count * 64), directory.Length);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> entry = directory.AsSpan(4 + (i * 64), 64);
            byte[] contents = items[BinaryPrimitives.ReadUInt16BigEndian(entry[4..])];
            Assert.Equal(BinaryPrimitives.ReadInt32BigEndian(entry), contents.Length);
            files.Add(Encoding.ASCII.GetString(entry[8..]).TrimEnd('\0'), contents);
        }

        return files;
    }

    private static byte[] Kernel(byte setupSectors, int length)
    {
        byte[] kernel = new byte[length];
        kernel.AsSpan().Fill(0x33);
        kernel[0x1F1] = setupSectors;
        "HdrS"u8.CopyTo(kernel.AsSpan(0x202));
        return kernel;
    }

    [Fact]
    public void Create_Machine_IsTheSimulatedOne()
    {
        Dictionary<uint, byte[]> items = Create();
        Assert.Equal("QEMU"u8, items[0]);
        Assert.Equal(3u, BitConverter.ToUInt32(items[1]));
        Assert.Equal(512 * MiB, BitConverter.ToUInt64(items[3]));
        Assert.Equal((4, 4), (BitConverter.ToUInt16(items[5]), BitConverter.ToUInt16(items[0xF])));
        Assert.All(items.Keys, key => Assert.True(key is < 0x8 or 0xF or >= 0x19));
    }

    [Theory]
    [InlineData(256, 1)]
    [InlineData(4096, 2)]
    public void Create_Ram_IsInTheMap(int memory, int ranges)
    {
        byte[] map = Files(Create((ulong)memory * MiB))["etc/e820"];
        Assert.Equal(20 * ranges, map.Length);
        Assert.Equal((ulong)memory * MiB, Enumerable.Range(0, ranges).Aggregate(0ul, (sum, i) => sum + BitConverter.ToUInt64(map, (i * 20) + 8)));
        Assert.All(Enumerable.Range(0, ranges), i => Assert.Equal(1u, BitConverter.ToUInt32(map, (i * 20) + 16)));
    }

    [Theory]
    [InlineData(160, 0x900, 0)]
    [InlineData(512, 0x1F00, 0)]
    [InlineData(4096, 0x7F00, 0x8000)]
    [InlineData(65536, 0x7F00, 0xF8000)]
    public void Create_BatteryMemory_HasTheSizes(int memory, int above16, int aboveFour)
    {
        byte[] battery = Create((ulong)memory * MiB)[LaunchItem.BatteryMemory];
        Assert.Equal(128, battery.Length);
        int wanted = Math.Min((memory - 1) * 1024, 0xFFFF);
        Assert.Equal((640, wanted, wanted), (battery[0x15] | (battery[0x16] << 8), battery[0x17] | (battery[0x18] << 8), battery[0x30] | (battery[0x31] << 8)));
        Assert.Equal(above16, battery[0x34] | (battery[0x35] << 8));
        Assert.Equal(aboveFour, battery[0x5B] | (battery[0x5C] << 8) | (battery[0x5D] << 16));
    }

    // Does what the commands say, as a firmware does, at an address of its own; then the tables must be those of a guest without a firmware.
    [Theory]
    [InlineData(1)]
    [InlineData(64)]
    public void Create_TableLoader_MakesTablesThatWork(int vcpuCount)
    {
        const ulong At = 0x7AE_C000;
        Dictionary<string, byte[]> files = Files(Create(vcpuCount: vcpuCount));
        byte[] tables = files["etc/acpi/tables"];
        byte[] loader = files["etc/table-loader"];
        Assert.Equal(0, loader.Length % 128);
        for (int at = 0; at < loader.Length; at += 128)
        {
            ReadOnlySpan<byte> command = loader.AsSpan(at, 128);
            Assert.Equal("etc/acpi/tables", Encoding.ASCII.GetString(command.Slice(4, 56)).TrimEnd('\0'));
            switch (BinaryPrimitives.ReadUInt32LittleEndian(command))
            {
                case 1:
                    Assert.Equal((0, 64u, 1), (at, BinaryPrimitives.ReadUInt32LittleEndian(command[60..]), command[64]));
                    break;
                case 2:
                    Assert.Equal("etc/acpi/tables", Encoding.ASCII.GetString(command.Slice(60, 56)).TrimEnd('\0'));
                    int pointer = BinaryPrimitives.ReadInt32LittleEndian(command[116..]);
                    int size = command[120];
                    ulong value = (size == 4 ? BinaryPrimitives.ReadUInt32LittleEndian(tables.AsSpan(pointer)) : BinaryPrimitives.ReadUInt64LittleEndian(tables.AsSpan(pointer))) + At;
                    BitConverter.GetBytes(value).AsSpan(0, size).CopyTo(tables.AsSpan(pointer));
                    break;
                case 3:
                    int checksum = BinaryPrimitives.ReadInt32LittleEndian(command[60..]);
                    ReadOnlySpan<byte> table = tables.AsSpan(BinaryPrimitives.ReadInt32LittleEndian(command[64..]), BinaryPrimitives.ReadInt32LittleEndian(command[68..]));
                    tables[checksum] = (byte)-table.ToArray().Sum(b => b);
                    break;
                default:
                    Assert.Fail("unknown command");
                    break;
            }
        }

        // But for the root pointer, which a firmware makes itself.
        Assert.Equal(AcpiTables.Create(At, vcpuCount).AsSpan(64), tables.AsSpan(64));
    }

    [Theory]
    [InlineData(0, 2560)]
    [InlineData(7, 4096)]
    public void Create_Kernel_IsSplitBehindItsSetup(byte sectors, int setup)
    {
        byte[] kernel = Kernel(sectors, 10_000);
        Dictionary<uint, byte[]> items = Create(kernel: kernel, disk: [1, 2, 3], line: "console=ttyS0");
        Assert.Equal((setup, 10_000 - setup), (BitConverter.ToInt32(items[0x17]), BitConverter.ToInt32(items[0x08])));
        Assert.Equal(kernel, items[0x18].Concat(items[0x11]));
        Assert.Equal((3, 14), (BitConverter.ToInt32(items[0x0B]), BitConverter.ToInt32(items[0x14])));
        Assert.Equal((byte[])[1, 2, 3], items[0x12]);
        Assert.Equal("console=ttyS0\0"u8, items[0x15]);
    }

    [Theory]
    [InlineData(100)]
    [InlineData(2560)]
    public void Create_NoKernel_IsRefused(int length)
    {
        byte[] kernel = length > 0x206 ? Kernel(4, length) : new byte[length];
        Assert.Same(SvsmDiagnostics.GuestKernelRefused, Assert.Throws<SvsmDiagnosticException>(() => Create(kernel: kernel)).Diagnostic);
        Assert.Same(SvsmDiagnostics.GuestKernelRefused, Assert.Throws<SvsmDiagnosticException>(() => Create(kernel: new byte[8192])).Diagnostic);
    }

    [Theory]
    [InlineData("a\0b")]
    [InlineData("ä")]
    public void Create_CommandLineThatIsNotAscii_IsRefused(string line) => Assert.Same(
        SvsmDiagnostics.RunOptionInvalid, Assert.Throws<SvsmDiagnosticException>(() => Create(kernel: Kernel(4, 8192), line: line)).Diagnostic);
}
