// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the guest is, as the source offers it and the target compares it with itself: the text of OFFER (docs/migration-protocol.md, "Records").

using System;
using System.Buffers.Binary;
using System.Linq;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Migration;

/// <summary>A module whose state goes.</summary>
/// <param name="Protocol">Its protocol.</param>
/// <param name="Version">Version of the state.</param>
internal readonly record struct OfferedModule(uint Protocol, uint Version);

/// <summary>What the guest is.</summary>
internal sealed class GuestOffer
{
    private const int HeadLength = 0x20;
    private const int RangeLength = 16;
    private const int ModuleLength = 8;
    private const int MaxCount = 4096;

    public required MoveInformation Information { get; init; }

    public required MoveRange[] Ranges { get; init; }

    public required OfferedModule[] Modules { get; init; }

    /// <summary>Pages of memory.</summary>
    public ulong Pages => Ranges.Aggregate(0ul, (sum, range) => sum + (range.Bytes / GuestMove.PageLength));

    /// <summary>Reads a text.</summary>
    /// <returns>Null: it is none.</returns>
    public static GuestOffer? TryRead(ReadOnlySpan<byte> text)
    {
        if (text.Length < HeadLength)
        {
            return null;
        }

        uint ranges = BinaryPrimitives.ReadUInt32LittleEndian(text[0x14..]);
        uint modules = BinaryPrimitives.ReadUInt32LittleEndian(text[0x18..]);
        if (ranges > MaxCount || modules > MaxCount || text.Length != HeadLength + (ranges * RangeLength) + (modules * ModuleLength)
            || BinaryPrimitives.ReadUInt32LittleEndian(text[0x04..]) != 0 || BinaryPrimitives.ReadUInt32LittleEndian(text[0x1C..]) != 0)
        {
            return null;
        }

        var offer = new GuestOffer
        {
            Information = new MoveInformation
            {
                Vcpus = BinaryPrimitives.ReadUInt32LittleEndian(text),
                Features = BinaryPrimitives.ReadUInt64LittleEndian(text[0x08..]),
                EncryptionBit = BinaryPrimitives.ReadUInt32LittleEndian(text[0x10..]),
            },
            Ranges = new MoveRange[ranges],
            Modules = new OfferedModule[modules],
        };
        text = text[HeadLength..];
        foreach (ref MoveRange range in offer.Ranges.AsSpan())
        {
            range = new MoveRange { Address = BinaryPrimitives.ReadUInt64LittleEndian(text), Bytes = BinaryPrimitives.ReadUInt64LittleEndian(text[8..]) };
            text = text[RangeLength..];
        }

        foreach (ref OfferedModule module in offer.Modules.AsSpan())
        {
            module = new(BinaryPrimitives.ReadUInt32LittleEndian(text), BinaryPrimitives.ReadUInt32LittleEndian(text[4..]));
            text = text[ModuleLength..];
        }

        return offer;
    }

    /// <summary>Writes the text.</summary>
    public byte[] ToText()
    {
        byte[] text = new byte[HeadLength + (Ranges.Length * RangeLength) + (Modules.Length * ModuleLength)];
        BinaryPrimitives.WriteUInt32LittleEndian(text, Information.Vcpus);
        BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan(0x08), Information.Features);
        BinaryPrimitives.WriteUInt32LittleEndian(text.AsSpan(0x10), Information.EncryptionBit);
        BinaryPrimitives.WriteInt32LittleEndian(text.AsSpan(0x14), Ranges.Length);
        BinaryPrimitives.WriteInt32LittleEndian(text.AsSpan(0x18), Modules.Length);
        Span<byte> rest = text.AsSpan(HeadLength);
        foreach (MoveRange range in Ranges)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(rest, range.Address);
            BinaryPrimitives.WriteUInt64LittleEndian(rest[8..], range.Bytes);
            rest = rest[RangeLength..];
        }

        foreach (OfferedModule module in Modules)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(rest, module.Protocol);
            BinaryPrimitives.WriteUInt32LittleEndian(rest[4..], module.Version);
            rest = rest[ModuleLength..];
        }

        return text;
    }
}
