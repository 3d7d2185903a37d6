// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;

namespace Svsm.Migration.Relay;

/// <summary>What an SVSM says of its state, in the clear: a frame of kind 3, first byte 81.</summary>
/// <param name="State">Its state.</param>
/// <param name="Reason">Why it has aborted.</param>
/// <param name="Pages">Pages sent or taken.</param>
/// <param name="PagesLeft">Pages left.</param>
/// <param name="Round">The round.</param>
/// <param name="PagesOfRest">Of the pages, those while the guest is stopped.</param>
internal sealed record Notice(MigrationState State, MigrationReason Reason, ulong Pages, ulong PagesLeft, uint Round, ulong PagesOfRest)
{
    /// <summary>Nothing was said yet.</summary>
    public static readonly Notice None = new(MigrationState.Idle, MigrationReason.None, 0, 0, 0, 0);

    /// <summary>Bytes of it.</summary>
    public const int Length = 32;

    /// <summary>Reads one.</summary>
    /// <returns>False: it is none.</returns>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out Notice notice)
    {
        notice = None;
        if (bytes.Length != Length || bytes[0] != LocalVerb.Notice || bytes[1] > (byte)MigrationState.Aborted || bytes[2] > (byte)MigrationReason.Failed)
        {
            return false;
        }

        notice = new(
            (MigrationState)bytes[1],
            (MigrationReason)bytes[2],
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[0x04..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[0x0C..]),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x14..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[0x18..]));
        return true;
    }
}
