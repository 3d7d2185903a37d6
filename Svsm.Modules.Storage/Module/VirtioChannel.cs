// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The driver of the SVSM's channel: a virtio console with one port, whose other end is the proxy of the broker (docs/keys.md). A stream of bytes, in which a frame is
// u32 bytes, u32 number, and so many bytes. One request at a time; an answer has its number, and one to a request that was given up is thrown away.
//
// The queue that sends is at 0xD000 of the memory, the one that receives at 0xE000, with 3584 and 4096 bytes of data. The disk has what is before.
//
// Whatever comes is untrusted: lengths are checked before anything is read, and what it means is for BrokerSession to find out.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 5.3 (console device).

using System;
using System.Buffers.Binary;
using System.Diagnostics;
using System.IO;
using Svsm.Core;
using Svsm.StoreKeys;

namespace Svsm.Modules.Storage;

/// <summary>The driver.</summary>
/// <param name="disks">Registers and memory.</param>
/// <param name="slot">Which registers.</param>
/// <param name="timeoutMilliseconds">How long an exchange may take.</param>
internal sealed class VirtioChannel(SvsmDisks disks, int slot, int timeoutMilliseconds)
    : VirtioDriver(disks, slot, Kind, 0, timeoutMilliseconds, new VirtioRing(disks, ReceiveOffset, 0, 0, 0), new VirtioRing(disks, SendOffset, 0, 0, SendLength)),
    IBrokerChannel
{
    /// <summary>The kind of device: a console.</summary>
    public const uint Kind = 3;

    private const int ReceiveQueue = 0;
    private const int SendQueue = 1;
    private const int InterruptStatus = 0x060;

    private const int SendOffset = 0xD000;
    private const int ReceiveOffset = 0xE000;
    private const int SendLength = 0xE00;
    private const int ReceiveLength = 0x1000;

    private readonly byte[] _received = new byte[ReceiveLength];
    private int _receivedAt;
    private int _receivedEnd;

    // Not that of a driver before this one, whose answer may still come.
    private uint _number = (uint)Stopwatch.GetTimestamp();

    /// <inheritdoc/>
    public bool TryExchange(ReadOnlySpan<byte> request, out byte[] answer)
    {
        answer = [];
        if (request.Length > IBrokerChannel.MaxLength || !TryPrepare())
        {
            return false;
        }

        try
        {
            long start = Stopwatch.GetTimestamp();
            byte[] frame = new byte[IBrokerChannel.HeadLength + request.Length];
            BinaryPrimitives.WriteInt32LittleEndian(frame, request.Length);
            BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(sizeof(uint)), ++_number);
            request.CopyTo(frame.AsSpan(IBrokerChannel.HeadLength));
            return TrySend(start, frame) && TryReceive(start, out answer);
        }
        catch (IOException exception)
        {
            return Fail(exception.Message);
        }
    }

    /// <inheritdoc/>
    protected override void OnReady()
    {
        _receivedAt = 0;
        _receivedEnd = 0;
        OfferRoom();
    }

    // There are no interrupts; the machine that plays a device may wait for an access to do something, as this one.
    /// <inheritdoc/>
    protected override void Look() => Read(InterruptStatus);

    private void OfferRoom()
    {
        Ring(ReceiveQueue).DescribeData(0, ReceiveLength, isWritable: true, isLast: true);
        Ring(ReceiveQueue).Offer([]);
        Notify(ReceiveQueue);
    }

    private bool TrySend(long start, ReadOnlySpan<byte> rest)
    {
        while (!rest.IsEmpty)
        {
            ReadOnlySpan<byte> part = rest[..Math.Min(SendLength, rest.Length)];
            Ring(SendQueue).DescribeData(0, part.Length, isWritable: false, isLast: true);
            Ring(SendQueue).Offer(part);
            Notify(SendQueue);
            if (!TryAwait(Ring(SendQueue), Left(start), out uint id, out uint written))
            {
                return false;
            }

            if (id != 0 || written != 0)
            {
                return Fail($"it has given back request {id} with {written} bytes; wanted is 0 with 0");
            }

            rest = rest[part.Length..];
        }

        return true;
    }

    private bool TryReceive(long start, out byte[] answer)
    {
        answer = [];
        byte[] head = new byte[IBrokerChannel.HeadLength];
        while (true)
        {
            if (!TryFill(start, head))
            {
                return false;
            }

            uint length = BinaryPrimitives.ReadUInt32LittleEndian(head);
            if (length > IBrokerChannel.MaxLength)
            {
                return Fail($"a frame of {length} bytes; wanted are at most {IBrokerChannel.MaxLength}");
            }

            byte[] contents = new byte[length];
            if (!TryFill(start, contents))
            {
                return false;
            }

            if (BinaryPrimitives.ReadUInt32LittleEndian(head.AsSpan(sizeof(uint))) == _number)
            {
                answer = contents;
                return true;
            }
        }
    }

    private bool TryFill(long start, Span<byte> rest)
    {
        while (!rest.IsEmpty)
        {
            if (_receivedAt == _receivedEnd && !TryTakePart(start))
            {
                return false;
            }

            int count = Math.Min(rest.Length, _receivedEnd - _receivedAt);
            _received.AsSpan(_receivedAt, count).CopyTo(rest);
            _receivedAt += count;
            rest = rest[count..];
        }

        return true;
    }

    private bool TryTakePart(long start)
    {
        // A host that always has something to say, and never the answer.
        if (Left(start) == 0)
        {
            return Fail($"no answer in {Timeout} ms");
        }

        if (!TryAwait(Ring(ReceiveQueue), Left(start), out uint id, out uint written))
        {
            return false;
        }

        if (id != 0 || written is 0 or > ReceiveLength)
        {
            return Fail($"it has given back request {id} with {written} bytes; wanted is 0 with 1 to {ReceiveLength}");
        }

        Disks.ReadMemory(Ring(ReceiveQueue).DataOffset, _received.AsSpan(0, (int)written));
        (_receivedAt, _receivedEnd) = (0, (int)written);
        OfferRoom();
        return true;
    }

    private int Left(long start) => Math.Max(0, Timeout - (int)Math.Min(Timeout, Stopwatch.GetElapsedTime(start).TotalMilliseconds));
}
