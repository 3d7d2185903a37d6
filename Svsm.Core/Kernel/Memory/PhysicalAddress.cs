// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Addresses and sizes with a type of their own, so that a guest-physical address never passes for a virtual one.

namespace Svsm.Kernel.Memory;

/// <summary>Sizes of pages.</summary>
internal static class Page
{
    /// <summary>Bytes in a page.</summary>
    public const int Size = 4096;

    /// <summary>Base-2 logarithm of <see cref="Size"/>.</summary>
    public const int Shift = 12;

    /// <summary>4-KiB pages in a 2-MiB page.</summary>
    public const int PerLarge = 512;

    /// <summary>Bytes in a 2-MiB page.</summary>
    public const ulong LargeSize = 0x20_0000;
}

/// <summary>Page sizes as PVALIDATE and RMPADJUST number them.</summary>
internal enum PageSize : uint
{
    /// <summary>4 KiB.</summary>
    Small = 0,

    /// <summary>2 MiB.</summary>
    Large = 1,
}

/// <summary>A guest-physical address without C-bit.</summary>
internal readonly struct PhysicalAddress
{
    /// <summary>The address in bytes.</summary>
    public readonly ulong Value;

    /// <summary>Wraps a number.</summary>
    /// <param name="value">The address in bytes. Not checked.</param>
    public PhysicalAddress(ulong value) => Value = value;

    /// <summary>Number of the 4-KiB page that holds the address.</summary>
    public ulong PageNumber => Value >> Page.Shift;

    /// <summary>Byte offset in its 4-KiB page.</summary>
    public int PageOffset => (int)(Value & (Page.Size - 1));

    /// <summary>The page that holds the address.</summary>
    public PhysicalAddress PageBase => new(Value & ~(ulong)(Page.Size - 1));

    /// <summary>Whether the address is the first byte of a page of this size.</summary>
    public bool IsAlignedTo(PageSize size) => (Value & (BytesOf(size) - 1)) == 0;

    /// <summary>Bytes in a page of this size.</summary>
    public static ulong BytesOf(PageSize size) => size == PageSize.Large ? Page.LargeSize : Page.Size;

    /// <summary>4-KiB pages in a page of this size.</summary>
    public static int PagesOf(PageSize size) => size == PageSize.Large ? Page.PerLarge : 1;

    /// <summary>The first byte of a 4-KiB page.</summary>
    public static PhysicalAddress OfPage(ulong pageNumber) => new(pageNumber << Page.Shift);
}
