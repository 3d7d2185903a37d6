// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Store;

/// <summary>Reads blocks that are asked for in ascending order, many at a time: a log of small entries is a request for each otherwise.</summary>
internal sealed class BlockWindow(BlockAccess device)
{
    private const int WindowBlocks = 16;

    private readonly byte[] _buffer = new byte[WindowBlocks * StoreFormat.BlockSize];
    private long _start;
    private int _count;

    /// <summary>Copies blocks.</summary>
    /// <param name="block">The first one.</param>
    /// <param name="destination">Where they go; whole blocks.</param>
    /// <returns>False: the device failed.</returns>
    public bool TryRead(long block, Span<byte> destination)
    {
        for (; !destination.IsEmpty; block++, destination = destination[StoreFormat.BlockSize..])
        {
            if (block < _start || block >= _start + _count)
            {
                _count = 0;
                int count = (int)Math.Min(WindowBlocks, device.BlockCount - block);
                if (count <= 0 || !device.TryRead(block, _buffer.AsSpan(0, count * StoreFormat.BlockSize)))
                {
                    return false;
                }

                (_start, _count) = (block, count);
            }

            _buffer.AsSpan((int)(block - _start) * StoreFormat.BlockSize, StoreFormat.BlockSize).CopyTo(destination);
        }

        return true;
    }
}
