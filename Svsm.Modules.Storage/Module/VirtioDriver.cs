// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What drivers of the SVSM's virtio devices have in common: virtio-mmio, version 2, split virtqueues in the shared memory, polled, no interrupts.
//
// The device is the host's. Whatever it says, in registers or in the shared memory, is copied once and checked, and nothing of it is ever an address or a
// length that is used. A device that does anything else than what was asked is reset; the next request sets it up anew.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 2.7 (split virtqueue), 3.1 (initialization), 4.2 (virtio over MMIO).

using System;
using System.Buffers.Binary;
using System.Diagnostics;
using System.IO;
using System.Threading;
using Svsm.Core;

namespace Svsm.Modules.Storage;

/// <summary>A virtqueue in the shared memory, with what goes with a request and what comes with its answer. One request at a time.</summary>
/// <remarks>
/// 0x000 u16 flags, u16 index, (u32 id, u32 length) ring[8]: what the device gives back
/// 0x080 what comes with an answer, 16 bytes at most; what follows is the driver's
/// 0x090 u64 address, u32 length, u16 flags, u16 next: descriptors, 8
/// 0x110 u16 flags, u16 index, u16 ring[8]: what the driver offers
/// 0x130 what goes with a request, and its data behind it
/// So what the driver says is one copy, with the data that it gives, and what the device says is another one.
/// </remarks>
/// <param name="disks">Registers and memory.</param>
/// <param name="offset">Where it is in the memory.</param>
/// <param name="requestLength">Bytes that go with a request, besides data.</param>
/// <param name="answerLength">Bytes that come with an answer, besides data.</param>
/// <param name="dataLength">Most bytes of data that the driver gives.</param>
internal sealed class VirtioRing(SvsmDisks disks, int offset, int requestLength, int answerLength, int dataLength)
{
    public const int Entries = 8;
    public const int UsedOffset = 0;
    public const int DescriptorsOffset = 0x090;
    public const int AvailableOffset = 0x110;

    private const int AnswerOffset = 0x080;
    private const int RequestOffset = 0x130;
    private const int DescriptorLength = 16;
    private const ushort Next = 1;
    private const ushort Writable = 2;
    private const ushort NoInterrupt = 1;
    private const int RingOffset = 4;
    private const int UsedElementLength = 8;

    // From what comes with an answer on.
    private readonly byte[] _offer = new byte[RequestOffset - AnswerOffset + requestLength + dataLength];
    private readonly byte[] _answer = new byte[AnswerOffset + answerLength];
    private ulong _memory;
    private ushort _count;

    /// <summary>Where it is in the memory.</summary>
    public int Offset => offset;

    /// <summary>Where the data are in the memory: those that the driver gives, and those that it takes.</summary>
    public int DataOffset => offset + RequestOffset + requestLength;

    /// <summary>What goes with the next request.</summary>
    public Span<byte> Request => At(RequestOffset, requestLength);

    /// <summary>What is in the place of what comes with an answer, before there is one.</summary>
    public Span<byte> NoAnswer => At(AnswerOffset, answerLength);

    /// <summary>What has come with the last answer.</summary>
    public ReadOnlySpan<byte> Answer => _answer.AsSpan(AnswerOffset);

    /// <summary>Nothing was ever offered.</summary>
    /// <exception cref="IOException">The memory is not there.</exception>
    public void Reset()
    {
        _count = 0;
        _memory = disks.MemoryAddress;
        Array.Clear(_offer);
        disks.WriteMemory(offset, new byte[RequestOffset + requestLength]);
    }

    /// <summary>Describes what goes with the next request, as its part 0.</summary>
    public void DescribeRequest() => Describe(0, offset + RequestOffset, requestLength, isWritable: false, isLast: false);

    /// <summary>Describes data, as a part of the next request.</summary>
    public void DescribeData(int index, int length, bool isWritable, bool isLast) => Describe(index, DataOffset, length, isWritable, isLast);

    /// <summary>Describes what comes with an answer, as the last part of the next request.</summary>
    public void DescribeAnswer(int index) => Describe(index, offset + AnswerOffset, answerLength, isWritable: true, isLast: true);

    /// <summary>Offers the request whose first part is descriptor 0; it is the first of all in each round of the ring.</summary>
    /// <param name="data">Its data; empty: it has none, or takes them.</param>
    /// <exception cref="IOException">The memory is not there.</exception>
    public void Offer(ReadOnlySpan<byte> data)
    {
        Span<byte> available = At(AvailableOffset, RequestOffset - AvailableOffset);
        BinaryPrimitives.WriteUInt16LittleEndian(available, NoInterrupt);
        BinaryPrimitives.WriteUInt16LittleEndian(available[sizeof(ushort)..], (ushort)(_count + 1));
        BinaryPrimitives.WriteUInt16LittleEndian(available[(RingOffset + (_count % Entries * sizeof(ushort)))..], 0);
        data.CopyTo(At(RequestOffset + requestLength, data.Length));
        disks.WriteMemory(offset + AnswerOffset, _offer.AsSpan(0, RequestOffset - AnswerOffset + requestLength + data.Length));
    }

    /// <summary>Looks for the answer.</summary>
    /// <param name="id">Which request the device says that it is: to be compared with 0.</param>
    /// <param name="written">How many bytes it says that it has written.</param>
    /// <param name="problem">What is wrong; empty: nothing.</param>
    /// <returns>It is there.</returns>
    /// <exception cref="IOException">The memory is not there.</exception>
    public bool TryTake(out uint id, out uint written, out string problem)
    {
        // All of it at once: what is checked is what was copied.
        disks.ReadMemory(offset, _answer);
        ushort index = BinaryPrimitives.ReadUInt16LittleEndian(_answer.AsSpan(sizeof(ushort)));
        ReadOnlySpan<byte> element = _answer.AsSpan(RingOffset + (_count % Entries * UsedElementLength), UsedElementLength);
        id = BinaryPrimitives.ReadUInt32LittleEndian(element);
        written = BinaryPrimitives.ReadUInt32LittleEndian(element[sizeof(uint)..]);
        problem = "";
        if (index == (ushort)(_count + 1))
        {
            _count++;
            return true;
        }

        if (index != _count)
        {
            problem = $"it has given back {index} requests of {(ushort)(_count + 1)}";
        }

        return false;
    }

    private Span<byte> At(int at, int length) => _offer.AsSpan(at - AnswerOffset, length);

    private void Describe(int index, int memory, int length, bool isWritable, bool isLast)
    {
        Span<byte> descriptor = At(DescriptorsOffset + (index * DescriptorLength), DescriptorLength);
        BinaryPrimitives.WriteUInt64LittleEndian(descriptor, _memory + (ulong)memory);
        BinaryPrimitives.WriteInt32LittleEndian(descriptor[8..], length);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[12..], (ushort)((isWritable ? Writable : 0) | (isLast ? 0 : Next)));
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[14..], isLast ? (ushort)0 : (ushort)(index + 1));
    }
}

/// <summary>A driver. Devices are set up when they are used.</summary>
/// <param name="disks">Registers and memory.</param>
/// <param name="slot">Which registers.</param>
/// <param name="kind">Which kind of device it must be.</param>
/// <param name="features">Features of the kind that it must have, of the lower 32.</param>
/// <param name="timeoutMilliseconds">How long a device may take for anything.</param>
/// <param name="rings">Its queues.</param>
internal abstract class VirtioDriver(SvsmDisks disks, int slot, uint kind, uint features, int timeoutMilliseconds, params VirtioRing[] rings)
{
    private const uint Magic = 0x7472_6976;
    private const uint Version = 2;

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

    private const uint Acknowledge = 1;
    private const uint Driver = 2;
    private const uint DriverOk = 4;
    private const uint FeaturesOk = 8;

    // VIRTIO_F_VERSION_1, VIRTIO_F_ACCESS_PLATFORM: the memory that it reaches is the one that was shared.
    private const uint HighFeatures = 3;

    // Most devices are done by now; after that many looks the processor is somebody else's for a millisecond.
    private const int Looks = 64;

    private bool _isReady;

    /// <summary>Why the last request failed, for the log; empty if none did.</summary>
    public string Failure { get; protected set; } = "";

    /// <summary>Looks for the first device of a kind.</summary>
    /// <returns>False: there is none.</returns>
    public static bool TryFind(SvsmDisks disks, uint kind, out int slot)
    {
        for (slot = 0; slot < SvsmDisks.MaxDisks; slot++)
        {
            if (IsThere(disks, slot, kind))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Whether there is a device of a kind in a slot: no other one, and not nothing.</summary>
    public static bool IsThere(SvsmDisks disks, int slot, uint kind)
    {
        try
        {
            return disks.ReadRegister(slot, MagicRegister) == Magic && disks.ReadRegister(slot, VersionRegister) == Version && disks.ReadRegister(slot, KindRegister) == kind;
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Registers and memory.</summary>
    protected SvsmDisks Disks => disks;

    /// <summary>How long the device may take for anything.</summary>
    protected int Timeout => timeoutMilliseconds;

    /// <summary>A queue.</summary>
    protected VirtioRing Ring(int queue) => rings[queue];

    /// <summary>Sets the device up, if it is not.</summary>
    protected bool TryPrepare()
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

    /// <summary>What to do when the device has been set up: nothing was offered yet.</summary>
    /// <exception cref="IOException">The host does not do it.</exception>
    protected virtual void OnReady()
    {
    }

    /// <summary>Reads a register.</summary>
    /// <exception cref="IOException">The host does not do it.</exception>
    protected uint Read(int register) => disks.ReadRegister(slot, register);

    /// <summary>Tells the device that a queue has a request.</summary>
    /// <exception cref="IOException">The host does not do it.</exception>
    protected void Notify(int queue) => disks.WriteRegister(slot, QueueNotify, (uint)queue);

    /// <summary>Waits for an answer.</summary>
    /// <exception cref="IOException">The host does not do it.</exception>
    protected bool TryAwait(VirtioRing ring, int milliseconds, out uint id, out uint written)
    {
        long start = Stopwatch.GetTimestamp();
        for (int looks = 1; ; looks++)
        {
            if (ring.TryTake(out id, out written, out string problem))
            {
                return true;
            }

            if (problem.Length != 0)
            {
                return Fail(problem);
            }

            if (Stopwatch.GetElapsedTime(start).TotalMilliseconds > milliseconds)
            {
                return Fail($"no answer in {milliseconds} ms");
            }

            Look();
            if (looks > Looks)
            {
                Thread.Sleep(1);
            }
        }
    }

    /// <summary>What to do between two looks.</summary>
    /// <exception cref="IOException">The host does not do it.</exception>
    protected virtual void Look()
    {
    }

    /// <summary>Gives the device up until it is set up again: what it does from here on has nothing to do with a request of ours.</summary>
    /// <returns>False.</returns>
    protected bool Fail(string why)
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

    private bool TrySetUp()
    {
        if (!IsThere(disks, slot, kind))
        {
            return Fail($"there is no virtio device of version {Version} and kind {kind} in slot {slot}");
        }

        disks.WriteRegister(slot, StatusRegister, 0);
        long start = Stopwatch.GetTimestamp();
        while (Read(StatusRegister) != 0)
        {
            if (Stopwatch.GetElapsedTime(start).TotalMilliseconds > timeoutMilliseconds)
            {
                return Fail("it does not reset");
            }

            Thread.Sleep(1);
        }

        disks.WriteRegister(slot, StatusRegister, Acknowledge | Driver);
        if ((Features(0) & features) != features || (Features(1) & HighFeatures) != HighFeatures)
        {
            return Fail($"features 0x{Features(1):X8}{Features(0):X8}; wanted are VERSION_1, ACCESS_PLATFORM and 0x{features:X}");
        }

        Take(0, features);
        Take(1, HighFeatures);
        disks.WriteRegister(slot, StatusRegister, Acknowledge | Driver | FeaturesOk);
        uint status = Read(StatusRegister);
        if (status != (Acknowledge | Driver | FeaturesOk))
        {
            return Fail($"status 0x{status:X}; wanted is 0x{Acknowledge | Driver | FeaturesOk:X}");
        }

        for (int queue = 0; queue < rings.Length; queue++)
        {
            disks.WriteRegister(slot, QueueSelect, (uint)queue);
            uint most = Read(QueueMost);
            if (most < VirtioRing.Entries || Read(QueueReady) != 0)
            {
                return Fail($"a queue of {most}; wanted is one of {VirtioRing.Entries} that is not in use");
            }

            rings[queue].Reset();
            ulong memory = disks.MemoryAddress + (ulong)rings[queue].Offset;
            disks.WriteRegister(slot, QueueLength, VirtioRing.Entries);
            Place(QueueDescriptors, memory + VirtioRing.DescriptorsOffset);
            Place(QueueDriver, memory + VirtioRing.AvailableOffset);
            Place(QueueDevice, memory + VirtioRing.UsedOffset);
            disks.WriteRegister(slot, QueueReady, 1);
        }

        disks.WriteRegister(slot, StatusRegister, Acknowledge | Driver | FeaturesOk | DriverOk);
        if (Read(StatusRegister) != (Acknowledge | Driver | FeaturesOk | DriverOk))
        {
            return Fail("it does not start");
        }

        OnReady();
        return true;
    }

    private uint Features(uint half)
    {
        disks.WriteRegister(slot, DeviceFeaturesSelect, half);
        return Read(DeviceFeatures);
    }

    private void Take(uint half, uint taken)
    {
        disks.WriteRegister(slot, DriverFeaturesSelect, half);
        disks.WriteRegister(slot, DriverFeatures, taken);
    }

    private void Place(int register, ulong address)
    {
        disks.WriteRegister(slot, register, (uint)address);
        disks.WriteRegister(slot, register + sizeof(uint), (uint)(address >> 32));
    }
}
