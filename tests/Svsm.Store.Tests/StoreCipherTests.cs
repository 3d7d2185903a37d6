// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Text;
using Xunit;

namespace Svsm.Store.Tests;

public sealed class StoreCipherTests
{
    // Source: C2SP, XAES-256-GCM, test vectors.
    [Theory]
    [InlineData(1, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271")]
    [InlineData(3, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d")]
    public void Seal_VectorsOfC2sp_AreEqual(byte key, string associated, string expected)
    {
        byte[] nonce = "ABCDEFGHIJKLMNOPQRSTUVWX"u8.ToArray();
        byte[] text = "XAES-256-GCM"u8.ToArray();
        UnitCipher cipher = new StoreCipher([.. Enumerable.Repeat(key, 32)], observer: null).ForSeed(nonce.AsSpan(0, StoreCipher.SeedLength));
        byte[] output = new byte[text.Length + StoreCipher.TagLength];
        uint unit = BinaryPrimitives.ReadUInt32BigEndian(nonce.AsSpan(StoreCipher.SeedLength));
        UInt128 tag = cipher.Seal(unit, Encoding.ASCII.GetBytes(associated), text, output);
        BinaryPrimitives.WriteUInt128LittleEndian(output.AsSpan(text.Length), tag);
        Assert.Equal(expected, Convert.ToHexStringLower(output));

        byte[] opened = new byte[text.Length];
        Assert.True(cipher.TryOpen(unit, Encoding.ASCII.GetBytes(associated), output.AsSpan(0, text.Length), tag, opened));
        Assert.Equal(text, opened);
    }

    [Fact]
    public void TryOpen_AnythingElse_GivesNothing()
    {
        var store = new StoreCipher(StoreTest.Key, StoreTest.A);
        byte[] seed = StoreTest.Bytes(StoreCipher.SeedLength, 1);
        byte[] text = StoreTest.Bytes(100, 2);
        byte[] output = new byte[100];
        UInt128 tag = store.ForSeed(seed).Seal(7, "head"u8, text, output);
        byte[] opened = new byte[100];
        Assert.True(store.ForSeed(seed).TryOpen(7, "head"u8, output, tag, opened));
        Assert.Equal(text, opened);

        Assert.False(store.ForSeed(seed).TryOpen(8, "head"u8, output, tag, opened));
        Assert.Equal(new byte[100], opened);
        Assert.False(store.ForSeed(seed).TryOpen(7, "heat"u8, output, tag, opened));
        Assert.False(store.ForSeed(seed).TryOpen(7, "head"u8, output, tag ^ 1, opened));
        output[99] ^= 1;
        Assert.False(store.ForSeed(seed).TryOpen(7, "head"u8, output, tag, opened));
        output[99] ^= 1;
        Assert.False(new StoreCipher(StoreTest.Key, StoreTest.B).ForSeed(seed).TryOpen(7, "head"u8, output, tag, opened));
        for (int i = 0; i < seed.Length; i++)
        {
            byte[] other = [.. seed];
            other[i] ^= 0x10;
            Assert.False(store.ForSeed(other).TryOpen(7, "head"u8, output, tag, opened));
        }
    }

    [Fact]
    public void KeyCheck_OtherKeyOrStore_Differs()
    {
        byte[] other = [.. StoreTest.Key];
        other[31] ^= 1;
        Assert.NotEqual(new StoreCipher(StoreTest.Key, StoreTest.A).KeyCheck, new StoreCipher(other, StoreTest.A).KeyCheck);
        Assert.NotEqual(new StoreCipher(StoreTest.Key, StoreTest.A).KeyCheck, new StoreCipher(StoreTest.Key, StoreTest.B).KeyCheck);
        Assert.Equal(new StoreCipher(StoreTest.Key, StoreTest.A).KeyCheck, new StoreCipher(StoreTest.Key, StoreTest.A).KeyCheck);
    }

    // Source: RFC 3720, B.4, with the final complement left out.
    [Fact]
    public void Checksum_VectorOfRfc3720_IsEqual() => Assert.Equal(~0x8A91_36AAu, StoreFormat.Checksum(new byte[32]));
}
