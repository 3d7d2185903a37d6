// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Register list of a VP_CONTEXT for Hyper-V's virtualization-based isolation.
//
// Layout: u32 count, then 32 bytes for each register: u8 VTL, u32 name (unaligned), 11 zeroes, 16-byte value.
//
// Source: igvm crate 0.4.0, VbsVpContextHeader and VbsVpContextRegister.

using System;
using System.Buffers.Binary;
using System.Collections.Immutable;

namespace Svsm.Igvm;

/// <summary>One register of a VSM processor context.</summary>
/// <param name="Vtl">Trust level, 0 to 2; the same for every register of a list.</param>
/// <param name="Name">Hyper-V register name.</param>
/// <param name="Value">The value; 128 bits.</param>
public readonly record struct IgvmVbsRegister(byte Vtl, uint Name, UInt128 Value)
{
    /// <summary>Reads a list.</summary>
    /// <param name="data">The data of a VP_CONTEXT for VSM.</param>
    /// <returns>The registers in order.</returns>
    /// <exception cref="ArgumentException">The length does not fit the count at the beginning.</exception>
    public static ImmutableArray<IgvmVbsRegister> ReadList(ReadOnlySpan<byte> data)
    {
        if (data.Length < IgvmLayout.VbsHeaderLength ||
            (data.Length - IgvmLayout.VbsHeaderLength) % IgvmLayout.VbsRegisterLength != 0 ||
            BinaryPrimitives.ReadUInt32LittleEndian(data) != (uint)((data.Length - IgvmLayout.VbsHeaderLength) / IgvmLayout.VbsRegisterLength))
        {
            throw new ArgumentException($"A VSM context has 4 bytes of count and 32 bytes for each register; {data.Length} bytes were given.", nameof(data));
        }

        int count = (data.Length - IgvmLayout.VbsHeaderLength) / IgvmLayout.VbsRegisterLength;
        var registers = ImmutableArray.CreateBuilder<IgvmVbsRegister>(count);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> at = data.Slice(IgvmLayout.VbsHeaderLength + (i * IgvmLayout.VbsRegisterLength), IgvmLayout.VbsRegisterLength);
            registers.Add(new IgvmVbsRegister(at[0], BinaryPrimitives.ReadUInt32LittleEndian(at[1..]), BinaryPrimitives.ReadUInt128LittleEndian(at[0x10..])));
        }

        return registers.MoveToImmutable();
    }

    /// <summary>Makes the data of a VP_CONTEXT for VSM.</summary>
    /// <param name="registers">The registers.</param>
    /// <returns>4 bytes and 32 for each register.</returns>
    public static byte[] WriteList(ReadOnlySpan<IgvmVbsRegister> registers)
    {
        byte[] data = new byte[IgvmLayout.VbsHeaderLength + (registers.Length * IgvmLayout.VbsRegisterLength)];
        BinaryPrimitives.WriteUInt32LittleEndian(data, (uint)registers.Length);
        for (int i = 0; i < registers.Length; i++)
        {
            Span<byte> at = data.AsSpan(IgvmLayout.VbsHeaderLength + (i * IgvmLayout.VbsRegisterLength));
            at[0] = registers[i].Vtl;
            BinaryPrimitives.WriteUInt32LittleEndian(at[1..], registers[i].Name);
            BinaryPrimitives.WriteUInt128LittleEndian(at[0x10..], registers[i].Value);
        }

        return data;
    }
}
