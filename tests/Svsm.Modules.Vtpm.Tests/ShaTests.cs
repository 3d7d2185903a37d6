// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using System.Text;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Against FIPS 180's examples and, for every length around the block boundaries, against the stock class library.
public sealed class ShaTests
{
    public static TheoryData<int> Algorithms => [0x04, 0x0B, 0x0C, 0x0D];

    [Theory]
    [InlineData(0x04, "a9993e364706816aba3e25717850c26c9cd0d89d")]
    [InlineData(0x0B, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")]
    [InlineData(0x0C, "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7")]
    [InlineData(0x0D, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f")]
    public void Hash_Abc_IsTheStandardsExample(int algorithm, string digest)
    {
        Sha sha = Sha.Create((AlgorithmId)algorithm);
        sha.Update("abc"u8);
        Assert.Equal(digest, Convert.ToHexStringLower(sha.Finish()));
    }

    [Theory]
    [InlineData(0x04, "34aa973cd4c4daa4f61eeb2bdbad27316534016f")]
    [InlineData(0x0B, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0")]
    [InlineData(0x0D, "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973ebde0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b")]
    public void Hash_MillionTimesA_IsTheStandardsExample(int algorithm, string digest)
    {
        Sha sha = Sha.Create((AlgorithmId)algorithm);
        byte[] part = Encoding.ASCII.GetBytes(new string('a', 1000));
        for (int i = 0; i < 1000; i++)
        {
            sha.Update(part);
        }

        Assert.Equal(digest, Convert.ToHexStringLower(sha.Finish()));
    }

    [Theory]
    [MemberData(nameof(Algorithms))]
    public void Hash_EveryLengthInPieces_IsTheStocks(int algorithm)
    {
        var random = new Random(algorithm);
        for (int length = 0; length < 400; length++)
        {
            byte[] data = new byte[length];
            random.NextBytes(data);
            IHashState state = Sha.Create((AlgorithmId)algorithm);
            for (int offset = 0; offset < length;)
            {
                int count = random.Next(1, length - offset + 1);
                state.Update(data.AsSpan(offset, count));
                offset += count;
                state = Restored(state, (AlgorithmId)algorithm, hmac: false);
            }

            Assert.Equal(CryptographicOperations.HashData(Name(algorithm), data), state.Finish());
        }
    }

    [Theory]
    [MemberData(nameof(Algorithms))]
    public void Hmac_EveryKeyLength_IsTheStocks(int algorithm)
    {
        var random = new Random(algorithm);
        for (int length = 0; length < 200; length++)
        {
            byte[] key = new byte[length];
            byte[] data = new byte[random.Next(300)];
            random.NextBytes(key);
            random.NextBytes(data);
            IHashState state = new ShaHmac((AlgorithmId)algorithm, key);
            int cut = random.Next(data.Length + 1);
            state.Update(data.AsSpan(0, cut));
            state = Restored(state, (AlgorithmId)algorithm, hmac: true);
            state.Update(data.AsSpan(cut));
            Assert.Equal(CryptographicOperations.HmacData(Name(algorithm), key, data), state.Finish());
        }
    }

    [Fact]
    public void Load_CutOff_IsInsufficient()
    {
        Sha sha = Sha.Create(AlgorithmId.Sha256);
        sha.Update(new byte[100]);
        var writer = new TpmWriter(new byte[200]);
        sha.Save(ref writer);
        byte[] saved = writer.Written.ToArray();
        Assert.Equal(32 + 8 + 36, saved.Length);
        for (int size = 0; size < saved.Length; size++)
        {
            var reader = new TpmReader(saved.AsMemory(0, size));
            Assert.Equal(TpmResponseCode.Insufficient, Sha.Create(AlgorithmId.Sha256).Load(ref reader));
        }
    }

    private static IHashState Restored(IHashState state, AlgorithmId algorithm, bool hmac)
    {
        var writer = new TpmWriter(new byte[600]);
        state.Save(ref writer);
        var reader = new TpmReader(writer.Written.ToArray());
        var cryptography = new BouncyCastleCryptography();
        IHashState loaded;
        Assert.Equal(TpmResponseCode.Success, hmac ? cryptography.LoadHmac(algorithm, ref reader, out loaded) : cryptography.LoadHash(algorithm, ref reader, out loaded));
        Assert.Equal(0, reader.Remaining);
        return loaded;
    }

    private static HashAlgorithmName Name(int algorithm) => algorithm switch
    {
        0x04 => HashAlgorithmName.SHA1,
        0x0B => HashAlgorithmName.SHA256,
        0x0C => HashAlgorithmName.SHA384,
        _ => HashAlgorithmName.SHA512,
    };
}
