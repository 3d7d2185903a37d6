// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A guest-physical address with a type of its own, so that a register that holds something else does not pass for one.

using System.Globalization;

namespace Svsm.Core;

/// <summary>A guest-physical address, without C-bit. Where it comes from the guest it is untrusted: only <see cref="GuestMemory"/> checks it.</summary>
/// <param name="Value">The address in bytes.</param>
public readonly record struct PhysicalAddress(ulong Value)
{
    /// <summary>Bytes in a page.</summary>
    public const int PageSize = 4096;

    /// <summary>Byte offset in its page.</summary>
    public int PageOffset => (int)(Value & (PageSize - 1));

    /// <summary>Whether it is the first byte of a page.</summary>
    public bool IsPageAligned => PageOffset == 0;

    /// <summary>The address in hexadecimal digits.</summary>
    public override string ToString() => "0x" + Value.ToString("X", CultureInfo.InvariantCulture);
}
