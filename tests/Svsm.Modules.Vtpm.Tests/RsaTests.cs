// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class RsaTests
{
    private readonly BouncyCastleCryptography _cryptography = new();

    [Theory]
    [InlineData(2048)]
    [InlineData(3072)]
    public void KeyGeneration_AnySeed_GivesAKeyThatWorks(int bits)
    {
        CounterDrbg random = CounterDrbg.Create(_cryptography, [(byte)(bits / 1024)]);
        var generation = new RsaKeyGeneration(random, bits, RsaPublicKey.DefaultExponent);
        while (!generation.Step())
        {
        }

        var modulus = new System.Numerics.BigInteger(generation.Product, isUnsigned: true, isBigEndian: true);
        var prime = new System.Numerics.BigInteger(generation.Prime, isUnsigned: true, isBigEndian: true);
        Assert.Equal(bits, modulus.GetBitLength());
        Assert.True((modulus % prime).IsZero);
        RsaPrivateKey key = RsaPrivateKey.Create(generation.Product, generation.Prime, RsaPublicKey.DefaultExponent)!;
        var input = new byte[bits / 8];
        var output = new byte[bits / 8];
        for (int i = 0; i < 130; i += 43)
        {
            random.Fill(input.AsSpan(1));
            Assert.True(key.TryApply(input, output, random));
            var signature = new System.Numerics.BigInteger(output, isUnsigned: true, isBigEndian: true);
            Assert.Equal(new System.Numerics.BigInteger(input, isUnsigned: true, isBigEndian: true), System.Numerics.BigInteger.ModPow(signature, 65537, modulus));
        }
    }
}
