// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a device of QEMU reaches, and its interrupt. The test gives the machine a random-number generator in slot 2, virtio-rng-pci: whatever buffer it
// is offered it fills. Its modern registers are in base address 4, where QEMU has always had them: common configuration at 0, interrupt status at
// 0x1000, notification at 0x3000. The queue lies in one shared page: descriptors at 0, available ring at 0x400, used ring at 0x800.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 2.7 (split queue), 4.1.4.3 (common configuration).

using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.HypervisorProbe;

internal static unsafe partial class Probe
{
    private const ulong FeatureSelect = DeviceMemory + 0x08;
    private const ulong Features = DeviceMemory + 0x0C;
    private const ulong DeviceStatus = DeviceMemory + 0x14;
    private const ulong QueueSelect = DeviceMemory + 0x16;
    private const ulong QueueSize = DeviceMemory + 0x18;
    private const ulong QueueEnable = DeviceMemory + 0x1C;
    private const ulong QueueAddresses = DeviceMemory + 0x20;
    private const ulong InterruptStatus = DeviceMemory + 0x1000;
    private const ulong Notify = DeviceMemory + 0x3000;
    private const int AvailableRing = 0x400;
    private const int UsedRing = 0x800;
    private const ulong QueueLength = 4;
    private const uint PatternOfPage = 0x5A5A_5A5A;
    private const uint PinOfSlot2 = 22;
    private const ulong DeviceVector = 0x45;

    private static ulong s_queue;
    private static ushort s_offered;

    private static void DmaChecks()
    {
        RegisterGhcb();
        s_queue = NewPage();
        ulong isPrivate = NewPrivatePage();
        ulong isShared = NewPage();
        StartDevice();

        *Shared(isShared) = 0;
        Offer(isShared);
        Check(*Shared(isShared) != 0, "DMA to a shared page"u8);

        Fill(isPrivate);
        Offer(isPrivate);
        Check(IsFilled(isPrivate), "DMA does not reach a private page"u8);

        // One that was shared, and is again.
        Check(ChangePageState(isShared, PageStateOperation.Private) == 0, "to private"u8);
        Check(X64.PValidate(isShared, X64.PageSize4K, validate: true, out _) == 0, "validate"u8);
        Fill(isShared);
        Offer(isShared);
        Check(IsFilled(isShared), "DMA does not reach a page that was shared"u8);
        Check(X64.PValidate(isShared, X64.PageSize4K, validate: false, out _) == 0, "rescind"u8);
        Check(ChangePageState(isShared, PageStateOperation.Shared) == 0, "to shared"u8);
        Offer(isShared);
        Check(*Shared(isShared) != Ciphertext && *Shared(isShared + 8) == Ciphertext, "the device is the first to touch a shared page"u8);

        // Where the outer machine has the hypervisor, and where nothing is.
        Offer(0x101_0000);
        Check(*Shared(0x101_0000) == 0, "DMA to the address of the hypervisor"u8);
        Offer(0x40_0000_0000);

        DeviceInterrupt(isShared);
    }

    private static void StartDevice()
    {
        SetConfig(Device, 0x20, unchecked((uint)DeviceMemory));
        SetConfig(Device, 0x24, (uint)(DeviceMemory >> 32));
        SetConfig(Device, 4, 6);
        WriteDevice(DeviceStatus, 1, 0);
        WriteDevice(DeviceStatus, 1, 3);

        // VERSION_1 and ACCESS_PLATFORM.
        WriteDevice(FeatureSelect, 4, 1);
        WriteDevice(Features, 4, 3);
        WriteDevice(DeviceStatus, 1, 0xB);
        Check(TryDevice(GhcbExitCode.MmioRead, DeviceStatus, 1, out ulong status) && (status & 0xFF) == 0xB, "features"u8);
        WriteDevice(QueueSelect, 2, 0);
        WriteDevice(QueueSize, 2, QueueLength);
        WriteDevice(QueueAddresses, 4, s_queue);
        WriteDevice(QueueAddresses + 4, 4, 0);
        WriteDevice(QueueAddresses + 8, 4, s_queue + AvailableRing);
        WriteDevice(QueueAddresses + 12, 4, 0);
        WriteDevice(QueueAddresses + 16, 4, s_queue + UsedRing);
        WriteDevice(QueueAddresses + 20, 4, 0);
        new System.Span<byte>(Shared(s_queue), PageSize).Clear();
        WriteDevice(QueueEnable, 2, 1);
        WriteDevice(DeviceStatus, 1, 0xF);
    }

    // Eight bytes at an address are the device's to fill; until it has given them back.
    private static void Offer(ulong gpa)
    {
        const ulong DeviceWrites = 2ul << 32;
        var queue = (byte*)Shared(s_queue);
        *(ulong*)queue = gpa;
        *(ulong*)(queue + 8) = DeviceWrites | 8;
        ((ushort*)(queue + AvailableRing))[2 + (s_offered % QueueLength)] = 0;
        s_offered++;
        Volatile.Write(ref ((ushort*)(queue + AvailableRing))[1], s_offered);
        WriteDevice(Notify, 2, 0);
        while (Volatile.Read(ref ((ushort*)(queue + UsedRing))[1]) != s_offered)
        {
        }
    }

    private static void DeviceInterrupt(ulong page)
    {
        const ulong Register = 0xFEC0_0000;
        const ulong Data = 0xFEC0_0010;
        const ulong Level = 0x8000;
        WriteApic(0x80F, 0x1FF);
        Check(TryDevice(GhcbExitCode.MmioRead, InterruptStatus, 1, out ulong status) && (status & 1) != 0, "the device wants to interrupt"u8);
        WriteDevice(Register, 4, 0x11 + (2 * PinOfSlot2));
        WriteDevice(Data, 4, 0);
        WriteDevice(Register, 4, 0x10 + (2 * PinOfSlot2));
        WriteDevice(Data, 4, Level | DeviceVector);

        // What came while the pin was masked is a level that is still there, even if the device has been attended to.
        ulong before = Interrupts();
        Check(Taken(before) == 1, "an interrupt from before"u8);
        WriteApic(0x80B, 0);
        Check(Taken(before) == 1, "no other"u8);
        Offer(page);
        while (Interrupts() == before + 1)
        {
            WaitForInterrupt();
        }

        Check(TryDevice(GhcbExitCode.MmioRead, InterruptStatus, 1, out status) && (status & 1) != 0, "the device's interrupt"u8);
        WriteApic(0x80B, 0);
        Check(Taken(before) == 2, "the device is quiet"u8);
    }

    private static void WriteDevice(ulong gpa, ulong length, ulong value) => Check(TryDevice(GhcbExitCode.MmioWrite, gpa, length, out _, value), "write a register"u8);

    private static void Fill(ulong page) => new System.Span<uint>((void*)page, PageSize / sizeof(uint)).Fill(PatternOfPage);

    private static bool IsFilled(ulong page)
    {
        bool same = true;
        for (int i = 0; i < PageSize / sizeof(uint); i++)
        {
            same &= ((uint*)page)[i] == PatternOfPage;
        }

        return same;
    }
}
