// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A small driver of the disk that the machine plays: virtio-mmio, polled, one request at a time. What the device says is taken as a host's word: how
// long its answer is, which request it is for, and whether there is one at all is checked and told on the console, for the test to read.
//
//   page 0   descriptors at 0, available ring at 0x400, used ring at 0x800
//   page 1   header of the request at 0, status at 0x10
//   page 2   data
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 2.7, 4.2.2, 5.2.6.

using System.Threading;
using Svsm.Platform;

namespace Svsm.ProbeGuest;

internal static unsafe class DiskChecks
{
    private const ulong Registers = 0xFEF0_0000;
    private const ulong Magic = Registers + 0x000;
    private const ulong Version = Registers + 0x004;
    private const ulong DeviceKind = Registers + 0x008;
    private const ulong DeviceFeatures = Registers + 0x010;
    private const ulong DeviceFeaturesSelect = Registers + 0x014;
    private const ulong DriverFeatures = Registers + 0x020;
    private const ulong DriverFeaturesSelect = Registers + 0x024;
    private const ulong QueueSelect = Registers + 0x030;
    private const ulong QueueMost = Registers + 0x034;
    private const ulong QueueLengthRegister = Registers + 0x038;
    private const ulong QueueReady = Registers + 0x044;
    private const ulong QueueNotify = Registers + 0x050;
    private const ulong InterruptStatus = Registers + 0x060;
    private const ulong InterruptAcknowledge = Registers + 0x064;
    private const ulong Status = Registers + 0x070;
    private const ulong QueueDescriptors = Registers + 0x080;
    private const ulong QueueAvailable = Registers + 0x090;
    private const ulong QueueUsed = Registers + 0x0A0;
    private const ulong Capacity = Registers + 0x100;

    private const int Page = 4096;
    private const int SectorWords = 64;
    private const int AvailableRing = 0x400;
    private const int UsedRing = 0x800;
    private const int StatusOffset = 0x10;
    private const ushort QueueLength = 4;
    private const uint HeaderLength = 16;
    private const ushort Next = 1;
    private const ushort Writable = 2;
    private const uint Read = 0;
    private const uint Write = 1;
    private const uint Flush = 4;
    private const byte Unanswered = 0xFF;
    private const uint NeedsReset = 0x40;
    private const ulong Pattern = 0x0123_4567_89AB_CDEF;

    private static byte* s_pages;
    private static ushort s_offered;

    /// <summary>Drives the disk, and ends the VM: status 0 if it did all that a disk does.</summary>
    public static void Run()
    {
        s_pages = (byte*)Machine.DevicePages;
        Probe.Equal("disk: magic"u8, Machine.ReadDevice(Magic, 4), 0x7472_6976);
        if (Probe.HasFailed)
        {
            Machine.Exit(ExitStatus.Failed);
        }

        for (int i = 0; i < 3; i++)
        {
            Machine.MakeShared((ulong)s_pages + (ulong)(i * Page));
        }

        Start();
        ulong sectors = Machine.ReadDevice(Capacity, 4) | (Machine.ReadDevice(Capacity + 4, 4) << 32);
        Tell("disk: sectors "u8, sectors);
        ulong* data = (ulong*)(s_pages + (2 * Page));

        Ask("disk: read first"u8, Read, 0, (ulong)data, 512);
        Tell("disk: contents "u8, data[0]);
        for (int i = 0; i < Page / sizeof(ulong); i++)
        {
            data[i] = Pattern * (ulong)(i + 1);
        }

        Ask("disk: write"u8, Write, 2, (ulong)data, Page);
        Ask("disk: flush"u8, Flush, 0, 0, 0);
        new System.Span<byte>(data, Page).Clear();
        Ask("disk: read back"u8, Read, 2, (ulong)data, Page);
        bool same = true;
        for (int i = 0; i < Page / sizeof(ulong); i++)
        {
            same &= data[i] == Pattern * (ulong)(i + 1);
        }

        Probe.True("disk: what was written is read"u8, same);
        Probe.Equal("disk: interrupt status"u8, Machine.ReadDevice(InterruptStatus, 4), 1);
        Machine.WriteDevice(InterruptAcknowledge, 4, 1);
        Probe.Equal("disk: acknowledged"u8, Machine.ReadDevice(InterruptStatus, 4), 0);
        Refuse("disk: read behind the end"u8, Read, sectors, (ulong)data, 512);
        Refuse("disk: write over the end"u8, Write, sectors - 1, (ulong)data, 1024);

        // A buffer that is private: the device does not reach it, and gives up.
        ulong* own = stackalloc ulong[SectorWords];
        *own = Pattern;
        Send(Read, 0, (ulong)own, SectorWords * sizeof(ulong));
        Probe.Equal("disk: needs a reset"u8, Machine.ReadDevice(Status, 4) & NeedsReset, NeedsReset);
        Probe.Equal("disk: private memory is as it was"u8, Volatile.Read(ref *own), Pattern);
        Start();
        Ask("disk: read after reset"u8, Read, 2, (ulong)data, 512);
        Probe.Finish();
    }

    private static void Start()
    {
        Probe.True("disk: version and kind"u8, Machine.ReadDevice(Version, 4) == 2 && Machine.ReadDevice(DeviceKind, 4) == 2);
        Machine.WriteDevice(Status, 4, 0);
        Machine.WriteDevice(Status, 4, 3);
        Machine.WriteDevice(DeviceFeaturesSelect, 4, 1);
        Probe.Equal("disk: features"u8, Machine.ReadDevice(DeviceFeatures, 4), 3);

        // Without VERSION_1 the device refuses; then with it and ACCESS_PLATFORM.
        Machine.WriteDevice(DriverFeaturesSelect, 4, 1);
        Machine.WriteDevice(DriverFeatures, 4, 2);
        Machine.WriteDevice(Status, 4, 0xB);
        Probe.Equal("disk: a legacy driver is refused"u8, Machine.ReadDevice(Status, 4), 3);
        Machine.WriteDevice(DriverFeatures, 4, 3);
        Machine.WriteDevice(Status, 4, 0xB);
        Probe.Equal("disk: features are taken"u8, Machine.ReadDevice(Status, 4), 0xB);
        Machine.WriteDevice(QueueSelect, 4, 1);
        Probe.Equal("disk: one queue"u8, Machine.ReadDevice(QueueMost, 4), 0);
        Machine.WriteDevice(QueueSelect, 4, 0);
        Machine.WriteDevice(QueueLengthRegister, 4, QueueLength);
        SetAddress(QueueDescriptors, (ulong)s_pages);
        SetAddress(QueueAvailable, (ulong)s_pages + AvailableRing);
        SetAddress(QueueUsed, (ulong)s_pages + UsedRing);
        new System.Span<byte>(s_pages, Page).Clear();
        s_offered = 0;
        Machine.WriteDevice(QueueReady, 4, 1);
        Machine.WriteDevice(Status, 4, 0xF);
    }

    // A request that a disk does; what is wrong with its answer is told.
    private static void Ask(System.ReadOnlySpan<byte> name, uint operation, ulong sector, ulong data, uint length)
    {
        Send(operation, sector, data, length);
        if (Volatile.Read(ref ((ushort*)(s_pages + UsedRing))[1]) != s_offered)
        {
            Fail(name, " is not answered"u8);
        }

        uint* element = (uint*)(s_pages + UsedRing + 4 + ((s_offered - 1) % QueueLength * 8));
        if (Volatile.Read(ref element[0]) != 0)
        {
            Fail(name, " is answered for another"u8);
        }

        uint written = operation == Read ? length + 1 : 1;
        if (Volatile.Read(ref element[1]) != written)
        {
            Fail(name, " has an answer of another length"u8);
        }

        Probe.Equal(name, Volatile.Read(ref s_pages[Page + StatusOffset]), 0);
    }

    private static void Refuse(System.ReadOnlySpan<byte> name, uint operation, ulong sector, ulong data, uint length)
    {
        Send(operation, sector, data, length);
        Probe.Equal(name, Volatile.Read(ref s_pages[Page + StatusOffset]), 1);
    }

    private static void Send(uint operation, ulong sector, ulong data, uint length)
    {
        byte* header = s_pages + Page;
        *(uint*)header = operation;
        *(uint*)(header + 4) = 0;
        *(ulong*)(header + 8) = sector;
        header[StatusOffset] = Unanswered;
        Describe(0, (ulong)header, HeaderLength, Next, next: length == 0 ? (ushort)2 : (ushort)1);
        Describe(1, data, length, operation == Read ? (ushort)(Next | Writable) : Next, next: 2);
        Describe(2, (ulong)header + StatusOffset, 1, Writable, next: 0);
        ushort* available = (ushort*)(s_pages + AvailableRing);
        available[2 + (s_offered % QueueLength)] = 0;
        s_offered++;
        Volatile.Write(ref available[1], s_offered);
        Machine.WriteDevice(QueueNotify, 4, 0);
    }

    private static void Describe(int index, ulong gpa, uint length, ushort flags, ushort next)
    {
        byte* descriptor = s_pages + (index * 16);
        *(ulong*)descriptor = gpa;
        *(uint*)(descriptor + 8) = length;
        *(ushort*)(descriptor + 12) = flags;
        *(ushort*)(descriptor + 14) = next;
    }

    private static void SetAddress(ulong register, ulong gpa)
    {
        Machine.WriteDevice(register, 4, (uint)gpa);
        Machine.WriteDevice(register + 4, 4, gpa >> 32);
    }

    private static void Tell(System.ReadOnlySpan<byte> name, ulong value)
    {
        Text<Com1>.Write("probe: "u8);
        Text<Com1>.Write(name);
        Text<Com1>.WriteHex(value);
        Text<Com1>.WriteLine();
    }

    private static void Fail(System.ReadOnlySpan<byte> name, System.ReadOnlySpan<byte> what)
    {
        Text<Com1>.Write("probe: "u8);
        Text<Com1>.Write(name);
        Text<Com1>.WriteLine(what);
        Machine.Exit(ExitStatus.Failed);
    }
}
