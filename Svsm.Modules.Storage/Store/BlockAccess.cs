// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Store;

/// <summary>A device in blocks of the format. Its size is asked once, and again only to grow.</summary>
internal sealed class BlockAccess
{
    private readonly IBlockDevice _device;
    private readonly int _sectorsPerBlock;

    private BlockAccess(IBlockDevice device, int sectorSize)
    {
        _device = device;
        _sectorsPerBlock = StoreFormat.BlockSize / sectorSize;
        Measure();
    }

    /// <summary>Whole blocks, at most as many as the format can have.</summary>
    public long BlockCount { get; private set; }

    /// <returns>Null: sectors of this size are none of a store.</returns>
    public static BlockAccess? Create(IBlockDevice device)
    {
        int size = device.SectorSize;
        return size is 512 or StoreFormat.BlockSize ? new BlockAccess(device, size) : null;
    }

    public void Measure() => BlockCount = Math.Clamp(_device.SectorCount / _sectorsPerBlock, 0, StoreFormat.MaxBlocks);

    public bool TryRead(long block, Span<byte> destination) => IsInside(block, destination.Length) && _device.TryRead(block * _sectorsPerBlock, destination);

    public bool TryWrite(long block, ReadOnlySpan<byte> source) => IsInside(block, source.Length) && _device.TryWrite(block * _sectorsPerBlock, source);

    public bool TryFlush() => _device.TryFlush();

    private bool IsInside(long block, int length) => block >= 0 && block <= BlockCount - (length / StoreFormat.BlockSize);
}
