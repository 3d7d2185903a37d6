// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Where the devices of the simulated machine are: for the hypervisor, which plays them, and for the tables that the machine hands to a guest.

namespace Svsm.Simulator.Shared;

/// <summary>I/O ports, addresses and interrupts of devices.</summary>
public static class MachinePorts
{
    /// <summary>First port of the serial port, a 16550.</summary>
    public const ushort Com1 = 0x3F8;

    /// <summary>Number of its ports.</summary>
    public const byte Com1Length = 8;

    /// <summary>Its I/O APIC pin.</summary>
    public const byte Com1Interrupt = 4;

    /// <summary>First port of the power-management block.</summary>
    public const ushort PowerManagement = 0x600;

    /// <summary>Length of what is there of it: PM1 status, enable and control, 16 bits each.</summary>
    public const byte PowerManagementLength = 6;

    /// <summary>High byte of PM1 control: 4:2 sleep type, 5 sleep now.</summary>
    public const ushort SleepControl = PowerManagement + 5;

    /// <summary>ACPI power management timer, 3.579545 MHz, 32 bits.</summary>
    public const ushort PowerTimer = 0x608;

    /// <summary>Index register of the battery-backed memory; the data register follows it.</summary>
    public const ushort BatteryIndex = 0x70;

    /// <summary>Data register of the battery-backed memory.</summary>
    public const ushort BatteryData = 0x71;

    /// <summary>Selector of the fw_cfg device, 16 bits.</summary>
    public const ushort FirmwareSelector = 0x510;

    /// <summary>Data register of the fw_cfg device.</summary>
    public const ushort FirmwareData = 0x511;

    /// <summary>DMA address register of the fw_cfg device, 64 bits, big-endian.</summary>
    public const ushort FirmwareDma = 0x514;

    /// <summary>Sleep type of "soft off" (S5).</summary>
    public const byte SleepTypeOff = 0;

    /// <summary>Reset control register.</summary>
    public const ushort ResetControl = 0xCF9;

    /// <summary>What resets when written to <see cref="ResetControl"/>.</summary>
    public const byte ResetNow = 0x06;

    /// <summary>Where RAM below 4 GiB ends at the latest, as on QEMU's machine q35. From here to 4 GiB is device space.</summary>
    public const uint DeviceWindow = 0xB000_0000;

    /// <summary>First I/O APIC pin of PCI devices. Pin A of slot n, up to 24, is wired to the one behind it by n modulo 4.</summary>
    public const byte FirstPciInterrupt = 20;

    /// <summary>Number of pins of PCI devices.</summary>
    public const byte PciInterrupts = 4;

    /// <summary>GPA of the first device that the machine plays (virtio-mmio); the others follow.</summary>
    public const uint HostDevices = 0xFEF0_0000;

    /// <summary>Bytes from one to the next.</summary>
    public const uint HostDeviceLength = 0x1000;

    /// <summary>Most of them whose place is where the one before ends. The channels of a migration have places of their own behind these.</summary>
    public const int MaxHostDevices = 4;

    /// <summary>Index of the channel of a migration from here.</summary>
    public const int MigrationSource = 4;

    /// <summary>Index of the channel of a migration to here.</summary>
    public const int MigrationTarget = 5;

    /// <summary>Number of places.</summary>
    public const int HostDeviceSlots = 6;

    /// <summary>With which vector VMPL0 of vCPU 0 is told that the channel of a migration has something.</summary>
    public const byte MigrationVector = 0xE2;

    /// <summary>I/O APIC pin of the first; the others up to <see cref="MaxHostDevices"/> follow. The channels of a migration have none.</summary>
    public const byte FirstHostDeviceInterrupt = 16;

    /// <summary>GPA of the I/O APIC.</summary>
    public const uint IoApicAddress = 0xFEC0_0000;
}
