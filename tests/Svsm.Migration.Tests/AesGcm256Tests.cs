// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Security.Cryptography;
using CsCheck;
using Svsm.Cryptography;
using Xunit;

namespace Svsm.Migration.Tests;

public sealed class AesGcm256Tests
{
    private static readonly Gen<(byte[] Key, byte[] Nonce, byte[] Associated, byte[] Text)> s_message =
        Gen.Select(Gen.Byte.Array[32], Gen.Byte.Array[12], Gen.Byte.Array[0, 100], Gen.Byte.Array[0, 300]);

    // McGrew and Viega, "The Galois/Counter Mode of Operation (GCM)", appendix B, test cases 13 and 14.
    [Theory]
    [InlineData("", "", "530f8afbc74536b9a963b4f1c4cb738b")]
    [InlineData("00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18", "d0d1c8a799996bf0265b98b5d48ab919")]
    public void Seal_OfTheSpecification_IsTheirs(string text, string encrypted, string tag)
    {
        (byte[] there, byte[] thereTag) = Seal(new byte[32], new byte[12], [], Convert.FromHexString(text));
        Assert.Equal(encrypted, Convert.ToHexStringLower(there));
        Assert.Equal(tag, Convert.ToHexStringLower(thereTag));
    }

    [Fact]
    public void SealAndTryOpen_AnyLength_AreThoseOfTheClassLibrary() => s_message.Sample(message =>
    {
        (byte[] key, byte[] nonce, byte[] associated, byte[] text) = message;
        byte[] wanted = new byte[text.Length];
        byte[] wantedTag = new byte[16];
        using (var library = new AesGcm(key, 16))
        {
            library.Encrypt(nonce, text, wanted, wantedTag, associated);
        }

        (byte[] encrypted, byte[] tag) = Seal(key, nonce, associated, text);
        using var cipher = new AesGcm256(key);
        byte[] opened = new byte[text.Length];
        return encrypted.SequenceEqual(wanted) && tag.SequenceEqual(wantedTag) && cipher.TryOpen(nonce, associated, encrypted, tag, opened) && opened.SequenceEqual(text);
    });

    // A page of a guest, and the longest text of a record.
    [Theory]
    [InlineData(4096)]
    [InlineData(65536)]
    public void Seal_LongText_IsThatOfTheClassLibrary(int length)
    {
        byte[] key = RandomNumberGenerator.GetBytes(32);
        byte[] nonce = RandomNumberGenerator.GetBytes(12);
        byte[] head = RandomNumberGenerator.GetBytes(24);
        byte[] text = RandomNumberGenerator.GetBytes(length);
        byte[] wanted = new byte[length];
        byte[] wantedTag = new byte[16];
        using var library = new AesGcm(key, 16);
        library.Encrypt(nonce, text, wanted, wantedTag, head);

        (byte[] encrypted, byte[] tag) = Seal(key, nonce, head, text);

        Assert.Equal(wanted, encrypted);
        Assert.Equal(wantedTag, tag);
    }

    // Of what is not authentic, not a byte is decrypted.
    [Fact]
    public void TryOpen_OneBitIsAnother_LeavesTheText() => Gen.Select(s_message, Gen.Int[0, int.MaxValue - 1]).Sample((message, where) =>
    {
        (byte[] key, byte[] nonce, byte[] associated, byte[] text) = message;
        (byte[] encrypted, byte[] tag) = Seal(key, nonce, associated, text);
        byte[][] parts = [nonce, associated, encrypted, tag];
        int bit = where % (8 * parts.Sum(part => part.Length));
        foreach (byte[] part in parts)
        {
            if (bit < 0)
            {
                break;
            }

            if (bit < 8 * part.Length)
            {
                part[bit / 8] ^= (byte)(1 << (bit % 8));
            }

            bit -= 8 * part.Length;
        }

        using var cipher = new AesGcm256(key);
        byte[] opened = [.. Enumerable.Repeat((byte)0x5A, text.Length)];
        return !cipher.TryOpen(nonce, associated, encrypted, tag, opened) && opened.All(value => value == 0x5A);
    });

    [Fact]
    public void Lengths_ThatAreOthers_AreRefused()
    {
        Assert.Throws<ArgumentException>(() => new AesGcm256(new byte[16]));
        using var cipher = new AesGcm256(new byte[32]);
        Assert.Throws<ArgumentException>(() => cipher.Seal(new byte[16], [], new byte[4], new byte[4], new byte[16]));
        Assert.Throws<ArgumentException>(() => cipher.Seal(new byte[12], [], new byte[4], new byte[3], new byte[16]));
        Assert.Throws<ArgumentException>(() => cipher.TryOpen(new byte[12], [], new byte[4], new byte[12], new byte[4]));
    }

    // A key that was cleared is one of zeroes: whoever goes on with it would encrypt for everybody.
    [Fact]
    public void Dispose_NothingIsDoneWithoutTheKey()
    {
        byte[] key = RandomNumberGenerator.GetBytes(32);
        (byte[] encrypted, byte[] tag) = Seal(key, new byte[12], [], [1, 2, 3]);
        var cipher = new AesGcm256(key);
        byte[] opened = new byte[3];
        Assert.True(cipher.TryOpen(new byte[12], [], encrypted, tag, opened));
        cipher.Dispose();
        Assert.Throws<ObjectDisposedException>(() => cipher.TryOpen(new byte[12], [], encrypted, tag, opened));
        Assert.Throws<ObjectDisposedException>(() => cipher.Seal(new byte[12], [], opened, encrypted, tag));
    }

    private static (byte[] Encrypted, byte[] Tag) Seal(byte[] key, byte[] nonce, byte[] associated, byte[] text)
    {
        using var cipher = new AesGcm256(key);
        byte[] encrypted = new byte[text.Length];
        byte[] tag = new byte[16];
        cipher.Seal(nonce, associated, text, encrypted, tag);
        return (encrypted, tag);
    }
}
