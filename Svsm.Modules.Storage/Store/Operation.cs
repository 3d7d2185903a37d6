// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An operation of an entry, little-endian. What an entry's first unit is a list of.
//
//   00 u8 kind | 01 zero | 02 u16 bytes of the name | 04 u32 bytes of the value | 08 u32 the value's place in the entry | 0C u32 namespace |
//   10 the value's tag (16), or u64 quota and zero (8) | 20 name
//
// Of a mark the namespace is 1 or 0: the guest is not here, or is here again.
//
// The value's unit has the number of the operation, counted from 1. A value without bytes has no place and no tag; what is lost has a length all the same.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Store;

internal enum OperationKind : byte
{
    /// <summary>A record has this value from here on.</summary>
    Put = 1,

    /// <summary>A record is no more.</summary>
    Delete = 2,

    /// <summary>A namespace has this id (the name) and this quota.</summary>
    DefineNamespace = 3,

    /// <summary>A namespace and all its records are no more.</summary>
    RemoveNamespace = 4,

    /// <summary>A record whose value was found damaged when the log was compacted.</summary>
    Lost = 5,

    /// <summary>Whether the store's guest is at another SVSM.</summary>
    Mark = 6,
}

internal sealed class Operation
{
    public const int HeadLength = 0x20;

    public required OperationKind Kind { get; init; }

    /// <summary>The namespace's number; of a mark 1: the guest is at another SVSM, 0: here.</summary>
    public required uint Namespace { get; init; }

    /// <summary>The record's name, or the namespace's id.</summary>
    public byte[] Name { get; init; } = [];

    public int ValueLength { get; init; }

    /// <summary>The value of a put that is to be written. What was read has none.</summary>
    public byte[]? Value { get; init; }

    /// <summary>The records of which a base entry moves one, to <see cref="MovedPlace"/>.</summary>
    public RecordIndex? Moved { get; init; }

    public int MovedPlace { get; init; }

    public long Quota { get; init; }

    /// <summary>The value's place in the entry, in bytes; 0 without one.</summary>
    public int Offset { get; set; }

    public uint Unit { get; set; }

    public UInt128 Tag { get; set; }

    public int Length => HeadLength + Name.Length;

    public bool HasCell => Kind == OperationKind.Put && ValueLength != 0;

    public void Write(Span<byte> bytes)
    {
        bytes[..HeadLength].Clear();
        bytes[0] = (byte)Kind;
        BinaryPrimitives.WriteUInt16LittleEndian(bytes[2..], (ushort)Name.Length);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[4..], ValueLength);
        BinaryPrimitives.WriteInt32LittleEndian(bytes[8..], Offset);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes[0x0C..], Namespace);
        if (Kind == OperationKind.DefineNamespace)
        {
            BinaryPrimitives.WriteInt64LittleEndian(bytes[0x10..], Quota);
        }
        else
        {
            BinaryPrimitives.WriteUInt128LittleEndian(bytes[0x10..], Tag);
        }

        Name.CopyTo(bytes[HeadLength..]);
    }

    /// <summary>Reads the operations of an entry.</summary>
    /// <param name="bytes">The decrypted unit. Of our own making; whatever is not so is refused nevertheless.</param>
    /// <param name="entryLength">Bytes of the entry.</param>
    /// <param name="operations">What was read.</param>
    public static bool TryRead(ReadOnlySpan<byte> bytes, int entryLength, out List<Operation> operations)
    {
        operations = [];
        while (!bytes.IsEmpty)
        {
            if (bytes.Length < HeadLength)
            {
                return false;
            }

            var kind = (OperationKind)bytes[0];
            int nameLength = BinaryPrimitives.ReadUInt16LittleEndian(bytes[2..]);
            int valueLength = BinaryPrimitives.ReadInt32LittleEndian(bytes[4..]);
            int offset = BinaryPrimitives.ReadInt32LittleEndian(bytes[8..]);
            bool isRecord = kind is OperationKind.Put or OperationKind.Delete or OperationKind.Lost;
            if (kind is < OperationKind.Put or > OperationKind.Mark || bytes[1] != 0 || nameLength > bytes.Length - HeadLength
                || (isRecord ? nameLength is 0 or > StoreFormat.MaxNameLength : nameLength != (kind == OperationKind.DefineNamespace ? 16 : 0))
                || valueLength is < 0 or > StoreFormat.MaxValueLength || (kind is not OperationKind.Put and not OperationKind.Lost && valueLength != 0)
                || (kind == OperationKind.Mark && BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x0C..]) > 1)
                || (kind == OperationKind.Put ? offset < 0 || offset > entryLength - valueLength : offset != 0))
            {
                return false;
            }

            bool isDefinition = kind == OperationKind.DefineNamespace;
            operations.Add(new Operation
            {
                Kind = kind,
                Namespace = BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x0C..]),
                Name = bytes.Slice(HeadLength, nameLength).ToArray(),
                ValueLength = valueLength,
                Quota = isDefinition ? BinaryPrimitives.ReadInt64LittleEndian(bytes[0x10..]) : 0,
                Tag = isDefinition ? 0 : BinaryPrimitives.ReadUInt128LittleEndian(bytes[0x10..]),
                Offset = offset,
                Unit = (uint)operations.Count + 1,
            });
            bytes = bytes[(HeadLength + nameLength)..];
        }

        return true;
    }
}
