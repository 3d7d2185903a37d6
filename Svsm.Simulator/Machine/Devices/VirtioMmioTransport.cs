// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A virtio-mmio transport of version 2 with a device behind it, as a VMM plays it: registers, and the device's split virtqueues in the guest's shared pages.
// Requests are handled while the driver's write to QueueNotify is: when that is done, so are they, unless the device has nothing for them yet; these are when it
// has something and the driver touches a register.
//
//   0x000 magic, version, device, vendor     0x030 queue: select, most, length; 0x044 ready     0x080 addresses of its parts
//   0x010 features and their selectors       0x050 notify; 0x060 interrupt status, acknowledge   0x0FC generation of the configuration
//                                            0x070 status                                        0x100 configuration of the device
//
// The driver is hostile: what it has wrong in its queue sets DEVICE_NEEDS_RESET, and the device does nothing more until it is reset.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 2.7 (split virtqueue), 4.2.2 (registers).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Threading.Tasks;

namespace Svsm.Simulator;

// Bytes at a place in the guest's shared memory.
internal readonly record struct DevicePart(ulong Gpa, ArraySegment<byte> Bytes);

// The guest's shared memory, as a device reaches it: part after part. What belongs together is asked for together, because each time is a way to the
// hypervisor and back.
internal interface IDeviceMemory
{
    // False when not all of it is shared RAM.
    Task<bool> ReadAsync(IReadOnlyList<DevicePart> parts);

    // False when not all of it is shared RAM; then nothing is written, unless the parts are longer than what goes there at once.
    Task<bool> WriteAsync(IReadOnlyList<DevicePart> parts);
}

internal sealed class VirtioMmioTransport
{
    public const ushort MaxQueueLength = 64;

    private const uint Magic = 0x7472_6976;
    private const uint Version = 2;
    private const uint Vendor = 0x4D53_5653;

    private const ulong FeatureVersion1 = 1ul << 32;
    private const ulong FeatureAccessPlatform = 1ul << 33;
    private const ulong NeededFeatures = FeatureVersion1 | FeatureAccessPlatform;

    private const byte StatusDriverOk = 4;
    private const byte StatusFeaturesOk = 8;
    private const byte StatusNeedsReset = 0x40;
    private const uint InterruptUsed = 1;
    private const uint InterruptConfiguration = 2;

    private const int Configuration = 0x100;

    private const ushort DescriptorNext = 1;
    private const ushort DescriptorWrite = 2;
    private const int DescriptorLength = 16;
    private const int RingHeaderLength = 4;
    private const int UsedElementLength = 8;
    private const ushort NoInterrupt = 1;
    private const int MaxRequestLength = 1 << 20;

    private readonly VirtioDevice _device;
    private readonly IDeviceMemory _memory;
    private readonly Queue[] _queues;

    private uint _deviceFeaturesSelect;
    private uint _driverFeaturesSelect;
    private ulong _driverFeatures;
    private uint _queueSelect;
    private uint _interruptStatus;
    private byte _status;

    public VirtioMmioTransport(SvsmDisk disk, IDeviceMemory memory)
        : this(new VirtioBlock(disk), memory)
    {
    }

    public VirtioMmioTransport(VirtioDevice device, IDeviceMemory memory)
    {
        _device = device;
        _memory = memory;
        _queues = new Queue[device.QueueCount];
    }

    // The level of the interrupt line.
    public bool Interrupts => _interruptStatus != 0;

    private ulong OfferedFeatures => NeededFeatures | _device.Features;

    public ulong Read(ulong offset, int size)
    {
        ulong value = offset >= Configuration ? ReadConfiguration(offset - Configuration, size) : size == sizeof(uint) ? ReadRegister(offset) : 0;
        return _device.ReadRegister(offset, value);
    }

    // The driver has touched a register: what the device has had in between goes to requests that wait for it.
    public async Task PollAsync()
    {
        for (int queue = 0; queue < _queues.Length; queue++)
        {
            if (_queues[queue].Taken != _queues[queue].Offered && _device.HasNews(queue))
            {
                await HandleQueueAsync(queue).ConfigureAwait(false);
            }
        }
    }

    // The registers have 32 bits; writes of another size, and to the configuration, are lost.
    public async Task WriteAsync(ulong offset, int size, ulong wide)
    {
        uint value = (uint)wide;
        if (size != sizeof(uint))
        {
            return;
        }

        switch (offset)
        {
            case 0x014:
                _deviceFeaturesSelect = value;
                break;
            case 0x020 when (_status & StatusFeaturesOk) == 0 && _driverFeaturesSelect <= 1:
                SetHalf(ref _driverFeatures, _driverFeaturesSelect == 1, value);
                break;
            case 0x024:
                _driverFeaturesSelect = value;
                break;
            case 0x030:
                _queueSelect = value;
                break;
            case 0x038 when CanSetUp && value is > 0 and <= MaxQueueLength && (value & (value - 1)) == 0:
                _queues[_queueSelect].Length = (ushort)value;
                break;
            case 0x044 when HasQueue:
                _queues[_queueSelect].IsReady = value == 1;
                break;
            case 0x050 when value < (uint)_queues.Length:
                await HandleQueueAsync((int)value).ConfigureAwait(false);
                break;
            case 0x064:
                _interruptStatus &= ~value;
                break;
            case 0x070:
                WriteStatus((byte)value);
                break;
            case 0x080 or 0x084 when CanSetUp:
                SetHalf(ref _queues[_queueSelect].Descriptors, offset == 0x084, value);
                break;
            case 0x090 or 0x094 when CanSetUp:
                SetHalf(ref _queues[_queueSelect].Available, offset == 0x094, value);
                break;
            case 0x0A0 or 0x0A4 when CanSetUp:
                SetHalf(ref _queues[_queueSelect].Used, offset == 0x0A4, value);
                break;
        }
    }

    private bool HasQueue => _queueSelect < (uint)_queues.Length;

    private bool CanSetUp => HasQueue && !_queues[_queueSelect].IsReady;

    private uint ReadRegister(ulong offset) => offset switch
    {
        0x000 => Magic,
        0x004 => Version,
        0x008 => _device.Kind,
        0x00C => Vendor,
        0x010 => _deviceFeaturesSelect <= 1 ? (uint)(OfferedFeatures >> (32 * (int)_deviceFeaturesSelect)) : 0,
        0x034 => HasQueue ? MaxQueueLength : 0u,
        0x044 => HasQueue && _queues[_queueSelect].IsReady ? 1u : 0u,
        0x060 => _interruptStatus,
        0x070 => _status,
        _ => 0,
    };

    private ulong ReadConfiguration(ulong offset, int size)
    {
        const int MaxLength = VirtioDevice.MaxConfiguration;
        Span<byte> configuration = stackalloc byte[MaxLength + sizeof(ulong)];
        configuration.Clear();
        _device.ReadConfiguration(configuration[..MaxLength]);
        ulong value = offset < MaxLength ? BinaryPrimitives.ReadUInt64LittleEndian(configuration[(int)offset..]) : 0;
        return size == sizeof(ulong) ? value : value & ((1ul << (8 * size)) - 1);
    }

    private void WriteStatus(byte value)
    {
        if (value == 0)
        {
            _driverFeatures = 0;
            _interruptStatus = 0;
            _status = 0;
            Array.Clear(_queues);
            _device.Reset();
            return;
        }

        // Bits are only ever set, and features only taken if the device can do with them.
        bool acceptable = (_driverFeatures & ~OfferedFeatures) == 0 && (_driverFeatures & NeededFeatures) == NeededFeatures;
        _status |= (byte)(value & ~StatusNeedsReset & (acceptable ? 0xFF : ~(StatusFeaturesOk | StatusDriverOk)));
    }

    private async Task HandleQueueAsync(int queue)
    {
        if ((_status & (StatusDriverOk | StatusNeedsReset)) != StatusDriverOk || !_queues[queue].IsReady || _queues[queue].Length == 0)
        {
            return;
        }

        if (!await TryHandleQueueAsync(queue).ConfigureAwait(false))
        {
            _status |= StatusNeedsReset;
            _interruptStatus |= InterruptConfiguration;
        }
    }

    // False when the driver has made a mistake.
    private async Task<bool> TryHandleQueueAsync(int queue)
    {
        // Read once, as are all descriptors: what the driver changes meanwhile it changes for the next time.
        ushort length = _queues[queue].Length;
        byte[] available = new byte[RingHeaderLength + (length * sizeof(ushort))];
        byte[] descriptors = new byte[length * DescriptorLength];
        if (!await _memory.ReadAsync([new(_queues[queue].Available, available), new(_queues[queue].Descriptors, descriptors)]).ConfigureAwait(false))
        {
            return false;
        }

        ushort offered = BinaryPrimitives.ReadUInt16LittleEndian(available.AsSpan(2));
        if ((ushort)(offered - _queues[queue].Taken) > length)
        {
            return false;
        }

        _queues[queue].Offered = offered;
        ushort before = _queues[queue].GivenBack;
        while (_queues[queue].Taken != offered && _device.CanHandle(queue))
        {
            ushort head = BinaryPrimitives.ReadUInt16LittleEndian(available.AsSpan(RingHeaderLength + (_queues[queue].Taken % length * sizeof(ushort))));
            _queues[queue].Taken++;
            if (!TryWalk(descriptors, length, head, out List<(ulong Gpa, int Length)> readable, out List<(ulong Gpa, int Length)> writable)
                || await GatherAsync(readable).ConfigureAwait(false) is not { } input
                || !_device.TryHandle(queue, input, Length(writable), head, out VirtioCompletion? completion))
            {
                return false;
            }

            if (completion is { } done && !await TryGiveBackAsync(queue, done, writable).ConfigureAwait(false))
            {
                return false;
            }
        }

        if (_queues[queue].GivenBack != before && (BinaryPrimitives.ReadUInt16LittleEndian(available) & NoInterrupt) == 0)
        {
            _interruptStatus |= InterruptUsed;
        }

        return true;
    }

    private static bool TryWalk(byte[] descriptors, ushort queueLength, ushort head, out List<(ulong Gpa, int Length)> readable, out List<(ulong Gpa, int Length)> writable)
    {
        readable = [];
        writable = [];
        long total = 0;
        ushort index = head;
        for (int i = 0; i < queueLength; i++)
        {
            if (index >= queueLength)
            {
                return false;
            }

            ReadOnlySpan<byte> descriptor = descriptors.AsSpan(index * DescriptorLength, DescriptorLength);
            uint length = BinaryPrimitives.ReadUInt32LittleEndian(descriptor[8..]);
            ushort flags = BinaryPrimitives.ReadUInt16LittleEndian(descriptor[12..]);
            total += length;
            if (length == 0 || total > MaxRequestLength || (flags & ~(DescriptorNext | DescriptorWrite)) != 0 || ((flags & DescriptorWrite) == 0 && writable.Count != 0))
            {
                return false;
            }

            ((flags & DescriptorWrite) == 0 ? readable : writable).Add((BinaryPrimitives.ReadUInt64LittleEndian(descriptor), (int)length));
            if ((flags & DescriptorNext) == 0)
            {
                return true;
            }

            index = BinaryPrimitives.ReadUInt16LittleEndian(descriptor[14..]);
        }

        return false;
    }

    private async Task<byte[]?> GatherAsync(List<(ulong Gpa, int Length)> parts)
    {
        byte[] all = new byte[Length(parts)];
        var reads = new List<DevicePart>();
        int at = 0;
        foreach ((ulong gpa, int length) in parts)
        {
            reads.Add(new DevicePart(gpa, new ArraySegment<byte>(all, at, length)));
            at += length;
        }

        return await _memory.ReadAsync(reads).ConfigureAwait(false) ? all : null;
    }

    private async Task<bool> TryGiveBackAsync(int queue, VirtioCompletion completion, List<(ulong Gpa, int Length)> writable)
    {
        // What is between data and last byte stays as it is. The index is last: what it counts is there.
        var writes = new List<DevicePart>();
        ArraySegment<byte> data = completion.Data.ToArray();
        foreach ((ulong gpa, int length) in writable)
        {
            int count = Math.Min(data.Count, length);
            if (count != 0)
            {
                writes.Add(new DevicePart(gpa, data[..count]));
            }

            data = data[count..];
        }

        if (completion.Last is byte value && writable is [.., (ulong last, int lastLength)])
        {
            writes.Add(new DevicePart(last + (ulong)lastLength - 1, new[] { value }));
        }

        byte[] element = new byte[UsedElementLength];
        BinaryPrimitives.WriteUInt32LittleEndian(element, completion.Id);
        BinaryPrimitives.WriteUInt32LittleEndian(element.AsSpan(sizeof(uint)), completion.Length);
        byte[] index = new byte[sizeof(ushort)];
        ushort givenBack = _queues[queue].GivenBack;
        BinaryPrimitives.WriteUInt16LittleEndian(index, (ushort)(givenBack + 1));
        writes.Add(new DevicePart(_queues[queue].Used + (ulong)(RingHeaderLength + (givenBack % _queues[queue].Length * UsedElementLength)), element));
        writes.Add(new DevicePart(_queues[queue].Used + sizeof(ushort), index));
        bool done = await _memory.WriteAsync(writes).ConfigureAwait(false);
        _queues[queue].GivenBack++;
        return done;
    }

    private static int Length(List<(ulong Gpa, int Length)> parts)
    {
        int length = 0;
        foreach ((_, int part) in parts)
        {
            length += part;
        }

        return length;
    }

    private static void SetHalf(ref ulong value, bool upper, uint half) =>
        value = upper ? (value & uint.MaxValue) | ((ulong)half << 32) : (value & ~(ulong)uint.MaxValue) | half;

    private struct Queue
    {
        public ushort Length;
        public bool IsReady;
        public ulong Descriptors;
        public ulong Available;
        public ulong Used;

        // As of the last look: what follows the driver tells with the next notification.
        public ushort Offered;
        public ushort Taken;
        public ushort GivenBack;
    }
}
