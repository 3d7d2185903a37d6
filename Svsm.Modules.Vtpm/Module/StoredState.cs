// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The TPM's state in the module's part of the store. The engine gives one blob for every command that changes something, and most commands change a few
// bytes of it: so it is cut into pieces, and only those that have changed are written, all at once.
//
//   record "tpm"        u32 version 1, u32 bytes of the blob; little-endian
//   record 0000, 0001   pieces of 1024 bytes, called by their number (two bytes, big-endian); the last one may be shorter
//
// After a write of which nobody knows whether it happened, the TPM has no storage any more: it must not go on from a state that may not be the stored one.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Core;

namespace Svsm.Modules.Vtpm;

internal sealed class StoredState(ModuleStore store) : ITpmStorage
{
    private const uint Version = 1;
    private const int PieceLength = 1024;
    private const int HeadLength = 8;

    private static readonly byte[] s_head = "tpm"u8.ToArray();

    // What is stored; null: not known.
    private byte[]? _stored;

    /// <inheritdoc/>
    public TpmStorageResult Read(out byte[] content)
    {
        content = [];
        _stored = null;
        if (store.List(out IReadOnlyList<byte[]> names) != StoreStatus.Done)
        {
            return TpmStorageResult.Failed;
        }

        if (names.Count == 0)
        {
            _stored = [];
            return TpmStorageResult.Absent;
        }

        if (store.TryGet(s_head, out byte[] head) != StoreStatus.Done || head.Length != HeadLength || BinaryPrimitives.ReadUInt32LittleEndian(head) != Version)
        {
            return TpmStorageResult.Failed;
        }

        uint length = BinaryPrimitives.ReadUInt32LittleEndian(head.AsSpan(4));
        int pieces = names.Count - 1;
        if (length == 0 || length > (uint)pieces * PieceLength || length <= ((uint)pieces - 1) * PieceLength)
        {
            return TpmStorageResult.Failed;
        }

        byte[] blob = new byte[length];
        for (int i = 0; i < pieces; i++)
        {
            Span<byte> place = Piece(blob, i);
            bool isThere = store.TryGet(Name(i), out byte[] piece) == StoreStatus.Done && piece.Length == place.Length;
            if (isThere)
            {
                piece.CopyTo(place);
            }

            CryptographicOperations.ZeroMemory(piece);
            if (!isThere)
            {
                CryptographicOperations.ZeroMemory(blob);
                return TpmStorageResult.Failed;
            }
        }

        content = blob;
        _stored = [.. blob];
        return TpmStorageResult.Done;
    }

    /// <inheritdoc/>
    public TpmStorageResult Write(ReadOnlySpan<byte> content)
    {
        if (_stored is not byte[] stored)
        {
            return TpmStorageResult.Failed;
        }

        byte[] blob = content.ToArray();
        var changes = new List<StoreChange>();
        if (blob.Length != stored.Length)
        {
            byte[] head = new byte[HeadLength];
            BinaryPrimitives.WriteUInt32LittleEndian(head, Version);
            BinaryPrimitives.WriteUInt32LittleEndian(head.AsSpan(4), (uint)blob.Length);
            changes.Add(StoreChange.Put(s_head, head));
        }

        int pieces = Pieces(blob);
        for (int i = 0; i < pieces; i++)
        {
            if (i >= Pieces(stored) || !Piece(blob, i).SequenceEqual(Piece(stored, i)))
            {
                changes.Add(StoreChange.Put(Name(i), blob.AsMemory(i * PieceLength, Piece(blob, i).Length)));
            }
        }

        for (int i = pieces; i < Pieces(stored); i++)
        {
            changes.Add(StoreChange.Delete(Name(i)));
        }

        StoreStatus status = store.Commit([.. changes]);
        if (status != StoreStatus.Done)
        {
            // Of all others nothing has happened.
            if (status == StoreStatus.Failed)
            {
                CryptographicOperations.ZeroMemory(stored);
                _stored = null;
            }

            CryptographicOperations.ZeroMemory(blob);
            return TpmStorageResult.Failed;
        }

        CryptographicOperations.ZeroMemory(stored);
        _stored = blob;
        return TpmStorageResult.Done;
    }

    private static int Pieces(byte[] blob) => (blob.Length + PieceLength - 1) / PieceLength;

    private static Span<byte> Piece(byte[] blob, int index) => blob.AsSpan(index * PieceLength, Math.Min(PieceLength, blob.Length - (index * PieceLength)));

    private static byte[] Name(int index)
    {
        byte[] name = new byte[sizeof(ushort)];
        BinaryPrimitives.WriteUInt16BigEndian(name, (ushort)index);
        return name;
    }
}
