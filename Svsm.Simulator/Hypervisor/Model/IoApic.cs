// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The I/O APIC: 24 pins, which devices raise and lower. A register is chosen by index (offset 0x00) and accessed by data (0x10).
//
//   redirection entry  7:0 vector, 10:8 delivery mode, 11 logical destination, 12 pending, 14 remote IRR, 15 level, 16 masked, 63:56 destination
//
// Interrupts go to the APICs of the VMPL that wrote the entry last: it is the one whose driver waits for them.
// Source: Intel 82093AA data sheet; destinations of 8 bits, which name the first 255 vCPUs or, logically, those of cluster 0.

using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The I/O APIC.</summary>
internal sealed class IoApic : MmioDevice
{
    private const ulong RegistersLength = 0x20;
    private const int PinCount = 24;
    private const ulong IndexOffset = 0x00;
    private const ulong DataOffset = 0x10;
    private const uint IdRegister = 0;
    private const uint VersionRegister = 1;
    private const uint ArbitrationRegister = 2;
    private const uint FirstEntryRegister = 0x10;
    private const uint Version = 0x11 | ((PinCount - 1) << 16);

    private const int ModeShift = 8;
    private const ulong Logical = 1ul << 11;
    private const ulong RemoteRequest = 1ul << 14;
    private const ulong Level = 1ul << 15;
    private const ulong Masked = 1ul << 16;
    private const int DestinationShift = 56;
    private const uint BroadcastDestination = 0xFF;
    private const ulong EntryWritable = 0xFF00_0000_0001_AFFF;

    private readonly VirtualMachine _machine;
    private readonly ulong[] _entries = new ulong[PinCount];
    private readonly byte[] _owners = new byte[PinCount];
    private uint _index;
    private uint _id;
    private uint _lines;

    /// <summary>Makes an I/O APIC whose pins are masked.</summary>
    public IoApic(VirtualMachine machine)
        : base(MachinePorts.IoApicAddress, RegistersLength)
    {
        _machine = machine;
        for (int i = 0; i < PinCount; i++)
        {
            _entries[i] = Masked;
        }
    }

    /// <inheritdoc/>
    public override ulong Read(ulong offset, int size) => size != sizeof(uint) ? ulong.MaxValue : offset switch
    {
        IndexOffset => _index,
        DataOffset => ReadRegister(),
        _ => 0,
    };

    /// <inheritdoc/>
    public override bool Write(VirtualCpu cpu, ulong offset, int size, ulong value)
    {
        if (size == sizeof(uint))
        {
            switch (offset)
            {
                case IndexOffset:
                    _index = (byte)value;
                    break;
                case DataOffset:
                    WriteRegister((uint)value, cpu.Vmpl);
                    break;
            }
        }

        return true;
    }

    /// <summary>A device sets its line.</summary>
    public void SetLine(int pin, bool high)
    {
        uint bit = 1u << pin;
        bool rises = high && (_lines & bit) == 0;
        _lines = high ? _lines | bit : _lines & ~bit;
        if (rises || (_entries[pin] & Level) != 0)
        {
            Deliver(pin);
        }
    }

    /// <summary>The handler of a level-triggered interrupt is done.</summary>
    public void EndInterrupt(int vector)
    {
        for (int pin = 0; pin < PinCount; pin++)
        {
            if ((byte)_entries[pin] == vector && (_entries[pin] & RemoteRequest) != 0)
            {
                _entries[pin] &= ~RemoteRequest;
                int device = pin - MachinePorts.FirstPciInterrupt;
                if ((uint)device < MachinePorts.PciInterrupts)
                {
                    // The devices tell whether there is more to do.
                    _lines = _machine.Pci.IsInterrupting(device) ? _lines | (1u << pin) : _lines & ~(1u << pin);
                }

                Deliver(pin);
            }
        }
    }

    /// <summary>Passes all of it but what VMPL0 has set, and lines of the machine's devices, which are VMPL0's (HostState.cs).</summary>
    public void Pass(ref StateStream stream)
    {
        const uint HostLines = ((1u << MachinePorts.MaxHostDevices) - 1) << MachinePorts.FirstHostDeviceInterrupt;
        const uint AllLines = (1u << PinCount) - 1;
        const byte LowestVmpl = NestedPageTables.VmplCount - 1;
        _index = stream.Byte((byte)_index);
        _id = stream.Word(_id) & 0x0F00_0000;
        _lines = (stream.Word(_lines) & AllLines & ~HostLines) | (_lines & HostLines);
        for (int pin = 0; pin < PinCount; pin++)
        {
            byte owner = stream.Byte(_owners[pin], LowestVmpl);
            ulong entry = stream.Quad(_entries[pin]) & (EntryWritable | RemoteRequest);
            if (owner != 0)
            {
                _owners[pin] = owner;
                _entries[pin] = entry;
            }
        }
    }

    private uint ReadRegister()
    {
        uint entry = (_index - FirstEntryRegister) / 2;
        return _index switch
        {
            IdRegister or ArbitrationRegister => _id,
            VersionRegister => Version,
            >= FirstEntryRegister when entry < PinCount => (uint)(_entries[entry] >> ((int)(_index & 1) * 32)),
            _ => 0,
        };
    }

    private void WriteRegister(uint value, int vmpl)
    {
        if (_index == IdRegister)
        {
            _id = value & 0x0F00_0000;
            return;
        }

        uint entry = (_index - FirstEntryRegister) / 2;
        if (_index < FirstEntryRegister || entry >= PinCount)
        {
            return;
        }

        int shift = (int)(_index & 1) * 32;
        ulong writable = EntryWritable & ((ulong)uint.MaxValue << shift);
        ulong changed = (_entries[entry] & ~writable) | (((ulong)value << shift) & writable);
        _entries[entry] = (changed & Level) == 0 ? changed & ~RemoteRequest : changed;
        _owners[entry] = (byte)vmpl;
        if ((changed & Level) != 0)
        {
            Deliver((int)entry);
        }
    }

    private void Deliver(int pin)
    {
        ulong entry = _entries[pin];
        bool level = (entry & Level) != 0;
        if ((entry & Masked) != 0 || (level && ((_lines & (1u << pin)) == 0 || (entry & RemoteRequest) != 0)))
        {
            return;
        }

        if (level)
        {
            _entries[pin] |= RemoteRequest;
        }

        int mode = (int)(entry >> ModeShift) & 7;
        var destination = (uint)(entry >> DestinationShift);
        destination = destination == BroadcastDestination ? uint.MaxValue : destination;
        for (int i = 0; i < _machine.Cpus.Length; i++)
        {
            if (Destinations.Matches((uint)i, destination, (entry & Logical) != 0))
            {
                _machine.Interrupts.Deliver(_machine.Cpus[i], _owners[pin], mode, (byte)entry, level);
                if (mode == DeliveryMode.LowestPriority)
                {
                    return;
                }
            }
        }
    }
}
