// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ECC_Encrypt: encrypts with the public part of an ECC key: a mask from the shared point, and a digest of point and text.</summary>
[TpmCommand(CommandCode.EccEncrypt)]
internal static partial class EccEncrypt
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object)] TpmHandle KeyHandle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> PlainText,
        [OrNull] KeyDerivationScheme InScheme);

    internal readonly record struct Response([Sized] EccPoint C1, [Size(TpmLimits.MaxBuffer)] byte[] C2, [Size(TpmLimits.MaxDigest)] byte[] C3);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        TpmResponseCode code = Select(tpm, request.KeyHandle, request.InScheme, At.KeyHandle, At.InScheme, out KeyObject? key, out AlgorithmId hash);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key!.Public.Parameters.Curve);
        byte[] ephemeral = ObjectCreation.NewEccKey(curve, tpm.Random);
        tpm.ClearAfterCommand(ephemeral);
        if (curve.TryMultiply(ephemeral, key.Public.Point, out EccPoint shared) != TpmResponseCode.Success)
        {
            return TpmResponseCode.Key.At(At.KeyHandle);
        }

        tpm.ClearAfterCommand(shared);
        EccPoint c1 = curve.PublicPoint(ephemeral);
        byte[] c2 = request.PlainText.ToArray();
        Mask(tpm.Cryptography, hash, shared, c2);
        response = new Response(c1, c2, Digest(tpm.Cryptography, hash, shared, request.PlainText.Span));
        return TpmResponseCode.Success;
    }

    /// <summary>The key and the hash of both commands.</summary>
    internal static TpmResponseCode Select(
        Tpm tpm, TpmHandle handle, in KeyDerivationScheme given, ErrorPlace atKey, ErrorPlace atScheme, out KeyObject? key, out AlgorithmId hash)
    {
        hash = AlgorithmId.Null;
        key = tpm.Objects.Find(handle) as KeyObject;
        if (key is null || key.Public.Type != AlgorithmId.Ecc)
        {
            return TpmResponseCode.Key.At(atKey);
        }

        if (key.Public.Has(ObjectAttributes.Restricted) || !key.Public.Has(ObjectAttributes.Decrypt))
        {
            return TpmResponseCode.Attributes.At(atKey);
        }

        var own = new KeyDerivationScheme(key.Public.Parameters.SchemeKdf, key.Public.Parameters.KdfHash);
        KeyDerivationScheme scheme = given.Scheme == AlgorithmId.Null ? own : given;
        hash = scheme.Hash;
        return scheme.Scheme != AlgorithmId.Kdf2 || (own.Scheme != AlgorithmId.Null && own != scheme) ? TpmResponseCode.Scheme.At(atScheme) : TpmResponseCode.Success;
    }

    /// <summary>KDF2 of the shared point, which is MGF1 with its counter from 1 on.</summary>
    internal static void Mask(ICryptography cryptography, AlgorithmId hash, in EccPoint shared, Span<byte> data)
    {
        int digest = Algorithms.DigestSize(hash);
        byte[] seed = [.. shared.X.Span, .. shared.Y.Span];
        byte[] mask = cryptography.Mask(hash, seed, data.Length + digest);
        for (int i = 0; i < data.Length; i++)
        {
            data[i] ^= mask[digest + i];
        }

        seed.AsSpan().Clear();
        mask.AsSpan().Clear();
    }

    internal static byte[] Digest(ICryptography cryptography, AlgorithmId hash, in EccPoint shared, ReadOnlySpan<byte> text)
    {
        IHashState state = cryptography.StartHash(hash);
        state.Update(shared.X.Span);
        state.Update(text);
        state.Update(shared.Y.Span);
        return state.Finish();
    }
}
