// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A PCI function as the guest sees it. There are two kinds:
//
//   chipset   identity from QEMU's function; all else is memory. What the guest writes to device-specific registers it reads again, and nothing of
//             it reaches QEMU: these registers move the outer machine's memory, ports and interrupts
//   virtio    QEMU's function itself, but for its base addresses: those that the guest writes are kept here, and QEMU's are the hypervisor's
//
// Source: PCI Local Bus Specification 3.0, 6.1 (header) and 6.2.5 (base addresses).

using System;

namespace Svsm.Hypervisor;

/// <summary>A PCI function.</summary>
internal sealed class PciFunction
{
    /// <summary>Bytes of configuration space.</summary>
    public const int ConfigLength = 256;

    private const int Command = 0x04;
    private const int CacheLine = 0x0C;
    private const int LatencyTimer = 0x0D;
    private const int FirstBase = 0x10;
    private const int EndOfBases = 0x28;
    private const int RomBase = 0x30;
    private const int InterruptLine = 0x3C;
    private const int DeviceSpecific = 0x40;
    private const int BaseCount = (EndOfBases - FirstBase) / sizeof(uint);

    private const uint CommandMemory = 1 << 1;
    private const uint CommandInterruptDisable = 1 << 10;

    // In the register behind the command.
    private const uint StatusInterrupt = 1 << (16 + 3);
    private const uint IsPort = 1;
    private const uint Is64Bit = 1 << 2;
    private const uint FlagMask = 0xF;

    private readonly HostProcessor _processor;
    private readonly byte[]? _contents;
    private readonly uint[] _bases = new uint[BaseCount];
    private readonly PciMemory?[] _memory = new PciMemory?[BaseCount];

    /// <summary>Takes a function of QEMU.</summary>
    /// <param name="processor">How to reach it.</param>
    /// <param name="number">Device number in bits 7:3, function in 2:0.</param>
    /// <param name="isChipset">Which kind.</param>
    public PciFunction(HostProcessor processor, int number, bool isChipset)
    {
        _processor = processor;
        Number = number;
        if (isChipset)
        {
            _contents = new byte[ConfigLength];
            for (int offset = 0; offset < DeviceSpecific; offset += sizeof(uint))
            {
                uint value = PciPorts.Read(processor, number, offset);
                for (int i = 0; i < sizeof(uint); i++)
                {
                    _contents[offset + i] = (byte)(value >> (8 * i));
                }
            }
        }
    }

    /// <summary>Device number in bits 7:3, function in 2:0.</summary>
    public int Number { get; }

    /// <summary>Which kind.</summary>
    public bool IsChipset => _contents is not null;

    /// <summary>Whether the device holds its line high.</summary>
    public bool IsInterrupting => (PciPorts.Read(_processor, Number, Command) & (StatusInterrupt | CommandInterruptDisable)) == StatusInterrupt;

    /// <summary>Gives QEMU's function its memory, none of which it has before.</summary>
    /// <param name="next">First free address; behind what was given afterwards.</param>
    public void AssignMemory(ref uint next)
    {
        PciPorts.Write(_processor, Number, Command, sizeof(ushort), 0);
        for (int i = 0; i < BaseCount; i++)
        {
            int offset = FirstBase + (i * sizeof(uint));
            PciPorts.Write(_processor, Number, offset, sizeof(uint), uint.MaxValue);
            uint mask = PciPorts.Read(_processor, Number, offset);
            _bases[i] = mask & FlagMask;
            if (mask == 0 || (mask & IsPort) != 0)
            {
                // No ports: devices are modern ones.
                _bases[i] = 0;
                continue;
            }

            uint size = ~(mask & ~FlagMask) + 1;
            next = (next + size - 1) & ~(size - 1);
            PciPorts.Write(_processor, Number, offset, sizeof(uint), next);
            _memory[i] = new PciMemory(_processor, next, size);
            next += size;
            if ((mask & Is64Bit) != 0)
            {
                PciPorts.Write(_processor, Number, offset + sizeof(uint), sizeof(uint), 0);
                i++;
            }
        }
    }

    /// <summary>Gives QEMU's function its memory, for the hypervisor itself.</summary>
    /// <param name="index">Which base address is wanted.</param>
    /// <param name="next">As above.</param>
    /// <returns>The address, or 0 when the function has none there.</returns>
    public ulong OpenMemory(int index, ref uint next)
    {
        AssignMemory(ref next);
        PciPorts.Write(_processor, Number, Command, sizeof(ushort), CommandMemory);
        return _memory[index]?.Outer ?? 0;
    }

    /// <summary>Reads configuration space.</summary>
    /// <param name="offset">Below <see cref="ConfigLength"/>.</param>
    /// <param name="size">1, 2 or 4 bytes; those of the next double word read as zeroes.</param>
    public uint Read(int offset, int size)
    {
        uint value = ReadDoubleWord(offset & ~3) >> (8 * (offset & 3));
        return size == sizeof(uint) ? value : value & ((1u << (8 * size)) - 1);
    }

    /// <summary>Writes configuration space.</summary>
    /// <param name="offset">Below <see cref="ConfigLength"/>.</param>
    /// <param name="size">1, 2 or 4 bytes, within a double word.</param>
    /// <param name="value">The value.</param>
    public void Write(int offset, int size, uint value)
    {
        if ((offset & 3) + size > sizeof(uint))
        {
            return;
        }

        if (_contents is { } contents)
        {
            for (int i = 0; i < size; i++)
            {
                if (IsKept(offset + i))
                {
                    contents[offset + i] = (byte)(value >> (8 * i));
                }
            }
        }
        else if (offset is >= FirstBase and < EndOfBases)
        {
            WriteBase((offset - FirstBase) / sizeof(uint), Merge(ReadDoubleWord(offset & ~3), offset & 3, size, value));
        }
        else if ((offset & ~3) != RomBase)
        {
            PciPorts.Write(_processor, Number, offset, size, value);
        }
    }

    /// <summary>Passes what a function of the chipset keeps of what the guest writes (HostState.cs).</summary>
    public void Pass(ref StateStream stream)
    {
        for (int i = 0; _contents != null && i < ConfigLength; i++)
        {
            _contents[i] = IsKept(i) ? stream.Byte(_contents[i]) : _contents[i];
        }
    }

    private static bool IsKept(int offset) => offset is (>= Command and < Command + 2) or CacheLine or LatencyTimer or InterruptLine or >= DeviceSpecific;

    /// <summary>The memory of the device at an address of the guest, or null; there is none while the guest has it switched off.</summary>
    public PciMemory? FindMemory(ulong gpa)
    {
        for (int i = 0; i < BaseCount; i++)
        {
            if (_memory[i] is { } memory && gpa - memory.Start < memory.Length)
            {
                return (PciPorts.Read(_processor, Number, Command) & CommandMemory) != 0 ? memory : null;
            }
        }

        return null;
    }

    private uint ReadDoubleWord(int offset)
    {
        if (_contents is { } contents)
        {
            return contents[offset] | ((uint)contents[offset + 1] << 8) | ((uint)contents[offset + 2] << 16) | ((uint)contents[offset + 3] << 24);
        }

        return offset is >= FirstBase and < EndOfBases ? _bases[(offset - FirstBase) / sizeof(uint)]
            : offset == RomBase ? 0
            : PciPorts.Read(_processor, Number, offset);
    }

    private void WriteBase(int index, uint value)
    {
        // The upper half of a base address of 64 bits has no memory of its own.
        int low = _memory[index] is null && index != 0 && (_bases[index - 1] & Is64Bit) != 0 ? index - 1 : index;
        if (_memory[low] is not { } memory)
        {
            return;
        }

        _bases[index] = index == low ? (value & ~((uint)memory.Length - 1)) | (_bases[index] & FlagMask) : value;
        memory.MoveTo((_bases[low] & ~FlagMask) | ((_bases[low] & Is64Bit) != 0 ? (ulong)_bases[low + 1] << 32 : 0));
    }

    private static uint Merge(uint old, int at, int size, uint value)
    {
        uint mask = size == sizeof(uint) ? uint.MaxValue : (1u << (8 * size)) - 1;
        int shift = 8 * at;
        return (old & ~(mask << shift)) | ((value & mask) << shift);
    }
}

/// <summary>Memory of a device: QEMU has it at one address, the guest at another.</summary>
internal sealed class PciMemory : MmioDevice
{
    private readonly HostProcessor _processor;
    /// <summary>Makes memory that the guest has given no address yet.</summary>
    /// <param name="processor">How to reach it.</param>
    /// <param name="outer">Its address in the outer machine.</param>
    /// <param name="length">Its length in bytes.</param>
    public PciMemory(HostProcessor processor, ulong outer, ulong length)
        : base(0, length)
    {
        _processor = processor;
        Outer = outer;
    }

    /// <summary>Its address in the outer machine.</summary>
    public ulong Outer { get; }

    /// <summary>The guest gives it another address.</summary>
    public void MoveTo(ulong gpa) => Start = gpa;

    /// <inheritdoc/>
    public override ulong Read(ulong offset, int size) => _processor.ReadDevice(Outer + offset, size);

    /// <inheritdoc/>
    public override bool Write(VirtualCpu cpu, ulong offset, int size, ulong value)
    {
        _processor.WriteDevice(Outer + offset, size, value);
        return true;
    }
}

/// <summary>QEMU's configuration space, by its ports.</summary>
internal static class PciPorts
{
    /// <summary>Port that chooses a register: 31 enable, 23:16 bus, 15:8 device and function, 7:2 register.</summary>
    public const ushort Address = 0xCF8;

    /// <summary>First of the four ports of the chosen register.</summary>
    public const ushort Data = 0xCFC;

    /// <summary>Set in an address that means something.</summary>
    public const uint Enable = 1u << 31;

    /// <summary>Reads a double word of a function of bus 0.</summary>
    public static uint Read(HostProcessor processor, int number, int offset)
    {
        processor.WritePort(Address, sizeof(uint), Enable | ((uint)number << 8) | ((uint)offset & 0xFC));
        return processor.ReadPort(Data, sizeof(uint));
    }

    /// <summary>Writes within a double word of a function of bus 0.</summary>
    public static void Write(HostProcessor processor, int number, int offset, int size, uint value)
    {
        processor.WritePort(Address, sizeof(uint), Enable | ((uint)number << 8) | ((uint)offset & 0xFC));
        processor.WritePort((ushort)(Data + (offset & 3)), size, value);
    }
}
