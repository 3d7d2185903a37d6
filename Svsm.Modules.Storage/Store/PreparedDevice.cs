// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A device on which an SVSM may make a store: for keys that only the SVSM has, where nobody else can make one. The mark says that whoever gave the device
// meant it; an empty device may be a mistake, behind which the old one is with all that the TPM and the variables were. It stops no host: every host can
// write it. docs/store-format.md has its bytes.

using System;

namespace Svsm.Store;

/// <summary>Devices that are marked for a new store.</summary>
public static class PreparedDevice
{
    private static ReadOnlySpan<byte> Mark => "SVSMPREP"u8;

    /// <summary>Marks a device.</summary>
    /// <param name="device">The device, zero.</param>
    /// <returns><see cref="StoreState.Fresh"/>: it is marked. <see cref="StoreState.NotFresh"/>, <see cref="StoreState.DeviceFailed"/>, <see cref="StoreState.DeviceUnusable"/>: it is as it was.</returns>
    public static StoreState Prepare(IBlockDevice device)
    {
        if (BlockAccess.Create(device) is not BlockAccess access || access.BlockCount < StoreFormat.MinBlocks)
        {
            return StoreState.DeviceUnusable;
        }

        byte[] blocks = new byte[(StoreFormat.SlotCount + 1) * StoreFormat.BlockSize];
        if (!access.TryRead(0, blocks))
        {
            return StoreState.DeviceFailed;
        }

        if (blocks.AsSpan().ContainsAnyExcept((byte)0))
        {
            return StoreState.NotFresh;
        }

        byte[] block = new byte[StoreFormat.BlockSize];
        Mark.CopyTo(block);
        return access.TryWrite(0, block) && access.TryFlush() ? StoreState.Fresh : StoreState.DeviceFailed;
    }

    /// <summary>Whether a device is marked. What else is on it is for <see cref="PersistentStore.Create(IBlockDevice, ReadOnlySpan{byte}, StoreKeyOrigin)"/> to find out.</summary>
    /// <param name="device">The device. Untrusted.</param>
    public static bool IsPrepared(IBlockDevice device)
    {
        byte[] block = new byte[StoreFormat.BlockSize];
        return BlockAccess.Create(device) is BlockAccess access && access.TryRead(0, block) && block.AsSpan().StartsWith(Mark) && !block.AsSpan(Mark.Length).ContainsAnyExcept((byte)0);
    }
}
