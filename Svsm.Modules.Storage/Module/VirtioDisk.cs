// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The driver of the SVSM's disk: virtio-blk, for the store. One request at a time. A request is done if the device has given back exactly that one, with the
// number of bytes that it must have written. A device that does anything else, or nothing for too long, is reset, and the request has failed.
//
// A request is three parts, beside the queue: u32 operation, u32 zero, u64 sector; the data, 48 KiB at most; u8 status.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 5.2 (block device).

using System;
using System.Buffers.Binary;
using System.IO;
using Svsm.Core;
using Svsm.Store;

namespace Svsm.Modules.Storage;

/// <summary>The driver.</summary>
/// <param name="disks">Registers and memory.</param>
/// <param name="slot">Which registers.</param>
/// <param name="timeoutMilliseconds">How long the device may take for anything.</param>
internal sealed class VirtioDisk(SvsmDisks disks, int slot, int timeoutMilliseconds)
    : VirtioDriver(disks, slot, Kind, FlushFeature, timeoutMilliseconds, new VirtioRing(disks, QueueOffset, RequestLength, StatusLength, MaxTransfer)), IBlockDevice
{
    /// <summary>The kind of device: a disk.</summary>
    public const uint Kind = 2;

    public const int Sector = 512;

    /// <summary>Most bytes of one request.</summary>
    public const int MaxTransfer = 0xC000;

    private const int ConfigurationGeneration = 0x0FC;
    private const int Capacity = 0x100;

    // VIRTIO_BLK_F_FLUSH.
    private const uint FlushFeature = 1 << 9;

    private const uint ReadOperation = 0;
    private const uint WriteOperation = 1;
    private const uint FlushOperation = 4;

    private const byte FailedStatus = 1;
    private const byte UnsupportedStatus = 2;
    private const byte NoStatus = 0xFF;

    private const int QueueOffset = 0;
    private const int RequestLength = 16;
    private const int StatusLength = 1;
    private const int CapacityReads = 8;

    /// <inheritdoc/>
    public int SectorSize => Sector;

    /// <inheritdoc/>
    public long SectorCount => TryPrepare() && TryReadCapacity(out long sectors) ? sectors : 0;

    /// <inheritdoc/>
    public bool TryRead(long sector, Span<byte> destination)
    {
        for (; !destination.IsEmpty; destination = destination[Math.Min(MaxTransfer, destination.Length)..], sector += MaxTransfer / Sector)
        {
            Span<byte> part = destination[..Math.Min(MaxTransfer, destination.Length)];
            if (!TryDo(ReadOperation, sector, [], part))
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public bool TryWrite(long sector, ReadOnlySpan<byte> source)
    {
        for (; !source.IsEmpty; source = source[Math.Min(MaxTransfer, source.Length)..], sector += MaxTransfer / Sector)
        {
            ReadOnlySpan<byte> part = source[..Math.Min(MaxTransfer, source.Length)];
            if (!TryDo(WriteOperation, sector, part, []))
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public bool TryFlush() => TryDo(FlushOperation, 0, [], []);

    private bool TryDo(uint operation, long sector, ReadOnlySpan<byte> source, Span<byte> destination)
    {
        if (!TryPrepare())
        {
            return false;
        }

        try
        {
            Offer(operation, sector, source, destination.Length);
            Notify(0);
            if (!TryAwait(Ring(0), Timeout, out uint id, out uint written) || !IsDone(id, written, (uint)destination.Length + StatusLength))
            {
                return false;
            }

            Disks.ReadMemory(Ring(0).DataOffset, destination);
            return true;
        }
        catch (IOException exception)
        {
            return Fail(exception.Message);
        }
    }

    private void Offer(uint operation, long sector, ReadOnlySpan<byte> source, int room)
    {
        VirtioRing ring = Ring(0);
        int length = source.Length + room;
        ring.DescribeRequest();
        if (length != 0)
        {
            ring.DescribeData(1, length, isWritable: operation == ReadOperation, isLast: false);
        }

        ring.DescribeAnswer(length == 0 ? 1 : 2);
        BinaryPrimitives.WriteUInt32LittleEndian(ring.Request, operation);
        BinaryPrimitives.WriteInt64LittleEndian(ring.Request[8..], sector);

        // A status that no device gives: whoever gives the request back without one has not done it.
        ring.NoAnswer[0] = NoStatus;
        ring.Offer(source);
    }

    private bool IsDone(uint id, uint written, uint length)
    {
        byte status = Ring(0).Answer[0];
        if (id == 0 && status is (FailedStatus or UnsupportedStatus))
        {
            // A device that says that it failed is in order.
            Failure = $"status {status}";
            return false;
        }

        return (id == 0 && status == 0 && written == length)
            || Fail($"it has given back request {id} with {written} bytes and status {status}; wanted is 0 with {length} and 0");
    }

    // Two halves, between which it may change.
    private bool TryReadCapacity(out long sectors)
    {
        sectors = 0;
        try
        {
            for (int i = 0; i < CapacityReads; i++)
            {
                uint generation = Read(ConfigurationGeneration);
                ulong capacity = Read(Capacity) | ((ulong)Read(Capacity + sizeof(uint)) << 32);
                if (Read(ConfigurationGeneration) == generation)
                {
                    sectors = (long)Math.Min(capacity, long.MaxValue / Sector);
                    return true;
                }
            }

            return Fail("its size changes all the time");
        }
        catch (IOException exception)
        {
            return Fail(exception.Message);
        }
    }
}
