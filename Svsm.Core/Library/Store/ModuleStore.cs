// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A module's part of the store: records with names that survive the VM. Nobody else's are there, and nobody else has these. It is for modules with the
// permission Store, in images that have a module which keeps the store (the package Svsm.Modules.Storage).
//
//   StoreStatus status = Store.TryGet("counter"u8, out byte[] value);     NotFound at first
//   status = Store.Commit([StoreChange.Put("counter"u8, value)]);         Done: it is there after any loss of power
//
// A commit whose outcome is not known (Failed) is followed by refusals until the module has listed what there is: it must not go on from a state that may
// not be the one on the disk.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>What a call of the store came to.</summary>
public enum StoreStatus
{
    /// <summary>Done.</summary>
    Done,

    /// <summary>There is no such record.</summary>
    NotFound,

    /// <summary>The module's quota does not allow it, or the store has no room for that quota. Nobody else is concerned.</summary>
    QuotaExceeded,

    /// <summary>A name of no bytes, or of more than <see cref="ModuleStore.MaxNameLength"/>.</summary>
    NameInvalid,

    /// <summary>A value of more than <see cref="ModuleStore.MaxValueLength"/> bytes.</summary>
    ValueTooLong,

    /// <summary>More than fits into one commit: 256 KiB with names and heads.</summary>
    TooLarge,

    /// <summary>The value on the disk is not the one that was written.</summary>
    Damaged,

    /// <summary>The disk failed. Of a commit nothing happened.</summary>
    DeviceFailed,

    /// <summary>The disk failed, or the module that keeps the store did, and a commit may have happened or not.</summary>
    Failed,

    /// <summary>There is a store in this image, and it is not open: its log says why. What was in it is not lost by that.</summary>
    NotOpen,

    /// <summary>No store is kept in this image, or the module has no permission: nothing survives.</summary>
    NotThere,

    /// <summary>It was no request.</summary>
    BadRequest,
}

/// <summary>A change of a record.</summary>
public sealed class StoreChange
{
    private StoreChange(ReadOnlyMemory<byte> name, ReadOnlyMemory<byte>? value) => (Name, Value) = (name, value);

    /// <summary>The record's name.</summary>
    public ReadOnlyMemory<byte> Name { get; }

    /// <summary>Its new value; null: it is removed.</summary>
    public ReadOnlyMemory<byte>? Value { get; }

    /// <summary>A record gets a value.</summary>
    /// <param name="name">Its name, 1 to <see cref="ModuleStore.MaxNameLength"/> bytes.</param>
    /// <param name="value">Its value, up to <see cref="ModuleStore.MaxValueLength"/> bytes.</param>
    public static StoreChange Put(ReadOnlyMemory<byte> name, ReadOnlyMemory<byte> value) => new(name, value);

    /// <summary>A record is removed. If there is none, the change is nothing.</summary>
    /// <param name="name">Its name.</param>
    public static StoreChange Delete(ReadOnlyMemory<byte> name) => new(name, null);
}

/// <summary>What a module's part of the store is.</summary>
/// <param name="Quota">Bytes that it may take: each record 32, its name, and its value rounded up to 16.</param>
/// <param name="Used">Bytes that it takes.</param>
/// <param name="IsRollbackDetected">Whether an older copy of the disk would have been refused. If not, a host can bring back any state that was once there.</param>
public readonly record struct StoreDescription(long Quota, long Used, bool IsRollbackDetected);

/// <summary>A module's part of the store.</summary>
public sealed class ModuleStore
{
    /// <summary>The longest name, in bytes.</summary>
    public const int MaxNameLength = 1024;

    /// <summary>The longest value, in bytes.</summary>
    public const int MaxValueLength = 0x1_0000;

    private readonly ModulePeers _peers;

    // For what most commits are.
    private readonly byte[] _message = new byte[ModuleMessage.MaxPayload];

    internal ModuleStore(ModulePeers peers) => _peers = peers;

    /// <summary>Reads a record.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="value">Its value; empty if there is none.</param>
    /// <returns><see cref="StoreStatus.Done"/>, <see cref="StoreStatus.NotFound"/>, <see cref="StoreStatus.NameInvalid"/>, <see cref="StoreStatus.Damaged"/>,
    /// <see cref="StoreStatus.DeviceFailed"/>, <see cref="StoreStatus.Failed"/>, <see cref="StoreStatus.NotOpen"/>, <see cref="StoreStatus.NotThere"/>.</returns>
    public StoreStatus TryGet(ReadOnlySpan<byte> name, out byte[] value)
    {
        value = [];
        if (name.Length is 0 or > MaxNameLength)
        {
            return StoreStatus.NameInvalid;
        }

        byte[] whole = [];
        int length = 0;
        do
        {
            StoreStatus status = Ask(StoreCall.Get, (uint)length, name, out uint total, out ReadOnlySpan<byte> part);
            if (status != StoreStatus.Done)
            {
                return status;
            }

            // The other module is trusted with the contents, not with this one's memory.
            if (total > MaxValueLength || part.Length > total - length || (part.IsEmpty && total != (uint)length) || (length != 0 && total != (uint)whole.Length))
            {
                return StoreStatus.Failed;
            }

            if (length == 0)
            {
                whole = new byte[total];
            }

            part.CopyTo(whole.AsSpan(length));
            length += part.Length;
        }
        while (length < whole.Length);

        value = whole;
        return StoreStatus.Done;
    }

    /// <summary>Lists the names of all records, and accepts what there is after a commit whose outcome was not known.</summary>
    /// <param name="names">The names, in the order of their bytes.</param>
    /// <returns>
    /// <see cref="StoreStatus.Done"/>, <see cref="StoreStatus.Failed"/>, <see cref="StoreStatus.NotOpen"/>, <see cref="StoreStatus.NotThere"/>.
    /// <see cref="StoreStatus.DeviceFailed"/>: what there is cannot be made certain yet; again later.
    /// </returns>
    public StoreStatus List(out IReadOnlyList<byte[]> names)
    {
        var found = new List<byte[]>();
        names = found;
        while (true)
        {
            StoreStatus status = Ask(StoreCall.List, 0, found.Count == 0 ? [] : found[^1], out uint count, out ReadOnlySpan<byte> rest);
            if (status != StoreStatus.Done || count == 0)
            {
                return status;
            }

            for (; count != 0; count--)
            {
                int length = rest.Length < sizeof(ushort) ? 0 : BinaryPrimitives.ReadUInt16LittleEndian(rest);
                if (length is 0 or > MaxNameLength || length > rest.Length - sizeof(ushort))
                {
                    return StoreStatus.Failed;
                }

                byte[] name = rest.Slice(sizeof(ushort), length).ToArray();
                if (found.Count != 0 && name.AsSpan().SequenceCompareTo(found[^1]) <= 0)
                {
                    // It would never end.
                    return StoreStatus.Failed;
                }

                found.Add(name);
                rest = rest[(sizeof(ushort) + length)..];
            }
        }
    }

    /// <summary>Makes changes, all of them at once or none.</summary>
    /// <param name="changes">The changes, in their order.</param>
    /// <returns><see cref="StoreStatus.Done"/>: they are there after any loss of power. <see cref="StoreStatus.Failed"/>: they are there, or not;
    /// commits are refused with it until <see cref="List"/> was called. With any other status nothing changed.</returns>
    public StoreStatus Commit(params ReadOnlySpan<StoreChange> changes)
    {
        int total = 0;
        foreach (StoreChange change in changes)
        {
            if (change.Name.Length is 0 or > MaxNameLength)
            {
                return StoreStatus.NameInvalid;
            }

            if (change.Value.GetValueOrDefault().Length > MaxValueLength)
            {
                return StoreStatus.ValueTooLong;
            }

            total += StoreMessages.ChangeHeaderLength + change.Name.Length + change.Value.GetValueOrDefault().Length;
            if (total > StoreMessages.MaxChanges)
            {
                return StoreStatus.TooLarge;
            }
        }

        if (changes.IsEmpty)
        {
            return StoreStatus.Done;
        }

        var writer = new Writer(this);
        Span<byte> head = stackalloc byte[StoreMessages.ChangeHeaderLength];
        foreach (StoreChange change in changes)
        {
            ReadOnlySpan<byte> value = change.Value.GetValueOrDefault().Span;
            head[0] = change.Value is null ? StoreMessages.Delete : StoreMessages.Put;
            head[1] = 0;
            BinaryPrimitives.WriteUInt16LittleEndian(head[2..], (ushort)change.Name.Length);
            BinaryPrimitives.WriteUInt32LittleEndian(head[4..], (uint)value.Length);
            writer.Add(head);
            writer.Add(change.Name.Span);
            writer.Add(value);
        }

        return writer.End();
    }

    /// <summary>Tells what the module's part of the store is.</summary>
    /// <param name="description">It.</param>
    /// <returns><see cref="StoreStatus.Done"/>, <see cref="StoreStatus.QuotaExceeded"/>, <see cref="StoreStatus.Failed"/>, <see cref="StoreStatus.NotOpen"/>, <see cref="StoreStatus.NotThere"/>.</returns>
    public StoreStatus TryDescribe(out StoreDescription description)
    {
        description = default;
        StoreStatus status = Ask(StoreCall.Describe, 0, [], out _, out ReadOnlySpan<byte> contents);
        if (status != StoreStatus.Done)
        {
            return status;
        }

        if (contents.Length != StoreMessages.DescriptionLength)
        {
            return StoreStatus.Failed;
        }

        description = new(
            BinaryPrimitives.ReadInt64LittleEndian(contents[8..]), BinaryPrimitives.ReadInt64LittleEndian(contents[16..]),
            (BinaryPrimitives.ReadUInt32LittleEndian(contents) & StoreMessages.RollbackDetectedFlag) != 0);
        return StoreStatus.Done;
    }

    private StoreStatus Ask(StoreCall call, uint argument, ReadOnlySpan<byte> contents, out uint number, out ReadOnlySpan<byte> answer)
    {
        contents.CopyTo(_message.AsSpan(StoreMessages.HeaderLength));
        return Send(call, argument, contents.Length, out number, out answer);
    }

    // What is in the message already.
    private StoreStatus Send(StoreCall call, uint argument, int length, out uint number, out ReadOnlySpan<byte> answer)
    {
        number = 0;
        answer = default;
        Span<byte> message = _message.AsSpan(0, StoreMessages.HeaderLength + length);
        BinaryPrimitives.WriteUInt32LittleEndian(message, (uint)call);
        BinaryPrimitives.WriteUInt32LittleEndian(message[4..], argument);
        PeerResult result = _peers.Ask(ModuleMessageKind.Store, message, out byte[] bytes);
        CryptographicOperations.ZeroMemory(message);
        switch (result)
        {
            case PeerResult.Answered when bytes.Length >= StoreMessages.HeaderLength:
                number = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(4));
                answer = bytes.AsSpan(StoreMessages.HeaderLength);
                uint status = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
                return status <= (uint)StoreStatus.BadRequest ? (StoreStatus)status : StoreStatus.Failed;
            case PeerResult.NotThere or PeerResult.NotPermitted:
                return StoreStatus.NotThere;
            default:
                return StoreStatus.Failed;
        }
    }

    // Cuts changes into messages.
    private ref struct Writer(ModuleStore store)
    {
        private uint _flags = StoreMessages.Begins;
        private int _length;
        private StoreStatus _status;

        public void Add(scoped ReadOnlySpan<byte> bytes)
        {
            while (!bytes.IsEmpty && _status == StoreStatus.Done)
            {
                Span<byte> room = store._message.AsSpan(StoreMessages.HeaderLength + _length);
                if (room.IsEmpty)
                {
                    Send();
                    continue;
                }

                int count = Math.Min(room.Length, bytes.Length);
                bytes[..count].CopyTo(room);
                _length += count;
                bytes = bytes[count..];
            }
        }

        public StoreStatus End()
        {
            if (_status == StoreStatus.Done)
            {
                _flags |= StoreMessages.Ends;
                Send();
            }

            return _status;
        }

        private void Send()
        {
            _status = store.Send(StoreCall.Commit, _flags, _length, out _, out _);
            _length = 0;
            _flags = 0;
        }
    }
}
