// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Migration.Tests;

/// <summary>Records, against the class library's cryptography.</summary>
public sealed class RecordCipherTests
{
    private static readonly byte[] s_secret = SHA384.HashData("secret"u8);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(4096)]
    [InlineData(65536)]
    public void Seal_Record_IsThatOfTheClassLibrary(int length)
    {
        byte[] text = new byte[length];
        new Random(length).NextBytes(text);
        using var sender = new RecordSender([.. s_secret]);
        var other = new OtherCipher(s_secret);

        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(other.Seal(RecordType.Page, 0x1122_3344_5566_7000, text), sender.Seal(RecordType.Page, 0x1122_3344_5566_7000, text));
        }

        Assert.Equal(other.Digest(), sender.Digest());
    }

    [Fact]
    public void TryOpen_RecordsOfTheClassLibrary_AreOpened()
    {
        using var receiver = new RecordReceiver([.. s_secret]);
        var other = new OtherCipher(s_secret);

        Assert.True(receiver.TryOpen(other.Seal(RecordType.Offer, 0, "offer"u8), out Record first));
        Assert.Equal((RecordType.Offer, 0ul), (first.Type, first.Address));
        Assert.Equal("offer"u8.ToArray(), first.Text.ToArray());
        Assert.True(receiver.TryOpen(other.Seal(RecordType.Page, 0x5000, new byte[4096]), out Record second));
        Assert.Equal((RecordType.Page, 0x5000ul, 4096), (second.Type, second.Address, second.Text.Length));
        byte[] before = other.Digest();
        Assert.True(receiver.TryOpen(other.Seal(RecordType.Finish, 0, new byte[64]), out _));
        Assert.Equal(before, receiver.DigestBeforeFinish);
        Assert.Equal(other.Digest(), receiver.Digest());
        Assert.Equal(3ul, receiver.Count);
    }

    [Fact]
    public void Seal_TextBeyondTheLimit_Throws()
    {
        using var sender = new RecordSender([.. s_secret]);
        Assert.Throws<ArgumentOutOfRangeException>(() => sender.Seal(RecordType.Page, 0, new byte[65537]));
    }

    [Fact]
    public void Epochs_EachHasItsKey_AndNoOtherOpensItsRecords()
    {
        using var sender = new RecordSender([.. s_secret]);
        using var receiver = new RecordReceiver([.. s_secret]);
        var other = new OtherCipher(s_secret);
        byte[] record = [];
        for (int i = 0; i <= 65536; i++)
        {
            record = sender.Seal(RecordType.Page, (ulong)i, []);
            Assert.Equal((ushort)(i / 65536), BinaryPrimitives.ReadUInt16LittleEndian(record.AsSpan(6)));
            if (i is 0 or 65535 or 65536)
            {
                Assert.Equal(other.At(i).Seal(RecordType.Page, (ulong)i, []), record);
            }

            // The first record of the next epoch, made with the key of this one, and with the epoch of this one.
            if (i == 65536)
            {
                Assert.False(receiver.TryOpen(new OtherCipher(s_secret).At(i, epochOfKey: 0).Seal(RecordType.Page, (ulong)i, []), out _));
                Assert.False(receiver.TryOpen(new OtherCipher(s_secret).At(i, epochOfKey: 0, epochOfHead: 0).Seal(RecordType.Page, (ulong)i, []), out _));
                Assert.False(receiver.TryOpen(new OtherCipher(s_secret).At(i, epochOfHead: 0).Seal(RecordType.Page, (ulong)i, []), out _));
            }

            Assert.True(receiver.TryOpen(record, out _), $"record {i}");
        }
    }

    [Fact]
    public void TryOpen_EachBitChanged_IsNotOpened()
    {
        byte[] record = new OtherCipher(s_secret).Seal(RecordType.Module, 0x7000, "a part"u8);
        using var receiver = new RecordReceiver([.. s_secret]);
        for (int bit = 0; bit < record.Length * 8; bit++)
        {
            byte[] changed = [.. record];
            changed[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.False(receiver.TryOpen(changed, out Record opened), $"bit {bit}");
            Assert.Equal(RecordType.None, opened.Type);
        }

        Assert.All(Enumerable.Range(0, record.Length), length => Assert.False(receiver.TryOpen(record.AsSpan(0, length), out _)));
        Assert.False(receiver.TryOpen([.. record, 0], out _));
        Assert.False(receiver.TryOpen(new byte[24 + 65537 + 16], out _));
        Assert.True(receiver.TryOpen(record, out _));
        Assert.False(receiver.TryOpen(record, out _));
    }

    [Fact]
    public void TryOpen_AnotherOrder_IsNotOpened()
    {
        var other = new OtherCipher(s_secret);
        List<byte[]> records = [.. Enumerable.Range(0, 4).Select(i => other.Seal(RecordType.Page, (ulong)i, [(byte)i]))];
        using var receiver = new RecordReceiver([.. s_secret]);

        Assert.False(receiver.TryOpen(records[1], out _));
        Assert.True(receiver.TryOpen(records[0], out _));
        Assert.False(receiver.TryOpen(records[2], out _));
        Assert.False(receiver.TryOpen(records[0], out _));
        Assert.True(receiver.TryOpen(records[1], out _));

        // The contents of one under the head of another.
        Assert.False(receiver.TryOpen([.. records[2][..24], .. records[3][24..]], out _));
        Assert.True(receiver.TryOpen(records[2], out _));
    }

    [Fact]
    public void TryOpen_OtherDirectionOrMigration_IsNotOpened()
    {
        byte[] record = new OtherCipher(SHA384.HashData("other"u8)).Seal(RecordType.Page, 0, [1]);
        using var receiver = new RecordReceiver([.. s_secret]);
        Assert.False(receiver.TryOpen(record, out _));
        Assert.Equal(0ul, receiver.Count);
    }
}

/// <summary>One direction of records, as the document says, with the class library's cryptography: seals and opens.</summary>
internal sealed class OtherCipher(byte[] secret)
{
    private readonly IncrementalHash _history = IncrementalHash.CreateHash(HashAlgorithmName.SHA384);
    private ulong _count;
    private ulong? _epochOfKey;
    private ushort? _epochOfHead;

    public OtherCipher At(int number, ulong? epochOfKey = null, ushort? epochOfHead = null)
    {
        (_count, _epochOfKey, _epochOfHead) = ((ulong)number, epochOfKey, epochOfHead);
        return this;
    }

    public byte[] Digest() => _history.GetCurrentHash();

    public byte[] Seal(RecordType type, ulong address, ReadOnlySpan<byte> text)
    {
        byte[] record = new byte[24 + text.Length + 16];
        BinaryPrimitives.WriteInt32LittleEndian(record, text.Length);
        record[4] = (byte)type;
        BinaryPrimitives.WriteUInt16LittleEndian(record.AsSpan(6), _epochOfHead ?? (ushort)(_count >> 16));
        BinaryPrimitives.WriteUInt64LittleEndian(record.AsSpan(8), _count);
        BinaryPrimitives.WriteUInt64LittleEndian(record.AsSpan(16), address);
        using AesGcm cipher = Cipher();
        cipher.Encrypt(Nonce(), text, record.AsSpan(24, text.Length), record.AsSpan(24 + text.Length), record.AsSpan(0, 24));
        _history.AppendData(record.AsSpan(0, 24));
        _history.AppendData(record.AsSpan(record.Length - 16));
        _count++;
        return record;
    }

    public (RecordType Type, byte[] Text) Open(byte[] record)
    {
        byte[] text = new byte[record.Length - 40];
        using AesGcm cipher = Cipher();
        cipher.Decrypt(Nonce(), record.AsSpan(24, text.Length), record.AsSpan(24 + text.Length), text, record.AsSpan(0, 24));
        _history.AppendData(record.AsSpan(0, 24));
        _history.AppendData(record.AsSpan(record.Length - 16));
        _count++;
        return ((RecordType)record[4], text);
    }

    private AesGcm Cipher()
    {
        byte[] epoch = secret;
        for (ulong i = 0; i < (_epochOfKey ?? _count >> 16); i++)
        {
            epoch = HKDF.Expand(HashAlgorithmName.SHA384, epoch, 48, "svsm migration 1 next"u8.ToArray());
        }

        return new AesGcm(HKDF.Expand(HashAlgorithmName.SHA384, epoch, 32, "svsm migration 1 key"u8.ToArray()), 16);
    }

    private byte[] Nonce()
    {
        byte[] nonce = new byte[12];
        BinaryPrimitives.WriteUInt64LittleEndian(nonce, _count);
        return nonce;
    }
}
