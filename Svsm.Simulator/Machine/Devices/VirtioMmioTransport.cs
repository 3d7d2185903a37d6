// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A virtio-mmio transport of version 2 with one block device, as a VMM plays it: registers, and one split virtqueue in the guest's shared pages.
// Requests are handled while the driver's write to QueueNotify is: when that is done, so are they.
//
//   0x000 magic, version, device, vendor     0x030 queue: select, most, length; 0x044 ready     0x080 addresses of its parts
//   0x010 features and their selectors       0x050 notify; 0x060 interrupt status, acknowledge   0x0FC generation of the configuration
//                                            0x070 status                                        0x100 configuration of the disk
//
// The driver is hostile: what it has wrong in its queue sets DEVICE_NEEDS_RESET, and the device does nothing more until it is reset.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 2.7 (split virtqueue), 4.2.2 (registers), 5.2.4 (configuration), 5.2.6 (requests).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Threading.Tasks;

namespace Svsm.Simulator;

// The guest's shared memory, as a device reaches it.
internal interface IDeviceMemory
{
    // Null when not all of it is shared RAM.
    Task<byte[]?> ReadAsync(ulong gpa, int length);

    // False when not all of it is shared RAM; then nothing is written.
    Task<bool> WriteAsync(ulong gpa, ReadOnlyMemory<byte> bytes);
}

internal sealed class VirtioMmioTransport
{
    public const ushort MaxQueueLength = 64;

    private const uint Magic = 0x7472_6976;
    private const uint Version = 2;
    private const uint BlockDevice = 2;
    private const uint Vendor = 0x4D53_5653;

    private const ulong FeatureReadOnly = 1ul << 5;
    private const ulong FeatureBlockSize = 1ul << 6;
    private const ulong FeatureFlush = 1ul << 9;
    private const ulong FeatureVersion1 = 1ul << 32;
    private const ulong FeatureAccessPlatform = 1ul << 33;
    private const ulong NeededFeatures = FeatureVersion1 | FeatureAccessPlatform;

    private const byte StatusDriverOk = 4;
    private const byte StatusFeaturesOk = 8;
    private const byte StatusNeedsReset = 0x40;
    private const uint InterruptUsed = 1;
    private const uint InterruptConfiguration = 2;

    private const int Configuration = 0x100;
    private const int ConfigurationLength = 0x18;

    private const ushort DescriptorNext = 1;
    private const ushort DescriptorWrite = 2;
    private const int DescriptorLength = 16;
    private const int RingHeaderLength = 4;
    private const int UsedElementLength = 8;
    private const ushort NoInterrupt = 1;
    private const int RequestHeaderLength = 16;
    private const int MaxRequestLength = 1 << 20;

    private readonly SvsmDisk _disk;
    private readonly IDeviceMemory _memory;

    private uint _deviceFeaturesSelect;
    private uint _driverFeaturesSelect;
    private ulong _driverFeatures;
    private uint _queueSelect;
    private uint _interruptStatus;
    private byte _status;
    private ushort _queueLength;
    private bool _queueReady;
    private ulong _descriptors;
    private ulong _available;
    private ulong _used;
    private ushort _taken;
    private ushort _givenBack;

    public VirtioMmioTransport(SvsmDisk disk, IDeviceMemory memory)
    {
        _disk = disk;
        _memory = memory;
    }

    // The level of the interrupt line.
    public bool Interrupts => _interruptStatus != 0;

    private ulong OfferedFeatures => NeededFeatures | FeatureBlockSize | FeatureFlush | (_disk.ReadOnly ? FeatureReadOnly : 0);

    public ulong Read(ulong offset, int size)
    {
        ulong value = offset >= Configuration ? ReadConfiguration(offset - Configuration, size) : size == sizeof(uint) ? ReadRegister(offset) : 0;
        return _disk.ReadRegister(offset, value);
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
                _queueLength = (ushort)value;
                break;
            case 0x044 when _queueSelect == 0:
                _queueReady = value == 1;
                break;
            case 0x050 when value == 0:
                await HandleQueueAsync().ConfigureAwait(false);
                break;
            case 0x064:
                _interruptStatus &= ~value;
                break;
            case 0x070:
                WriteStatus((byte)value);
                break;
            case 0x080 or 0x084 when CanSetUp:
                SetHalf(ref _descriptors, offset == 0x084, value);
                break;
            case 0x090 or 0x094 when CanSetUp:
                SetHalf(ref _available, offset == 0x094, value);
                break;
            case 0x0A0 or 0x0A4 when CanSetUp:
                SetHalf(ref _used, offset == 0x0A4, value);
                break;
        }
    }

    private bool CanSetUp => _queueSelect == 0 && !_queueReady;

    private uint ReadRegister(ulong offset) => offset switch
    {
        0x000 => Magic,
        0x004 => Version,
        0x008 => BlockDevice,
        0x00C => Vendor,
        0x010 => _deviceFeaturesSelect <= 1 ? (uint)(OfferedFeatures >> (32 * (int)_deviceFeaturesSelect)) : 0,
        0x034 => _queueSelect == 0 ? MaxQueueLength : 0u,
        0x044 => _queueSelect == 0 && _queueReady ? 1u : 0u,
        0x060 => _interruptStatus,
        0x070 => _status,
        _ => 0,
    };

    // u64 number of sectors, u32 longest segment, u32 most segments, 4 bytes of geometry, u32 bytes per block.
    private ulong ReadConfiguration(ulong offset, int size)
    {
        Span<byte> configuration = stackalloc byte[ConfigurationLength + sizeof(ulong)];
        configuration.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(configuration, _disk.SectorCount);
        BinaryPrimitives.WriteUInt32LittleEndian(configuration[0x14..], SvsmDisk.SectorLength);
        ulong value = offset < ConfigurationLength ? BinaryPrimitives.ReadUInt64LittleEndian(configuration[(int)offset..]) : 0;
        return size == sizeof(ulong) ? value : value & ((1ul << (8 * size)) - 1);
    }

    private void WriteStatus(byte value)
    {
        if (value == 0)
        {
            _driverFeatures = 0;
            _interruptStatus = 0;
            _status = 0;
            _queueReady = false;
            _queueLength = 0;
            _descriptors = 0;
            _available = 0;
            _used = 0;
            _taken = 0;
            _givenBack = 0;
            return;
        }

        // Bits are only ever set, and features only taken if the device can do with them.
        bool acceptable = (_driverFeatures & ~OfferedFeatures) == 0 && (_driverFeatures & NeededFeatures) == NeededFeatures;
        _status |= (byte)(value & ~StatusNeedsReset & (acceptable ? 0xFF : ~(StatusFeaturesOk | StatusDriverOk)));
    }

    private async Task HandleQueueAsync()
    {
        if ((_status & (StatusDriverOk | StatusNeedsReset)) != StatusDriverOk || !_queueReady || _queueLength == 0)
        {
            return;
        }

        if (!await TryHandleQueueAsync().ConfigureAwait(false))
        {
            _status |= StatusNeedsReset;
            _interruptStatus |= InterruptConfiguration;
        }
    }

    // False when the driver has made a mistake.
    private async Task<bool> TryHandleQueueAsync()
    {
        // Read once, as are all descriptors: what the driver changes meanwhile it changes for the next time.
        byte[]? available = await _memory.ReadAsync(_available, RingHeaderLength + (_queueLength * sizeof(ushort))).ConfigureAwait(false);
        byte[]? descriptors = await _memory.ReadAsync(_descriptors, _queueLength * DescriptorLength).ConfigureAwait(false);
        if (available is null || descriptors is null)
        {
            return false;
        }

        ushort offered = BinaryPrimitives.ReadUInt16LittleEndian(available.AsSpan(2));
        if ((ushort)(offered - _taken) > _queueLength)
        {
            return false;
        }

        ushort before = _givenBack;
        while (_taken != offered)
        {
            ushort head = BinaryPrimitives.ReadUInt16LittleEndian(available.AsSpan(RingHeaderLength + (_taken % _queueLength * sizeof(ushort))));
            _taken++;
            if (!TryWalk(descriptors, head, out List<(ulong Gpa, int Length)> readable, out List<(ulong Gpa, int Length)> writable)
                || await GatherAsync(readable).ConfigureAwait(false) is not { Length: >= RequestHeaderLength } input
                || Length(writable) is not (> 0 and int room))
            {
                return false;
            }

            var request = new BlockRequest(
                (BlockOperation)BinaryPrimitives.ReadUInt32LittleEndian(input), BinaryPrimitives.ReadUInt64LittleEndian(input.AsSpan(8)), input.AsMemory(RequestHeaderLength), room - 1, head);
            if (_disk.Handle(request) is { } completion && !await TryGiveBackAsync(completion, writable, room).ConfigureAwait(false))
            {
                return false;
            }
        }

        if (_givenBack != before && (BinaryPrimitives.ReadUInt16LittleEndian(available) & NoInterrupt) == 0)
        {
            _interruptStatus |= InterruptUsed;
        }

        return true;
    }

    private bool TryWalk(byte[] descriptors, ushort head, out List<(ulong Gpa, int Length)> readable, out List<(ulong Gpa, int Length)> writable)
    {
        readable = [];
        writable = [];
        long total = 0;
        ushort index = head;
        for (int i = 0; i < _queueLength; i++)
        {
            if (index >= _queueLength)
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
        int at = 0;
        foreach ((ulong gpa, int length) in parts)
        {
            if (await _memory.ReadAsync(gpa, length).ConfigureAwait(false) is not { } part)
            {
                return null;
            }

            part.CopyTo(all, at);
            at += length;
        }

        return all;
    }

    private async Task<bool> TryGiveBackAsync(BlockCompletion completion, List<(ulong Gpa, int Length)> writable, int room)
    {
        // Data from the start on, the status in the last byte; what is between stays as it is.
        ReadOnlyMemory<byte> data = completion.Data[..Math.Min(completion.Data.Length, room - 1)];
        foreach ((ulong gpa, int length) in writable)
        {
            int count = Math.Min(data.Length, length);
            if (count != 0 && !await _memory.WriteAsync(gpa, data[..count]).ConfigureAwait(false))
            {
                return false;
            }

            data = data[count..];
        }

        (ulong last, int lastLength) = writable[^1];
        if (!await _memory.WriteAsync(last + (ulong)lastLength - 1, new[] { (byte)completion.Status }).ConfigureAwait(false))
        {
            return false;
        }

        byte[] element = new byte[UsedElementLength];
        BinaryPrimitives.WriteUInt32LittleEndian(element, completion.Id);
        BinaryPrimitives.WriteUInt32LittleEndian(element.AsSpan(sizeof(uint)), completion.Length);
        byte[] index = new byte[sizeof(ushort)];
        BinaryPrimitives.WriteUInt16LittleEndian(index, (ushort)(_givenBack + 1));
        bool done = await _memory.WriteAsync(_used + (ulong)(RingHeaderLength + (_givenBack % _queueLength * UsedElementLength)), element).ConfigureAwait(false)
            && await _memory.WriteAsync(_used + sizeof(ushort), index).ConfigureAwait(false);
        _givenBack++;
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
}
