// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;

namespace Svsm.Migration.Relay;

/// <summary>The first bytes of a connection, in each direction: "SVSMRLY1", the session's number, u64 frames that have come.</summary>
internal static class Preamble
{
    public const int Length = 32;
    public const int IdLength = 16;

    private const int IdOffset = 8;
    private const int CountOffset = 24;

    private static ReadOnlySpan<byte> Magic => "SVSMRLY1"u8;

    public static byte[] Make(ReadOnlySpan<byte> id, ulong received)
    {
        byte[] bytes = new byte[Length];
        Magic.CopyTo(bytes);
        id.CopyTo(bytes.AsSpan(IdOffset));
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(CountOffset), received);
        return bytes;
    }

    /// <returns>False: it is none.</returns>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out byte[] id, out ulong received)
    {
        id = bytes.Slice(IdOffset, IdLength).ToArray();
        received = BinaryPrimitives.ReadUInt64LittleEndian(bytes[CountOffset..]);
        return bytes.StartsWith(Magic);
    }
}
