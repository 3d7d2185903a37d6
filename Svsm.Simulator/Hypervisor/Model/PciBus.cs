// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Bus 0 of QEMU's machine q35, as far as the guest may see it: host bridge, LPC bridge, and the virtio devices that the machine was given.
// Everything else that QEMU has there (SATA, SMBus) is not there for the guest.
//
//   by ports   0xCF8 chooses a register, 0xCFC to 0xCFF are its bytes
//   by memory  where the host bridge's register PCIEXBAR puts it, if it is switched on: 4 KiB per function, of which the first 256 bytes are there
//
// Source: Intel Q35 data sheet (PCIEXBAR, 5.1.16), PCI Express Base Specification 7.2.2.

using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The PCI bus of the guest.</summary>
internal sealed class PciBus
{
    private const int MaxFunctions = 16;
    /// <summary>Functions that a bus can have.</summary>
    public const int FunctionsPerBus = 256;
    private const int SlotShift = 3;
    private const int HostBridge = 0;
    private const int LpcBridge = 0x1F << 3;
    private const uint IdOfHostBridge = 0x29C0_8086;
    private const uint IdOfLpcBridge = 0x2918_8086;
    private const ushort VirtioVendor = 0x1AF4;
    private const ushort FirstVirtioDevice = 0x1040;
    private const ushort LastVirtioDevice = 0x107F;
    private const uint IdOfWindow = 0x1110_1AF4;
    private const int BaseOfWindow = 2;

    // Between QEMU's RAM and its I/O APIC; beyond what its firmware uses for memory-mapped configuration.
    private const uint OuterMemory = 0xE000_0000;

    private readonly HostProcessor _processor;
    private readonly PciFunction?[] _functions = new PciFunction?[MaxFunctions];
    private readonly ExpressMemory _express;
    private int _count;
    private uint _address;

    /// <summary>Makes a bus without functions.</summary>
    public PciBus(HostProcessor processor)
    {
        _processor = processor;
        _express = new ExpressMemory(this);
    }

    /// <summary>Whether there are devices.</summary>
    public bool HasDevices { get; private set; }

    /// <summary>Address of the memory that the machine's host side has as well, 0 when there is none. The guest does not see its function.</summary>
    public ulong Window { get; private set; }

    /// <summary>Whether a function is a device.</summary>
    /// <param name="number">Device number in bits 7:3, function in 2:0.</param>
    public bool IsDevice(int number) => Find((uint)number) is { IsChipset: false };

    /// <summary>Whether a device holds its line high.</summary>
    /// <param name="index">Of the pin, from the first of PCI devices on.</param>
    public bool IsInterrupting(int index)
    {
        for (int i = 0; i < _count; i++)
        {
            if (_functions[i] is { IsChipset: false, IsInterrupting: true } function && (function.Number >> SlotShift) % MachinePorts.PciInterrupts == index)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Takes what QEMU has.</summary>
    public void Scan()
    {
        uint next = OuterMemory;
        for (int number = 0; number < FunctionsPerBus && _count < MaxFunctions; number++)
        {
            uint id = PciPorts.Read(_processor, number, 0);
            bool isChipset = number == HostBridge ? id == IdOfHostBridge : number == LpcBridge && id == IdOfLpcBridge;
            bool isDevice = (ushort)id == VirtioVendor && id >> 16 is >= FirstVirtioDevice and <= LastVirtioDevice;
            if (id == IdOfWindow)
            {
                Window = new PciFunction(_processor, number, isChipset: false).OpenMemory(BaseOfWindow, ref next);
            }

            if (isChipset || isDevice)
            {
                var function = new PciFunction(_processor, number, isChipset);
                _functions[_count++] = function;
                if (isDevice)
                {
                    function.AssignMemory(ref next);
                    HasDevices = true;
                }
            }
        }
    }

    /// <summary>Passes which functions there are (HostState.cs): both machines must have the same.</summary>
    public void PassKind(ref StateStream stream)
    {
        stream.Same((ulong)_count);
        for (int i = 0; i < _count; i++)
        {
            stream.Same((ulong)_functions[i]!.Number);
        }
    }

    /// <summary>Passes the chosen register and what the chipset's functions keep (HostState.cs). There are no devices.</summary>
    public void Pass(ref StateStream stream)
    {
        _address = stream.Word(_address);
        for (int i = 0; i < _count; i++)
        {
            _functions[i]!.Pass(ref stream);
        }
    }

    /// <summary>Whether a port belongs to it.</summary>
    public static bool HasPort(ushort port, int size) => (port == PciPorts.Address && size == sizeof(uint)) || port is >= PciPorts.Data and < PciPorts.Data + sizeof(uint);

    /// <summary>Reads a port for which <see cref="HasPort"/> holds.</summary>
    public uint ReadPort(ushort port, int size)
    {
        return port == PciPorts.Address ? _address
            : (_address & PciPorts.Enable) == 0 ? uint.MaxValue
            : ReadConfig(_address >> 8 & 0xFFFF, (int)(_address & 0xFC) + port - PciPorts.Data, size);
    }

    /// <summary>Writes a port for which <see cref="HasPort"/> holds.</summary>
    public void WritePort(ushort port, int size, uint value)
    {
        if (port == PciPorts.Address)
        {
            _address = value;
        }
        else if ((_address & PciPorts.Enable) != 0)
        {
            WriteConfig(_address >> 8 & 0xFFFF, (int)(_address & 0xFC) + port - PciPorts.Data, size, value);
        }
    }

    /// <summary>Configuration space or the memory of a device, where the guest has put it, or null.</summary>
    public MmioDevice? Find(ulong gpa)
    {
        if (_express.Contains(gpa))
        {
            return _express;
        }

        for (int i = 0; i < _count; i++)
        {
            if (_functions[i]?.FindMemory(gpa) is { } memory)
            {
                return memory;
            }
        }

        return null;
    }

    // Bus in bits 15:8 of a number: other buses have nothing.
    private PciFunction? Find(uint number)
    {
        for (int i = 0; i < _count; i++)
        {
            if (_functions[i] is { } function && (uint)function.Number == number)
            {
                return function;
            }
        }

        return null;
    }

    private uint ReadConfig(uint number, int register, int size)
    {
        return size <= sizeof(uint) && register < PciFunction.ConfigLength && Find(number) is { } function ? function.Read(register, size) : uint.MaxValue;
    }

    private void WriteConfig(uint number, int register, int size, uint value)
    {
        if (size <= sizeof(uint) && register < PciFunction.ConfigLength)
        {
            Find(number)?.Write(register, size, value);
        }
    }

    // Configuration space in memory.
    private sealed class ExpressMemory : MmioDevice
    {
        private const int BaseRegister = 0x60;
        private const uint Enabled = 1;
        private const int LengthShift = 1;
        private const ulong MaxLength = 256ul << 20;
        private const int FunctionShift = 12;
        private const int RegisterMask = 0xFFF;

        private readonly PciBus _bus;

        public ExpressMemory(PciBus bus)
            : base(0, 0)
        {
            _bus = bus;
        }

        // The host bridge says where it is.
        public bool Contains(ulong gpa)
        {
            if (_bus.Find(HostBridge) is not { } bridge)
            {
                return false;
            }

            uint low = bridge.Read(BaseRegister, sizeof(uint));
            Start = (low & ~(MaxLength - 1)) | ((ulong)bridge.Read(BaseRegister + sizeof(uint), sizeof(uint)) << 32);
            Length = (low & Enabled) != 0 ? MaxLength >> (int)((low >> LengthShift) & 3) : 0;
            return gpa - Start < Length;
        }

        public override ulong Read(ulong offset, int size) => _bus.ReadConfig((uint)(offset >> FunctionShift), (int)offset & RegisterMask, size);

        public override bool Write(VirtualCpu cpu, ulong offset, int size, ulong value)
        {
            _bus.WriteConfig((uint)(offset >> FunctionShift), (int)offset & RegisterMask, size, (uint)value);
            return true;
        }
    }
}
