// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What is behind a virtio-mmio transport (VirtioMmioTransport.cs), and the one of disks.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 5 (device types), 5.2 (block device).

using System;
using System.Buffers.Binary;

namespace Svsm.Simulator;

// How a request is given back.
internal readonly record struct VirtioCompletion
{
    // What is written from the first byte on that the driver takes; what has no room is left out.
    public ReadOnlyMemory<byte> Data { get; init; }

    // What is written to the last byte that the driver takes.
    public byte? Last { get; init; }

    // What the device says of the number of bytes that it has written.
    public uint Length { get; init; }

    // Which request the device says that this is.
    public uint Id { get; init; }
}

internal abstract class VirtioDevice
{
    // Most bytes of a configuration.
    public const int MaxConfiguration = 0x20;

    // Number of the device type.
    public abstract uint Kind { get; }

    // Besides those of the transport.
    public abstract ulong Features { get; }

    public abstract int QueueCount { get; }

    // Copies the configuration; zero behind it.
    public virtual void ReadConfiguration(Span<byte> configuration)
    {
    }

    // A register as the driver reads it, for a device that lies there.
    public virtual ulong ReadRegister(ulong offset, ulong value) => value;

    // The driver begins anew.
    public virtual void Reset()
    {
    }

    // Whether there is something for a request that waits in a queue without a deed of the driver.
    public virtual bool HasNews(int queue) => false;

    // Whether the next request of a queue can be done now. Otherwise it waits.
    public virtual bool CanHandle(int queue) => true;

    // Does a request: what the driver gives, how much it takes. False when the driver has made a mistake; null = it is never given back.
    public abstract bool TryHandle(int queue, ReadOnlyMemory<byte> input, int room, ushort id, out VirtioCompletion? completion);
}

internal sealed class VirtioBlock(SvsmDisk disk) : VirtioDevice
{
    private const ulong FeatureReadOnly = 1ul << 5;
    private const ulong FeatureBlockSize = 1ul << 6;
    private const ulong FeatureFlush = 1ul << 9;
    private const int RequestHeaderLength = 16;
    private const int ConfigurationLength = 0x18;

    public override uint Kind => 2;

    public override ulong Features => FeatureBlockSize | FeatureFlush | (disk.ReadOnly ? FeatureReadOnly : 0);

    public override int QueueCount => 1;

    // u64 number of sectors, u32 longest segment, u32 most segments, 4 bytes of geometry, u32 bytes per block.
    public override void ReadConfiguration(Span<byte> configuration)
    {
        Span<byte> all = stackalloc byte[ConfigurationLength];
        all.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(all, disk.SectorCount);
        BinaryPrimitives.WriteUInt32LittleEndian(all[0x14..], SvsmDisk.SectorLength);
        all[..Math.Min(all.Length, configuration.Length)].CopyTo(configuration);
    }

    public override ulong ReadRegister(ulong offset, ulong value) => disk.ReadRegister(offset, value);

    public override bool TryHandle(int queue, ReadOnlyMemory<byte> input, int room, ushort id, out VirtioCompletion? completion)
    {
        completion = null;
        if (input.Length < RequestHeaderLength || room == 0)
        {
            return false;
        }

        var request = new BlockRequest(
            (BlockOperation)BinaryPrimitives.ReadUInt32LittleEndian(input.Span), BinaryPrimitives.ReadUInt64LittleEndian(input.Span[8..]), input[RequestHeaderLength..], room - 1, id);
        if (disk.Handle(request) is BlockCompletion done)
        {
            completion = new() { Data = done.Data[..Math.Min(done.Data.Length, room - 1)], Last = (byte)done.Status, Length = done.Length, Id = done.Id };
        }

        return true;
    }
}
