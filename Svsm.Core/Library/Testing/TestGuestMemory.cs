// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's memory of a test: from address 0, with a right per page, and a hook before each access of the module. A hostile guest is
// played with both: it takes pages away, and changes what the module has read already.

using System;

namespace Svsm.Core.Testing;

/// <summary>What the guest may do with one of its pages, and so what a module may do there for it.</summary>
public enum GuestPageAccess
{
    /// <summary>The page is not the guest's: the SVSM's, not validated, or no memory.</summary>
    None,

    /// <summary>The guest may read it.</summary>
    Read,

    /// <summary>The guest may read and write it.</summary>
    ReadWrite,
}

/// <summary>An access of the module that is about to happen.</summary>
/// <param name="Address">First byte.</param>
/// <param name="Length">Bytes.</param>
/// <param name="IsWrite">Whether the module writes.</param>
public readonly record struct GuestMemoryAccess(PhysicalAddress Address, int Length, bool IsWrite);

/// <summary>Guest memory that a test owns.</summary>
public sealed class TestGuestMemory : GuestMemory
{
    private readonly byte[] _bytes;
    private readonly GuestPageAccess[] _pages;

    internal TestGuestMemory(int size)
    {
        if (size <= 0 || size % PhysicalAddress.PageSize != 0)
        {
            throw new ArgumentOutOfRangeException(nameof(size), size, $"wanted is a positive multiple of {PhysicalAddress.PageSize}");
        }

        _bytes = new byte[size];
        _pages = new GuestPageAccess[size / PhysicalAddress.PageSize];
        _pages.AsSpan().Fill(GuestPageAccess.ReadWrite);
    }

    /// <summary>Is called before each access of the module, also before one that will be refused.</summary>
    public Action<GuestMemoryAccess>? BeforeAccess { get; set; }

    /// <summary>Changes the right to pages.</summary>
    /// <param name="first">The first page; its first byte.</param>
    /// <param name="pageCount">How many.</param>
    /// <param name="access">The right.</param>
    /// <exception cref="ArgumentOutOfRangeException">They are not pages of this memory.</exception>
    public void SetAccess(PhysicalAddress first, int pageCount, GuestPageAccess access)
    {
        if (!first.IsPageAligned || pageCount < 0 || first.Value > (ulong)_bytes.Length || (ulong)pageCount > (ulong)_pages.Length - (first.Value / PhysicalAddress.PageSize))
        {
            throw new ArgumentOutOfRangeException(
                nameof(first), $"{pageCount} pages from {first}; wanted are whole pages below {new PhysicalAddress((ulong)_bytes.Length)}");
        }

        _pages.AsSpan((int)(first.Value / PhysicalAddress.PageSize), pageCount).Fill(access);
    }

    /// <summary>Writes as the guest.</summary>
    /// <param name="address">The first byte.</param>
    /// <param name="source">What to write.</param>
    /// <exception cref="ArgumentOutOfRangeException">It does not lie in this memory.</exception>
    public void GuestWrite(PhysicalAddress address, ReadOnlySpan<byte> source) => source.CopyTo(At(address, source.Length));

    /// <summary>Reads as the guest.</summary>
    /// <param name="address">The first byte.</param>
    /// <param name="length">Bytes.</param>
    /// <returns>A copy.</returns>
    /// <exception cref="ArgumentOutOfRangeException">It does not lie in this memory.</exception>
    public byte[] GuestRead(PhysicalAddress address, int length)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        return At(address, length).ToArray();
    }

    private protected override bool TryReadCore(PhysicalAddress address, Span<byte> destination)
    {
        BeforeAccess?.Invoke(new(address, destination.Length, false));
        if (!Allows(address, destination.Length, GuestPageAccess.Read))
        {
            return false;
        }

        At(address, destination.Length).CopyTo(destination);
        return true;
    }

    private protected override bool TryWriteCore(PhysicalAddress address, ReadOnlySpan<byte> source)
    {
        BeforeAccess?.Invoke(new(address, source.Length, true));
        if (!Allows(address, source.Length, GuestPageAccess.ReadWrite))
        {
            return false;
        }

        source.CopyTo(At(address, source.Length));
        return true;
    }

    private bool Allows(PhysicalAddress address, int length, GuestPageAccess wanted)
    {
        if (length == 0)
        {
            return true;
        }

        if (!IsInside(address, length))
        {
            return false;
        }

        int first = (int)(address.Value / PhysicalAddress.PageSize);
        int last = (int)((address.Value + (ulong)length - 1) / PhysicalAddress.PageSize);
        foreach (GuestPageAccess access in _pages.AsSpan(first, last - first + 1))
        {
            if (access < wanted)
            {
                return false;
            }
        }

        return true;
    }

    private bool IsInside(PhysicalAddress address, int length) => address.Value <= (ulong)_bytes.Length && length <= _bytes.Length - (int)address.Value;

    private Span<byte> At(PhysicalAddress address, int length) => IsInside(address, length)
        ? _bytes.AsSpan((int)address.Value, length)
        : length == 0 ? [] : throw new ArgumentOutOfRangeException(
            nameof(address), $"{length} bytes from {address}; wanted is less than {new PhysicalAddress((ulong)_bytes.Length)}");
}
