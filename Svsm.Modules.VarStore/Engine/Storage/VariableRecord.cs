// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Records as the storage keeps them, little-endian, for VariableTable.
//
//   record 0, the state                  00 u8 version 1, or 0xFF: others of these records are missing | 01 u8 flags: bit 0 deployed mode
//                                        | 02 hash of the image's keys that were taken, zero: none (32)
//   record n, a variable                 00 u8 version 1 | 01 u8 bytes of the signer's hash, 0 or 32 | 02 u16 bytes of the name, without NUL | 04 u32 attributes
//                                        08 GUID of the vendor | 18 time | 28 signer's hash, name, data
//
// Variables that come from another SVSM may take more than one commit: until the last of them record 0 says so, and the storage is read as damaged.
//
// A record of more than 64 KiB is two: what is behind goes to record 0x8000_0000 + n. A storage that has names instead of numbers has the number as 4 bytes,
// big-endian: so names are in the order of the numbers.
//
// Storage is authenticated by who keeps it, but a record is checked all the same: another version may have written it.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Svsm.Modules.VarStore;

/// <summary>What a store remembers beside variables.</summary>
/// <param name="IsDeployed">Whether it was in deployed mode.</param>
/// <param name="ImageKeys">Hash of the image's keys that were taken last; zero: none.</param>
internal sealed record StoreState(bool IsDeployed, ReadOnlyMemory<byte> ImageKeys)
{
    public const int HashLength = 32;

    public static readonly StoreState New = new(false, new byte[HashLength]);
}

/// <summary>Records as storages keep them.</summary>
public static class VariableRecord
{
    internal const uint StateNumber = 0;
    internal const int MaxLength = 0x1_0000;

    /// <summary>The first number that no variable has.</summary>
    internal const uint RestNumber = 0x8000_0000;

    /// <summary>Bytes of record 0.</summary>
    internal const int StateLength = StateHashOffset + StoreState.HashLength;

    private const byte Version = 1;
    private const byte IncompleteVersion = 0xFF;
    private const byte DeployedFlag = 1;
    private const int StateHashOffset = 2;
    private const int SignerLengthOffset = 1;
    private const int NameLengthOffset = 2;
    private const int AttributesOffset = 4;
    private const int VendorOffset = 8;
    private const int TimeOffset = 0x18;
    private const int HeaderLength = 0x28;

    /// <summary>Tells the name of a record in a storage that has names.</summary>
    /// <param name="number">The record's number.</param>
    /// <returns>4 bytes, big-endian.</returns>
    public static byte[] NameOf(uint number)
    {
        byte[] name = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(name, number);
        return name;
    }

    /// <summary>Reads the name of a record.</summary>
    /// <param name="name">The name in the storage.</param>
    /// <param name="number">The record's number.</param>
    /// <returns>False: it is not 4 bytes long, so no record of variables has it.</returns>
    public static bool TryReadName(ReadOnlySpan<byte> name, out uint number)
    {
        number = 0;
        return name.Length == sizeof(uint) && BinaryPrimitives.TryReadUInt32BigEndian(name, out number);
    }

    internal static byte[] Write(StoreState state) => [Version, state.IsDeployed ? DeployedFlag : (byte)0, .. state.ImageKeys.Span];

    /// <summary>Record 0 as long as others are missing.</summary>
    internal static byte[] WriteIncomplete() => [IncompleteVersion, .. new byte[StateLength - 1]];

    internal static bool TryReadState(ReadOnlySpan<byte> record, out StoreState state)
    {
        state = StoreState.New;
        if (record.Length != StateLength || record[0] != Version || record[1] > DeployedFlag)
        {
            return false;
        }

        state = new(record[1] == DeployedFlag, record[StateHashOffset..].ToArray());
        return true;
    }

    /// <summary>Tells what a storage has to change for a variable that is written, made or removed.</summary>
    internal static void AddChanges(List<StorageRecord> changes, Variable? old, Variable? made)
    {
        if (made is null)
        {
            changes.Add(new(old!.Number, null));
        }
        else
        {
            byte[] record = Write(made);
            changes.Add(new(made.Number, record.AsMemory(0, Math.Min(record.Length, MaxLength))));
            if (record.Length > MaxLength)
            {
                changes.Add(new(made.Number | RestNumber, record.AsMemory(MaxLength)));
                return;
            }
        }

        if (old is not null && Length(old) > MaxLength)
        {
            changes.Add(new(old.Number | RestNumber, null));
        }
    }

    /// <summary>Reads all records of a storage.</summary>
    /// <returns>False: one of them is none, or a rest without the rest.</returns>
    internal static bool TryRead(IReadOnlyList<StorageRecord> records, out List<Variable> variables, out StoreState state)
    {
        variables = [];
        state = StoreState.New;
        var rests = new Dictionary<uint, StorageRecord>();
        foreach (StorageRecord record in records)
        {
            if ((record.Number & RestNumber) != 0)
            {
                rests.Add(record.Number & ~RestNumber, record);
            }
        }

        foreach (StorageRecord record in records)
        {
            ReadOnlySpan<byte> value = record.Value.GetValueOrDefault().Span;
            if (record.Number == StateNumber)
            {
                if (!TryReadState(value, out state))
                {
                    return false;
                }
            }
            else if ((record.Number & RestNumber) == 0)
            {
                if (rests.Remove(record.Number, out StorageRecord? rest))
                {
                    if (value.Length != MaxLength)
                    {
                        return false;
                    }

                    value = (byte[])[.. value, .. rest.Value.GetValueOrDefault().Span];
                }

                if (!TryRead(record.Number, value, canBeVolatile: false, out Variable? variable))
                {
                    return false;
                }

                variables.Add(variable!);
            }
        }

        return rests.Count == 0;
    }

    /// <summary>Bytes of the record of a variable.</summary>
    internal static int Length(Variable variable) => HeaderLength + variable.Signer.Length + (variable.Id.Name.Length * sizeof(char)) + variable.Data.Length;

    internal static byte[] Write(Variable variable)
    {
        ReadOnlySpan<byte> name = MemoryMarshal.AsBytes(variable.Id.Name.AsSpan());
        byte[] record = new byte[Length(variable)];
        record[0] = Version;
        record[SignerLengthOffset] = (byte)variable.Signer.Length;
        BinaryPrimitives.WriteUInt16LittleEndian(record.AsSpan(NameLengthOffset), (ushort)name.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(record.AsSpan(AttributesOffset), (uint)variable.Attributes);
        variable.Id.Vendor.TryWriteBytes(record.AsSpan(VendorOffset));
        variable.Time.Write(record.AsSpan(TimeOffset));
        variable.Signer.CopyTo(record, HeaderLength);
        name.CopyTo(record.AsSpan(HeaderLength + variable.Signer.Length));
        variable.Data.CopyTo(record, HeaderLength + variable.Signer.Length + name.Length);
        return record;
    }

    /// <summary>Reads a variable.</summary>
    /// <param name="number">Its number.</param>
    /// <param name="record">The record, with all that is behind its first 64 KiB.</param>
    /// <param name="canBeVolatile">Whether it need not be one for a storage.</param>
    /// <param name="variable">The variable.</param>
    internal static bool TryRead(uint number, ReadOnlySpan<byte> record, bool canBeVolatile, out Variable? variable)
    {
        variable = null;
        if (record.Length < HeaderLength || record[0] != Version)
        {
            return false;
        }

        int signerLength = record[SignerLengthOffset];
        int nameLength = BinaryPrimitives.ReadUInt16LittleEndian(record[NameLengthOffset..]);
        var attributes = (VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(record[AttributesOffset..]);
        if ((signerLength != 0 && signerLength != HashAlgorithm.Sha256.Length)
            || record.Length - HeaderLength - signerLength - nameLength is <= 0 or > VariableLimits.MaxData
            || !Variable.CanBeStored(canBeVolatile ? attributes | VariableAttributes.NonVolatile : attributes))
        {
            return false;
        }

        ReadOnlySpan<byte> rest = record[HeaderLength..];
        if (!TryReadName(rest[signerLength..], nameLength, out string name))
        {
            return false;
        }

        variable = new Variable(new(new Guid(record.Slice(VendorOffset, 16)), name), attributes, rest[(signerLength + nameLength)..].ToArray())
        {
            Time = EfiTime.Read(record[TimeOffset..]),
            Signer = rest[..signerLength].ToArray(),
            Number = number,
        };
        return true;
    }

    /// <summary>Reads the name of a variable, without a NUL.</summary>
    internal static bool TryReadName(ReadOnlySpan<byte> bytes, int length, out string name)
    {
        name = "";
        if (length is 0 or > VariableLimits.MaxNameLength - sizeof(char) || length % sizeof(char) != 0 || length > bytes.Length)
        {
            return false;
        }

        name = new(MemoryMarshal.Cast<byte, char>(bytes[..length]));
        return !name.Contains('\0', StringComparison.Ordinal);
    }
}
