// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// Making objects: which public areas are allowed, and keys from random numbers, from the seed of a hierarchy or from a parent for derivation.
//
// Source: TCG TPM 2.0 Library, Part 1, "Object Attributes", "Object Creation", "Object Derivation"; Part 3, TPM2_Create.
internal static class ObjectCreation
{
    /// <summary>Whether an object can be made so; the error has no place yet.</summary>
    /// <param name="parent">The parent; null for a primary object.</param>
    /// <param name="area">The template.</param>
    /// <param name="hasData">The caller gave the secret.</param>
    internal static TpmResponseCode CheckTemplate(KeyObject? parent, in PublicArea area, bool hasData)
    {
        bool sign = area.Has(ObjectAttributes.Sign);
        bool decrypt = area.Has(ObjectAttributes.Decrypt);

        // Without data the TPM has to be the origin; data that nobody uses as a key has to come from the caller. Data for a primary key that
        // the TPM makes is one more input of the derivation.
        bool isOrigin = area.Has(ObjectAttributes.SensitiveDataOrigin);
        if ((!isOrigin && !hasData)
            || (isOrigin && hasData && parent is not null)
            || (area.Type == AlgorithmId.KeyedHash && !sign && !decrypt && isOrigin)
            || (area.Parameters.IsAsymmetric && !isOrigin)
            || (area.Has(ObjectAttributes.Restricted) && !isOrigin && area.HasAny(ObjectAttributes.FixedTpm | ObjectAttributes.FixedParent)))
        {
            return TpmResponseCode.Attributes;
        }

        return CheckPublic(parent, area);
    }

    /// <summary>Whether a public area is one of an object that can be there.</summary>
    /// <param name="parent">The parent; null for a primary or external object.</param>
    /// <param name="area">The public area.</param>
    internal static TpmResponseCode CheckPublic(KeyObject? parent, in PublicArea area)
    {
        bool sign = area.Has(ObjectAttributes.Sign);
        bool decrypt = area.Has(ObjectAttributes.Decrypt);
        bool isFixed = area.Has(ObjectAttributes.FixedTpm);
        if (area.NameHash == AlgorithmId.Null)
        {
            return TpmResponseCode.Hash;
        }

        if (area.Policy.Length != 0 && area.Policy.Length != Algorithms.DigestSize(area.NameHash))
        {
            return TpmResponseCode.Size;
        }

        // Under a parent that stays here an object stays under its parent if and only if it stays here. Seeds stay here.
        bool isParentFixed = parent is null || parent.Public.Has(ObjectAttributes.FixedTpm);
        if (isParentFixed ? isFixed != area.Has(ObjectAttributes.FixedParent) : isFixed)
        {
            return TpmResponseCode.Attributes;
        }

        // A restricted key has one use; only data has none. What stays here is not duplicated, so not encrypted for that either.
        if ((sign == decrypt && (area.Has(ObjectAttributes.Restricted) || (!sign && area.Type != AlgorithmId.KeyedHash)))
            || (isFixed && area.Has(ObjectAttributes.EncryptedDuplication)))
        {
            return TpmResponseCode.Attributes;
        }

        if (!isParentFixed && area.Has(ObjectAttributes.EncryptedDuplication) != parent!.Public.Has(ObjectAttributes.EncryptedDuplication))
        {
            return TpmResponseCode.Attributes;
        }

        return parent is { IsDerivationParent: true } && (isFixed != isParentFixed || !area.Has(ObjectAttributes.FixedParent))
            ? TpmResponseCode.Attributes
            : CheckScheme(parent, area);
    }

    /// <summary>Whether schemes and ciphers fit to the use of a key.</summary>
    internal static TpmResponseCode CheckScheme(KeyObject? parent, in PublicArea area)
    {
        bool sign = area.Has(ObjectAttributes.Sign);
        bool decrypt = area.Has(ObjectAttributes.Decrypt);
        TpmResponseCode code = area.Parameters.IsAsymmetric ? CheckAsymmetric(area, sign, decrypt)
            : area.Type == AlgorithmId.KeyedHash ? CheckKeyedHash(area, sign, decrypt)
            : area.Parameters.Symmetric.Mode == AlgorithmId.Cmac && decrypt ? TpmResponseCode.Scheme
            : TpmResponseCode.Success;
        if (code != TpmResponseCode.Success || !area.IsParent || area.Type == AlgorithmId.KeyedHash)
        {
            return code;
        }

        if (area.Parameters.Symmetric.Algorithm == AlgorithmId.Null)
        {
            return TpmResponseCode.Symmetric;
        }

        // What stays under its parent protects its children as the parent does.
        return parent is null || !area.Has(ObjectAttributes.FixedParent) ? TpmResponseCode.Success
            : area.NameHash != parent.Public.NameHash ? TpmResponseCode.Hash
            : area.Parameters.Symmetric != parent.Public.Parameters.Symmetric ? TpmResponseCode.Symmetric
            : TpmResponseCode.Success;
    }

    /// <summary>Makes the secret and the unique part of an object. The command may have to be continued (<see cref="CommandContext.Unfinished"/>).</summary>
    /// <param name="context">The command, which keeps unfinished work.</param>
    /// <param name="template">The template, checked.</param>
    /// <param name="auth">The authValue.</param>
    /// <param name="data">The secret, if the caller gives it.</param>
    /// <param name="startRandom">Makes the source of random numbers, when the work begins.</param>
    /// <param name="isEndorsementPrimary">The object is a primary one of the endorsement hierarchy.</param>
    /// <param name="area">The public area.</param>
    /// <param name="sensitive">The secret part.</param>
    /// <returns>TPM_RC_SIZE or TPM_RC_KEY_SIZE when the caller's secret does not fit; TPM_RC_RANGE for an exponent that is not served.</returns>
    internal static TpmResponseCode Generate(
        CommandContext context,
        in PublicArea template,
        ReadOnlySpan<byte> auth,
        ReadOnlySpan<byte> data,
        Func<IRandomSource> startRandom,
        bool isEndorsementPrimary,
        out PublicArea area,
        out Sensitive sensitive)
    {
        Tpm tpm = context.Tpm;
        area = template;
        sensitive = default;
        if (template.Type == AlgorithmId.Rsa && RsaPublicKey.ExponentOf(template) is uint exponent
            && (exponent < RsaPublicKey.DefaultExponent || !SmallPrimes.IsPrime(exponent)))
        {
            return TpmResponseCode.Range;
        }

        context.Work ??= new ObjectWork(startRandom());
        var work = (ObjectWork)context.Work;
        TpmResponseCode code = MakeSecret(context, work, ref area, data, out byte[] secret);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (isEndorsementPrimary)
        {
            // The endorsement seed outlives TPM2_Clear; what is made from it after that has to be another object.
            var random = (CounterDrbg)work.Random;
            random.Reseed(tpm.Hierarchies.Proof(TpmHandle.Owner));
            random.Reseed(tpm.Hierarchies.Proof(TpmHandle.Endorsement));
        }

        var seedValue = new byte[Algorithms.DigestSize(template.NameHash)];
        work.Random.Fill(seedValue);
        if (!area.Parameters.IsAsymmetric)
        {
            area = area with { Unique = SymmetricUnique(tpm.Cryptography, area, seedValue, secret) };
        }
        else if (!area.IsParent)
        {
            CryptographicOperations.ZeroMemory(seedValue);
            seedValue = [];
        }

        sensitive = new Sensitive(area.Type, TpmCryptography.TrimAuth(auth).ToArray(), seedValue, secret);
        context.EndWork();
        return TpmResponseCode.Success;
    }

    /// <summary>The unique value of a symmetric object: it binds the public part to the secret one.</summary>
    internal static byte[] SymmetricUnique(ICryptography cryptography, in PublicArea area, ReadOnlySpan<byte> seedValue, ReadOnlySpan<byte> secret)
    {
        if (area.IsParent)
        {
            return cryptography.Hmac(area.NameHash, seedValue, secret);
        }

        IHashState state = cryptography.StartHash(area.NameHash);
        state.Update(seedValue);
        state.Update(secret);
        return state.Finish();
    }

    /// <summary>The source of random numbers for a primary object.</summary>
    internal static IRandomSource PrimaryRandom(Tpm tpm, TpmHandle hierarchy, in PublicArea template, ReadOnlySpan<byte> data)
    {
        byte[] given = data.ToArray();
        tpm.ClearAfterCommand(given);
        return CounterDrbg.Create(
            tpm.Cryptography, tpm.Hierarchies.Seed(hierarchy), "Primary Object Creation\0"u8.ToArray(), Name(tpm.Cryptography, template), given);
    }

    /// <summary>The object of a public and a secret part.</summary>
    /// <param name="cryptography">The primitives.</param>
    /// <param name="area">The public part.</param>
    /// <param name="sensitive">The secret part; taken over.</param>
    /// <param name="hierarchy">The hierarchy that it belongs to.</param>
    /// <param name="parent">The parent's qualified name, or the hierarchy's handle.</param>
    internal static KeyObject ToObject(ICryptography cryptography, in PublicArea area, in Sensitive sensitive, TpmHandle hierarchy, ReadOnlySpan<byte> parent)
    {
        byte[] name = Name(cryptography, area);
        return new KeyObject(area)
        {
            Auth = sensitive.Auth,
            Name = name,
            QualifiedName = QualifiedName(cryptography, area.NameHash, parent, name),
            Hierarchy = hierarchy,
            Secret = sensitive.Secret,
            SeedValue = sensitive.SeedValue,
        };
    }

    /// <summary>The Name: the name algorithm and the digest of the public area; nothing without an algorithm.</summary>
    internal static byte[] Name(ICryptography cryptography, in PublicArea area)
        => area.NameHash == AlgorithmId.Null ? [] : WithAlgorithm(area.NameHash, cryptography.Hash(area.NameHash, area.ToBytes()));

    /// <summary>The qualified name of an object under a parent.</summary>
    internal static byte[] QualifiedName(ICryptography cryptography, AlgorithmId nameHash, ReadOnlySpan<byte> parent, ReadOnlySpan<byte> name)
        => WithAlgorithm(nameHash, cryptography.Hash(nameHash, [.. parent, .. name]));

    /// <summary>The creation data of an object and their digest.</summary>
    /// <param name="context">The command.</param>
    /// <param name="parent">The parent; null for a primary object.</param>
    /// <param name="hierarchy">The hierarchy of a primary object.</param>
    /// <param name="nameHash">The object's name algorithm.</param>
    /// <param name="outsideInfo">From the command.</param>
    /// <param name="pcrs">From the command.</param>
    /// <param name="digest">The digest.</param>
    internal static CreationData CreationDataOf(
        CommandContext context, KeyObject? parent, TpmHandle hierarchy, AlgorithmId nameHash, ReadOnlyMemory<byte> outsideInfo, PcrSelection[] pcrs, out byte[] digest)
    {
        Tpm tpm = context.Tpm;
        PcrSelection[] selection = Array.ConvertAll(pcrs, tpm.Pcrs.Filter);
        byte[] handle = HandleBytes(hierarchy);
        var creation = new CreationData(
            selection,
            tpm.Pcrs.Digest(selection, nameHash),
            context.Locality < 5 ? (byte)(1 << context.Locality) : context.Locality,
            parent?.Public.NameHash ?? AlgorithmId.Null,
            parent?.Name ?? handle,
            parent?.QualifiedName ?? handle,
            outsideInfo);
        var writer = new TpmWriter(new byte[512]);
        creation.Write(ref writer);
        digest = tpm.Cryptography.Hash(nameHash, writer.Written);
        return creation;
    }

    internal static byte[] HandleBytes(TpmHandle handle)
    {
        var bytes = new byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, handle.Value);
        return bytes;
    }

    private static byte[] WithAlgorithm(AlgorithmId algorithm, byte[] digest) => [(byte)((ushort)algorithm >> 8), (byte)algorithm, .. digest];

    private static TpmResponseCode MakeSecret(CommandContext context, ObjectWork work, ref PublicArea area, ReadOnlySpan<byte> data, out byte[] secret)
    {
        secret = [];
        switch (area.Type)
        {
            case AlgorithmId.Rsa:
                work.Rsa ??= new RsaKeyGeneration(work.Random, area.Parameters.KeyBits, RsaPublicKey.ExponentOf(area));
                while (!work.Rsa.Step())
                {
                    TpmResponseCode code = context.Pause();
                    if (code != TpmResponseCode.Success)
                    {
                        return code;
                    }
                }

                secret = work.Rsa.Prime;
                area = area with { Unique = work.Rsa.Product };
                return TpmResponseCode.Success;
            case AlgorithmId.Ecc:
                EllipticCurve curve = context.Tpm.Cryptography.Curve(area.Parameters.Curve);
                secret = NewEccKey(curve, work.Random);
                EccPoint point = curve.PublicPoint(secret);
                area = area with { Unique = point.X.ToArray(), UniqueY = point.Y.ToArray() };
                return TpmResponseCode.Success;
            default:
                return MakeSymmetricSecret(work.Random, area, data, out secret);
        }
    }

    /// <summary>A new private key of a curve.</summary>
    internal static byte[] NewEccKey(EllipticCurve curve, IRandomSource random)
    {
        Span<byte> bytes = stackalloc byte[curve.Size + 8];
        random.Fill(bytes);
        byte[] key = curve.PrivateKeyFrom(bytes);
        CryptographicOperations.ZeroMemory(bytes);
        return key;
    }

    private static TpmResponseCode MakeSymmetricSecret(IRandomSource random, in PublicArea area, ReadOnlySpan<byte> data, out byte[] secret)
    {
        secret = [];
        AlgorithmId hash = area.Parameters.Scheme == AlgorithmId.Null ? area.NameHash : area.Parameters.SchemeHash;
        int size = area.Type == AlgorithmId.SymmetricCipher ? area.Parameters.Symmetric.KeyBits / 8 : Algorithms.DigestSize(hash);
        if (area.Has(ObjectAttributes.SensitiveDataOrigin) || data.IsEmpty)
        {
            secret = new byte[size];
            random.Fill(secret);
            return TpmResponseCode.Success;
        }

        bool isKey = area.HasAny(ObjectAttributes.Sign | ObjectAttributes.Decrypt);
        if (area.Type == AlgorithmId.SymmetricCipher && data.Length != size)
        {
            return TpmResponseCode.KeySize;
        }

        if (area.Type == AlgorithmId.KeyedHash && isKey && data.Length > Algorithms.Find(hash)!.BlockSize)
        {
            return TpmResponseCode.Size;
        }

        secret = data.ToArray();
        return TpmResponseCode.Success;
    }

    private static TpmResponseCode CheckKeyedHash(in PublicArea area, bool sign, bool decrypt)
    {
        AlgorithmId wanted = sign == decrypt ? AlgorithmId.Null : sign ? AlgorithmId.Hmac : AlgorithmId.Xor;
        return area.Parameters.Scheme != wanted || (area.IsParent && area.Parameters.SchemeKdf != AlgorithmId.Kdf1Sp800108)
            ? TpmResponseCode.Scheme
            : TpmResponseCode.Success;
    }

    private static TpmResponseCode CheckAsymmetric(in PublicArea area, bool sign, bool decrypt)
    {
        AlgorithmId scheme = area.Parameters.Scheme;
        bool restricted = area.Has(ObjectAttributes.Restricted);
        bool isSigning = Algorithms.Check(scheme, AlgorithmUse.SignatureScheme, false) == TpmResponseCode.Success;

        // A key for both has no scheme; a restricted signing key has one; a parent has none; others one that fits or none.
        bool fits = sign == decrypt ? scheme == AlgorithmId.Null
            : sign ? isSigning || (!restricted && scheme == AlgorithmId.Null)
            : scheme == AlgorithmId.Null || (!restricted && !isSigning);
        if (!fits)
        {
            return TpmResponseCode.Scheme;
        }

        if (!area.IsParent && area.Parameters.Symmetric.Algorithm != AlgorithmId.Null)
        {
            return TpmResponseCode.Symmetric;
        }

        return area.Type == AlgorithmId.Ecc && area.Parameters.SchemeKdf != AlgorithmId.Null ? TpmResponseCode.KeyDerivation : TpmResponseCode.Success;
    }

    // What a command that makes an object keeps between its slices.
    private sealed class ObjectWork(IRandomSource random) : IUnfinishedWork
    {
        internal IRandomSource Random { get; } = random;

        internal RsaKeyGeneration? Rsa { get; set; }

        public void Clear()
        {
            Rsa?.Clear();
            (Random as IUnfinishedWork)?.Clear();
        }
    }
}
