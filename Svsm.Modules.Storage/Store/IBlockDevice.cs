// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Store;

/// <summary>
/// The device below a store: sectors that are read and written whole. Untrusted: it may answer with anything, lose or reorder what was written before a
/// flush, tear a sector when power fails, and fail at any call. What the store believes, it has authenticated.
/// </summary>
public interface IBlockDevice
{
    /// <summary>Bytes of a sector: 512 or 4096.</summary>
    int SectorSize { get; }

    /// <summary>How many sectors there are. May grow while the device is in use.</summary>
    long SectorCount { get; }

    /// <summary>Reads sectors.</summary>
    /// <param name="sector">The first one.</param>
    /// <param name="destination">Where they go; a multiple of <see cref="SectorSize"/>.</param>
    /// <returns>False: not all of it was read.</returns>
    bool TryRead(long sector, Span<byte> destination);

    /// <summary>Writes sectors. Whether they are still there after power failed is open until a flush is done.</summary>
    /// <param name="sector">The first one.</param>
    /// <param name="source">What is written; a multiple of <see cref="SectorSize"/>.</param>
    /// <returns>False: any part of it may have been written.</returns>
    bool TryWrite(long sector, ReadOnlySpan<byte> source);

    /// <summary>Makes everything that was written permanent.</summary>
    /// <returns>False: it may not be.</returns>
    bool TryFlush();
}
