// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Initial registers of an x64 processor without memory encryption of its state, for platforms Native and SEV.
//
// Layout: 0xE8 bytes at the beginning of a 4096-byte page, the rest zeroes. Note the unaligned fields of the descriptor-table registers.
//
// Source: igvm_defs 0.4.0, IgvmNativeVpContextX64.

using System;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Linq;

namespace Svsm.Igvm;

/// <summary>Code or data segment of a native context.</summary>
/// <param name="Selector">The selector.</param>
/// <param name="Attributes">Bits 7:0 type, S, DPL, P; 12 AVL; 13 L; 14 D/B; 15 G.</param>
/// <param name="Base">Base address.</param>
/// <param name="Limit">Limit.</param>
public readonly record struct IgvmNativeSegment(ushort Selector, ushort Attributes, uint Base, uint Limit);

/// <summary>Registers of an x64 processor (<c>IgvmNativeVpContextX64</c>).</summary>
public sealed record IgvmNativeVpContext
{
    /// <summary>Bytes of the structure in the page.</summary>
    public const int ByteLength = 0xE8;

    /// <summary>RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15, in this order.</summary>
    public ImmutableArray<ulong> GeneralRegisters { get; init; } = [.. new ulong[16]];

    /// <summary>Instruction pointer.</summary>
    public ulong Rip { get; init; }

    /// <summary>Flags.</summary>
    public ulong RFlags { get; init; } = 2;

    /// <summary>Base of the interrupt descriptor table.</summary>
    public ulong IdtrBase { get; init; }

    /// <summary>Limit of the interrupt descriptor table.</summary>
    public ushort IdtrLimit { get; init; }

    /// <summary>Limit of the global descriptor table.</summary>
    public ushort GdtrLimit { get; init; }

    /// <summary>Base of the global descriptor table.</summary>
    public ulong GdtrBase { get; init; }

    /// <summary>CS.</summary>
    public IgvmNativeSegment Code { get; init; }

    /// <summary>DS, ES, SS, FS and GS.</summary>
    public IgvmNativeSegment Data { get; init; }

    /// <summary>Base of GS.</summary>
    public ulong GsBase { get; init; }

    /// <summary>CR0.</summary>
    public ulong Cr0 { get; init; }

    /// <summary>CR3.</summary>
    public ulong Cr3 { get; init; }

    /// <summary>CR4.</summary>
    public ulong Cr4 { get; init; }

    /// <summary>EFER.</summary>
    public ulong Efer { get; init; }

    /// <summary>Reads the registers.</summary>
    /// <param name="page">The data of a VP_CONTEXT for Native or SEV; at least <see cref="ByteLength"/> bytes.</param>
    /// <returns>The registers.</returns>
    /// <exception cref="ArgumentException">The data are shorter.</exception>
    public static IgvmNativeVpContext Read(ReadOnlySpan<byte> page)
    {
        if (page.Length < ByteLength)
        {
            throw new ArgumentException($"A native context has 0x{ByteLength:X} bytes; {page.Length} were given.", nameof(page));
        }

        var registers = ImmutableArray.CreateBuilder<ulong>(16);
        for (int i = 0; i < 16; i++)
        {
            registers.Add(BinaryPrimitives.ReadUInt64LittleEndian(page[(i * 8)..]));
        }

        return new IgvmNativeVpContext
        {
            GeneralRegisters = registers.MoveToImmutable(),
            Rip = BinaryPrimitives.ReadUInt64LittleEndian(page[0x80..]),
            RFlags = BinaryPrimitives.ReadUInt64LittleEndian(page[0x88..]),
            IdtrBase = BinaryPrimitives.ReadUInt64LittleEndian(page[0x90..]),
            IdtrLimit = BinaryPrimitives.ReadUInt16LittleEndian(page[0x98..]),
            GdtrLimit = BinaryPrimitives.ReadUInt16LittleEndian(page[0x9E..]),
            GdtrBase = BinaryPrimitives.ReadUInt64LittleEndian(page[0xA0..]),
            Code = ReadSegment(page[0xA8..]),
            Data = ReadSegment(page[0xB4..]),
            GsBase = BinaryPrimitives.ReadUInt64LittleEndian(page[0xC0..]),
            Cr0 = BinaryPrimitives.ReadUInt64LittleEndian(page[0xC8..]),
            Cr3 = BinaryPrimitives.ReadUInt64LittleEndian(page[0xD0..]),
            Cr4 = BinaryPrimitives.ReadUInt64LittleEndian(page[0xD8..]),
            Efer = BinaryPrimitives.ReadUInt64LittleEndian(page[0xE0..]),
        };
    }

    /// <summary>Makes the data of a VP_CONTEXT.</summary>
    /// <returns>4096 bytes.</returns>
    /// <exception cref="InvalidOperationException"><see cref="GeneralRegisters"/> has not 16 values.</exception>
    public byte[] ToPage()
    {
        if (GeneralRegisters.IsDefault || GeneralRegisters.Length != 16)
        {
            throw new InvalidOperationException("A native context has 16 general registers.");
        }

        byte[] bytes = new byte[IgvmLayout.PageSize];
        Span<byte> page = bytes;
        for (int i = 0; i < 16; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(page[(i * 8)..], GeneralRegisters[i]);
        }

        BinaryPrimitives.WriteUInt64LittleEndian(page[0x80..], Rip);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0x88..], RFlags);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0x90..], IdtrBase);
        BinaryPrimitives.WriteUInt16LittleEndian(page[0x98..], IdtrLimit);
        BinaryPrimitives.WriteUInt16LittleEndian(page[0x9E..], GdtrLimit);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0xA0..], GdtrBase);
        WriteSegment(page[0xA8..], Code);
        WriteSegment(page[0xB4..], Data);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0xC0..], GsBase);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0xC8..], Cr0);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0xD0..], Cr3);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0xD8..], Cr4);
        BinaryPrimitives.WriteUInt64LittleEndian(page[0xE0..], Efer);
        return bytes;
    }

    /// <summary>Compares all registers.</summary>
    /// <param name="other">The other context.</param>
    /// <returns>True when all are equal.</returns>
    public bool Equals(IgvmNativeVpContext? other) => other is not null && ToPage().AsSpan().SequenceEqual(other.ToPage());

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Rip, Cr0, Cr3, Cr4, Efer, GeneralRegisters.Sum(x => (decimal)x));

    private static IgvmNativeSegment ReadSegment(ReadOnlySpan<byte> at) => new(
        BinaryPrimitives.ReadUInt16LittleEndian(at),
        BinaryPrimitives.ReadUInt16LittleEndian(at[2..]),
        BinaryPrimitives.ReadUInt32LittleEndian(at[4..]),
        BinaryPrimitives.ReadUInt32LittleEndian(at[8..]));

    private static void WriteSegment(Span<byte> at, IgvmNativeSegment segment)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(at, segment.Selector);
        BinaryPrimitives.WriteUInt16LittleEndian(at[2..], segment.Attributes);
        BinaryPrimitives.WriteUInt32LittleEndian(at[4..], segment.Base);
        BinaryPrimitives.WriteUInt32LittleEndian(at[8..], segment.Limit);
    }
}
