// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The other side of ModuleStore: takes requests apart, for whoever keeps a store. For the module of the package Svsm.Modules.Storage, and for TestStore.
//
// A module that asks is not trusted: whatever it sends, it has an answer, and only its own part of the store is concerned. What is collected for a commit
// is bounded, and each module has one at a time.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Core;

/// <summary>Answers the requests of <see cref="ModuleStore"/>.</summary>
public abstract class StoreServer
{
    private const int MaxAnswer = ModuleMessage.MaxPayload - StoreMessages.HeaderLength;

    // What was collected of the modules' commits, by protocol.
    private readonly Dictionary<uint, Collected> _collected = [];

    /// <summary>Answers a request.</summary>
    /// <param name="request">The request. Untrusted.</param>
    /// <returns>The answer.</returns>
    public byte[] Answer(in PeerRequest request)
    {
        ReadOnlySpan<byte> contents = request.Contents.Span;
        if (contents.Length < StoreMessages.HeaderLength)
        {
            return Answer(StoreStatus.BadRequest);
        }

        var call = (StoreCall)BinaryPrimitives.ReadUInt32LittleEndian(contents);
        uint argument = BinaryPrimitives.ReadUInt32LittleEndian(contents[4..]);
        ReadOnlyMemory<byte> rest = request.Contents[StoreMessages.HeaderLength..];
        return call switch
        {
            StoreCall.Get when rest.Length is > 0 and <= ModuleStore.MaxNameLength => Get(in request, rest, argument),
            StoreCall.List when rest.Length <= ModuleStore.MaxNameLength => List(in request, rest),
            StoreCall.Commit when argument <= (StoreMessages.Begins | StoreMessages.Ends) => Answer(Collect(in request, argument, rest.Span)),
            StoreCall.Describe when rest.IsEmpty => Describe(in request),
            _ => Answer(StoreStatus.BadRequest),
        };
    }

    /// <summary>The answer where nothing can be done.</summary>
    /// <param name="status">Why.</param>
    public static byte[] Refuse(StoreStatus status) => Answer(status);

    /// <summary>Reads a record.</summary>
    /// <param name="request">Who asks.</param>
    /// <param name="name">Its name: 1 to <see cref="ModuleStore.MaxNameLength"/> bytes.</param>
    /// <param name="value">Its value.</param>
    protected abstract StoreStatus Get(in PeerRequest request, ReadOnlySpan<byte> name, out byte[] value);

    /// <summary>Lists all names.</summary>
    /// <param name="request">Who asks.</param>
    /// <param name="names">The names, in the order of their bytes.</param>
    protected abstract StoreStatus List(in PeerRequest request, out IReadOnlyList<byte[]> names);

    /// <summary>Makes changes, all of them or none.</summary>
    /// <param name="request">Who asks.</param>
    /// <param name="changes">The changes: good names and lengths.</param>
    protected abstract StoreStatus Commit(in PeerRequest request, IReadOnlyList<StoreChange> changes);

    /// <summary>Describes the part of a module.</summary>
    /// <param name="request">Who asks.</param>
    /// <param name="description">It.</param>
    protected abstract StoreStatus Describe(in PeerRequest request, out StoreDescription description);

    private static byte[] Answer(StoreStatus status, int number = 0, ReadOnlySpan<byte> contents = default)
    {
        byte[] answer = new byte[StoreMessages.HeaderLength + contents.Length];
        BinaryPrimitives.WriteUInt32LittleEndian(answer, (uint)status);
        BinaryPrimitives.WriteUInt32LittleEndian(answer.AsSpan(4), (uint)number);
        contents.CopyTo(answer.AsSpan(StoreMessages.HeaderLength));
        return answer;
    }

    private byte[] Get(in PeerRequest request, ReadOnlyMemory<byte> name, uint offset)
    {
        StoreStatus status = Get(in request, name.Span, out byte[] value);
        if (status != StoreStatus.Done)
        {
            return Answer(status);
        }

        if (offset > (uint)value.Length)
        {
            return Answer(StoreStatus.BadRequest);
        }

        ReadOnlySpan<byte> part = value.AsSpan((int)offset);
        byte[] answer = Answer(StoreStatus.Done, value.Length, part[..Math.Min(part.Length, MaxAnswer)]);
        CryptographicOperations.ZeroMemory(value);
        return answer;
    }

    private byte[] List(in PeerRequest request, ReadOnlyMemory<byte> after)
    {
        StoreStatus status = List(in request, out IReadOnlyList<byte[]> names);
        if (status != StoreStatus.Done)
        {
            return Answer(status);
        }

        byte[] contents = new byte[MaxAnswer];
        int length = 0;
        int count = 0;
        foreach (byte[] name in names)
        {
            if (!after.IsEmpty && name.AsSpan().SequenceCompareTo(after.Span) <= 0)
            {
                continue;
            }

            if (length + sizeof(ushort) + name.Length > contents.Length)
            {
                break;
            }

            BinaryPrimitives.WriteUInt16LittleEndian(contents.AsSpan(length), (ushort)name.Length);
            name.CopyTo(contents, length + sizeof(ushort));
            length += sizeof(ushort) + name.Length;
            count++;
        }

        return Answer(StoreStatus.Done, count, contents.AsSpan(0, length));
    }

    private byte[] Describe(in PeerRequest request)
    {
        StoreStatus status = Describe(in request, out StoreDescription description);
        if (status != StoreStatus.Done)
        {
            return Answer(status);
        }

        Span<byte> contents = stackalloc byte[StoreMessages.DescriptionLength];
        contents.Clear();
        BinaryPrimitives.WriteUInt32LittleEndian(contents, description.IsRollbackDetected ? StoreMessages.RollbackDetectedFlag : 0);
        BinaryPrimitives.WriteInt64LittleEndian(contents[8..], description.Quota);
        BinaryPrimitives.WriteInt64LittleEndian(contents[16..], description.Used);
        return Answer(StoreStatus.Done, 0, contents);
    }

    private StoreStatus Collect(in PeerRequest request, uint flags, ReadOnlySpan<byte> part)
    {
        // What comes in one message, as most does, is not collected.
        if (flags == (StoreMessages.Begins | StoreMessages.Ends))
        {
            Forget(request.Protocol);
            return Apply(in request, request.Contents[StoreMessages.HeaderLength..]);
        }

        if ((flags & StoreMessages.Begins) != 0)
        {
            Forget(request.Protocol);
            _collected.Add(request.Protocol, new Collected());
        }

        if (!_collected.TryGetValue(request.Protocol, out Collected? collected))
        {
            return StoreStatus.BadRequest;
        }

        if (!collected.TryAdd(part))
        {
            Forget(request.Protocol);
            return StoreStatus.TooLarge;
        }

        if ((flags & StoreMessages.Ends) == 0)
        {
            return StoreStatus.Done;
        }

        try
        {
            return Apply(in request, collected.Bytes);
        }
        finally
        {
            Forget(request.Protocol);
        }
    }

    private StoreStatus Apply(in PeerRequest request, ReadOnlyMemory<byte> bytes)
    {
        var changes = new List<StoreChange>();
        while (!bytes.IsEmpty)
        {
            if (bytes.Length < StoreMessages.ChangeHeaderLength)
            {
                return StoreStatus.BadRequest;
            }

            ReadOnlySpan<byte> head = bytes.Span;
            byte kind = head[0];
            int nameLength = BinaryPrimitives.ReadUInt16LittleEndian(head[2..]);
            uint valueLength = BinaryPrimitives.ReadUInt32LittleEndian(head[4..]);
            bytes = bytes[StoreMessages.ChangeHeaderLength..];
            if (head[1] != 0 || nameLength is 0 or > ModuleStore.MaxNameLength || valueLength > ModuleStore.MaxValueLength || nameLength + (int)valueLength > bytes.Length
                || !(kind == StoreMessages.Put || (kind == StoreMessages.Delete && valueLength == 0)))
            {
                return StoreStatus.BadRequest;
            }

            ReadOnlyMemory<byte> name = bytes[..nameLength];
            changes.Add(kind == StoreMessages.Put ? StoreChange.Put(name, bytes.Slice(nameLength, (int)valueLength)) : StoreChange.Delete(name));
            bytes = bytes[(nameLength + (int)valueLength)..];
        }

        return changes.Count == 0 ? StoreStatus.BadRequest : Commit(in request, changes);
    }

    private void Forget(uint protocol)
    {
        if (_collected.Remove(protocol, out Collected? collected))
        {
            collected.Clear();
        }
    }

    private sealed class Collected
    {
        private byte[] _bytes = new byte[2 * ModuleMessage.MaxPayload];
        private int _length;

        public ReadOnlyMemory<byte> Bytes => _bytes.AsMemory(0, _length);

        public bool TryAdd(ReadOnlySpan<byte> part)
        {
            if (part.Length > StoreMessages.MaxChanges - _length)
            {
                return false;
            }

            if (part.Length > _bytes.Length - _length)
            {
                byte[] old = _bytes;
                _bytes = new byte[StoreMessages.MaxChanges];
                old.AsSpan(0, _length).CopyTo(_bytes);
                CryptographicOperations.ZeroMemory(old);
            }

            part.CopyTo(_bytes.AsSpan(_length));
            _length += part.Length;
            return true;
        }

        public void Clear() => CryptographicOperations.ZeroMemory(_bytes.AsSpan(0, _length));
    }
}
