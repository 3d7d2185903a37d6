// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's memory for a module: copies only. There is no view of it, because the guest may change it at any time: what is to be checked is
// read into the module's own memory once, checked there, and used from there.
//
// Every access is checked by the kernel: all of it must be memory that the guest itself may read or write at that moment. So a guest that
// passes the address of the SVSM's memory, of a page that it gave back, or of nothing, gets an error for itself and the module sees false.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Core;

/// <summary>Reads and writes the guest's memory.</summary>
public abstract class GuestMemory
{
    /// <summary>Most bytes of a copy: 1 MiB.</summary>
    public const int MaxLength = Svsm.Wire.ModuleDescriptor.MaxTransfer;

    private protected GuestMemory()
    {
    }

    /// <summary>Copies from the guest.</summary>
    /// <param name="address">The first byte. Untrusted; may be any number, and need not be aligned.</param>
    /// <param name="destination">Where to, as much as is wanted.</param>
    /// <returns>False: some of it is not memory that the guest may read. <paramref name="destination"/> is cleared then. Answer
    /// <see cref="Svsm.Wire.SvsmResultCode.InvalidAddress"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="destination"/> is longer than <see cref="MaxLength"/>.</exception>
    /// <remarks>Read everything once: a second read may find other bytes. The guest may write while the copy is made.</remarks>
    public bool TryRead(PhysicalAddress address, Span<byte> destination)
    {
        if (IsRange(address, destination.Length) && TryReadCore(address, destination))
        {
            return true;
        }

        destination.Clear();
        return false;
    }

    /// <summary>Copies a structure from the guest.</summary>
    /// <param name="address">Its first byte. Untrusted; may be any number, and need not be aligned.</param>
    /// <param name="value">The copy; zero if there is none.</param>
    /// <typeparam name="T">A structure without padding and without references; its integers are little-endian.</typeparam>
    /// <returns>False: some of it is not memory that the guest may read. Answer <see cref="Svsm.Wire.SvsmResultCode.InvalidAddress"/>.</returns>
    public bool TryRead<T>(PhysicalAddress address, out T value)
        where T : unmanaged
    {
        Unsafe.SkipInit(out value);
        return TryRead(address, MemoryMarshal.AsBytes(new Span<T>(ref value)));
    }

    /// <summary>Copies to the guest.</summary>
    /// <param name="address">The first byte. Untrusted; may be any number, and need not be aligned.</param>
    /// <param name="source">What to copy.</param>
    /// <returns>False: some of it is not memory that the guest may write. Nothing was written if it was so when the copy began; a guest that
    /// gives pages away meanwhile may get a part. Answer <see cref="Svsm.Wire.SvsmResultCode.InvalidAddress"/>.</returns>
    /// <exception cref="ArgumentOutOfRangeException"><paramref name="source"/> is longer than <see cref="MaxLength"/>.</exception>
    public bool TryWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => IsRange(address, source.Length) && TryWriteCore(address, source);

    private protected abstract bool TryReadCore(PhysicalAddress address, Span<byte> destination);

    private protected abstract bool TryWriteCore(PhysicalAddress address, ReadOnlySpan<byte> source);

    // Offsets of files are signed: no guest-physical address has more than 52 bits.
    private static bool IsRange(PhysicalAddress address, int length)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, MaxLength);
        return address.Value <= (1UL << 52) - (ulong)length;
    }
}
