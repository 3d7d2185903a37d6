// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The PCI bus: what of QEMU's is there, and that what the guest writes to the chipset changes nothing outside. The test gives the machine a
// virtio device in slot 2, whatever kind.

using Svsm.Wire;

namespace Svsm.HypervisorProbe;

internal static unsafe partial class Probe
{
    private const ulong DeviceMemory = 0x40_C000_0000;
    private const ulong ExpressMemory = 0xB000_0000;
    private const uint Device = 2 << 11;
    private const uint LpcBridge = 0x1F << 11;
    private const uint SataController = LpcBridge | (2 << 8);

    private static void PciChecks()
    {
        RegisterGhcb();
        Check(Config(0, 0) == 0x29C0_8086, "the host bridge"u8);
        Check(Config(LpcBridge, 0) == 0x2918_8086, "the LPC bridge"u8);
        Check(Config(SataController, 0) == uint.MaxValue, "QEMU's SATA controller is hidden"u8);
        Check(Config(1 << 16, 0) == uint.MaxValue, "there is one bus"u8);
        Check((Config(Device, 0) & 0xFFFF) == 0x1AF4, "the device"u8);
        Check((Config(Device, 0x34) & 0xFF) != 0, "its capabilities"u8);
        PortWrite(0xCF8, 4, Device);
        Check(PortRead(0xCFC, 4) == uint.MaxValue, "an address that is not enabled"u8);

        // Parts of a register, and registers that are the guest's own.
        PortWrite(0xCF8, 4, 0x8000_0000 | LpcBridge);
        Check(PortRead(0xCFE, 2) == 0x2918 && PortRead(0xCFD, 1) == 0x80, "parts of a register"u8);
        SetConfig(LpcBridge, 0, 0);
        Check(Config(LpcBridge, 0) == 0x2918_8086, "an identity cannot be written"u8);
        SetConfig(LpcBridge, 0x40, 0x601);
        PortWrite(0xCF8, 4, 0x8000_0044 | LpcBridge);
        PortWrite(0xCFC, 1, 0x80);
        Check(Config(LpcBridge, 0x40) == 0x601 && Config(LpcBridge, 0x44) == 0x80, "registers of the LPC bridge"u8);

        // Configuration space in memory.
        Check(TryDevice(GhcbExitCode.MmioRead, ExpressMemory, 4, out ulong id) && (uint)id == uint.MaxValue, "no configuration space in memory yet"u8);
        SetConfig(0, 0x60, (uint)ExpressMemory | 1);
        Check(TryDevice(GhcbExitCode.MmioRead, ExpressMemory + (Device << 4), 4, out id) && (uint)id == Config(Device, 0), "configuration space in memory"u8);
        Check(TryDevice(GhcbExitCode.MmioRead, ExpressMemory + (Device << 4) + 0x100, 4, out id) && (uint)id == uint.MaxValue, "no extended configuration space"u8);
        Check(TryDevice(GhcbExitCode.MmioRead, ExpressMemory + (1 << 20), 4, out id) && (uint)id == uint.MaxValue, "one bus, in memory"u8);

        DeviceBase();
    }

    // The base address of the modern registers is the fifth, 64 bits long.
    private static void DeviceBase()
    {
        const uint Base = 0x20;
        SetConfig(Device, Base, uint.MaxValue);
        uint mask = Config(Device, Base);
        Check((mask & 0x3FFF) == 0xC, "16 KiB, 64-bit, prefetchable"u8);
        SetConfig(Device, Base, unchecked((uint)DeviceMemory));
        SetConfig(Device, Base + 4, (uint)(DeviceMemory >> 32));
        Check(Config(Device, Base + 4) == 0x40 && Config(Device, Base) == 0xC000_000C, "the base address"u8);
        Check(!TryDevice(GhcbExitCode.MmioRead, DeviceMemory, 4, out _), "memory space is off"u8);
        SetConfig(Device, 4, 2);

        // Common configuration: device_feature_select, device_feature.
        Check(TryDevice(GhcbExitCode.MmioWrite, DeviceMemory, 4, out _, 1), "feature word 1"u8);
        Check(TryDevice(GhcbExitCode.MmioRead, DeviceMemory + 4, 4, out ulong features) && (features & 1) != 0, "the device is a modern one"u8);
        Check(!TryDevice(GhcbExitCode.MmioRead, DeviceMemory - 4, 4, out _), "nothing before it"u8);
    }

    private static uint Config(uint function, uint register)
    {
        PortWrite(0xCF8, 4, 0x8000_0000 | function | register);
        return PortRead(0xCFC, 4);
    }

    private static void SetConfig(uint function, uint register, uint value)
    {
        PortWrite(0xCF8, 4, 0x8000_0000 | function | register);
        PortWrite(0xCFC, 4, value);
    }

    private static uint PortRead(ushort port, int size)
    {
        Begin(GhcbExitCode.Ioio, ((ulong)port << 16) | ((ulong)size << 4) | (ulong)IoioInfo.In, 0);
        Check(Call() == GhcbCompletion.Success, "IN"u8);
        return (uint)Ghcb->Rax;
    }

    private static void PortWrite(ushort port, int size, uint value)
    {
        Begin(GhcbExitCode.Ioio, ((ulong)port << 16) | ((ulong)size << 4), 0);
        SetRax(value);
        Check(Call() == GhcbCompletion.Success, "OUT"u8);
    }

    private static bool TryDevice(GhcbExitCode code, ulong gpa, ulong length, out ulong read, ulong value = 0)
    {
        Begin(code, gpa, length);
        var buffer = (ulong*)((byte*)Ghcb + GhcbPage.SharedBufferOffset);
        *buffer = value;
        SetScratch(GhcbGpa + GhcbPage.SharedBufferOffset);
        bool done = Call() == GhcbCompletion.Success;
        read = *buffer;
        return done;
    }
}
