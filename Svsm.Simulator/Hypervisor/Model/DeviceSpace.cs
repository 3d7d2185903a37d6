// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Guest-physical addresses that belong to devices: where an access is #VC 0x400 instead of a violation, and who answers the request by GHCB
// page that the guest makes of it. The guest decodes its instruction itself; nothing here reads its code.
//
//   window         from the highest end of RAM below 4 GiB to 4 GiB: all of it is device space, as on a PC; where no device is, reads float
//                  (all ones) and writes are lost
//   other ranges   only where a device is; those of PCI are where the guest puts them
//
// A device gets accesses of 1, 2, 4 or 8 bytes, aligned to their size and inside its range: longer and misaligned requests are cut, from the
// lowest address on. RAM goes before a device: what is in a range of RAM never gets here.

using System;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>A device with registers in guest-physical space.</summary>
internal abstract class MmioDevice
{
    /// <summary>Makes a device.</summary>
    /// <param name="start">GPA of its registers.</param>
    /// <param name="length">Their length, not 0.</param>
    protected MmioDevice(ulong start, ulong length)
    {
        Start = start;
        Length = length;
    }

    /// <summary>GPA of its registers.</summary>
    public ulong Start { get; protected set; }

    /// <summary>Their length in bytes.</summary>
    public ulong Length { get; protected set; }

    /// <summary>Reads.</summary>
    /// <param name="offset">From <see cref="Start"/>, a multiple of <paramref name="size"/>.</param>
    /// <param name="size">1, 2, 4 or 8 bytes.</param>
    /// <returns>The value; bits above the size are ignored.</returns>
    public abstract ulong Read(ulong offset, int size);

    /// <summary>Writes.</summary>
    /// <param name="cpu">Who writes.</param>
    /// <param name="offset">From <see cref="Start"/>, a multiple of <paramref name="size"/>.</param>
    /// <param name="size">1, 2, 4 or 8 bytes.</param>
    /// <param name="value">The value; bits above the size are 0.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public abstract bool Write(VirtualCpu cpu, ulong offset, int size, ulong value);
}

/// <summary>The devices by address.</summary>
internal sealed unsafe class DeviceSpace
{
    /// <summary>Most devices.</summary>
    public const int MaxDevices = 64;

    private const ulong WindowEnd = 1ul << 32;
    private const ulong LongestAccess = sizeof(ulong);

    private readonly MmioDevice[] _devices = new MmioDevice[MaxDevices];
    private readonly PciBus _pci;
    private int _count;

    /// <summary>Makes a space with the devices of a bus.</summary>
    public DeviceSpace(PciBus pci)
    {
        _pci = pci;
    }

    /// <summary>Adds a device.</summary>
    /// <param name="device">Its registers overlap no other's.</param>
    /// <returns>False when they do, end above the C-bit, or there are too many devices.</returns>
    public bool TryAdd(MmioDevice device)
    {
        bool fits = _count < MaxDevices && device.Length != 0 && device.Start < Amd64.CBit && device.Length <= Amd64.CBit - device.Start;
        for (int i = 0; i < _count && fits; i++)
        {
            fits = device.Start - _devices[i].Start >= _devices[i].Length && _devices[i].Start - device.Start >= device.Length;
        }

        if (fits)
        {
            _devices[_count++] = device;
        }

        return fits;
    }

    /// <summary>Whether an address without RAM belongs to devices.</summary>
    /// <param name="gpa">Guest-physical, without C-bit, outside RAM.</param>
    public bool Contains(ulong gpa) => gpa - MachinePorts.DeviceWindow < WindowEnd - MachinePorts.DeviceWindow || Find(gpa) != null;

    /// <summary>Reads.</summary>
    /// <param name="gpa">Of the first byte.</param>
    /// <param name="buffer">Gets the bytes.</param>
    public void Read(ulong gpa, Span<byte> buffer)
    {
        while (buffer.Length != 0)
        {
            MmioDevice? device = Find(gpa);
            int size = PieceAt(gpa, buffer.Length, device);
            ulong value = device == null ? ulong.MaxValue : device.Read(gpa - device.Start, size);
            for (int i = 0; i < size; i++)
            {
                buffer[i] = (byte)(value >> (8 * i));
            }

            buffer = buffer.Slice(size);
            gpa += (ulong)size;
        }
    }

    /// <summary>Writes.</summary>
    /// <param name="cpu">Who writes.</param>
    /// <param name="gpa">Of the first byte.</param>
    /// <param name="buffer">The bytes; shared with the guest, so each is read once.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public bool Write(VirtualCpu cpu, ulong gpa, ReadOnlySpan<byte> buffer)
    {
        while (buffer.Length != 0)
        {
            MmioDevice? device = Find(gpa);
            int size = PieceAt(gpa, buffer.Length, device);
            ulong value = 0;
            for (int i = 0; i < size; i++)
            {
                value |= (ulong)buffer[i] << (8 * i);
            }

            if (device != null && !device.Write(cpu, gpa - device.Start, size, value))
            {
                return false;
            }

            buffer = buffer.Slice(size);
            gpa += (ulong)size;
        }

        return true;
    }

    // The longest access from an address on that is aligned and does not leave the device.
    private static int PieceAt(ulong gpa, int length, MmioDevice? device)
    {
        ulong room = device == null ? LongestAccess : device.Start + device.Length - gpa;
        ulong offset = device == null ? gpa : gpa - device.Start;
        ulong size = LongestAccess;
        while (size > (ulong)length || size > room || (offset & (size - 1)) != 0)
        {
            size /= 2;
        }

        return (int)size;
    }

    private MmioDevice? Find(ulong gpa)
    {
        for (int i = 0; i < _count; i++)
        {
            if (gpa - _devices[i].Start < _devices[i].Length)
            {
                return _devices[i];
            }
        }

        return _pci.Find(gpa);
    }
}
