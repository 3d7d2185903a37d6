// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text.Json;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The engine's own arithmetic, by its commands, against the stock .NET library (OpenSSL) and against published vectors: keys of one are loaded
// into the other, and each takes what the other has made.
public sealed class StockLibraryTests
{
    private const uint Key = 0x8000_0000;

    private static readonly byte[] s_digest = SHA256.HashData("message"u8);
    private static readonly byte[] s_noTicket = [0x80, 0x24, .. TestTpm.U32(TestTpm.Null), 0, 0];
    private readonly TestTpm _tpm = new();

    [Theory]
    [InlineData(3, "1.2.840.10045.3.1.7", 32)]
    [InlineData(4, "1.3.132.0.34", 48)]
    [InlineData(5, "1.3.132.0.35", 66)]
    public void Ecc_SignaturesAndExchanges_AreTheStocks(int curve, string identifier, int size)
    {
        ECCurve named = ECCurve.CreateFromValue(identifier);
        using var peer = ECDiffieHellman.Create(named);
        for (int i = 0; i < 6; i++)
        {
            // Random keys, then the smallest: 1 and 2.
            using ECDsa stock = i < 4 ? ECDsa.Create(named) : ECDsa.Create(new ECParameters { Curve = named, D = Small(size, i - 3) });
            ECParameters key = stock.ExportParameters(true);
            Load(
                [0, 0x23, 0, 0x0B, .. TestTpm.U32(0x6_0040), 0, 0, 0, 0x10, 0, 0x10, 0, (byte)curve, 0, 0x10, .. TestTpm.Sized(key.Q.X!), .. TestTpm.Sized(key.Q.Y!)],
                [0, 0x23, 0, 0, 0, 0, .. TestTpm.Sized(key.D!)]);
            byte[] signature = _tpm.Do(0x15D, [Key], [.. TestTpm.Sized(s_digest), 0, 0x18, 0, 0x0B, .. s_noTicket], TestTpm.PasswordSession());
            Assert.Equal(size, BinaryPrimitives.ReadUInt16BigEndian(signature.AsSpan(4)));
            byte[] joined = [.. signature[6..(6 + size)], .. signature[(8 + size)..(8 + (2 * size))]];
            Assert.True(stock.VerifyHash(s_digest, joined, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));

            byte[] theirs = stock.SignHash(s_digest, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
            byte[] parameters = [.. TestTpm.Sized(s_digest), 0, 0x18, 0, 0x0B, .. TestTpm.Sized(theirs[..size]), .. TestTpm.Sized(theirs[size..])];
            Assert.Equal(0u, _tpm.Try(0x177, [Key], parameters));
            parameters[5] ^= 1;
            Assert.Equal(0x2DBu, _tpm.Try(0x177, [Key], parameters));

            using ECDiffieHellman own = ECDiffieHellman.Create(key);
            ECPoint other = peer.ExportParameters(false).Q;
            byte[] shared = _tpm.Do(0x154, [Key], TestTpm.Sized([.. TestTpm.Sized(other.X!), .. TestTpm.Sized(other.Y!)]), TestTpm.PasswordSession());
            Assert.Equal(own.DeriveRawSecretAgreement(peer.PublicKey), shared[4..(4 + size)]);
            Flush();
        }
    }

    [Theory]
    [InlineData(2048)]
    [InlineData(3072)]
    [InlineData(4096)]
    public void Rsa_SignaturesAndEncryptions_AreTheStocks(int bits)
    {
        using var stock = RSA.Create(bits);
        RSAParameters key = stock.ExportParameters(true);
        Load(
            [0, 1, 0, 0x0B, .. TestTpm.U32(0x6_0040), 0, 0, 0, 0x10, 0, 0x10, .. TestTpm.U16(bits), 0, 0, 0, 0, .. TestTpm.Sized(key.Modulus!)],
            [0, 1, 0, 0, 0, 0, .. TestTpm.Sized(key.P!)]);
        foreach ((int scheme, RSASignaturePadding padding) in ((int, RSASignaturePadding)[])[(0x14, RSASignaturePadding.Pkcs1), (0x16, RSASignaturePadding.Pss)])
        {
            byte[] signature = _tpm.Do(0x15D, [Key], [.. TestTpm.Sized(s_digest), .. TestTpm.U16(scheme), 0, 0x0B, .. s_noTicket], TestTpm.PasswordSession());
            Assert.True(stock.VerifyHash(s_digest, signature[6..(6 + (bits / 8))], HashAlgorithmName.SHA256, padding));
            byte[] theirs = stock.SignHash(s_digest, HashAlgorithmName.SHA256, padding);
            Assert.Equal(0u, _tpm.Try(0x177, [Key], [.. TestTpm.Sized(s_digest), .. TestTpm.U16(scheme), 0, 0x0B, .. TestTpm.Sized(theirs)]));
            theirs[0] ^= 1;
            Assert.Equal(0x2DBu, _tpm.Try(0x177, [Key], [.. TestTpm.Sized(s_digest), .. TestTpm.U16(scheme), 0, 0x0B, .. TestTpm.Sized(theirs)]));
        }

        foreach ((byte[] scheme, RSAEncryptionPadding padding) in ((byte[], RSAEncryptionPadding)[])
        [
            ([0, 0x15], RSAEncryptionPadding.Pkcs1),
            ([0, 0x17, 0, 4], RSAEncryptionPadding.OaepSHA1),
            ([0, 0x17, 0, 0x0B], RSAEncryptionPadding.OaepSHA256),
            ([0, 0x17, 0, 0x0D], RSAEncryptionPadding.OaepSHA512),
        ])
        {
            foreach (int length in (int[])[1, 32, 100])
            {
                byte[] text = RandomNumberGenerator.GetBytes(length);
                byte[] clear = _tpm.Do(0x159, [Key], [.. TestTpm.Sized(stock.Encrypt(text, padding)), .. scheme, 0, 0], TestTpm.PasswordSession());
                Assert.Equal(TestTpm.Sized(text), clear[..(2 + length)]);
                byte[] cipher = _tpm.Do(0x174, [Key], [.. TestTpm.Sized(text), .. scheme, 0, 0]);
                Assert.Equal(text, stock.Decrypt(cipher[2..], padding));
            }
        }
    }

    [Theory]
    [InlineData(16)]
    [InlineData(32)]
    public void Aes_EveryMode_IsTheStocks(int size)
    {
        byte[] key = RandomNumberGenerator.GetBytes(size);
        byte[] iv = RandomNumberGenerator.GetBytes(16);
        using var aes = Aes.Create();
        aes.Key = key;
        Load(
            [0, 0x25, 0, 0x10, .. TestTpm.U32(0x6_0040), 0, 0, 0, 6, .. TestTpm.U16(size * 8), 0, 0x10, 0, 0],
            [0, 0x25, 0, 0, 0, 0, .. TestTpm.Sized(key)]);
        for (int length = 0; length <= 1024; length = length == 0 ? 16 : length * 4)
        {
            byte[] data = RandomNumberGenerator.GetBytes(length);
            Check(0x44, [], data, aes.EncryptEcb(data, PaddingMode.None));
            Check(0x42, iv, data, aes.EncryptCbc(data, iv, PaddingMode.None));
            Check(0x43, iv, data, aes.EncryptCfb(data, iv, PaddingMode.None, 128));
            Check(0x40, iv, data, Stream(aes, iv, data, isCounter: true));
            Check(0x41, iv, data, Stream(aes, iv, data, isCounter: false));

            // Parts of a block.
            byte[] part = [.. data, 1, 2, 3];
            if (part.Length <= 1024)
            {
                Check(0x40, iv, part, Stream(aes, iv, part, isCounter: true));
                Check(0x41, iv, part, Stream(aes, iv, part, isCounter: false));
            }
        }
    }

    [Fact]
    public void Ecc_WycheproofEdgeCases_AreRight()
    {
        using JsonDocument document = TestTpm.Resource("Wycheproof.json");
        JsonElement ecdsa = document.RootElement.GetProperty("ecdsa");
        byte[] digest = SHA256.HashData(Convert.FromHexString(ecdsa.GetProperty("message").GetString()!));
        byte[] r = Convert.FromHexString(ecdsa.GetProperty("r").GetString()!);
        byte[] head = [0, 0x23, 0, 0x0B, .. TestTpm.U32(0x6_0040), 0, 0, 0, 0x10, 0, 0x10, 0, 3, 0, 0x10];
        foreach (JsonElement signature in ecdsa.GetProperty("signatures").EnumerateArray())
        {
            byte[] point = Convert.FromHexString(signature[0].GetString()!);
            byte[] s = Convert.FromHexString(signature[1].GetString()!);
            Load([.. head, .. TestTpm.Sized(point[..32]), .. TestTpm.Sized(point[32..])], null);
            Assert.Equal(0u, _tpm.Try(0x177, [Key], [.. TestTpm.Sized(digest), 0, 0x18, 0, 0x0B, .. TestTpm.Sized(r), .. TestTpm.Sized(s)]));
            Flush();
        }

        JsonElement ecdh = document.RootElement.GetProperty("ecdh");
        byte[] secret = Convert.FromHexString(ecdh.GetProperty("private").GetString()!);
        using ECDsa stock = ECDsa.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP256, D = secret });
        ECPoint own = stock.ExportParameters(false).Q;
        Load([.. head, .. TestTpm.Sized(own.X!), .. TestTpm.Sized(own.Y!)], [0, 0x23, 0, 0, 0, 0, .. TestTpm.Sized(secret)]);
        foreach (JsonElement point in ecdh.GetProperty("points").EnumerateArray())
        {
            byte[] other = Convert.FromHexString(point[0].GetString()!);
            byte[] shared = _tpm.Do(0x154, [Key], TestTpm.Sized([.. TestTpm.Sized(other[..32]), .. TestTpm.Sized(other[32..])]), TestTpm.PasswordSession());
            Assert.Equal(point[1].GetString(), Convert.ToHexStringLower(shared[4..36]));
        }
    }

    private static byte[] Small(int size, int value)
    {
        byte[] number = new byte[size];
        number[^1] = (byte)value;
        return number;
    }

    private static byte[] Stream(Aes aes, byte[] iv, byte[] data, bool isCounter)
    {
        byte[] result = [.. data];
        byte[] block = [.. iv];
        for (int i = 0; i < data.Length; i++)
        {
            if (i % 16 == 0 && (i > 0 || !isCounter))
            {
                if (isCounter)
                {
                    for (int place = 15; place >= 0 && ++block[place] == 0; place--)
                    {
                    }
                }
                else
                {
                    block = aes.EncryptEcb(block, PaddingMode.None);
                }
            }

            result[i] ^= isCounter ? aes.EncryptEcb(block, PaddingMode.None)[i % 16] : block[i % 16];
        }

        return result;
    }

    private void Check(byte mode, byte[] iv, byte[] data, byte[] expected)
    {
        Assert.Equal(TestTpm.Sized(expected), Transform(mode, iv, data, false));
        Assert.Equal(TestTpm.Sized(data), Transform(mode, iv, expected, true));
    }

    private byte[] Transform(byte mode, byte[] iv, byte[] data, bool decrypt)
        => _tpm.Do(0x193, [Key], [.. TestTpm.Sized(data), (byte)(decrypt ? 1 : 0), 0, mode, .. TestTpm.Sized(iv)], TestTpm.PasswordSession())[..(2 + data.Length)];

    private void Load(byte[] area, byte[]? sensitive)
        => _tpm.Do(0x167, [], [.. TestTpm.Sized(sensitive ?? []), .. TestTpm.Sized(area), .. TestTpm.U32(TestTpm.Null)]);

    private void Flush() => _tpm.Do(0x165, [], TestTpm.U32(Key));
}
