// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Macs;
using Org.BouncyCastle.Crypto.Parameters;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

/// <summary>
/// The primitives: hashes, HMAC and AES from BouncyCastle.Cryptography, managed code without the operating system's libraries; curves from
/// <see cref="EllipticCurve"/>, because BouncyCastle's take times that depend on the scalar.
/// </summary>
internal sealed class BouncyCastleCryptography : ICryptography
{
    private readonly Dictionary<EccCurve, EllipticCurve> _curves = [];

    public IHashState StartHash(AlgorithmId algorithm) => new HashState(CreateDigest(algorithm));

    public IHashState StartHmac(AlgorithmId algorithm, ReadOnlySpan<byte> key)
    {
        var hmac = new HMac(CreateDigest(algorithm));
        hmac.Init(new KeyParameter(key));
        return new HmacState(hmac);
    }

    public IBlockTransform AesEncryptor(ReadOnlySpan<byte> key) => Aes(key, true);

    public IBlockTransform AesDecryptor(ReadOnlySpan<byte> key) => Aes(key, false);

    public EllipticCurve Curve(EccCurve id)
    {
        if (!_curves.TryGetValue(id, out EllipticCurve? curve))
        {
            curve = EllipticCurve.Create(id);
            _curves.Add(id, curve);
        }

        return curve;
    }

    private static BlockTransform Aes(ReadOnlySpan<byte> key, bool encrypt)
    {
        IBlockCipher cipher = AesUtilities.CreateEngine();
        cipher.Init(encrypt, new KeyParameter(key));
        return new BlockTransform(cipher);
    }

    private static IDigest CreateDigest(AlgorithmId algorithm) => algorithm switch
    {
        AlgorithmId.Sha1 => new Sha1Digest(),
        AlgorithmId.Sha256 => new Sha256Digest(),
        AlgorithmId.Sha384 => new Sha384Digest(),
        AlgorithmId.Sha512 => new Sha512Digest(),
        _ => throw new ArgumentOutOfRangeException(nameof(algorithm), algorithm, "not a hash algorithm of this TPM"),
    };

    private sealed class HashState(IDigest digest) : IHashState
    {
        public int Size => digest.GetDigestSize();

        public void Update(ReadOnlySpan<byte> data) => digest.BlockUpdate(data);

        public void Finish(Span<byte> result) => digest.DoFinal(result);
    }

    private sealed class HmacState(HMac hmac) : IHashState
    {
        public int Size => hmac.GetMacSize();

        public void Update(ReadOnlySpan<byte> data) => hmac.BlockUpdate(data);

        public void Finish(Span<byte> result) => hmac.DoFinal(result);
    }

    private sealed class BlockTransform(IBlockCipher cipher) : IBlockTransform
    {
        public void Transform(ReadOnlySpan<byte> input, Span<byte> output) => cipher.ProcessBlock(input, output);
    }
}
