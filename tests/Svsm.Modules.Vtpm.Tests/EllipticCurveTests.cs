// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Numerics;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Vectors: RFC 6979, A.2.5 to A.2.7 (keys and signatures over "sample"); RFC 5903, 8, and NIST CAVP (ECDH). Everything else against other arithmetic:
// System.Numerics.BigInteger.
public sealed class EllipticCurveTests
{
    private readonly BouncyCastleCryptography _cryptography = new();

    public static TheoryData<ushort> Curves => [.. Enum.GetValues<EccCurve>().Select(c => (ushort)c)];

    [Theory]
    [MemberData(nameof(Curves))]
    public void Constants_EveryCurve_AreACurveOfThatOrder(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        BigInteger p = Number(curve.P);
        BigInteger x = Number(curve.X);
        Assert.Equal(curve.Bits, p.GetBitLength());
        Assert.Equal(BigInteger.Pow(Number(curve.Y), 2) % p, ((BigInteger.Pow(x, 3) + (Number(curve.A) * x) + Number(curve.B)) % p));

        // n G is infinity, (n - 1) G is -G.
        Assert.Null(curve.Encode(curve.MultiplyGenerator(BigIntegers.Read(curve.N, curve.Limbs))));
        ulong[] less = BigIntegers.Read(curve.N, curve.Limbs);
        less[0]--;
        EccPoint negated = curve.Encode(curve.MultiplyGenerator(less))!.Value;
        Assert.Equal(curve.X, negated.X.ToArray());
        Assert.Equal(p, Number(curve.Y) + Number(negated.Y.Span));
    }

    [Theory]
    [MemberData(nameof(Curves))]
    public void Multiply_ExtremeScalars_AgreesWithAddition(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        var scalar = new ulong[curve.Limbs];
        Assert.Null(curve.Encode(curve.MultiplyGenerator(scalar)));
        ulong[] sum = curve.MultiplyGenerator(scalar);
        scalar[0] = 1;
        ulong[] generator = curve.MultiplyGenerator(scalar);
        for (ulong i = 1; i < 40; i++)
        {
            curve.Add(sum, generator, sum);
            scalar[0] = i;
            Assert.Equal(curve.Encode(sum)!.Value.ToBytes(), curve.Encode(curve.MultiplyGenerator(scalar))!.Value.ToBytes());
            Assert.Equal(curve.Encode(sum)!.Value.ToBytes(), curve.Encode(curve.Multiply(scalar, generator))!.Value.ToBytes());
            Assert.Equal(curve.Encode(sum)!.Value.ToBytes(), curve.Encode(curve.SumOfMultiples(new ulong[curve.Limbs], scalar, generator))!.Value.ToBytes());
        }
    }

    [Theory]
    [MemberData(nameof(Curves))]
    public void Multiply_AnyScalar_IsTheSameInAllThreeWays(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        CounterDrbg random = CounterDrbg.Create(_cryptography, [3]);
        ulong[] generator = curve.MultiplyGenerator([1, .. new ulong[curve.Limbs - 1]]);
        ulong[] infinity = curve.MultiplyGenerator(new ulong[curve.Limbs]);
        var least = new ulong[curve.Limbs];
        for (int i = 0; i < 56; i++)
        {
            // Numbers below the order: the largest ones (among them those whose last step doubles a point of the table), one bit each, and any.
            ulong[] scalar = i < 32 ? curve.Order.Value.ToArray() : new ulong[curve.Limbs];
            if (i < 32)
            {
                BigIntegers.Subtract(scalar, [(ulong)i + 1]);
            }
            else if (i < 44)
            {
                int bit = (i - 32) * (curve.Bits - 1) / 12;
                scalar[bit / 64] = 1UL << (bit % 64);
            }
            else
            {
                BigIntegers.Read(curve.PrivateKeyFrom(random.Generate(curve.Size + 8)), scalar);
            }

            byte[] expected = curve.Encode(curve.MultiplyGenerator(scalar))!.Value.ToBytes();
            Assert.Equal(expected, curve.Encode(curve.Multiply(scalar, generator))!.Value.ToBytes());
            Assert.Equal(expected, curve.Encode(curve.SumOfMultiples(new ulong[curve.Limbs], scalar, generator))!.Value.ToBytes());
            Assert.Equal(expected, curve.Encode(curve.SumOfMultiples(scalar, least, generator))!.Value.ToBytes());
            Assert.Equal(expected, curve.Encode(curve.SumOfMultiples(scalar, scalar, infinity))!.Value.ToBytes());
            ulong[] twice = curve.MultiplyGenerator(scalar);
            curve.Add(twice, twice, twice);
            Assert.Equal(curve.Encode(twice)!.Value.ToBytes(), curve.Encode(curve.SumOfMultiples(scalar, scalar, generator))!.Value.ToBytes());
            Assert.Null(curve.Encode(curve.Multiply(scalar, infinity)));
            Assert.Null(curve.Encode(curve.SumOfMultiples(new ulong[curve.Limbs], scalar, infinity)));
        }

        Assert.Null(curve.Encode(curve.SumOfMultiples(least, least, generator)));
        Assert.Null(curve.Encode(curve.SumOfMultiples(least, curve.Order.Value, generator)));
    }

    [Theory]
    [MemberData(nameof(Curves))]
    public void InvertPublic_AnyNumber_IsInvertPrime(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        CounterDrbg random = CounterDrbg.Create(_cryptography, [4]);
        foreach (Modulus modulus in (Modulus[])[curve.Field, curve.Order])
        {
            var expected = new ulong[modulus.Limbs];
            var actual = new ulong[modulus.Limbs];
            for (int i = 0; i < 60; i++)
            {
                ulong[] value = i < 10 ? modulus.Value.ToArray() : new ulong[modulus.Limbs];
                switch (i)
                {
                    case < 10:
                        BigIntegers.Subtract(value, [(ulong)i + 1]);
                        break;
                    case < 40:
                        int bit = (i - 10) * (curve.Bits - 1) / 30;
                        value[bit / 64] = 1UL << (bit % 64);
                        break;
                    default:
                        BigIntegers.Read(curve.PrivateKeyFrom(random.Generate(curve.Size + 8)), value);
                        break;
                }

                modulus.InvertPrime(value, expected);
                modulus.InvertPublic(value, actual);
                Assert.Equal(expected, actual);
            }
        }
    }

    [Theory]
    [MemberData(nameof(Curves))]
    public void HasCoordinate_NumberAboveTheOrder_IsReduced(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        BigInteger order = Number(curve.N);
        BigInteger prime = Number(curve.P);

        // A point whose coordinate is not below the order, if the prime is above it; at random there is none.
        for (BigInteger x = order; x < prime && x < order + 200; x++)
        {
            BigInteger right = (BigInteger.Pow(x, 3) + (Number(curve.A) * x) + Number(curve.B)) % prime;
            BigInteger y = BigInteger.ModPow(right, (prime + 1) / 4, prime);
            if (y * y % prime == right)
            {
                Assert.True(curve.TryDecode(new EccPoint(x.ToByteArray(true, true), y.ToByteArray(true, true)), out ulong[] point));
                Assert.True(curve.HasCoordinate(point, BigIntegers.Read((x - order).ToByteArray(true, true), curve.Limbs)));
                Assert.False(curve.HasCoordinate(point, BigIntegers.Read((x - order + 1).ToByteArray(true, true), curve.Limbs)));
            }
        }

        ulong[] generator = curve.MultiplyGenerator([1, .. new ulong[curve.Limbs - 1]]);
        BigInteger reduced = Number(curve.X) % order;
        Assert.True(curve.HasCoordinate(generator, BigIntegers.Read(reduced.ToByteArray(true, true), curve.Limbs)));
        Assert.False(curve.HasCoordinate(curve.MultiplyGenerator(new ulong[curve.Limbs]), new ulong[curve.Limbs]));
    }

    [Theory]
    [InlineData(3, "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721", "60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6", "7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299", "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716", "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8")]
    [InlineData(4, "6B9D3DAD2E1B8C1C05B19875B6659F4DE23C3B667BF297BA9AA47740787137D896D5724E4C70A825F872C9EA60D2EDF5", "EC3A4E415B4E19A4568618029F427FA5DA9A8BC4AE92E02E06AAE5286B300C64DEF8F0EA9055866064A254515480BC13", "8015D9B72D7D57244EA8EF9AC0C621896708A59367F9DFB9F54CA84B3F1C9DB1288B231C3AE0D4FE7344FD2533264720", "21B13D1E013C7FA1392D03C5F99AF8B30C570C6F98D4EA8E354B63A21D3DAA33BDE1E888E63355D92FA2B3C36D8FB2CD", "F3AA443FB107745BF4BD77CB3891674632068A10CA67E3D45DB2266FA7D1FEEBEFDC63ECCD1AC42EC0CB8668A4FA0AB0")]
    [InlineData(5, "00FAD06DAA62BA3B25D2FB40133DA757205DE67F5BB0018FEE8C86E1B68C7E75CAA896EB32F1F47C70855836A6D16FCC1466F6D8FBEC67DB89EC0C08B0E996B83538", "01894550D0785932E00EAA23B694F213F8C3121F86DC97A04E5A7167DB4E5BCD371123D46E45DB6B5D5370A7F20FB633155D38FFA16D2BD761DCAC474B9A2F5023A4", "00493101C962CD4D2FDDF782285E64584139C2F91B47F87FF82354D6630F746A28A0DB25741B5B34A828008B22ACC23F924FAAFBD4D33F81EA66956DFEAA2BFDFCF5", "01511BB4D675114FE266FC4372B87682BAECC01D3CC62CF2303C92B3526012659D16876E25C7C1E57648F23B73564D67F61C6F14D527D54972810421E7D87589E1A7", "004A171143A83163D6DF460AAF61522695F207A58B95C0644D87E52AA1A347916E4F7A72930B1BC06DBE22CE3F58264AFD23704CBB63B29B931F7DE6C9D949A7ECFC")]
    public void VerifyEcdsa_PublicVectors_AreGood(int id, string key, string x, string y, string r, string s)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        EccPoint point = curve.Encode(curve.MultiplyGenerator(BigIntegers.Read(Convert.FromHexString(key), curve.Limbs)))!.Value;
        Assert.Equal(Convert.FromHexString(x), point.X.ToArray());
        Assert.Equal(Convert.FromHexString(y), point.Y.ToArray());
        Assert.True(curve.TryDecode(point, out ulong[] decoded));
        byte[] digest = _cryptography.Hash(AlgorithmId.Sha256, "sample"u8);
        byte[] first = Convert.FromHexString(r);
        byte[] second = Convert.FromHexString(s);
        Assert.True(EccSignatures.VerifyEcdsa(curve, decoded, digest, first, second));

        // The numbers that no signature has, and those of another one.
        Assert.False(EccSignatures.VerifyEcdsa(curve, decoded, digest, second, first));
        Assert.False(EccSignatures.VerifyEcdsa(curve, decoded, digest, new byte[curve.Size], second));
        Assert.False(EccSignatures.VerifyEcdsa(curve, decoded, digest, first, new byte[curve.Size]));
        Assert.False(EccSignatures.VerifyEcdsa(curve, decoded, digest, curve.N, second));
        Assert.False(EccSignatures.VerifyEcdsa(curve, decoded, digest, first, curve.N));
        digest[0] ^= 1;
        Assert.False(EccSignatures.VerifyEcdsa(curve, decoded, digest, first, second));
    }

    [Fact]
    public void Multiply_KeyExchangeOfRfc5903_GivesItsSecret()
    {
        EllipticCurve curve = EllipticCurve.Create(EccCurve.NistP256);
        byte[] key = Convert.FromHexString("C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433");
        var other = new EccPoint(
            Convert.FromHexString("D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63"),
            Convert.FromHexString("56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB"));
        Assert.Equal(TpmResponseCode.Success, curve.TryMultiply(key, other, out EccPoint shared));
        Assert.Equal(Convert.FromHexString("D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE"), shared.X.ToArray());
    }

    // NIST CAVP, "ECC CDH Primitive": private key, the other side's point, shared secret.
    [Theory]
    [InlineData(3, "7d7dc5f71eb29ddaf80d6214632eeae03d9058af1fb6d22ed80badb62bc1a534", "700c48f77f56584c5cc632ca65640db91b6bacce3a4df6b42ce7cc838833d287", "db71e509e3fd9b060ddb20ba5c51dcc5948d46fbf640dfe0441782cab85fa4ac", "46fc62106420ff012e54a434fbdd2d25ccc5852060561e68040dd7778997bd7b")]
    [InlineData(3, "38f65d6dce47676044d58ce5139582d568f64bb16098d179dbab07741dd5caf5", "809f04289c64348c01515eb03d5ce7ac1a8cb9498f5caa50197e58d43a86a7ae", "b29d84e811197f25eba8f5194092cb6ff440e26d4421011372461f579271cda3", "057d636096cb80b67a8c038c890e887d1adfa4195e9b3ce241c8a778c59cda67")]
    [InlineData(3, "1accfaf1b97712b85a6f54b148985a1bdc4c9bec0bd258cad4b3d603f49f32c8", "a2339c12d4a03c33546de533268b4ad667debf458b464d77443636440ee7fec3", "ef48a3ab26e20220bcda2c1851076839dae88eae962869a497bf73cb66faf536", "2d457b78b4614132477618a5b077965ec90730a8c81a1c75d6d4ec68005d67ec")]
    [InlineData(3, "207c43a79bfee03db6f4b944f53d2fb76cc49ef1c9c4d34d51b6c65c4db6932d", "df3989b9fa55495719b3cf46dccd28b5153f7808191dd518eff0c3cff2b705ed", "422294ff46003429d739a33206c8752552c8ba54a270defc06e221e0feaf6ac4", "96441259534b80f6aee3d287a6bb17b5094dd4277d9e294f8fe73e48bf2a0024")]
    [InlineData(3, "59137e38152350b195c9718d39673d519838055ad908dd4757152fd8255c09bf", "41192d2813e79561e6a1d6f53c8bc1a433a199c835e141b05a74a97b0faeb922", "1af98cc45e98a7e041b01cf35f462b7562281351c8ebf3ffa02e33a0722a1328", "19d44c8d63e8e8dd12c22a87b8cd4ece27acdde04dbf47f7f27537a6999a8e62")]
    [InlineData(4, "3cc3122a68f0d95027ad38c067916ba0eb8c38894d22e1b15618b6818a661774ad463b205da88cf699ab4d43c9cf98a1", "a7c76b970c3b5fe8b05d2838ae04ab47697b9eaf52e764592efda27fe7513272734466b400091adbf2d68c58e0c50066", "ac68f19f2e1cb879aed43a9969b91a0839c4c38a49749b661efedf243451915ed0905a32b060992b468c64766fc8437a", "5f9d29dc5e31a163060356213669c8ce132e22f57c9a04f40ba7fcead493b457e5621e766c40a2e3d4d6a04b25e533f1")]
    [InlineData(4, "92860c21bde06165f8e900c687f8ef0a05d14f290b3f07d8b3a8cc6404366e5d5119cd6d03fb12dc58e89f13df9cd783", "30f43fcf2b6b00de53f624f1543090681839717d53c7c955d1d69efaf0349b7363acb447240101cbb3af6641ce4b88e0", "25e46c0c54f0162a77efcc27b6ea792002ae2ba82714299c860857a68153ab62e525ec0530d81b5aa15897981e858757", "a23742a2c267d7425fda94b93f93bbcc24791ac51cd8fd501a238d40812f4cbfc59aac9520d758cf789c76300c69d2ff")]
    [InlineData(4, "12cf6a223a72352543830f3f18530d5cb37f26880a0b294482c8a8ef8afad09aa78b7dc2f2789a78c66af5d1cc553853", "1aefbfa2c6c8c855a1a216774550b79a24cda37607bb1f7cc906650ee4b3816d68f6a9c75da6e4242cebfb6652f65180", "419d28b723ebadb7658fcebb9ad9b7adea674f1da3dc6b6397b55da0f61a3eddacb4acdb14441cb214b04a0844c02fa3", "3d2e640f350805eed1ff43b40a72b2abed0a518bcebe8f2d15b111b6773223da3c3489121db173d414b5bd5ad7153435")]
    [InlineData(5, "017eecc07ab4b329068fba65e56a1f8890aa935e57134ae0ffcce802735151f4eac6564f6ee9974c5e6887a1fefee5743ae2241bfeb95d5ce31ddcb6f9edb4d6fc47", "00685a48e86c79f0f0875f7bc18d25eb5fc8c0b07e5da4f4370f3a9490340854334b1e1b87fa395464c60626124a4e70d0f785601d37c09870ebf176666877a2046d", "01ba52c56fc8776d9e8f5db4f0cc27636d0b741bbe05400697942e80b739884a83bde99e0f6716939e632bc8986fa18dccd443a348b6c3e522497955a4f3c302f676", "005fc70477c3e63bc3954bd0df3ea0d1f41ee21746ed95fc5e1fdf90930d5e136672d72cc770742d1711c3c3a4c334a0ad9759436a4d3c5bf6e74b9578fac148c831")]
    public void TryMultiply_VectorsOfCavp_GiveTheirSecrets(int id, string key, string x, string y, string secret)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        var other = new EccPoint(Convert.FromHexString(x), Convert.FromHexString(y));
        Assert.Equal(TpmResponseCode.Success, curve.TryMultiply(Convert.FromHexString(key), other, out EccPoint shared));
        Assert.Equal(Convert.FromHexString(secret), shared.X.ToArray());
    }

    [Theory]
    [MemberData(nameof(Curves))]
    public void Signatures_OwnOnes_AreGood(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        CounterDrbg random = CounterDrbg.Create(_cryptography, [1]);
        foreach (byte[] key in (byte[][])[One(curve), Less(curve), curve.PrivateKeyFrom(random.Generate(curve.Size + 8))])
        {
            Assert.True(curve.IsPrivateKey(key));
            ulong[] point = curve.MultiplyGenerator(BigIntegers.Read(key, curve.Limbs));
            foreach (AlgorithmId hash in (AlgorithmId[])[AlgorithmId.Sha1, AlgorithmId.Sha512])
            {
                byte[] digest = _cryptography.Hash(hash, key);
                EccSignatures.SignEcdsa(curve, key, digest, random, out byte[] r, out byte[] s);
                Assert.True(EccSignatures.VerifyEcdsa(curve, point, digest, r, s));
                EccSignatures.SignSchnorr(_cryptography, curve, hash, key, digest, random, out r, out s);

                // A digest of the order's length may be above the order; such a signature is no good, and as rare as chance makes it.
                Assert.True(EccSignatures.VerifySchnorr(_cryptography, curve, hash, point, digest, r, s) || !curve.IsPrivateKey(r));
                s[^1] ^= 1;
                Assert.False(EccSignatures.VerifySchnorr(_cryptography, curve, hash, point, digest, r, s));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Curves))]
    public void TryDecode_WhatIsNoPoint_IsRefused(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        Assert.True(curve.TryDecode(new EccPoint(curve.X, curve.Y), out _));
        Assert.False(curve.TryDecode(new EccPoint(curve.Y, curve.X), out _));
        Assert.False(curve.TryDecode(new EccPoint(new byte[curve.Size], new byte[curve.Size]), out _));
        Assert.False(curve.TryDecode(default, out _));

        // x + p is the same number modulo p, and no coordinate.
        Assert.False(curve.TryDecode(new EccPoint(curve.P, curve.Y), out _));
        Assert.False(curve.TryDecode(new EccPoint(curve.X, (Number(curve.Y) + Number(curve.P)).ToByteArray(true, true)), out _));
        var tooLong = new byte[80];
        tooLong[0] = 1;
        Assert.False(curve.TryDecode(new EccPoint(tooLong, curve.Y), out _));
    }

    [Theory]
    [MemberData(nameof(Curves))]
    public void PrivateKeyFrom_AnyBytes_IsTheNumberModuloTheOrderLessOnePlusOne(ushort id)
    {
        EllipticCurve curve = EllipticCurve.Create((EccCurve)id);
        CounterDrbg random = CounterDrbg.Create(_cryptography, [2]);
        var all = new byte[curve.Size + 8];
        all.AsSpan().Fill(0xFF);
        foreach (byte[] bytes in (byte[][])[new byte[curve.Size + 8], all, random.Generate(curve.Size + 8)])
        {
            Assert.Equal((Number(bytes) % (Number(curve.N) - 1)) + 1, Number(curve.PrivateKeyFrom(bytes)));
        }
    }

    private static byte[] One(EllipticCurve curve)
    {
        var one = new byte[curve.Size];
        one[^1] = 1;
        return one;
    }

    private static byte[] Less(EllipticCurve curve)
    {
        var less = (byte[])curve.N.Clone();
        less[^1]--;
        return less;
    }

    private static BigInteger Number(ReadOnlySpan<byte> bytes) => new(bytes, isUnsigned: true, isBigEndian: true);
}
