// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// QEMU's firmware configuration device (fw_cfg): an item is chosen at 0x510 and read byte by byte at 0x511, or in one piece by DMA, from and to shared
// pages only. Nothing can be written. What the items say is the business of the machine's host side; they stay in the launch blob.
//
// DMA: the address of a request is written to 0x514, in two halves, the second of which starts it. All numbers are big-endian.
//   0x0 control    0 error, 1 read, 2 skip, 3 select the item in 31:16, 4 write; when it is done: 0, or the error bit
//   0x4 length
//   0x8 address
//
// Source: QEMU docs/specs/fw_cfg.rst.

using System;
using System.Buffers.Binary;
using Svsm.Simulator.Shared;

namespace Svsm.Hypervisor;

/// <summary>The items that a firmware asks its host for.</summary>
internal sealed unsafe class FirmwareItems
{
    // SAFETY (whole type): an item's data lie in the launch blob, which the loader has checked and nobody else uses.

    private const int MaxItems = (int)LaunchHeader.MaxItemCount;

    private const int RequestLength = 16;
    private const uint Error = 1 << 0;
    private const uint ReadItem = 1 << 1;
    private const uint SkipItem = 1 << 2;
    private const uint SelectItem = 1 << 3;
    private const uint WriteItem = 1 << 4;
    private const int ItemShift = 16;

    private readonly uint[] _keys = new uint[MaxItems];
    private readonly ulong[] _data = new ulong[MaxItems];
    private readonly ulong[] _lengths = new ulong[MaxItems];
    private int _count;
    private int _selected = -1;
    private ulong _offset;
    private uint _addressHigh;

    /// <summary>What the DMA address register reads as when the device has DMA.</summary>
    public static ReadOnlySpan<byte> DmaSignature => "QEMU CFG"u8;

    /// <summary>Whether there is such a device.</summary>
    public bool Any => _count != 0;

    /// <summary>Adds an item.</summary>
    /// <param name="key">What it is chosen by.</param>
    /// <param name="data">Its bytes.</param>
    /// <param name="length">Their number.</param>
    /// <returns>False when there are too many.</returns>
    public bool TryAdd(uint key, byte* data, ulong length)
    {
        if (_count == MaxItems)
        {
            return false;
        }

        _keys[_count] = key;
        _data[_count] = (ulong)data;
        _lengths[_count++] = length;
        return true;
    }

    /// <summary>Passes which items there are (HostState.cs): both machines must have the same.</summary>
    public void PassKind(ref StateStream stream)
    {
        stream.Same((ulong)_count);
        for (int i = 0; i < _count; i++)
        {
            stream.Same(_keys[i]);
            stream.Same(_lengths[i]);
        }
    }

    /// <summary>Passes what is chosen and read (HostState.cs).</summary>
    public void Pass(ref StateStream stream)
    {
        _selected = stream.Byte((byte)(_selected + 1), (byte)_count) - 1;
        _offset = stream.Quad(_offset);
        _addressHigh = stream.Word(_addressHigh);
    }

    /// <summary>Chooses an item, from its first byte on.</summary>
    public void Select(uint key)
    {
        _selected = -1;
        _offset = 0;
        for (int i = 0; i < _count; i++)
        {
            if (_keys[i] == key)
            {
                _selected = i;
            }
        }
    }

    /// <summary>Reads the next byte of the item; 0 behind its end, and when there is no such item.</summary>
    public byte Read()
    {
        return _selected < 0 || _offset >= _lengths[_selected] ? (byte)0 : ((byte*)_data[_selected])[_offset++];
    }

    /// <summary>Writes a half of the DMA address register; the lower one starts a request.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="offset">Of the half in the register: 0 or 4.</param>
    /// <param name="value">What the guest wrote, a big-endian number.</param>
    public void WriteDma(GuestMemory memory, int offset, uint value)
    {
        uint half = BinaryPrimitives.ReverseEndianness(value);
        if (offset == 0)
        {
            _addressHigh = half;
            return;
        }

        ulong gpa = ((ulong)_addressHigh << 32) | half;
        _addressHigh = 0;
        if (!Any || !memory.IsShared(gpa, RequestLength))
        {
            // Where to tell of the error, nobody knows.
            return;
        }

        Span<byte> request = stackalloc byte[RequestLength];
        memory.CopyFromShared(gpa, request);
        bool done = TryTransfer(
            memory, BinaryPrimitives.ReadUInt32BigEndian(request), BinaryPrimitives.ReadUInt32BigEndian(request.Slice(4)), BinaryPrimitives.ReadUInt64BigEndian(request.Slice(8)));
        Span<byte> answer = request.Slice(0, sizeof(uint));
        BinaryPrimitives.WriteUInt32BigEndian(answer, done ? 0 : Error);
        memory.CopyToShared(gpa, answer);
    }

    private bool TryTransfer(GuestMemory memory, uint control, uint length, ulong gpa)
    {
        if ((control & SelectItem) != 0)
        {
            Select(control >> ItemShift);
        }

        if ((control & ReadItem) == 0)
        {
            bool skips = (control & (SkipItem | WriteItem)) == SkipItem;
            _offset += skips ? length : 0;
            return skips || (control & WriteItem) == 0 || length == 0;
        }

        Span<byte> zeroes = stackalloc byte[(int)Amd64.PageSize];
        zeroes.Clear();

        // A piece that is not shared is an error; what came before it has been written.
        while (length != 0)
        {
            ulong left = _selected < 0 || _offset >= _lengths[_selected] ? 0 : _lengths[_selected] - _offset;
            int count = (int)Math.Min(Math.Min(length, Amd64.PageSize - (gpa & (Amd64.PageSize - 1))), left == 0 ? ulong.MaxValue : left);
            if (!memory.IsShared(gpa, (ulong)count))
            {
                return false;
            }

            // SAFETY: the piece is in the item. Behind it there are zeroes.
            memory.CopyToShared(gpa, left == 0 ? zeroes.Slice(0, count) : new ReadOnlySpan<byte>((byte*)_data[_selected] + _offset, count));

            _offset += (ulong)count;
            gpa += (ulong)count;
            length -= (uint)count;
        }

        return true;
    }
}
