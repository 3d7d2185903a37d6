// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The CPUID page as an image carries it: only the leaves that the guest wants; the host fills in the values.
//
// Layout: u32 count (at most 64), 12 bytes of zeroes, then 48-byte entries: u32 EAX in, u32 ECX in, u64 XCR0 in, u64 XSS in,
// u32 EAX, EBX, ECX, EDX out, u64 reserved.
//
// Source: SEV-SNP firmware ABI, MSG_CPUID_REQ; the leaf list is the one that hosts are known to answer (coconut-svsm tools/igvmbuilder).

using System;
using System.Buffers.Binary;
using System.Collections.Immutable;

namespace Svsm.Igvm.Imaging;

/// <summary>A CPUID leaf and subleaf.</summary>
/// <param name="Leaf">Input EAX.</param>
/// <param name="Subleaf">Input ECX.</param>
public readonly record struct CpuidLeaf(uint Leaf, uint Subleaf = 0);

/// <summary>Makes CPUID pages for images.</summary>
public static class CpuidPage
{
    /// <summary>Most entries of a page.</summary>
    public const int MaximumEntries = 64;

    /// <summary>Offset of the first entry.</summary>
    public const int FirstEntryOffset = 16;

    /// <summary>Bytes of an entry.</summary>
    public const int EntryLength = 48;

    /// <summary>The leaves that an SVSM and an ordinary guest need.</summary>
    public static ImmutableArray<CpuidLeaf> DefaultLeaves { get; } =
    [
        new(0x8000_001F), new(0), new(1), new(2), new(4, 0), new(4, 1), new(4, 2), new(4, 3), new(5), new(6), new(7, 0), new(7, 1),
        new(0xB, 0), new(0xB, 1), new(0xD, 0), new(0xD, 1), new(0xD, 2),
        new(0x4000_0000), new(0x4000_0001),
        new(0x8000_0000), new(0x8000_0001), new(0x8000_0002), new(0x8000_0003), new(0x8000_0004), new(0x8000_0005), new(0x8000_0006),
        new(0x8000_0007), new(0x8000_0008), new(0x8000_000A), new(0x8000_0019), new(0x8000_001A),
        new(0x8000_001D, 0), new(0x8000_001D, 1), new(0x8000_001D, 2), new(0x8000_001D, 3), new(0x8000_001E),
    ];

    /// <summary>Makes a page that asks for leaves.</summary>
    /// <param name="leaves">The leaves, at most <see cref="MaximumEntries"/>.</param>
    /// <returns>4096 bytes.</returns>
    /// <exception cref="ArgumentException">There are more leaves than fit.</exception>
    public static byte[] Create(ReadOnlySpan<CpuidLeaf> leaves)
    {
        if (leaves.Length > MaximumEntries)
        {
            throw new ArgumentException($"A CPUID page has room for {MaximumEntries} leaves; {leaves.Length} were given.", nameof(leaves));
        }

        byte[] page = new byte[LaunchImage.PageSize];
        BinaryPrimitives.WriteUInt32LittleEndian(page, (uint)leaves.Length);
        for (int i = 0; i < leaves.Length; i++)
        {
            Span<byte> entry = page.AsSpan(FirstEntryOffset + (i * EntryLength));
            BinaryPrimitives.WriteUInt32LittleEndian(entry, leaves[i].Leaf);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[4..], leaves[i].Subleaf);
        }

        return page;
    }
}
