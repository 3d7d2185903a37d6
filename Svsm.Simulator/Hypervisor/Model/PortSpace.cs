// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The I/O ports of the simulated machine, as the host answers them in GHCB requests. There is no passage to real ports.
//
//   0x3F8 to 0x3FF  the serial port
//   0xF4            the byte written ends the run as the guest's exit status
//   0x600 to 0x605  ACPI PM1 status, enable and control: zeroes; "soft off", written to control or its high byte, ends the run with exit status 0
//   0x608           ACPI power management timer
//   0x64, 0xCF9     a reset request ends the run
//   0x70, 0x71      battery-backed memory and real-time clock
//   0x510 to 0x51B  fw_cfg, if the launch has items for it
//   0xCF8, 0xCFC    PCI configuration space
//   others          reads float (all ones), writes are lost: no PIC, PIT, keyboard controller

using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The ports.</summary>
internal sealed class PortSpace
{
    private const ushort KeyboardCommand = 0x64;
    private const byte KeyboardReset = 0xFE;
    private const byte ResetNow = 0x04;
    private const byte SleepNow = 1 << 5;
    private const int SleepTypeShift = 2;
    private const byte SleepTypeMask = 7;
    private const ulong PowerTimerFrequency = 3_579_545;

    private readonly SerialPort _serial;
    private readonly PciBus _pci;
    private readonly VirtualMachine _machine;

    /// <summary>Makes the ports of a machine.</summary>
    public PortSpace(VirtualMachine machine, SerialPort serial, PciBus pci)
    {
        _machine = machine;
        _serial = serial;
        _pci = pci;
    }

    /// <summary>The battery-backed memory and its clock.</summary>
    public RealTimeClock Clock { get; } = new();

    /// <summary>What a firmware asks for.</summary>
    public FirmwareItems Firmware { get; } = new();

    /// <summary>Adds console input.</summary>
    /// <returns>False when there is no room for all of it; then nothing was added.</returns>
    public bool TryType(System.ReadOnlySpan<byte> bytes) => _serial.TryType(bytes);

    /// <summary>Passes what the devices behind the ports keep (HostState.cs), PCI apart.</summary>
    public void Pass(ref StateStream stream)
    {
        _serial.Pass(ref stream);
        Clock.Pass(ref stream);
        Firmware.Pass(ref stream);
    }

    /// <summary>Reads a port.</summary>
    /// <param name="port">Its number.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    public uint Read(ushort port, int size)
    {
        if (PciBus.HasPort(port, size))
        {
            return _pci.ReadPort(port, size);
        }

        if (port == MachinePorts.PowerTimer && size == sizeof(uint))
        {
            ulong frequency = _machine.Clock.Frequency;
            ulong now = _machine.Interrupts.Now;
            return (uint)((now / frequency * PowerTimerFrequency) + (now % frequency * PowerTimerFrequency / frequency));
        }

        uint value = 0;
        for (int i = size - 1; i >= 0; i--)
        {
            value = (value << 8) | ReadByte((ushort)(port + i));
        }

        return value;
    }

    /// <summary>Writes a port.</summary>
    /// <param name="cpu">Who writes.</param>
    /// <param name="port">Its number.</param>
    /// <param name="size">1, 2 or 4 bytes.</param>
    /// <param name="value">The value.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool Write(VirtualCpu cpu, ushort port, int size, uint value)
    {
        if (port == Link.GuestExitPort)
        {
            return cpu.Stop(StopReason.GuestExit, (byte)value);
        }

        if (PciBus.HasPort(port, size))
        {
            _pci.WritePort(port, size, value);
            return true;
        }

        if ((port == KeyboardCommand && (byte)value == KeyboardReset) || (port == MachinePorts.ResetControl && (value & ResetNow) != 0))
        {
            return cpu.Stop(StopReason.Reset, port);
        }

        switch (port)
        {
            case MachinePorts.BatteryIndex:
                Clock.Select((byte)value);
                return true;
            case MachinePorts.FirmwareSelector when size == sizeof(ushort):
                Firmware.Select(value);
                return true;
            case MachinePorts.FirmwareDma or MachinePorts.FirmwareDma + sizeof(uint) when size == sizeof(uint):
                Firmware.WriteDma(_machine.Memory, port - MachinePorts.FirmwareDma, value);
                return true;
        }

        for (int i = 0; i < size; i++)
        {
            var part = (byte)(value >> (8 * i));
            if (port + i == MachinePorts.SleepControl && (part & SleepNow) != 0 && ((part >> SleepTypeShift) & SleepTypeMask) == MachinePorts.SleepTypeOff)
            {
                return cpu.Stop(StopReason.GuestExit, 0);
            }

            uint register = (uint)(port + i - MachinePorts.Com1);
            if (register < MachinePorts.Com1Length)
            {
                _serial.Write(cpu, (int)register, part);
            }
        }

        return true;
    }

    private byte ReadByte(ushort port)
    {
        uint register = (uint)(port - MachinePorts.Com1);
        uint dma = (uint)(port - MachinePorts.FirmwareDma);
        return register < MachinePorts.Com1Length ? _serial.Read((int)register)
            : (uint)(port - MachinePorts.PowerManagement) < MachinePorts.PowerManagementLength ? (byte)0
            : port == MachinePorts.BatteryData ? Clock.Read(_machine.Interrupts.Now / _machine.Clock.Frequency)
            : port == MachinePorts.FirmwareData && Firmware.Any ? Firmware.Read()
            : dma < (uint)FirmwareItems.DmaSignature.Length && Firmware.Any ? FirmwareItems.DmaSignature[(int)dma]
            : (byte)0xFF;
    }
}
