// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A virtio console with one port: bytes to the driver in queue 0, bytes from it in queue 1.
//
// Source: Virtual I/O Device (VIRTIO) 1.2, 5.3 (console device).

using System;

namespace Svsm.Simulator;

internal abstract class VirtioPort : VirtioDevice
{
    protected const int ReceiveQueue = 0;

    public sealed override uint Kind => 3;

    public sealed override ulong Features => 0;

    public sealed override int QueueCount => 2;

    public sealed override bool TryHandle(int queue, ReadOnlyMemory<byte> input, int room, ushort id, out VirtioCompletion? completion)
    {
        bool isReceive = queue == ReceiveQueue;
        completion = null;
        if (isReceive ? room == 0 || !input.IsEmpty : room != 0 || input.IsEmpty)
        {
            return false;
        }

        ReadOnlyMemory<byte> data = default;
        if (isReceive)
        {
            data = Take(room);
        }
        else
        {
            Send(input.Span);
        }

        completion = new() { Data = data, Length = (uint)data.Length, Id = id };
        return true;
    }

    // What has come for the driver, as much of it as there is room for, which is not 0.
    protected abstract ReadOnlyMemory<byte> Take(int room);

    // What the driver sends, not nothing.
    protected abstract void Send(ReadOnlySpan<byte> bytes);
}
