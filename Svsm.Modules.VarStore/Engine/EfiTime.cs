// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The time of an authenticated variable: whose write is older than the last one. It is the signer's word, and compared only; no clock is asked.
//
//   00 u16 year | 02 u8 month | 03 u8 day | 04 u8 hour | 05 u8 minute | 06 u8 second | 07 zero | 08 u32 nanosecond | 0C i16 zone | 0E u8 daylight | 0F zero
//
// Source: UEFI specification 2.10, 8.3 (EFI_TIME) and 8.2.2: of an authenticated write, everything after the second is zero.

using System;
using System.Buffers.Binary;

namespace Svsm.Modules.VarStore;

/// <summary>An <c>EFI_TIME</c>, down to the second.</summary>
/// <param name="Year">Year; not checked, as by EDK2.</param>
/// <param name="Month">Month.</param>
/// <param name="Day">Day.</param>
/// <param name="Hour">Hour.</param>
/// <param name="Minute">Minute.</param>
/// <param name="Second">Second.</param>
internal readonly record struct EfiTime(ushort Year, byte Month, byte Day, byte Hour, byte Minute, byte Second)
{
    public const int Length = 16;

    // From here on an authenticated write has zeros.
    private const int RestOffset = 7;

    public static EfiTime Read(ReadOnlySpan<byte> bytes) => new(BinaryPrimitives.ReadUInt16LittleEndian(bytes), bytes[2], bytes[3], bytes[4], bytes[5], bytes[6]);

    public static bool HasOnlySeconds(ReadOnlySpan<byte> bytes) => !bytes[RestOffset..Length].ContainsAnyExcept((byte)0);

    public void Write(Span<byte> bytes)
    {
        bytes[..Length].Clear();
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, Year);
        bytes[2] = Month;
        bytes[3] = Day;
        bytes[4] = Hour;
        bytes[5] = Minute;
        bytes[6] = Second;
    }

    public bool IsLaterThan(EfiTime other) =>
        (Year, Month, Day, Hour, Minute, Second).CompareTo((other.Year, other.Month, other.Day, other.Hour, other.Minute, other.Second)) > 0;
}
