// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Vectors: FIPS 197, appendix C.
public sealed class AesTests
{
    private const string Plain = "00112233445566778899AABBCCDDEEFF";

    [Theory]
    [InlineData(16, "69C4E0D86A7B0430D8CDB78070B4C55A")]
    [InlineData(24, "DDA97CA4864CDFE06EAF70A0EC0D7191")]
    [InlineData(32, "8EA2B7CA516745BFEAFC49904B496089")]
    public void Transform_VectorsOfTheStandard_BothDirections(int keySize, string encrypted)
    {
        var key = new byte[keySize];
        for (int i = 0; i < key.Length; i++)
        {
            key[i] = (byte)i;
        }

        byte[] block = Convert.FromHexString(Plain);
        var cryptography = new BouncyCastleCryptography();
        IBlockTransform encryptor = cryptography.AesEncryptor(key);
        encryptor.Transform(block, block);
        Assert.Equal(encrypted, Convert.ToHexString(block));
        cryptography.AesDecryptor(key).Transform(block, block);
        Assert.Equal(Plain, Convert.ToHexString(block));

        // Without its key it is another cipher; the one without the processor's instructions keeps it.
        encryptor.Clear();
        if (AesBlocks.IsSupported)
        {
            encryptor.Transform(block, block);
            Assert.NotEqual(encrypted, Convert.ToHexString(block));
        }
    }
}
