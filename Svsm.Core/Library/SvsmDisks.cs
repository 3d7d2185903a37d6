// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The SVSM's own disks, for the module that keeps the store: what a driver of virtio-mmio needs. The host plays the registers and sees the memory: whatever
// is read from either may be anything, and something else a moment later. Copies only, so that what is checked is what is used.

using System;
using System.IO;
using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>Registers of the SVSM's disks, and memory that they reach.</summary>
public abstract class SvsmDisks
{
    /// <summary>Bytes of memory: for queues and data of all disks.</summary>
    public const int MemoryLength = DiskOffset.MemoryLength;

    /// <summary>Most disks.</summary>
    public const int MaxDisks = DiskOffset.MaxDisks;

    /// <summary>Guest-physical address of the memory: what a driver tells the device.</summary>
    /// <exception cref="IOException">The module does not keep the store, or is not in an image.</exception>
    public abstract ulong MemoryAddress { get; }

    /// <summary>Reads a register.</summary>
    /// <param name="disk">The disk, below <see cref="MaxDisks"/>.</param>
    /// <param name="register">Its offset, a multiple of 4 below 4096.</param>
    /// <returns>The host's word. All ones where there is no such disk.</returns>
    /// <exception cref="IOException">The host refuses; or as in <see cref="MemoryAddress"/>.</exception>
    public abstract uint ReadRegister(int disk, int register);

    /// <summary>Writes a register.</summary>
    /// <param name="disk">As in <see cref="ReadRegister"/>.</param>
    /// <param name="register">As in <see cref="ReadRegister"/>.</param>
    /// <param name="value">The value.</param>
    /// <exception cref="IOException">As in <see cref="ReadRegister"/>.</exception>
    public abstract void WriteRegister(int disk, int register, uint value);

    /// <summary>Copies from the memory.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="destination">Where to.</param>
    /// <exception cref="IOException">It is not all in the memory; or as in <see cref="MemoryAddress"/>.</exception>
    public abstract void ReadMemory(int offset, Span<byte> destination);

    /// <summary>Copies to the memory.</summary>
    /// <param name="offset">First byte.</param>
    /// <param name="source">What to copy.</param>
    /// <exception cref="IOException">As in <see cref="ReadMemory"/>.</exception>
    public abstract void WriteMemory(int offset, ReadOnlySpan<byte> source);
}

internal sealed class DescriptorDisks : SvsmDisks
{
    public override ulong MemoryAddress
    {
        get
        {
            ulong address = 0;
            Read(DiskOffset.MemoryAddress, MemoryMarshal.AsBytes(new Span<ulong>(ref address)));
            return address;
        }
    }

    public override uint ReadRegister(int disk, int register)
    {
        uint value = 0;
        Read(OffsetOf(disk, register), MemoryMarshal.AsBytes(new Span<uint>(ref value)));
        return value;
    }

    public override void WriteRegister(int disk, int register, uint value) =>
        Write(OffsetOf(disk, register), MemoryMarshal.AsBytes(new ReadOnlySpan<uint>(in value)));

    public override void ReadMemory(int offset, Span<byte> destination) => Read(DiskOffset.Memory + (long)offset, destination);

    public override void WriteMemory(int offset, ReadOnlySpan<byte> source) => Write(DiskOffset.Memory + (long)offset, source);

    private static long OffsetOf(int disk, int register) => DiskOffset.Registers + ((long)disk * DiskOffset.RegistersLength) + register;

    private static void Read(long offset, Span<byte> destination)
    {
        if (Descriptor.ReadAt(ModuleDescriptor.Disks, destination, offset) != destination.Length)
        {
            throw Failed(offset, destination.Length);
        }
    }

    private static void Write(long offset, ReadOnlySpan<byte> source)
    {
        if (Descriptor.WriteAt(ModuleDescriptor.Disks, source, offset) != source.Length)
        {
            throw Failed(offset, source.Length);
        }
    }

    private static IOException Failed(long offset, int length) =>
        new($"{length} bytes at 0x{offset:X} of the disks: error {Descriptor.LastError}");
}
