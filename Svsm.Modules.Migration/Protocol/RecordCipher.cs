// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// One direction of the encrypted records of a migration: RecordSender seals them, RecordReceiver opens them. Numbers go up by one; every 65536 of them begin an
// epoch with a key of its own, and the secret of the last one is forgotten. docs/migration-protocol.md, "Keys" and "Records".
//
// BouncyCastle keeps copies of an epoch's secret in objects that cannot be cleared: who can read the memory of the process has the guest anyway.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Generators;
using Org.BouncyCastle.Crypto.Parameters;
using Svsm.Cryptography;

namespace Svsm.Migration;

/// <summary>A record in the clear.</summary>
internal readonly ref struct Record(RecordType type, ulong address, ReadOnlySpan<byte> text)
{
    public RecordType Type { get; } = type;

    public ulong Address { get; } = address;

    public ReadOnlySpan<byte> Text { get; } = text;
}

/// <summary>What both directions have in common: keys, and the digest over what went.</summary>
internal abstract class RecordCipher : IDisposable
{
    private readonly Sha384Digest _history = new();
    private readonly byte[] _secret;

    protected RecordCipher(byte[] secret)
    {
        _secret = secret;
        Cipher = CipherOf(secret);
    }

    /// <summary>Records so far.</summary>
    public ulong Count { get; private set; }

    /// <summary>That of this epoch.</summary>
    protected AesGcm256 Cipher { get; private set; }

    /// <summary>Clears the secret of this epoch, and with it those of all later ones.</summary>
    public void Dispose()
    {
        CryptographicOperations.ZeroMemory(_secret);
        Cipher.Dispose();
    }

    /// <summary>Digest of the heads and tags of all records so far.</summary>
    public byte[] Digest()
    {
        byte[] digest = new byte[MigrationFormat.DigestLength];
        new Sha384Digest(_history).DoFinal(digest);
        return digest;
    }

    protected void WriteHead(Span<byte> head, RecordType type, ulong address, int length)
    {
        head.Clear();
        BinaryPrimitives.WriteInt32LittleEndian(head, length);
        head[MigrationFormat.TypeOffset] = (byte)type;
        BinaryPrimitives.WriteUInt16LittleEndian(head[MigrationFormat.EpochOffset..], (ushort)(Count / MigrationFormat.RecordsOfAnEpoch));
        BinaryPrimitives.WriteUInt64LittleEndian(head[MigrationFormat.RecordNumberOffset..], Count);
        BinaryPrimitives.WriteUInt64LittleEndian(head[MigrationFormat.AddressOffset..], address);
    }

    /// <summary>Writes the nonce of the next record.</summary>
    protected void WriteNonce(Span<byte> nonce)
    {
        nonce.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, Count);
    }

    /// <summary>Counts a record, and goes to the next epoch when it was the last one of this.</summary>
    protected void Next(ReadOnlySpan<byte> head, ReadOnlySpan<byte> tag)
    {
        _history.BlockUpdate(head);
        _history.BlockUpdate(tag);
        if (++Count % MigrationFormat.RecordsOfAnEpoch == 0)
        {
            byte[] next = Expand(_secret, MigrationFormat.NextLabel, MigrationFormat.SecretLength);
            next.CopyTo(_secret, 0);
            CryptographicOperations.ZeroMemory(next);
            Cipher.Dispose();
            Cipher = CipherOf(_secret);
        }
    }

    private static AesGcm256 CipherOf(byte[] secret)
    {
        byte[] key = Expand(secret, MigrationFormat.KeyLabel, AesGcm256.KeyLength);
        var cipher = new AesGcm256(key);
        CryptographicOperations.ZeroMemory(key);
        return cipher;
    }

    private static byte[] Expand(byte[] secret, ReadOnlySpan<byte> label, int length)
    {
        var generator = new HkdfBytesGenerator(new Sha384Digest());
        generator.Init(HkdfParameters.SkipExtractParameters(secret, label.ToArray()));
        byte[] expanded = new byte[length];
        generator.GenerateBytes(expanded, 0, length);
        return expanded;
    }
}

/// <summary>Seals the records of one direction.</summary>
/// <param name="secret">Secret of epoch 0: the sender's from here on.</param>
internal sealed class RecordSender(byte[] secret) : RecordCipher(secret)
{
    /// <summary>Seals the next record.</summary>
    /// <returns>Head, encrypted text, tag.</returns>
    public byte[] Seal(RecordType type, ulong address, ReadOnlySpan<byte> text)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(text.Length, MigrationFormat.MaxText, nameof(text));

        // All of it is written below.
        byte[] record = GC.AllocateUninitializedArray<byte>(MigrationFormat.HeadLength + text.Length + AesGcm256.TagLength);
        Span<byte> head = record.AsSpan(0, MigrationFormat.HeadLength);
        WriteHead(head, type, address, text.Length);
        Span<byte> tag = record.AsSpan(record.Length - AesGcm256.TagLength);
        Span<byte> nonce = stackalloc byte[AesGcm256.NonceLength];
        WriteNonce(nonce);
        Cipher.Seal(nonce, head, text, record.AsSpan(MigrationFormat.HeadLength, text.Length), tag);
        Next(head, tag);
        return record;
    }
}

/// <summary>Opens the records of one direction.</summary>
/// <param name="secret">Secret of epoch 0: the receiver's from here on.</param>
internal sealed class RecordReceiver(byte[] secret) : RecordCipher(secret)
{
    private readonly byte[] _text = new byte[MigrationFormat.MaxText];

    /// <summary>Digest of the records before the last FINISH, which speaks of them.</summary>
    public byte[] DigestBeforeFinish { get; private set; } = [];

    /// <summary>Opens a record, if it is the next one.</summary>
    /// <param name="bytes">Head, encrypted text, tag. Untrusted.</param>
    /// <param name="record">The record, until the next call.</param>
    /// <returns>False: it is not. Nothing can be opened any more then.</returns>
    public bool TryOpen(ReadOnlySpan<byte> bytes, out Record record)
    {
        record = default;
        int length = bytes.Length - MigrationFormat.HeadLength - AesGcm256.TagLength;
        if (length is < 0 or > MigrationFormat.MaxText)
        {
            return false;
        }

        // All of the head follows from what is due, but type and address.
        ReadOnlySpan<byte> head = bytes[..MigrationFormat.HeadLength];
        var type = (RecordType)head[MigrationFormat.TypeOffset];
        ulong address = BinaryPrimitives.ReadUInt64LittleEndian(head[MigrationFormat.AddressOffset..]);
        Span<byte> due = stackalloc byte[MigrationFormat.HeadLength];
        WriteHead(due, type, address, length);
        if (!head.SequenceEqual(due))
        {
            return false;
        }

        ReadOnlySpan<byte> tag = bytes[^AesGcm256.TagLength..];
        Span<byte> nonce = stackalloc byte[AesGcm256.NonceLength];
        WriteNonce(nonce);
        if (!Cipher.TryOpen(nonce, head, bytes.Slice(MigrationFormat.HeadLength, length), tag, _text.AsSpan(0, length)))
        {
            return false;
        }

        if (type == RecordType.Finish)
        {
            DigestBeforeFinish = Digest();
        }

        Next(head, tag);
        record = new(type, address, _text.AsSpan(0, length));
        return true;
    }
}
