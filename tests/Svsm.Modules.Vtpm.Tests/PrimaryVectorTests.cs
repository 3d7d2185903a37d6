// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Text.Json;
using Org.BouncyCastle.Asn1.X9;
using Org.BouncyCastle.Crypto.EC;
using Org.BouncyCastle.Math;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// The generator and its derivation function, by the keys that a TPM with known seeds made: every key but the RSA ones.
public sealed class PrimaryVectorTests
{
    private readonly BouncyCastleCryptography _cryptography = new();

    [Fact]
    public void CounterDrbg_SeedsOfSwtpm_GivesItsPrimaryKeys()
    {
        using JsonDocument document = TestTpm.Resource("PrimaryVectors.json");
        JsonElement seeds = document.RootElement.GetProperty("seeds");
        int checkedCount = 0;
        foreach (JsonElement vector in document.RootElement.GetProperty("vectors").EnumerateArray())
        {
            byte[] template = Convert.FromHexString(vector.GetProperty("template").GetString()!);
            byte[] expected = Convert.FromHexString(vector.GetProperty("public").GetString()!);
            string hierarchy = vector.GetProperty("hierarchy").GetString()!;
            string prefix = hierarchy switch
            {
                "0x4000000b" => "EP",
                "0x40000001" => "SP",
                _ => "PP",
            };
            byte[] seed = Convert.FromHexString(seeds.GetProperty(prefix + "Seed").GetString()!);
            AlgorithmId nameHash = (AlgorithmId)((template[2] << 8) | template[3]);
            byte[] name = [template[2], template[3], .. _cryptography.Hash(nameHash, template)];
            CounterDrbg drbg = CounterDrbg.Create(_cryptography, seed, "Primary Object Creation\0"u8.ToArray(), name, []);
            switch ((template[0] << 8) | template[1])
            {
                case 0x0008:
                    // unique = H(seedValue || key)
                    byte[] key = drbg.Generate(32);
                    byte[] seedValue = drbg.Generate(32);
                    Assert.Equal(expected[^32..], _cryptography.Hash(nameHash, [.. seedValue, .. key]));
                    break;
                case 0x0025:
                    key = drbg.Generate(16);
                    seedValue = drbg.Generate(32);
                    Assert.Equal(expected[^32..], _cryptography.Hash(nameHash, [.. seedValue, .. key]));
                    break;
                case 0x0023:
                    X9ECParameters curve = CustomNamedCurves.GetByName(expected[^50] == 0 && expected[^49] == 48 ? "P-384" : "P-256");
                    int size = (curve.N.BitLength + 7) / 8;
                    BigInteger d = new BigInteger(1, drbg.Generate(size + 8)).Mod(curve.N.Subtract(BigInteger.One)).Add(BigInteger.One);
                    Org.BouncyCastle.Math.EC.ECPoint point = curve.G.Multiply(d).Normalize();
                    Assert.Equal(expected[^size..], point.AffineYCoord.GetEncoded());
                    break;
                default:
                    continue;
            }

            checkedCount++;
        }

        Assert.Equal(7, checkedCount);
    }

    [Theory]
    [InlineData("SRK ECC P256 (H template, empty unique)")]
    [InlineData("SRK ECC P256, unique = 32x00,32x01")]
    [InlineData("sign ECC P384")]
    [InlineData("platform ECC P256")]
    [InlineData("owner HMAC key (keyedhash)")]
    [InlineData("owner AES128 CFB (symcipher)")]
    [InlineData("EK ECC P256 (L-2 template)")]
    [InlineData("EK RSA2048 (L-1 template)")]
    [InlineData("owner sign RSA2048")]
    public void CreatePrimary_SeedsOfSwtpm_GivesItsPublicArea(string name)
    {
        using JsonDocument document = TestTpm.Resource("PrimaryVectors.json");
        JsonElement vector = document.RootElement.GetProperty("vectors").EnumerateArray().Single(v => v.GetProperty("name").GetString() == name);
        byte[] template = Convert.FromHexString(vector.GetProperty("template").GetString()!);
        byte[] expected = Convert.FromHexString(vector.GetProperty("public").GetString()!);
        var tpm = new TestTpm();
        JsonElement seeds = document.RootElement.GetProperty("seeds");
        tpm.Engine.Persistent.EndorsementSeed = Convert.FromHexString(seeds.GetProperty("EPSeed").GetString()!);
        tpm.Engine.Persistent.OwnerSeed = Convert.FromHexString(seeds.GetProperty("SPSeed").GetString()!);
        tpm.Engine.Persistent.PlatformSeed = Convert.FromHexString(seeds.GetProperty("PPSeed").GetString()!);
        tpm.Engine.Persistent.EndorsementProof = Convert.FromHexString(seeds.GetProperty("ehProof").GetString()!);
        tpm.Engine.Persistent.OwnerProof = Convert.FromHexString(seeds.GetProperty("shProof").GetString()!);
        uint hierarchy = Convert.ToUInt32(vector.GetProperty("hierarchy").GetString(), 16);
        byte[] parameters = [.. TestTpm.Sized(0, 0, 0, 0), .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0];
        for (int i = 0; i < 2; i++)
        {
            // After the size of the parameters; the handle is before it.
            byte[] answer = tpm.Do(0x131, [hierarchy], parameters, TestTpm.PasswordSession());
            Assert.Equal(TestTpm.Sized(expected), answer[4..(6 + expected.Length)]);
        }

        // The Name is the digest of what was answered, and TPM2_ReadPublic says the same.
        byte[] read = tpm.Do(0x173, [0x8000_0001], []);
        Assert.Equal([.. TestTpm.Sized(expected), .. TestTpm.Sized([0, 0xB, .. _cryptography.Hash(AlgorithmId.Sha256, expected)])], read[..(38 + expected.Length)]);
    }

    [Fact]
    public void CreatePrimary_EndorsementAfterClear_GivesAnotherObject()
    {
        var tpm = new TestTpm();
        byte[] template = Convert.FromHexString("0008000b0004047200000005000b0000");
        byte[] parameters = [.. TestTpm.Sized(0, 0, 0, 0), .. TestTpm.Sized(template), 0, 0, 0, 0, 0, 0];
        byte[] before = tpm.Do(0x131, [TestTpm.Endorsement], parameters, TestTpm.PasswordSession())[4..60];
        Assert.Equal(before, tpm.Do(0x131, [TestTpm.Endorsement], parameters, TestTpm.PasswordSession())[4..60]);
        tpm.Do(0x126, [TestTpm.Platform], [], TestTpm.PasswordSession());

        // TPM2_Clear flushed both.
        Assert.Equal(0x910u, tpm.Try(0x173, [0x8000_0000], []));
        Assert.NotEqual(before, tpm.Do(0x131, [TestTpm.Endorsement], parameters, TestTpm.PasswordSession())[4..60]);
    }
}
