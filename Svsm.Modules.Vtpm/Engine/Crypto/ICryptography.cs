// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

/// <summary>The primitives that the engine is built on; everything that the TPM specification itself defines is above this line.</summary>
internal interface ICryptography
{
    /// <summary>Begins a digest.</summary>
    /// <param name="algorithm">A hash algorithm of the table.</param>
    IHashState StartHash(AlgorithmId algorithm);

    /// <summary>Begins an HMAC.</summary>
    /// <param name="algorithm">A hash algorithm of the table.</param>
    /// <param name="key">Any length.</param>
    IHashState StartHmac(AlgorithmId algorithm, ReadOnlySpan<byte> key);

    /// <summary>Goes on with a digest that <see cref="IHashState.Save"/> wrote.</summary>
    TpmResponseCode LoadHash(AlgorithmId algorithm, ref TpmReader reader, out IHashState state);

    /// <summary>Goes on with an HMAC that <see cref="IHashState.Save"/> wrote.</summary>
    TpmResponseCode LoadHmac(AlgorithmId algorithm, ref TpmReader reader, out IHashState state);

    /// <summary>AES in one direction, one block at a time.</summary>
    /// <param name="key">16, 24 or 32 bytes.</param>
    IBlockTransform AesEncryptor(ReadOnlySpan<byte> key);

    /// <summary>AES in the other direction.</summary>
    /// <param name="key">16, 24 or 32 bytes.</param>
    IBlockTransform AesDecryptor(ReadOnlySpan<byte> key);

    /// <summary>An elliptic curve. It is not for use by two threads at once.</summary>
    EllipticCurve Curve(EccCurve id);
}

/// <summary>A digest or HMAC in progress.</summary>
internal interface IHashState
{
    /// <summary>Bytes of the result.</summary>
    int Size { get; }

    void Update(ReadOnlySpan<byte> data);

    /// <summary>Writes <see cref="Size"/> bytes; the state cannot be used afterwards.</summary>
    void Finish(Span<byte> result);

    /// <summary>Writes all that is needed to go on later. It is as secret as the data.</summary>
    void Save(ref TpmWriter writer);

    /// <summary>Forgets the data; the state cannot be used afterwards.</summary>
    void Clear();
}

/// <summary>A block cipher with its key.</summary>
internal interface IBlockTransform
{
    /// <summary>Transforms one block of 16 bytes; input and output may be the same.</summary>
    void Transform(ReadOnlySpan<byte> input, Span<byte> output);

    /// <summary>Forgets the key; it cannot be used afterwards.</summary>
    void Clear();
}
