// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using System.Text;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// A secret that is known to whoever makes it and to the key it is made for: the salt of a session, the seed of a duplicate or credential.
//
//   RSA          OAEP of random bytes, with the label
//   ECC          an ephemeral point; the secret is KDFe of the shared point, with the label
//   symmetric    for salts: XOR or CFB of what the caller chose
//
// Source: TCG TPM 2.0 Library, Part 1, annexes B.10 ("Secret Sharing", RSA) and C.6 (ECC); Part 3, TPM2_StartAuthSession.
internal static class SecretExchange
{
    /// <summary>Label of a session's salt.</summary>
    internal const string Salt = "SECRET";

    /// <summary>Label of a duplicate's seed.</summary>
    internal const string Duplicate = "DUPLICATE";

    /// <summary>Label of a credential's seed.</summary>
    internal const string Identity = "IDENTITY";

    /// <summary>The secret in what somebody made for a key.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="key">A decryption key with its secret part.</param>
    /// <param name="label">What the secret is for.</param>
    /// <param name="encrypted">TPM2B_ENCRYPTED_SECRET.</param>
    /// <param name="nonceCaller">The nonce of a session; only for symmetric keys.</param>
    /// <param name="secret">The secret.</param>
    /// <returns>TPM_RC_VALUE, _SIZE, _SCHEME, _KEY, _ECC_POINT or _INSUFFICIENT; without a place.</returns>
    internal static TpmResponseCode Decrypt(
        Tpm tpm, KeyObject key, string label, ReadOnlyMemory<byte> encrypted, ReadOnlySpan<byte> nonceCaller, out byte[] secret)
    {
        secret = [];
        return key.Public.Type switch
        {
            AlgorithmId.Rsa => DecryptRsa(tpm, key, label, encrypted, out secret),
            AlgorithmId.Ecc => DecryptEcc(tpm, key, label, encrypted, out secret),
            _ => DecryptSymmetric(tpm, key, encrypted, nonceCaller, out secret),
        };
    }

    /// <summary>A new secret for a key.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="key">The public area of an asymmetric storage key.</param>
    /// <param name="label">What the secret is for.</param>
    /// <param name="secret">The secret.</param>
    /// <param name="encrypted">TPM2B_ENCRYPTED_SECRET.</param>
    /// <returns>TPM_RC_SCHEME, TPM_RC_KEY or TPM_RC_TYPE for a key that cannot be used so.</returns>
    internal static TpmResponseCode Encrypt(Tpm tpm, in PublicArea key, string label, out byte[] secret, out byte[] encrypted)
    {
        int size = Algorithms.DigestSize(key.NameHash);
        secret = [];
        encrypted = [];
        if (key.Type == AlgorithmId.Ecc)
        {
            EllipticCurve curve = tpm.Cryptography.Curve(key.Parameters.Curve);
            if (!curve.TryDecode(key.Point, out ulong[] point))
            {
                return TpmResponseCode.Key;
            }

            byte[] scalarBytes = ObjectCreation.NewEccKey(curve, tpm.Random);
            ulong[] scalar = BigIntegers.Read(scalarBytes, curve.Limbs);
            EccPoint ephemeral = curve.Encode(curve.MultiplyGenerator(scalar))!.Value;
            EccPoint shared = curve.Encode(curve.Multiply(scalar, point))!.Value;
            CryptographicOperations.ZeroMemory(scalarBytes);
            scalar.AsSpan().Clear();
            secret = tpm.Cryptography.DeriveKeyFromPoint(key.NameHash, shared.X.Span, label, ephemeral.X.Span, key.Unique, size * 8);
            shared.Clear();
            encrypted = ephemeral.ToBytes();
            return TpmResponseCode.Success;
        }

        if (key.Type != AlgorithmId.Rsa)
        {
            return TpmResponseCode.Type;
        }

        AlgorithmId hash = OaepHash(key);
        secret = tpm.Random.Generate(size);
        byte[]? block = hash == AlgorithmId.Null
            ? null
            : RsaPadding.EncodeOaep(tpm.Cryptography, hash, Encoding.ASCII.GetBytes(label + "\0"), secret, key.Unique.Length, tpm.Random);
        if (block is null)
        {
            return TpmResponseCode.Scheme;
        }

        byte[]? result = RsaPublicKey.Apply(key, block);
        CryptographicOperations.ZeroMemory(block);
        encrypted = result ?? [];
        return result is null ? TpmResponseCode.Key : TpmResponseCode.Success;
    }

    private static AlgorithmId OaepHash(in PublicArea key) => key.Parameters.Scheme switch
    {
        AlgorithmId.Null => key.NameHash,
        AlgorithmId.Oaep => key.Parameters.SchemeHash,
        _ => AlgorithmId.Null,
    };

    private static TpmResponseCode DecryptRsa(Tpm tpm, KeyObject key, string label, ReadOnlyMemory<byte> encrypted, out byte[] secret)
    {
        secret = [];
        AlgorithmId hash = OaepHash(key.Public);
        if (hash == AlgorithmId.Null)
        {
            return TpmResponseCode.Scheme;
        }

        if (encrypted.Length != key.Public.Unique.Length)
        {
            return TpmResponseCode.Size;
        }

        TpmResponseCode code = PrivateOperation(tpm, key, encrypted.Span, out byte[] block);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        byte[]? decoded = RsaPadding.DecodeOaep(tpm.Cryptography, hash, Encoding.ASCII.GetBytes(label + "\0"), block);
        CryptographicOperations.ZeroMemory(block);
        if (decoded is null || decoded.Length > Algorithms.DigestSize(hash))
        {
            CryptographicOperations.ZeroMemory(decoded);
            return TpmResponseCode.Value;
        }

        secret = decoded;
        return TpmResponseCode.Success;
    }

    /// <summary>The private operation of an RSA key.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="key">The key.</param>
    /// <param name="input">As many bytes as the modulus has.</param>
    /// <param name="output">The result.</param>
    /// <returns>TPM_RC_VALUE when the input is not below the modulus; TPM_RC_BINDING when the key is none.</returns>
    internal static TpmResponseCode PrivateOperation(Tpm tpm, KeyObject key, ReadOnlySpan<byte> input, out byte[] output)
    {
        output = new byte[key.Public.Unique.Length];
        return input.SequenceCompareTo(key.Public.Unique) >= 0 ? TpmResponseCode.Value
            : key.Rsa is not RsaPrivateKey rsa || !rsa.TryApply(input, output, tpm.Random) ? TpmResponseCode.Binding
            : TpmResponseCode.Success;
    }

    private static TpmResponseCode DecryptEcc(Tpm tpm, KeyObject key, string label, ReadOnlyMemory<byte> encrypted, out byte[] secret)
    {
        secret = [];
        var reader = new TpmReader(encrypted);
        TpmResponseCode code = EccPoint.Read(ref reader, out EccPoint ephemeral);
        if (code != TpmResponseCode.Success || reader.Remaining != 0)
        {
            return code != TpmResponseCode.Success ? code : TpmResponseCode.Size;
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key.Public.Parameters.Curve);
        if (!curve.TryDecode(ephemeral, out ulong[] point))
        {
            return TpmResponseCode.EccPoint;
        }

        ulong[] scalar = BigIntegers.Read(key.Secret, curve.Limbs);
        EccPoint? shared = curve.Encode(curve.Multiply(scalar, point));
        scalar.AsSpan().Clear();
        if (shared is null)
        {
            return TpmResponseCode.NoResult;
        }

        secret = tpm.Cryptography.DeriveKeyFromPoint(
            key.Public.NameHash, shared.Value.X.Span, label, ephemeral.X.Span, key.Public.Unique, Algorithms.DigestSize(key.Public.NameHash) * 8);
        shared.Value.Clear();
        return TpmResponseCode.Success;
    }

    private static TpmResponseCode DecryptSymmetric(Tpm tpm, KeyObject key, ReadOnlyMemory<byte> encrypted, ReadOnlySpan<byte> nonceCaller, out byte[] secret)
    {
        secret = [];
        if (encrypted.Length > Algorithms.DigestSize(key.Public.NameHash))
        {
            return TpmResponseCode.Value;
        }

        secret = encrypted.ToArray();
        if (key.Public.Type == AlgorithmId.KeyedHash)
        {
            byte[] mask = tpm.Cryptography.DeriveKey(key.Public.NameHash, key.Secret, "XOR", nonceCaller, [], secret.Length * 8);
            for (int i = 0; i < secret.Length; i++)
            {
                secret[i] ^= mask[i];
            }

            CryptographicOperations.ZeroMemory(mask);
            return TpmResponseCode.Success;
        }

        Span<byte> iv = stackalloc byte[16];
        nonceCaller[..Math.Min(iv.Length, nonceCaller.Length)].CopyTo(iv);
        tpm.Cryptography.TransformCfb(key.Secret, iv, secret, encrypt: false);
        return TpmResponseCode.Success;
    }
}
