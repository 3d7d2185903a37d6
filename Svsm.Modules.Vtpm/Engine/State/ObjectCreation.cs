// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Making objects: which public areas are allowed, and keys from random numbers.
//
// Source: TCG TPM 2.0 Library, Part 1, "Object Attributes", "Object Creation"; Part 3, TPM2_Create.
internal static class ObjectCreation
{
    /// <summary>Whether an object can be made so; the error has no place yet.</summary>
    /// <param name="area">The template.</param>
    /// <param name="hasData">The caller gave the secret.</param>
    internal static TpmResponseCode CheckTemplate(in PublicArea area, bool hasData)
    {
        bool sign = area.Has(ObjectAttributes.Sign);
        bool decrypt = area.Has(ObjectAttributes.Decrypt);
        bool restricted = area.Has(ObjectAttributes.Restricted);

        // Without data the TPM has to be the origin; data that nobody uses as a key has to come from the caller. Data for a key that the TPM
        // makes is one more input of the derivation.
        bool isOrigin = area.Has(ObjectAttributes.SensitiveDataOrigin);
        if ((!isOrigin && !hasData)
            || (area.Type == AlgorithmId.KeyedHash && !sign && !decrypt && isOrigin)
            || (area.Type == AlgorithmId.SymmetricCipher && !sign && !decrypt)
            || (restricted && !isOrigin && area.Has(ObjectAttributes.FixedTpm)))
        {
            return TpmResponseCode.Attributes;
        }

        if (area.Policy.Length != 0 && area.Policy.Length != Algorithms.DigestSize(area.NameHash))
        {
            return TpmResponseCode.Size;
        }

        // A primary object's parent, the seed, is fixed: an object that stays there cannot be duplicated encrypted either.
        if (area.Has(ObjectAttributes.FixedTpm) != area.Has(ObjectAttributes.FixedParent)
            || (area.Has(ObjectAttributes.FixedTpm) && area.Has(ObjectAttributes.EncryptedDuplication))
            || (restricted && sign == decrypt))
        {
            return TpmResponseCode.Attributes;
        }

        return area.Type == AlgorithmId.SymmetricCipher ? TpmResponseCode.Success : CheckKeyedHash(area, sign, decrypt, restricted);
    }

    /// <summary>Makes a primary object.</summary>
    /// <param name="tpm">The TPM.</param>
    /// <param name="hierarchy">Its hierarchy.</param>
    /// <param name="template">The template, checked.</param>
    /// <param name="auth">The authValue without trailing zeros.</param>
    /// <param name="data">The secret, if the caller gives it.</param>
    /// <param name="made">The object.</param>
    /// <returns>TPM_RC_SIZE or TPM_RC_KEY_SIZE when the caller's secret does not fit.</returns>
    internal static TpmResponseCode CreatePrimary(
        Tpm tpm, TpmHandle hierarchy, in PublicArea template, ReadOnlySpan<byte> auth, ReadOnlySpan<byte> data, out KeyObject? made)
    {
        made = null;
        ICryptography cryptography = tpm.Cryptography;
        AlgorithmId secretHash = template.Parameters.Scheme == AlgorithmId.Null ? template.NameHash : template.Parameters.SchemeHash;
        int secretSize = template.Type == AlgorithmId.SymmetricCipher ? template.Parameters.Symmetric.KeyBits / 8 : Algorithms.DigestSize(secretHash);
        bool isGiven = !template.Has(ObjectAttributes.SensitiveDataOrigin);
        if (isGiven)
        {
            bool isKey = template.Has(ObjectAttributes.Sign | ObjectAttributes.Decrypt);
            if (template.Type == AlgorithmId.SymmetricCipher && data.Length != secretSize)
            {
                return TpmResponseCode.KeySize;
            }

            if (template.Type == AlgorithmId.KeyedHash && isKey && data.Length > Algorithms.Find(secretHash)!.BlockSize)
            {
                return TpmResponseCode.Size;
            }
        }

        CounterDrbg random = CounterDrbg.Create(
            cryptography, tpm.Hierarchies.Seed(hierarchy), "Primary Object Creation\0"u8.ToArray(), Name(cryptography, template), data.ToArray());
        byte[] secret = isGiven ? data.ToArray() : random.Generate(secretSize);
        if (hierarchy == TpmHandle.Endorsement)
        {
            // The endorsement seed outlives TPM2_Clear; what is made from it after that has to be another object.
            random.Reseed(tpm.Hierarchies.Proof(TpmHandle.Owner));
            random.Reseed(tpm.Hierarchies.Proof(TpmHandle.Endorsement));
        }

        byte[] seedValue = random.Generate(Algorithms.DigestSize(template.NameHash));
        random.Clear();
        PublicArea area = template with { Unique = cryptography.Hash(template.NameHash, [.. seedValue, .. secret]) };
        byte[] name = Name(cryptography, area);
        var parent = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(parent, hierarchy.Value);
        made = new KeyObject(area)
        {
            Auth = auth.ToArray(),
            Name = name,
            QualifiedName = WithAlgorithm(area.NameHash, cryptography.Hash(area.NameHash, [.. parent, .. name])),
            Hierarchy = hierarchy,
            Secret = secret,
            SeedValue = seedValue,
        };
        return TpmResponseCode.Success;
    }

    /// <summary>The Name: the name algorithm and the digest of the public area.</summary>
    internal static byte[] Name(ICryptography cryptography, in PublicArea area) => WithAlgorithm(area.NameHash, cryptography.Hash(area.NameHash, area.ToBytes()));

    private static byte[] WithAlgorithm(AlgorithmId algorithm, byte[] digest) => [(byte)((ushort)algorithm >> 8), (byte)algorithm, .. digest];

    private static TpmResponseCode CheckKeyedHash(in PublicArea area, bool sign, bool decrypt, bool restricted)
    {
        AlgorithmId wanted = sign == decrypt ? AlgorithmId.Null : sign ? AlgorithmId.Hmac : AlgorithmId.Xor;
        return area.Parameters.Scheme != wanted || (decrypt && !sign && restricted && area.Parameters.SchemeKdf != AlgorithmId.Kdf1Sp800108)
            ? TpmResponseCode.Scheme
            : TpmResponseCode.Success;
    }
}
