// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Numerics;
using System.Security.Cryptography;
using Svsm.Cryptography;
using Xunit;

namespace Svsm.StoreKeys.Tests;

/// <summary>The curves, against the class library's (OpenSSL's).</summary>
public sealed class NistCurveTests
{
    private static readonly BigInteger s_order384 = Read(Convert.FromHexString("FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973"));

    [Fact]
    public void PublicKeysAndAgreements_AreTheClassLibrarys()
    {
        NistCurve curve = NistCurve.P521();
        for (int i = 0; i < 20; i++)
        {
            using ECDiffieHellman other = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP521);
            ECParameters key = other.ExportParameters(includePrivateParameters: true);
            byte[] publicKey = [.. key.Q.X!, .. key.Q.Y!];
            Assert.Equal(publicKey, curve.ToBytes(curve.Multiply(curve.Generator, Read(key.D!))));

            BigInteger mine = curve.NewPrivateKey();
            byte[] mineBytes = curve.ToBytes(curve.Multiply(curve.Generator, mine));
            using ECDiffieHellman imported = ECDiffieHellman.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP521, Q = new ECPoint { X = mineBytes[..66], Y = mineBytes[66..] } });
            Assert.Equal(other.DeriveRawSecretAgreement(imported.PublicKey), curve.XOf(curve.Multiply(curve.TryReadPoint(publicKey)!.Value, mine)));
        }
    }

    [Fact]
    public void Multiples_AtTheEdges()
    {
        NistCurve curve = NistCurve.P384();
        CurvePoint generator = curve.Generator;
        Assert.Equal(generator, curve.Multiply(generator, 1));
        CurvePoint last = curve.Multiply(generator, s_order384 - 1);
        Assert.Equal(generator.X, last.X);
        Assert.NotEqual(generator.Y, last.Y);
        foreach (int number in (int[])[2, 3, 4, 5, 255, 256])
        {
            byte[] d = new byte[48];
            d[47] = (byte)number;
            d[46] = (byte)(number >> 8);
            using var key = ECDsa.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP384, D = d });
            ECParameters parameters = key.ExportParameters(includePrivateParameters: false);
            Assert.Equal([.. parameters.Q.X!, .. parameters.Q.Y!], curve.ToBytes(curve.Multiply(generator, number)));
        }
    }

    [Fact]
    public void Signatures_OfTheClassLibrary_Verify_AndOthersDoNot()
    {
        NistCurve curve = NistCurve.P384();
        var random = new Random(1);
        for (int i = 0; i < 20; i++)
        {
            using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
            ECParameters parameters = key.ExportParameters(includePrivateParameters: false);
            CurvePoint point = curve.TryReadPoint([.. parameters.Q.X!, .. parameters.Q.Y!])!.Value;
            byte[] hash = RandomNumberGenerator.GetBytes(48);
            byte[] signature = key.SignHash(hash, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
            Assert.True(curve.Verifies(point, hash, signature));

            byte[] changed = [.. signature];
            changed[random.Next(96)] ^= (byte)(1 << random.Next(8));
            Assert.False(curve.Verifies(point, hash, changed));
            byte[] otherHash = [.. hash];
            otherHash[random.Next(48)] ^= (byte)(1 << random.Next(8));
            Assert.False(curve.Verifies(point, otherHash, signature));
            Assert.False(curve.Verifies(curve.Generator, hash, signature));
            Assert.False(curve.Verifies(point, hash, [.. signature[48..], .. signature[..48]]));
            Assert.False(curve.Verifies(point, hash, signature.AsSpan(1)));
            Assert.False(curve.Verifies(point, hash, [.. signature, 0]));
        }
    }

    [Fact]
    public void Signatures_WithNumbersOutOfRange_DoNotVerify()
    {
        NistCurve curve = NistCurve.P384();
        byte[] hash = new byte[48];
        byte[] one = [.. new byte[47], 1];
        byte[] order = Write(s_order384);
        byte[] most = [.. Enumerable.Repeat((byte)0xFF, 48)];
        foreach (byte[] r in (byte[][])[new byte[48], one, order, most])
        {
            foreach (byte[] s in (byte[][])[new byte[48], one, order, most])
            {
                Assert.False(curve.Verifies(curve.Generator, hash, [.. r, .. s]));
            }
        }
    }

    // Where the two halves of a verification are the same point, or opposite ones: the key is the generator, and the hash is r, or its opposite.
    [Fact]
    public void Signatures_WithHalvesThatMeet()
    {
        NistCurve curve = NistCurve.P384();
        BigInteger k = 0x1234_5678_9ABC_DEF1;
        BigInteger r = curve.Multiply(curve.Generator, k).X % s_order384;
        BigInteger s = BigInteger.ModPow(k, s_order384 - 2, s_order384) * (2 * r) % s_order384;
        Assert.True(curve.Verifies(curve.Generator, Write(r), [.. Write(r), .. Write(s)]));
        Assert.False(curve.Verifies(curve.Generator, Write(s_order384 - r), [.. Write(r), .. Write(s)]));
    }

    [Fact]
    public void Points_ThatAreNone_AreNull()
    {
        NistCurve curve = NistCurve.P521();
        byte[] generator = curve.ToBytes(curve.Generator);
        Assert.Equal(curve.Generator, curve.TryReadPoint(generator));
        for (int bit = 0; bit < generator.Length * 8; bit += 37)
        {
            byte[] changed = [.. generator];
            changed[bit / 8] ^= (byte)(1 << (bit % 8));
            Assert.Null(curve.TryReadPoint(changed));
        }

        // The same point with a coordinate that is larger by the prime.
        byte[] larger = Write(curve.Generator.X + BigInteger.Pow(2, 521) - 1, 66);
        Assert.Null(curve.TryReadPoint([.. larger, .. generator[66..]]));
        Assert.Null(curve.TryReadPoint(new byte[132]));
        Assert.Null(curve.TryReadPoint(generator.AsSpan(1)));
        Assert.Null(curve.TryReadPoint([]));
    }

    private static BigInteger Read(byte[] bytes) => new(bytes, isUnsigned: true, isBigEndian: true);

    private static byte[] Write(BigInteger value, int length = 48)
    {
        byte[] bytes = value.ToByteArray(isUnsigned: true, isBigEndian: true);
        return [.. new byte[length - bytes.Length], .. bytes];
    }
}
