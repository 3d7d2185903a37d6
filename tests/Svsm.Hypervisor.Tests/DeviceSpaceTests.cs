// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Device space: which addresses belong to it, how accesses are cut, and the GHCB requests for them.</summary>
public sealed unsafe class DeviceSpaceTests
{
    private const ulong Ghcb = 0x80_0000;
    private const ulong Base = 0x10_0000_1000;
    private const ulong IoApicVersion = 0x17_0011;

    [Theory]
    [InlineData(0xAFFF_FFFFul, false)]
    [InlineData(0xB000_0000ul, true)]
    [InlineData(0xFFFF_FFFFul, true)]
    [InlineData(0x1_0000_0000ul, false)]
    [InlineData(Base - 1, false)]
    [InlineData(Base, true)]
    [InlineData(Base + 0x1F, true)]
    [InlineData(Base + 0x20, false)]
    public void Contains_WindowAndDevices(ulong gpa, bool expected)
    {
        var devices = new DeviceSpace(new PciBus(new FakeProcessor()));
        Assert.True(devices.TryAdd(new RecordingDevice(Base, 0x20)));
        Assert.Equal(expected, devices.Contains(gpa));
    }

    [Theory]
    [InlineData(Base, 0x20ul)]
    [InlineData(Base + 0x1F, 1ul)]
    [InlineData(Base - 1, 2ul)]
    [InlineData(Base - 0x100, 0x1000ul)]
    [InlineData(Base + 0x100, 0ul)]
    [InlineData(Amd64.CBit, 1ul)]
    [InlineData(Amd64.CBit - 1, 2ul)]
    [InlineData(Base + 0x100, ulong.MaxValue)]
    public void TryAdd_OverlapEmptyOrBeyondTheCBit_IsRefused(ulong start, ulong length)
    {
        var devices = new DeviceSpace(new PciBus(new FakeProcessor()));
        Assert.True(devices.TryAdd(new RecordingDevice(Base, 0x20)));
        Assert.False(devices.TryAdd(new RecordingDevice(start, length)));
        Assert.True(devices.TryAdd(new RecordingDevice(Base + 0x20, 1)));
        Assert.True(devices.TryAdd(new RecordingDevice(Base - 1, 1)));
    }

    [Fact]
    public void TryAdd_MoreThanFit_IsRefused()
    {
        var devices = new DeviceSpace(new PciBus(new FakeProcessor()));
        for (ulong i = 0; i < DeviceSpace.MaxDevices; i++)
        {
            Assert.True(devices.TryAdd(new RecordingDevice(Base + i, 1)));
        }

        Assert.False(devices.TryAdd(new RecordingDevice(Base - 1, 1)));
    }

    [Theory]
    [InlineData(0ul, 8, "0:8")]
    [InlineData(4ul, 8, "4:4 8:4")]
    [InlineData(1ul, 8, "1:1 2:2 4:4 8:1")]
    [InlineData(0ul, 7, "0:4 4:2 6:1")]
    [InlineData(0x10ul, 16, "10:8 18:4 1C:1")]
    [InlineData(0x1Cul, 1, "1C:1")]
    public void Accesses_AreCutToAlignedPiecesInsideTheDevice(ulong offset, int length, string expected)
    {
        var devices = new DeviceSpace(new PciBus(new FakeProcessor()));
        var device = new RecordingDevice(Base, 0x1D);
        Assert.True(devices.TryAdd(device));
        using var machine = new TestMachine();
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++)
        {
            bytes[i] = (byte)(i + 1);
        }

        Assert.True(devices.Write(machine.Cpu, Base + offset, bytes));
        Assert.Equal(expected, string.Join(' ', device.Accesses));
        device.Accesses.Clear();
        byte[] read = new byte[length];
        devices.Read(Base + offset, read);
        Assert.Equal(expected, string.Join(' ', device.Accesses));

        // Beyond the device the bus floats.
        for (int i = 0; i < length; i++)
        {
            Assert.Equal(offset + (ulong)i < device.Length ? bytes[i] : 0xFF, read[i]);
        }
    }

    [Fact]
    public void Write_DeviceThatEndsTheRun_StopsThere()
    {
        var devices = new DeviceSpace(new PciBus(new FakeProcessor()));
        var device = new RecordingDevice(Base, 0x20) { StopsAt = 8 };
        Assert.True(devices.TryAdd(device));
        using var machine = new TestMachine();
        Assert.False(devices.Write(machine.Cpu, Base, new byte[32]));
        Assert.Equal("0:8 8:8", string.Join(' ', device.Accesses));
    }

    [Fact]
    public void Request_Read_ReturnsTheRegister()
    {
        using var machine = new TestMachine();
        machine.Machine.IoApic.Write(machine.Cpu, 0, 4, 1);
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.MmioRead, MachinePorts.IoApicAddress + 0x10, 4);
        Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
        Assert.Equal((0ul, IoApicVersion), (ghcb->SwExitInfo1, *(ulong*)((byte*)ghcb + 0x800)));
    }

    [Theory]
    [InlineData(1ul)]
    [InlineData(2ul)]
    [InlineData(8ul)]
    public void Request_SizeThatTheDeviceHasNot_ReadsAllOnesAndWritesNothing(ulong size)
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.MmioWrite, MachinePorts.IoApicAddress, size);
        *(ulong*)((byte*)ghcb + 0x800) = 1;
        Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
        Assert.Equal(0ul, machine.Machine.IoApic.Read(0, 4));
        ghcb = Begin(machine, GhcbExitCode.MmioRead, MachinePorts.IoApicAddress, size);
        Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
        Assert.Equal((0ul, ulong.MaxValue >> (64 - (8 * (int)size))), (ghcb->SwExitInfo1, *(ulong*)((byte*)ghcb + 0x800)));
    }

    [Fact]
    public void Request_WhereNoDeviceIs_ReadsAllOnesAndWritesNothing()
    {
        using var machine = new TestMachine();
        GhcbPage* ghcb = Begin(machine, GhcbExitCode.MmioWrite, 0xD000_0000, 8);
        Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
        Assert.Equal(0ul, ghcb->SwExitInfo1);
        ghcb = Begin(machine, GhcbExitCode.MmioRead, 0xD000_0000, 8);
        Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
        Assert.Equal((0ul, ulong.MaxValue), (ghcb->SwExitInfo1, *(ulong*)((byte*)ghcb + 0x800)));
    }

    // Rows: address, length: RAM, nothing, the end of a device's range, the end of all addresses, no bytes, more than the buffer has.
    [Theory]
    [InlineData(0x90_1000ul, 4ul, GhcbError.InvalidInput)]
    [InlineData(0x1000_0000ul, 4ul, GhcbError.InvalidInput)]
    [InlineData(0xFFFF_FFFCul, 8ul, GhcbError.InvalidInput)]
    [InlineData(ulong.MaxValue, 8ul, GhcbError.InvalidInput)]
    [InlineData(0xFEC0_0000ul, 0ul, GhcbError.InvalidInput)]
    [InlineData(0xFEC0_0000ul, ulong.MaxValue, GhcbError.InvalidInput)]
    [InlineData(0xFEC0_0000ul | Amd64.CBit, 4ul, GhcbError.InvalidInput)]
    [InlineData(0xD000_0000ul, 0x7F1ul, GhcbError.InvalidScratch)]
    public void Request_OutsideDeviceSpaceOrTooLong_IsRefused(ulong gpa, ulong length, GhcbError error)
    {
        using var machine = new TestMachine();
        foreach (GhcbExitCode code in (ReadOnlySpan<GhcbExitCode>)[GhcbExitCode.MmioRead, GhcbExitCode.MmioWrite])
        {
            GhcbPage* ghcb = Begin(machine, code, gpa, length);
            Assert.True(VmgExit.Handle(machine.Machine, machine.Cpu));
            Assert.Equal(((uint)GhcbCompletion.BadRequest, (ulong)error), ((uint)ghcb->SwExitInfo1, ghcb->SwExitInfo2));
        }
    }

    private static GhcbPage* Begin(TestMachine machine, GhcbExitCode code, ulong info1, ulong info2)
    {
        machine.Cpu.Current.RegisteredGhcb = Ghcb;
        machine.Cpu.Current.GhcbMsr = Ghcb;
        var ghcb = (GhcbPage*)machine.Memory.SharedBytes(machine.Page(Ghcb));
        new Span<byte>(ghcb, Amd64Page).Clear();
        ghcb->ProtocolVersion = 2;
        ghcb->SwExitCode = (ulong)code;
        ghcb->SwExitInfo1 = info1;
        ghcb->SwExitInfo2 = info2;
        ghcb->SwScratch = Ghcb + 0x800;
        foreach (int offset in (ReadOnlySpan<int>)[0x390, 0x398, 0x3A0, 0x3A8])
        {
            *((byte*)ghcb + 0x3F0 + (offset / 64)) |= (byte)(1 << (offset / 8 % 8));
        }

        return ghcb;
    }

    private const int Amd64Page = (int)Amd64.PageSize;

    /// <summary>Memory that remembers how it was accessed.</summary>
    private sealed class RecordingDevice(ulong start, ulong length) : MmioDevice(start, length)
    {
        private readonly byte[] _bytes = new byte[Math.Min(length, 64)];

        public List<string> Accesses { get; } = [];

        public ulong StopsAt { get; init; } = ulong.MaxValue;

        public override ulong Read(ulong offset, int size)
        {
            Accesses.Add($"{offset:X}:{size}");
            ulong value = 0;
            for (int i = size - 1; i >= 0; i--)
            {
                value = (value << 8) | _bytes[(int)offset + i];
            }

            return value;
        }

        public override bool Write(VirtualCpu cpu, ulong offset, int size, ulong value)
        {
            Accesses.Add($"{offset:X}:{size}");
            for (int i = 0; i < size; i++)
            {
                _bytes[(int)offset + i] = (byte)(value >> (8 * i));
            }

            return offset != StopsAt;
        }
    }
}
