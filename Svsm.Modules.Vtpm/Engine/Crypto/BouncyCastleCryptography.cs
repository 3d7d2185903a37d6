// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Parameters;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

/// <summary>
/// The primitives: AES by the processor's instructions (<see cref="AesBlocks"/>), or from BouncyCastle.Cryptography, managed code without the
/// operating system's libraries, where there are none; hashes from <see cref="Sha"/>, because saved sequences need their inner state; curves
/// from <see cref="EllipticCurve"/>, because BouncyCastle's take times that depend on the scalar.
/// </summary>
internal sealed class BouncyCastleCryptography : ICryptography
{
    private readonly Dictionary<EccCurve, EllipticCurve> _curves = [];

    public IHashState StartHash(AlgorithmId algorithm) => Sha.Create(algorithm);

    public IHashState StartHmac(AlgorithmId algorithm, ReadOnlySpan<byte> key) => new ShaHmac(algorithm, key);

    public TpmResponseCode LoadHash(AlgorithmId algorithm, ref TpmReader reader, out IHashState state)
    {
        Sha loaded = Sha.Create(algorithm);
        state = loaded;
        return loaded.Load(ref reader);
    }

    public TpmResponseCode LoadHmac(AlgorithmId algorithm, ref TpmReader reader, out IHashState state)
    {
        var loaded = new ShaHmac(algorithm);
        state = loaded;
        return loaded.Load(ref reader);
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

    private static IBlockTransform Aes(ReadOnlySpan<byte> key, bool encrypt)
    {
        if (AesBlocks.IsSupported)
        {
            return new AesBlocks(key, encrypt);
        }

        IBlockCipher cipher = AesUtilities.CreateEngine();
        cipher.Init(encrypt, new KeyParameter(key));
        return new BlockTransform(cipher);
    }

    private sealed class BlockTransform(IBlockCipher cipher) : IBlockTransform
    {
        public void Transform(ReadOnlySpan<byte> input, Span<byte> output) => cipher.ProcessBlock(input, output);

        public void Clear()
        {
            // BouncyCastle keeps the round keys to itself. No processor that a module runs on comes here.
        }
    }
}
