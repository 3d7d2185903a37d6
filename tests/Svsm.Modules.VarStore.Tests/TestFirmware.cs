// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The messages of firmware, as the variable driver of OVMF makes them, and their answers. For tests that talk to the engine without a module.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Xunit;

namespace Svsm.Modules.VarStore.Tests;

/// <summary>A store, and firmware that uses it.</summary>
internal sealed class TestFirmware
{
    public const VariableAttributes Volatile = VariableAttributes.Access;
    public const VariableAttributes NonVolatile = VariableAttributes.Access | VariableAttributes.NonVolatile;
    public const VariableAttributes Authenticated = NonVolatile | VariableAttributes.TimeBasedAuthenticatedWriteAccess;
    public const VariableAttributes Append = VariableAttributes.AppendWrite;

    // OVMF's.
    public const int BufferLength = 0x1_0000;

    public static readonly Guid Variables = new("ed32d533-99e6-4209-9cc0-2d72cdd998a7");
    public static readonly Guid Policies = new("da1b0d11-d1a7-46c4-9dc9-f3714875c6eb");
    public static readonly Guid EndOfDxe = new("02ce967a-dd7e-4ffc-9ee7-810cf0470880");
    public static readonly Guid ReadyToBoot = new("7ce88fb3-4bd7-4679-87a8-a8d8dee50d2b");
    public static readonly Guid ExitBootServices = new("27abf055-b1b8-4c26-8048-748f37baa2df");
    public static readonly Guid Vendor = new("12345678-9abc-def0-1234-56789abcdef0");

    public TestFirmware(IVariableStorage? storage = null, SecureBootKeys? keys = null)
    {
        Assert.Equal(VariableStoreResult.Done, VariableStore.TryOpen(storage ?? new MemoryVariableStorage(), keys, out VariableStore? store));
        Store = store!;
    }

    public TestFirmware(VariableStore store) => Store = store;

    public VariableStore Store { get; }

    public static byte[] Header(Guid receiver, long length)
    {
        byte[] header = new byte[VariableStore.MessageHeaderLength];
        receiver.TryWriteBytes(header);
        BinaryPrimitives.WriteInt64LittleEndian(header.AsSpan(16), length);
        return header;
    }

    public static byte[] Name(string name) => MemoryMarshal.AsBytes((name + '\0').AsSpan()).ToArray();

    /// <summary>Sends a payload; the answer is as long.</summary>
    public byte[] Send(Guid receiver, byte[] payload, int bufferLength = BufferLength)
    {
        byte[] header = Header(receiver, payload.Length);
        Assert.True(VariableStore.TryReadHeader(header, bufferLength, out int length));
        Assert.Equal(payload.Length, length);
        byte[] answer = [.. payload];
        Store.Execute(header, answer, bufferLength);
        return answer;
    }

    public void Notify(Guid receiver) => Send(receiver, [0]);

    /// <summary>Sends a function of the variable service.</summary>
    public EfiStatus Call(ulong function, byte[] body, out byte[] answer)
    {
        byte[] payload = new byte[16 + body.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(payload, function);
        body.CopyTo(payload, 16);
        payload = Send(Variables, payload, Math.Max(BufferLength, VariableStore.MessageHeaderLength + payload.Length));
        Assert.Equal(function, BinaryPrimitives.ReadUInt64LittleEndian(payload));
        answer = payload[16..];
        return (EfiStatus)BinaryPrimitives.ReadUInt64LittleEndian(payload.AsSpan(8));
    }

    public static byte[] Access(VariableId id, VariableAttributes attributes, long dataSize, byte[] data)
    {
        byte[] name = Name(id.Name);
        byte[] body = new byte[36 + name.Length + data.Length];
        id.Vendor.TryWriteBytes(body);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(16), dataSize);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(24), name.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(body.AsSpan(32), (uint)attributes);
        name.CopyTo(body, 36);
        data.CopyTo(body, 36 + name.Length);
        return body;
    }

    public EfiStatus Set(VariableId id, VariableAttributes attributes, params byte[] data) => Call(3, Access(id, attributes, data.Length, data), out _);

    public EfiStatus Set(string name, VariableAttributes attributes, params byte[] data) => Set(new VariableId(Vendor, name), attributes, data);

    /// <summary>Gets a variable; the data is what there is, if it fits.</summary>
    public EfiStatus Get(VariableId id, int room, out VariableAttributes attributes, out byte[] data)
    {
        EfiStatus status = Call(1, Access(id, 0, room, new byte[room]), out byte[] answer);
        attributes = (VariableAttributes)BinaryPrimitives.ReadUInt32LittleEndian(answer.AsSpan(32));
        int size = (int)BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(16));
        data = status == EfiStatus.Success ? answer.AsSpan(36 + Name(id.Name).Length, size).ToArray() : new byte[status == EfiStatus.BufferTooSmall ? size : 0];
        return status;
    }

    public byte[]? Get(VariableId id) => Get(id, 0x1_0000, out _, out byte[] data) == EfiStatus.Success ? data : null;

    public byte[]? Get(string name) => Get(new VariableId(Vendor, name));

    public byte Flag(VariableId id) => Assert.Single(Get(id)!);

    /// <summary>All names, in the order in which they are told.</summary>
    public IReadOnlyList<VariableId> Names()
    {
        var names = new List<VariableId>();
        var last = new VariableId(default, "");
        while (GetNext(last, 1024, out VariableId next) is var status && status != EfiStatus.NotFound)
        {
            Assert.Equal(EfiStatus.Success, status);
            names.Add(next);
            last = next;
        }

        return names;
    }

    public EfiStatus GetNext(VariableId after, int room, out VariableId next)
    {
        byte[] name = Name(after.Name);
        byte[] body = new byte[24 + Math.Max(room, name.Length)];
        after.Vendor.TryWriteBytes(body);
        BinaryPrimitives.WriteInt64LittleEndian(body.AsSpan(16), room);
        name.CopyTo(body, 24);
        EfiStatus status = Call(2, body, out byte[] answer);
        int length = (int)BinaryPrimitives.ReadUInt64LittleEndian(answer.AsSpan(16));
        next = status == EfiStatus.Success
            ? new(new Guid(answer.AsSpan(0, 16)), new string(MemoryMarshal.Cast<byte, char>(answer.AsSpan(24, length))[..^1]))
            : new(default, new string('x', Math.Max(0, (length / 2) - 1)));
        return status;
    }

    public EfiStatus Policy(uint command, byte[] body, out byte[] answer)
    {
        byte[] payload = new byte[20 + body.Length];
        "VCPC"u8.CopyTo(payload);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(4), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(payload.AsSpan(8), command);
        body.CopyTo(payload, 20);
        payload = Send(Policies, payload);
        answer = payload[20..];
        return (EfiStatus)BinaryPrimitives.ReadUInt64LittleEndian(payload.AsSpan(12));
    }

    public static byte[] PolicyEntry(
        string? name, byte kind = 0, uint min = 0, uint max = uint.MaxValue, VariableAttributes must = 0, VariableAttributes cannot = 0, byte[]? state = null, Guid? vendor = null)
    {
        byte[] nameBytes = name is null ? [] : Name(name);
        byte[] entry = [.. new byte[44], .. state ?? [], .. nameBytes];
        BinaryPrimitives.WriteUInt32LittleEndian(entry, 0x1_0000);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(4), (ushort)entry.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(entry.AsSpan(6), (ushort)(44 + (state?.Length ?? 0)));
        (vendor ?? Vendor).TryWriteBytes(entry.AsSpan(8));
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(24), min);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(28), max);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(32), (uint)must);
        BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(36), (uint)cannot);
        entry[40] = kind;
        return entry;
    }
}

/// <summary>A storage that a test can have fail, and that counts.</summary>
internal sealed class TestStorage : IVariableStorage
{
    private readonly Dictionary<uint, byte[]> _records = [];

    public bool IsPersistent => true;

    public bool Fails { get; set; }

    public int Commits { get; private set; }

    public IReadOnlyDictionary<uint, byte[]> Records => _records;

    public void Damage(uint number, Func<byte[], byte[]> change) => _records[number] = change(_records[number]);

    public bool TryLoad(out IReadOnlyList<StorageRecord> records)
    {
        records = [.. _records.Select(record => new StorageRecord(record.Key, record.Value))];
        return !Fails;
    }

    public bool TryCommit(ReadOnlySpan<StorageRecord> changes)
    {
        if (Fails)
        {
            return false;
        }

        Commits++;
        foreach (StorageRecord change in changes)
        {
            if (change.Value is ReadOnlyMemory<byte> value)
            {
                _records[change.Number] = value.ToArray();
            }
            else
            {
                Assert.True(_records.Remove(change.Number));
            }
        }

        return true;
    }
}
