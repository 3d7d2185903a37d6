// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The driver of the SVSM's disk: virtio-blk on virtio-mmio, version 2, for the store. One request at a time, on one split virtqueue, polled.
//
// The device is the host's. Whatever it says, in registers or in the shared memory, is copied once and checked, and nothing of it is ever an address or a
// length that is used: a request is done if the device has given back exactly that one, with the number of bytes that it must have written. A device that
// does anything else, or nothing for too long, is reset, and the request has failed. The next request sets the device up anew.
//
//   0x000 u16 flags, u16 index, (u32 id, u32 length) ring[8]: what the device gives back
//   0x080 u8 status; what follows is the driver's
//   0x090 u64 address, u32 length, u16 flags, u16 next: descriptors of the request, of the data, of the status
//   0x110 u16 flags, u16 index, u16 ring[8]: what the driver offers
//   0x130 u32 operation, u32 zero, u64 sector: the request
//   0x140 data, 48 KiB
//
// So what the driver says is one copy, with the data of a write, and what the device says is another one.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 2.7 (split virtqueue), 3.1 (initialization), 4.2 (virtio over MMIO), 5.2 (block device).

using System;
using System.Buffers.Binary;
using System.Diagnostics;
using System.IO;
using System.Threading;
using Svsm.Core;
using Svsm.Store;

namespace Svsm.Modules.Storage;

internal sealed class VirtioDisk(SvsmDisks disks, int slot, int timeoutMilliseconds) : IBlockDevice
{
    public const int Sector = 512;

    /// <summary>Most bytes of one request.</summary>
    public const int MaxTransfer = 0xC000;

    private const uint Magic = 0x7472_6976;
    private const uint Version = 2;
    private const uint BlockDevice = 2;

    private const int MagicRegister = 0x000;
    private const int VersionRegister = 0x004;
    private const int KindRegister = 0x008;
    private const int DeviceFeatures = 0x010;
    private const int DeviceFeaturesSelect = 0x014;
    private const int DriverFeatures = 0x020;
    private const int DriverFeaturesSelect = 0x024;
    private const int QueueSelect = 0x030;
    private const int QueueMost = 0x034;
    private const int QueueLength = 0x038;
    private const int QueueReady = 0x044;
    private const int QueueNotify = 0x050;
    private const int StatusRegister = 0x070;
    private const int QueueDescriptors = 0x080;
    private const int QueueDriver = 0x090;
    private const int QueueDevice = 0x0A0;
    private const int ConfigurationGeneration = 0x0FC;
    private const int Capacity = 0x100;

    private const uint Acknowledge = 1;
    private const uint Driver = 2;
    private const uint DriverOk = 4;
    private const uint FeaturesOk = 8;

    // Low half: VIRTIO_BLK_F_FLUSH. High half: VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM: the memory that it reaches is the one that was shared.
    private const uint FlushFeature = 1 << 9;
    private const uint HighFeatures = 3;

    private const uint ReadOperation = 0;
    private const uint WriteOperation = 1;
    private const uint FlushOperation = 4;

    private const byte FailedStatus = 1;
    private const byte UnsupportedStatus = 2;

    private const ushort Entries = 8;
    private const int DescriptorLength = 16;
    private const ushort Next = 1;
    private const ushort Writable = 2;
    private const ushort NoInterrupt = 1;

    private const int UsedOffset = 0;
    private const int StatusOffset = 0x080;
    private const int AnswerLength = StatusOffset + 1;
    private const int DescriptorsOffset = 0x090;
    private const int AvailableOffset = 0x110;
    private const int RequestOffset = 0x130;
    private const int DataOffset = 0x140;
    private const int RequestLength = 16;
    private const int RingOffset = 4;
    private const int UsedElementLength = 8;

    // Most devices are done by now; after that many looks the processor is somebody else's for a millisecond.
    private const int Looks = 64;
    private const int CapacityReads = 8;

    // From the status on.
    private readonly byte[] _offer = new byte[DataOffset - StatusOffset + MaxTransfer];
    private readonly byte[] _answer = new byte[AnswerLength];
    private ulong _memory;
    private bool _isReady;
    private ushort _count;

    /// <summary>Why the last request failed, for the log; empty if none did.</summary>
    public string Failure { get; private set; } = "";

    /// <inheritdoc/>
    public int SectorSize => Sector;

    /// <inheritdoc/>
    public long SectorCount => TryPrepare() && TryReadCapacity(out long sectors) ? sectors : 0;

    /// <summary>Whether there is a disk in a slot: no other device, and not nothing.</summary>
    public static bool IsThere(SvsmDisks disks, int slot)
    {
        try
        {
            return disks.ReadRegister(slot, MagicRegister) == Magic && disks.ReadRegister(slot, VersionRegister) == Version
                && disks.ReadRegister(slot, KindRegister) == BlockDevice;
        }
        catch (IOException)
        {
            return false;
        }
    }

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
            disks.WriteRegister(slot, QueueNotify, 0);
            if (!TryAwait((uint)destination.Length + 1))
            {
                return false;
            }

            disks.ReadMemory(DataOffset, destination);
            return true;
        }
        catch (IOException exception)
        {
            return Fail(exception.Message);
        }
    }

    // Descriptor 0 is the request, the last one the status; there is one request, and it is the first of all in each round of the ring.
    private void Offer(uint operation, long sector, ReadOnlySpan<byte> source, int room)
    {
        int length = source.Length + room;
        int last = length == 0 ? 1 : 2;
        Describe(0, RequestOffset, RequestLength, Next, 1);
        if (length != 0)
        {
            Describe(1, DataOffset, length, (ushort)(Next | (operation == ReadOperation ? Writable : 0)), 2);
        }

        Describe(last, StatusOffset, 1, Writable, 0);

        Span<byte> available = At(AvailableOffset);
        BinaryPrimitives.WriteUInt16LittleEndian(available, NoInterrupt);
        BinaryPrimitives.WriteUInt16LittleEndian(available[sizeof(ushort)..], (ushort)(_count + 1));
        BinaryPrimitives.WriteUInt16LittleEndian(available[(RingOffset + (_count % Entries * sizeof(ushort)))..], 0);
        BinaryPrimitives.WriteUInt32LittleEndian(At(RequestOffset), operation);
        BinaryPrimitives.WriteInt64LittleEndian(At(RequestOffset + 8), sector);

        // A status that no device gives: whoever gives the request back without one has not done it.
        _offer[0] = 0xFF;
        source.CopyTo(At(DataOffset));
        disks.WriteMemory(StatusOffset, _offer.AsSpan(0, DataOffset - StatusOffset + source.Length));
    }

    private Span<byte> At(int offset) => _offer.AsSpan(offset - StatusOffset);

    private void Describe(int index, int offset, int length, ushort flags, ushort next)
    {
        Span<byte> descriptor = At(DescriptorsOffset + (index * DescriptorLength));
        BinaryPrimitives.WriteUInt64LittleEndian(descriptor, _memory + (ulong)offset);
        BinaryPrimitives.WriteInt32LittleEndian(descriptor[8..], length);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[12..], flags);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[14..], next);
    }

    private bool TryAwait(uint length)
    {
        long start = Stopwatch.GetTimestamp();
        for (int looks = 1; ; looks++)
        {
            // All of it at once: what is checked is what was copied.
            disks.ReadMemory(UsedOffset, _answer);
            ushort index = BinaryPrimitives.ReadUInt16LittleEndian(_answer.AsSpan(sizeof(ushort)));
            if (index == (ushort)(_count + 1))
            {
                break;
            }

            if (index != _count)
            {
                return Fail($"it has given back {index} requests of {(ushort)(_count + 1)}");
            }

            if (Stopwatch.GetElapsedTime(start).TotalMilliseconds > timeoutMilliseconds)
            {
                return Fail($"no answer in {timeoutMilliseconds} ms");
            }

            if (looks > Looks)
            {
                Thread.Sleep(1);
            }
        }

        ReadOnlySpan<byte> element = _answer.AsSpan(RingOffset + (_count % Entries * UsedElementLength), UsedElementLength);
        uint id = BinaryPrimitives.ReadUInt32LittleEndian(element);
        uint written = BinaryPrimitives.ReadUInt32LittleEndian(element[sizeof(uint)..]);
        byte status = _answer[StatusOffset - UsedOffset];
        _count++;
        if (id == 0 && status is (FailedStatus or UnsupportedStatus))
        {
            // A device that says that it failed is in order.
            Failure = $"status {status}";
            return false;
        }

        return (id == 0 && status == 0 && written == length)
            || Fail($"it has given back request {id} with {written} bytes and status {status}; wanted is 0 with {length} and 0");
    }

    private bool TryPrepare()
    {
        if (_isReady)
        {
            return true;
        }

        try
        {
            _isReady = TrySetUp();
            return _isReady;
        }
        catch (IOException exception)
        {
            return Fail(exception.Message);
        }
    }

    private bool TrySetUp()
    {
        if (!IsThere(disks, slot))
        {
            return Fail($"there is no virtio disk of version {Version} in slot {slot}");
        }

        disks.WriteRegister(slot, StatusRegister, 0);
        long start = Stopwatch.GetTimestamp();
        while (disks.ReadRegister(slot, StatusRegister) != 0)
        {
            if (Stopwatch.GetElapsedTime(start).TotalMilliseconds > timeoutMilliseconds)
            {
                return Fail("it does not reset");
            }

            Thread.Sleep(1);
        }

        disks.WriteRegister(slot, StatusRegister, Acknowledge | Driver);
        if ((Features(0) & FlushFeature) == 0 || (Features(1) & HighFeatures) != HighFeatures)
        {
            return Fail($"features 0x{Features(1):X8}{Features(0):X8}; wanted are VERSION_1, ACCESS_PLATFORM and FLUSH");
        }

        Take(0, FlushFeature);
        Take(1, HighFeatures);
        disks.WriteRegister(slot, StatusRegister, Acknowledge | Driver | FeaturesOk);
        disks.WriteRegister(slot, QueueSelect, 0);
        uint status = disks.ReadRegister(slot, StatusRegister);
        uint most = disks.ReadRegister(slot, QueueMost);
        if (status != (Acknowledge | Driver | FeaturesOk) || most < Entries || disks.ReadRegister(slot, QueueReady) != 0)
        {
            return Fail($"status 0x{status:X} and a queue of {most}; wanted is 0x{Acknowledge | Driver | FeaturesOk:X}, and one of {Entries} that is not in use");
        }

        _count = 0;
        Array.Clear(_offer);
        disks.WriteMemory(0, new byte[DataOffset]);
        _memory = disks.MemoryAddress;
        disks.WriteRegister(slot, QueueLength, Entries);
        Place(QueueDescriptors, _memory + DescriptorsOffset);
        Place(QueueDriver, _memory + AvailableOffset);
        Place(QueueDevice, _memory + UsedOffset);
        disks.WriteRegister(slot, QueueReady, 1);
        disks.WriteRegister(slot, StatusRegister, Acknowledge | Driver | FeaturesOk | DriverOk);
        return disks.ReadRegister(slot, StatusRegister) == (Acknowledge | Driver | FeaturesOk | DriverOk) || Fail("it does not start");
    }

    private uint Features(uint half)
    {
        disks.WriteRegister(slot, DeviceFeaturesSelect, half);
        return disks.ReadRegister(slot, DeviceFeatures);
    }

    private void Take(uint half, uint features)
    {
        disks.WriteRegister(slot, DriverFeaturesSelect, half);
        disks.WriteRegister(slot, DriverFeatures, features);
    }

    private void Place(int register, ulong address)
    {
        disks.WriteRegister(slot, register, (uint)address);
        disks.WriteRegister(slot, register + sizeof(uint), (uint)(address >> 32));
    }

    // Two halves, between which it may change.
    private bool TryReadCapacity(out long sectors)
    {
        sectors = 0;
        try
        {
            for (int i = 0; i < CapacityReads; i++)
            {
                uint generation = disks.ReadRegister(slot, ConfigurationGeneration);
                ulong capacity = disks.ReadRegister(slot, Capacity) | ((ulong)disks.ReadRegister(slot, Capacity + sizeof(uint)) << 32);
                if (disks.ReadRegister(slot, ConfigurationGeneration) == generation)
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

    // What the device does from here on has nothing to do with a request of ours.
    private bool Fail(string why)
    {
        Failure = why;
        _isReady = false;
        try
        {
            disks.WriteRegister(slot, StatusRegister, 0);
        }
        catch (IOException)
        {
        }

        return false;
    }
}
