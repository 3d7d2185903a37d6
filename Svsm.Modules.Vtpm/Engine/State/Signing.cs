// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Signing a digest with a loaded key and verifying a signature, whatever the kind of key.
//
// Source: TCG TPM 2.0 Library, Part 1, "Signing"; Part 3, TPM2_Sign and TPM2_VerifySignature.
internal static class Signing
{
    /// <summary>Whether a key may sign; a null signer "signs" with no signature.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="handle">The key, or TPM_RH_NULL.</param>
    /// <param name="key">The key; null for TPM_RH_NULL.</param>
    internal static bool TryFindSigner(Tpm tpm, TpmHandle handle, out KeyObject? key)
    {
        key = tpm.Objects.Find(handle) as KeyObject;
        return handle == TpmHandle.Null || (key is not null && key.Public.Has(ObjectAttributes.Sign) && key.Public.Type != AlgorithmId.SymmetricCipher);
    }

    /// <summary>The scheme of a signature: the key's, or the caller's where the key has none; both have to agree.</summary>
    /// <param name="key">The key; null for TPM_RH_NULL.</param>
    /// <param name="given">The caller's scheme.</param>
    /// <param name="scheme">The scheme.</param>
    /// <returns>False when there is none, or they differ.</returns>
    internal static bool TrySelectScheme(KeyObject? key, in AsymmetricScheme given, out AsymmetricScheme scheme)
    {
        scheme = given;
        if (key is null)
        {
            scheme = AsymmetricScheme.None;
            return true;
        }

        AsymmetricScheme own = key.Public.Parameters.KeyScheme;
        if (key.Public.Type == AlgorithmId.SymmetricCipher)
        {
            return false;
        }

        if (own.Scheme == AlgorithmId.Null)
        {
            return given.Scheme != AlgorithmId.Null;
        }

        if (given.Scheme == AlgorithmId.Null)
        {
            // ECDAA needs the count of a commitment, which only the caller has.
            scheme = own;
            return own.Scheme != AlgorithmId.EcDaa;
        }

        return own.Scheme == given.Scheme && own.Hash == given.Hash;
    }

    /// <summary>Signs a digest.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="key">The key; null for no signature.</param>
    /// <param name="scheme">From <see cref="TrySelectScheme"/>.</param>
    /// <param name="digest">The digest.</param>
    /// <param name="signature">The signature.</param>
    /// <returns>TPM_RC_SCHEME for a scheme of another kind of key; TPM_RC_VALUE when the digest does not fit or the commitment is not there;
    /// TPM_RC_BINDING for an RSA key whose primes are none.</returns>
    internal static TpmResponseCode Sign(Tpm tpm, KeyObject? key, in AsymmetricScheme scheme, ReadOnlySpan<byte> digest, out Signature signature)
    {
        signature = Signature.None;
        if (key is null || scheme.Scheme == AlgorithmId.Null)
        {
            return TpmResponseCode.Success;
        }

        return key.Public.Type switch
        {
            AlgorithmId.Rsa => SignRsa(tpm, key, scheme, digest, out signature),
            AlgorithmId.Ecc => SignEcc(tpm, key, scheme, digest, out signature),
            _ => SignHmac(tpm, key, scheme, digest, out signature),
        };
    }

    /// <summary>Verifies a signature.</summary>
    /// <returns>TPM_RC_SIGNATURE; TPM_RC_SCHEME for a scheme of another kind of key; TPM_RC_HANDLE for an HMAC key without its secret.</returns>
    internal static TpmResponseCode Verify(Tpm tpm, KeyObject key, ReadOnlySpan<byte> digest, in Signature signature) => key.Public.Type switch
    {
        AlgorithmId.Rsa => VerifyRsa(tpm, key, digest, signature),
        AlgorithmId.Ecc => VerifyEcc(tpm, key, digest, signature),
        AlgorithmId.KeyedHash => VerifyHmac(tpm, key, digest, signature),
        _ => TpmResponseCode.Scheme,
    };

    private static TpmResponseCode SignRsa(Tpm tpm, KeyObject key, in AsymmetricScheme scheme, ReadOnlySpan<byte> digest, out Signature signature)
    {
        signature = Signature.None;
        if (scheme.Scheme is not (AlgorithmId.RsaSsa or AlgorithmId.RsaPss))
        {
            return TpmResponseCode.Scheme;
        }

        int size = key.Public.Unique.Length;
        byte[]? block = digest.Length != Algorithms.DigestSize(scheme.Hash) ? null
            : scheme.Scheme == AlgorithmId.RsaSsa ? RsaPadding.EncodeSsa(scheme.Hash, digest, size)
            : RsaPadding.EncodePss(tpm.Cryptography, scheme.Hash, digest, size, tpm.Random);
        if (block is null)
        {
            return TpmResponseCode.Value;
        }

        TpmResponseCode code = SecretExchange.PrivateOperation(tpm, key, block, out byte[] result);
        signature = new Signature(scheme.Scheme, scheme.Hash, result, default);
        return code;
    }

    private static TpmResponseCode VerifyRsa(Tpm tpm, KeyObject key, ReadOnlySpan<byte> digest, in Signature signature)
    {
        if (signature.Scheme is not (AlgorithmId.RsaSsa or AlgorithmId.RsaPss))
        {
            return TpmResponseCode.Scheme;
        }

        int size = key.Public.Unique.Length;
        if (signature.First.Length != size || RsaPublicKey.Apply(key.Public, signature.First.Span) is not byte[] block)
        {
            return TpmResponseCode.Signature;
        }

        bool isGood = signature.Scheme == AlgorithmId.RsaPss
            ? RsaPadding.IsPss(tpm.Cryptography, signature.Hash, digest, block)
            : digest.Length == Algorithms.DigestSize(signature.Hash) && block.AsSpan().SequenceEqual(RsaPadding.EncodeSsa(signature.Hash, digest, size));
        return isGood ? TpmResponseCode.Success : TpmResponseCode.Signature;
    }

    private static TpmResponseCode SignEcc(Tpm tpm, KeyObject key, in AsymmetricScheme scheme, ReadOnlySpan<byte> digest, out Signature signature)
    {
        signature = Signature.None;
        EllipticCurve curve = tpm.Cryptography.Curve(key.Public.Parameters.Curve);
        byte[] first;
        byte[] second;
        switch (scheme.Scheme)
        {
            case AlgorithmId.EcDsa:
                EccSignatures.SignEcdsa(curve, key.Secret, digest, tpm.Random, out first, out second);
                break;
            case AlgorithmId.EcSchnorr:
                EccSignatures.SignSchnorr(tpm.Cryptography, curve, scheme.Hash, key.Secret, digest, tpm.Random, out first, out second);
                break;
            case AlgorithmId.EcDaa:
                return SignEcdaa(tpm, curve, key, scheme, digest, out signature);
            default:
                return TpmResponseCode.Scheme;
        }

        signature = new Signature(scheme.Scheme, scheme.Hash, first, second);
        return TpmResponseCode.Success;
    }

    // (nonce, r + H(nonce || digest) d), where r belongs to a commitment.
    private static TpmResponseCode SignEcdaa(
        Tpm tpm, EllipticCurve curve, KeyObject key, in AsymmetricScheme scheme, ReadOnlySpan<byte> digest, out Signature signature)
    {
        signature = Signature.None;
        byte[]? committed = Commitments.Find(tpm, curve, key.Name, scheme.Count);
        if (committed is null)
        {
            return TpmResponseCode.Value;
        }

        byte[] nonce = ObjectCreation.NewEccKey(curve, tpm.Random);
        IHashState state = tpm.Cryptography.StartHash(scheme.Hash);
        state.Update(nonce);
        state.Update(digest);
        byte[]? sum = EccSignatures.AddProduct(curve, committed, state.Finish(), key.Secret);
        if (sum is null)
        {
            return TpmResponseCode.NoResult;
        }

        Commitments.End(tpm, scheme.Count);
        signature = new Signature(scheme.Scheme, scheme.Hash, nonce, sum);
        return TpmResponseCode.Success;
    }

    private static TpmResponseCode VerifyEcc(Tpm tpm, KeyObject key, ReadOnlySpan<byte> digest, in Signature signature)
    {
        if (signature.Scheme is not (AlgorithmId.EcDsa or AlgorithmId.EcSchnorr))
        {
            return TpmResponseCode.Scheme;
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key.Public.Parameters.Curve);
        bool isGood = curve.TryDecode(key.Public.Point, out ulong[] point)
            && (signature.Scheme == AlgorithmId.EcDsa
                ? EccSignatures.VerifyEcdsa(curve, point, digest, signature.First.Span, signature.Second.Span)
                : EccSignatures.VerifySchnorr(tpm.Cryptography, curve, signature.Hash, point, digest, signature.First.Span, signature.Second.Span));
        return isGood ? TpmResponseCode.Success : TpmResponseCode.Signature;
    }

    private static TpmResponseCode SignHmac(Tpm tpm, KeyObject key, in AsymmetricScheme scheme, ReadOnlySpan<byte> digest, out Signature signature)
    {
        signature = Signature.None;
        if (scheme.Scheme != AlgorithmId.Hmac)
        {
            return TpmResponseCode.Scheme;
        }

        signature = new Signature(scheme.Scheme, scheme.Hash, tpm.Cryptography.Hmac(scheme.Hash, key.Secret, digest), default);
        return TpmResponseCode.Success;
    }

    private static TpmResponseCode VerifyHmac(Tpm tpm, KeyObject key, ReadOnlySpan<byte> digest, in Signature signature)
    {
        if (key.IsPublicOnly)
        {
            return TpmResponseCode.Handle;
        }

        AlgorithmId own = key.Public.Parameters.SchemeHash;
        if (signature.Scheme != AlgorithmId.Hmac || (own != AlgorithmId.Null && own != signature.Hash))
        {
            return TpmResponseCode.Scheme;
        }

        return TpmCryptography.AreEqual(signature.First.Span, tpm.Cryptography.Hmac(signature.Hash, key.Secret, digest))
            ? TpmResponseCode.Success
            : TpmResponseCode.Signature;
    }
}
