// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The driver of the channel to the relay: a virtio console with one port, in which frames go (docs/migration-protocol.md, "Messages"). It never waits: what
// cannot go yet is tried again. Frames that are put are joined, so that the host is asked once for many of them.
//
// The queue that sends is at 0 of the memory, the one that receives at 0x9000. Whatever comes is untrusted; a frame that is none is the end of the stream, and the
// device is set up anew.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 5.3 (console device).

using System;
using System.Buffers.Binary;
using System.IO;
using Svsm.Core;
using Svsm.Migration;
using Svsm.Modules.Storage;

namespace Svsm.Modules.Migration;

/// <summary>The driver.</summary>
/// <param name="devices">Registers and memory.</param>
/// <param name="slot">Which registers.</param>
internal sealed class MigrationChannel(SvsmDisks devices, int slot)
    : VirtioDriver(devices, slot, Kind, 0, ResetMilliseconds, new VirtioRing(devices, ReceiveOffset, 0, 0, 0), new VirtioRing(devices, SendOffset, 0, 0, SendLength))
{
    /// <summary>The kind of device: a console.</summary>
    public const uint Kind = 3;

    /// <summary>Bytes before the contents of a frame.</summary>
    public const int HeadLength = 8;

    /// <summary>Most bytes of contents.</summary>
    public const int MaxContents = 0x1_1000;

    private const int KindOffset = 4;
    private const int ResetMilliseconds = 1000;
    private const int ReceiveQueue = 0;
    private const int SendQueue = 1;
    private const int InterruptStatus = 0x060;
    private const int SendOffset = 0;
    private const int SendLength = 0x8000;
    private const int ReceiveOffset = 0x9000;
    private const int ReceiveLength = 0x6000;

    // What was put, and not sent: at most a frame more than one request takes.
    private readonly byte[] _out = new byte[SendLength + HeadLength + MaxContents];
    private readonly byte[] _in = new byte[HeadLength + MaxContents + ReceiveLength];
    private int _outLength;
    private int _inAt;
    private int _inEnd;
    private bool _isSending;

    /// <summary>There is room for a frame.</summary>
    public bool HasRoom => _outLength < SendLength;

    /// <summary>Nothing waits to be sent.</summary>
    public bool IsEmpty => _outLength == 0 && !_isSending;

    /// <summary>Puts a frame behind the others. There is room.</summary>
    /// <param name="frame">The frame.</param>
    public void Put(in MigrationFrame frame)
    {
        Span<byte> at = _out.AsSpan(_outLength);
        BinaryPrimitives.WriteInt32LittleEndian(at, frame.Contents.Length);
        BinaryPrimitives.WriteInt32LittleEndian(at[KindOffset..], (byte)frame.Kind);
        frame.Contents.CopyTo(at[HeadLength..]);
        _outLength += HeadLength + frame.Contents.Length;
    }

    /// <summary>Sends what can go now.</summary>
    /// <returns>Something went.</returns>
    public bool Send()
    {
        if (!TryPrepare())
        {
            _outLength = 0;
            return false;
        }

        try
        {
            if (_isSending)
            {
                Look();
                if (!IsBack(SendQueue, out _))
                {
                    return false;
                }

                _isSending = false;
            }

            int length = Math.Min(_outLength, SendLength);
            if (length == 0)
            {
                return false;
            }

            Ring(SendQueue).DescribeData(0, length, isWritable: false, isLast: true);
            Ring(SendQueue).Offer(_out.AsSpan(0, length));
            _isSending = true;
            Notify(SendQueue);
            _out.AsSpan(length, _outLength - length).CopyTo(_out);
            _outLength -= length;
            return true;
        }
        catch (IOException exception)
        {
            return Fail(exception.Message);
        }
    }

    /// <summary>Takes the next frame.</summary>
    /// <param name="frame">The frame. Untrusted.</param>
    /// <returns>False: none is there.</returns>
    public bool TryReceive(out MigrationFrame frame)
    {
        frame = default;
        while (TryPrepare())
        {
            if (TryParse(out frame, out bool isBroken))
            {
                return true;
            }

            if (isBroken || !TryFill())
            {
                return false;
            }
        }

        return false;
    }

    /// <inheritdoc/>
    protected override void OnReady()
    {
        (_inAt, _inEnd, _isSending) = (0, 0, false);
        OfferRoom();
    }

    // There are no interrupts; the machine that plays a device may wait for an access to do something, as this one.
    /// <inheritdoc/>
    protected override void Look() => Read(InterruptStatus);

    private bool TryParse(out MigrationFrame frame, out bool isBroken)
    {
        frame = default;
        isBroken = false;
        ReadOnlySpan<byte> there = _in.AsSpan(_inAt, _inEnd - _inAt);
        if (there.Length < HeadLength)
        {
            return false;
        }

        uint length = BinaryPrimitives.ReadUInt32LittleEndian(there);
        if (length > MaxContents || BinaryPrimitives.ReadUInt32LittleEndian(there[KindOffset..]) > byte.MaxValue)
        {
            isBroken = true;
            Fail($"a frame of {length} bytes and kind 0x{BinaryPrimitives.ReadUInt32LittleEndian(there[KindOffset..]):X}; wanted are at most {MaxContents}, and a byte");
            return false;
        }

        if (there.Length - HeadLength < length)
        {
            return false;
        }

        frame = new((FrameKind)there[KindOffset], there.Slice(HeadLength, (int)length).ToArray());
        _inAt += HeadLength + (int)length;
        return true;
    }

    private bool TryFill()
    {
        try
        {
            Look();
            if (!IsBack(ReceiveQueue, out uint written))
            {
                return false;
            }

            if (written is 0 or > ReceiveLength)
            {
                return Fail($"it has given back {written} bytes; wanted are 1 to {ReceiveLength}");
            }

            _in.AsSpan(_inAt, _inEnd - _inAt).CopyTo(_in);
            (_inAt, _inEnd) = (0, _inEnd - _inAt);
            Disks.ReadMemory(Ring(ReceiveQueue).DataOffset, _in.AsSpan(_inEnd, (int)written));
            _inEnd += (int)written;
            OfferRoom();
            return true;
        }
        catch (IOException exception)
        {
            return Fail(exception.Message);
        }
    }

    private bool IsBack(int queue, out uint written)
    {
        if (!Ring(queue).TryTake(out uint id, out written, out string problem))
        {
            return problem.Length != 0 && Fail(problem);
        }

        return (id == 0 && (queue == ReceiveQueue || written == 0)) || Fail($"it has given back request {id} with {written} bytes of queue {queue}");
    }

    private void OfferRoom()
    {
        Ring(ReceiveQueue).DescribeData(0, ReceiveLength, isWritable: true, isLast: true);
        Ring(ReceiveQueue).Offer([]);
        Notify(ReceiveQueue);
    }
}
