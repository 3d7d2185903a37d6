// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Svsm.Modules.Vtpm.Wire;

// Structures of TCG TPM 2.0 Library, Part 2, that more than one command uses. What the generator cannot derive - a size or a type that
// another field selects - is written by hand.

/// <summary>TPMT_HA: an algorithm and a digest of its size.</summary>
internal readonly record struct HashValue(AlgorithmId Algorithm, ReadOnlyMemory<byte> Digest)
{
    internal static TpmResponseCode Read(ref TpmReader reader, out HashValue value)
    {
        value = default;
        TpmResponseCode code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out AlgorithmId algorithm);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        code = reader.ReadBytes(Algorithms.DigestSize(algorithm), out ReadOnlyMemory<byte> digest);
        value = new HashValue(algorithm, digest);
        return code;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Algorithm);
        writer.WriteBytes(Digest.Span);
    }
}

/// <summary>TPMS_PCR_SELECTION: bit n of the map is PCR n.</summary>
internal readonly record struct PcrSelection(AlgorithmId Hash, uint Map)
{
    internal static TpmResponseCode Read(ref TpmReader reader, out PcrSelection value)
    {
        value = default;
        TpmResponseCode code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out AlgorithmId hash);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        code = reader.ReadByte(out byte size);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (size != TpmLimits.PcrSelectSize)
        {
            return TpmResponseCode.Value;
        }

        code = reader.ReadBytes(size, out ReadOnlyMemory<byte> bytes);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        uint map = 0;
        for (int i = size - 1; i >= 0; i--)
        {
            map = (map << 8) | bytes.Span[i];
        }

        value = new PcrSelection(hash, map);
        return TpmResponseCode.Success;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Hash);
        writer.WriteByte(TpmLimits.PcrSelectSize);
        for (int i = 0; i < TpmLimits.PcrSelectSize; i++)
        {
            writer.WriteByte((byte)(Map >> (8 * i)));
        }
    }
}

/// <summary>TPM2B_DIGEST as an element of a list.</summary>
[TpmStructure]
internal readonly partial record struct Digest([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Value);

/// <summary>TPMT_TK_HASHCHECK and the other tickets.</summary>
[TpmStructure]
internal readonly partial record struct Ticket(
    StructureTag Tag,
    [HandleParameter(HandleKind.Hierarchy), OrNull] TpmHandle Hierarchy,
    [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Digest);

/// <summary>TPMS_CLOCK_INFO.</summary>
/// <param name="Clock">Milliseconds that the TPM was powered, since it was made or cleared by TPM2_Clear.</param>
/// <param name="ResetCount">TPM Resets since TPM2_Clear.</param>
/// <param name="RestartCount">TPM Restarts and Resumes since the last TPM Reset.</param>
/// <param name="Safe">Whether no greater clock value was ever reported.</param>
[TpmStructure]
internal readonly partial record struct ClockInfo(ulong Clock, uint ResetCount, uint RestartCount, bool Safe);

/// <summary>TPMS_TIME_INFO.</summary>
[TpmStructure]
internal readonly partial record struct TimeInfo(ulong Time, ClockInfo ClockInfo);

/// <summary>TPMT_SYM_DEF or TPMT_SYM_DEF_OBJECT: XOR has a hash where a cipher has bits and mode.</summary>
internal readonly record struct SymmetricDefinition(AlgorithmId Algorithm, ushort KeyBits, AlgorithmId Mode)
{
    internal static SymmetricDefinition None => new(AlgorithmId.Null, 0, AlgorithmId.Null);

    /// <summary>The hash algorithm of XOR obfuscation.</summary>
    internal AlgorithmId Hash => Mode;

    internal static TpmResponseCode Read(ref TpmReader reader, out SymmetricDefinition value) => Read(ref reader, AlgorithmUse.Symmetric, false, out value);

    internal static TpmResponseCode ReadOrNull(ref TpmReader reader, out SymmetricDefinition value) => Read(ref reader, AlgorithmUse.Symmetric, true, out value);

    internal static TpmResponseCode Read(ref TpmReader reader, AlgorithmUse use, bool orNull, out SymmetricDefinition value)
    {
        value = default;
        TpmResponseCode code = reader.ReadAlgorithm(use, orNull, out AlgorithmId algorithm);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (algorithm == AlgorithmId.Null)
        {
            value = None;
            return TpmResponseCode.Success;
        }

        AlgorithmId mode;
        if (algorithm == AlgorithmId.Xor)
        {
            code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out mode);
            value = new SymmetricDefinition(algorithm, 0, mode);
            return code;
        }

        code = reader.ReadUInt16(out ushort bits);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (bits is not (128 or 256))
        {
            return TpmResponseCode.Value;
        }

        code = reader.ReadAlgorithm(AlgorithmUse.SymmetricMode, true, out mode);
        value = new SymmetricDefinition(algorithm, bits, mode);
        return code;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Algorithm);
        if (Algorithm == AlgorithmId.Null)
        {
            return;
        }

        if (Algorithm != AlgorithmId.Xor)
        {
            writer.WriteUInt16(KeyBits);
        }

        writer.WriteUInt16((ushort)Mode);
    }
}

/// <summary>TPMT_SYM_DEF_OBJECT: a block cipher.</summary>
internal readonly record struct ObjectCipher(SymmetricDefinition Definition)
{
    internal AlgorithmId Algorithm => Definition.Algorithm;

    internal ushort KeyBits => Definition.KeyBits;

    internal static TpmResponseCode ReadOrNull(ref TpmReader reader, out ObjectCipher value)
    {
        TpmResponseCode code = SymmetricDefinition.Read(ref reader, AlgorithmUse.SymmetricObject, true, out SymmetricDefinition definition);
        value = new ObjectCipher(definition);
        return code;
    }
}

/// <summary>TPMS_ECC_POINT: coordinates of any length up to the largest.</summary>
[TpmStructure]
internal readonly partial record struct EccPoint(
    [Size(TpmLimits.MaxEccKey)] ReadOnlyMemory<byte> X, [Size(TpmLimits.MaxEccKey)] ReadOnlyMemory<byte> Y)
{
    /// <summary>Clears the coordinates of a point that was computed.</summary>
    internal void Clear()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsMemory(X).Span);
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsMemory(Y).Span);
    }

    /// <summary>The structure's bytes.</summary>
    internal byte[] ToBytes()
    {
        var writer = new TpmWriter(new byte[(2 * TpmLimits.MaxEccKey) + 4]);
        Write(ref writer);
        return writer.Written.ToArray();
    }
}

/// <summary>A scheme with its hash and, for TPM_ALG_ECDAA, the count of the commitment: TPMT_SIG_SCHEME, TPMT_RSA_SCHEME, TPMT_RSA_DECRYPT, TPMT_ECC_SCHEME.</summary>
internal readonly record struct AsymmetricScheme(AlgorithmId Scheme, AlgorithmId Hash, ushort Count)
{
    internal static AsymmetricScheme None => new(AlgorithmId.Null, AlgorithmId.Null, 0);

    /// <summary>Whether the scheme has no hash.</summary>
    private bool IsBare => Scheme is AlgorithmId.Null or AlgorithmId.RsaEs;

    internal static TpmResponseCode Read(ref TpmReader reader, AlgorithmUse use, bool orNull, out AsymmetricScheme value)
    {
        value = None;
        TpmResponseCode code = reader.ReadAlgorithm(use, orNull, out AlgorithmId scheme);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        value = new AsymmetricScheme(scheme, AlgorithmId.Null, 0);
        ushort count = 0;
        if (value.IsBare)
        {
            return TpmResponseCode.Success;
        }

        if ((code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out AlgorithmId hash)) == TpmResponseCode.Success && scheme == AlgorithmId.EcDaa)
        {
            code = reader.ReadUInt16(out count);
        }

        value = new AsymmetricScheme(scheme, hash, count);
        return code;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Scheme);
        if (!IsBare)
        {
            writer.WriteUInt16((ushort)Hash);
            if (Scheme == AlgorithmId.EcDaa)
            {
                writer.WriteUInt16(Count);
            }
        }
    }
}

/// <summary>TPMT_SIG_SCHEME.</summary>
internal readonly record struct SignatureScheme(AsymmetricScheme Scheme)
{
    internal static TpmResponseCode ReadOrNull(ref TpmReader reader, out SignatureScheme value)
    {
        TpmResponseCode code = AsymmetricScheme.Read(ref reader, AlgorithmUse.SignatureScheme, true, out AsymmetricScheme scheme);
        value = new SignatureScheme(scheme);
        return code;
    }
}

/// <summary>TPMT_RSA_DECRYPT.</summary>
internal readonly record struct RsaDecryptScheme(AsymmetricScheme Scheme)
{
    internal static TpmResponseCode ReadOrNull(ref TpmReader reader, out RsaDecryptScheme value)
    {
        TpmResponseCode code = AsymmetricScheme.Read(ref reader, AlgorithmUse.RsaDecrypt, true, out AsymmetricScheme scheme);
        value = new RsaDecryptScheme(scheme);
        return code;
    }
}

/// <summary>TPMT_KDF_SCHEME.</summary>
internal readonly record struct KeyDerivationScheme(AlgorithmId Scheme, AlgorithmId Hash)
{
    internal static TpmResponseCode ReadOrNull(ref TpmReader reader, out KeyDerivationScheme value)
    {
        AlgorithmId hash = AlgorithmId.Null;
        TpmResponseCode code = reader.ReadAlgorithm(AlgorithmUse.KeyDerivation, true, out AlgorithmId scheme);
        if (code == TpmResponseCode.Success && scheme != AlgorithmId.Null)
        {
            code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out hash);
        }

        value = new KeyDerivationScheme(scheme, hash);
        return code;
    }
}

/// <summary>TPMT_SIGNATURE.</summary>
/// <param name="Scheme">The scheme; TPM_ALG_NULL for none.</param>
/// <param name="Hash">Its hash.</param>
/// <param name="First">The signature of RSA, the digest of HMAC, the first number of ECC.</param>
/// <param name="Second">The second number of ECC.</param>
internal readonly record struct Signature(AlgorithmId Scheme, AlgorithmId Hash, ReadOnlyMemory<byte> First, ReadOnlyMemory<byte> Second)
{
    internal static Signature None => new(AlgorithmId.Null, AlgorithmId.Null, default, default);

    private bool IsRsa => Scheme is AlgorithmId.RsaSsa or AlgorithmId.RsaPss;

    internal static TpmResponseCode Read(ref TpmReader reader, out Signature value)
    {
        value = default;
        TpmResponseCode code;
        ReadOnlyMemory<byte> first;
        ReadOnlyMemory<byte> second = default;
        if ((code = reader.ReadAlgorithm(AlgorithmUse.SignatureScheme, false, out AlgorithmId scheme)) != TpmResponseCode.Success
            || (code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out AlgorithmId hash)) != TpmResponseCode.Success)
        {
            return code;
        }

        var kind = new Signature(scheme, hash, default, default);
        if (scheme == AlgorithmId.Hmac)
        {
            code = reader.ReadBytes(Algorithms.DigestSize(hash), out first);
        }
        else if (kind.IsRsa)
        {
            code = reader.ReadSized(TpmLimits.MaxRsaKey, out first);
        }
        else if ((code = reader.ReadSized(TpmLimits.MaxEccKey, out first)) == TpmResponseCode.Success)
        {
            code = reader.ReadSized(TpmLimits.MaxEccKey, out second);
        }

        value = kind with { First = first, Second = second };
        return code;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Scheme);
        if (Scheme == AlgorithmId.Null)
        {
            return;
        }

        writer.WriteUInt16((ushort)Hash);
        if (Scheme == AlgorithmId.Hmac)
        {
            writer.WriteBytes(First.Span);
            return;
        }

        writer.WriteSized(First.Span);
        if (!IsRsa)
        {
            writer.WriteSized(Second.Span);
        }
    }
}

/// <summary>TPMT_PUBLIC_PARMS: the type of a key and its parameters; what a type does not have is TPM_ALG_NULL or 0.</summary>
internal readonly record struct PublicParameters(AlgorithmId Type)
{
    /// <summary>The cipher of a symmetric key; of an asymmetric storage key the cipher that protects its children.</summary>
    internal SymmetricDefinition Symmetric { get; init; } = SymmetricDefinition.None;

    /// <summary>Of a keyed hash TPM_ALG_HMAC, TPM_ALG_XOR or none; of an asymmetric key what it signs or decrypts with.</summary>
    internal AsymmetricScheme KeyScheme { get; init; } = AsymmetricScheme.None;

    internal AlgorithmId Scheme => KeyScheme.Scheme;

    internal AlgorithmId SchemeHash => KeyScheme.Hash;

    /// <summary>The key derivation of TPM_ALG_XOR, or of an ECC key.</summary>
    internal AlgorithmId SchemeKdf { get; init; } = AlgorithmId.Null;

    /// <summary>The hash of an ECC key's key derivation.</summary>
    internal AlgorithmId KdfHash { get; init; } = AlgorithmId.Null;

    /// <summary>Bits of an RSA modulus.</summary>
    internal ushort KeyBits { get; init; }

    /// <summary>The public exponent of an RSA key; 0 stands for 65537.</summary>
    internal uint Exponent { get; init; }

    internal EccCurve Curve { get; init; }

    internal bool IsAsymmetric => Type is AlgorithmId.Rsa or AlgorithmId.Ecc;

    internal static TpmResponseCode Read(ref TpmReader reader, out PublicParameters value)
    {
        value = default;
        TpmResponseCode code = reader.ReadAlgorithm(AlgorithmUse.Public, false, out AlgorithmId type);
        return code != TpmResponseCode.Success ? code : ReadDetail(ref reader, type, out value);
    }

    /// <summary>TPMU_PUBLIC_PARMS: the type was read elsewhere.</summary>
    internal static TpmResponseCode ReadDetail(ref TpmReader reader, AlgorithmId type, out PublicParameters value) => type switch
    {
        AlgorithmId.Rsa => ReadRsa(ref reader, out value),
        AlgorithmId.Ecc => ReadEcc(ref reader, out value),
        AlgorithmId.SymmetricCipher => ReadCipher(ref reader, out value),
        _ => ReadKeyedHash(ref reader, out value),
    };

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Type);
        WriteDetail(ref writer);
    }

    /// <summary>TPMU_PUBLIC_PARMS: without the type.</summary>
    internal void WriteDetail(ref TpmWriter writer)
    {
        if (Type != AlgorithmId.KeyedHash)
        {
            Symmetric.Write(ref writer);
        }

        if (Type != AlgorithmId.SymmetricCipher)
        {
            KeyScheme.Write(ref writer);
        }

        if (Type == AlgorithmId.Rsa)
        {
            writer.WriteUInt16(KeyBits);
            writer.WriteUInt32(Exponent);
        }

        if (Type == AlgorithmId.Ecc)
        {
            writer.WriteUInt16((ushort)Curve);
        }

        if (Type == AlgorithmId.Ecc || Scheme == AlgorithmId.Xor)
        {
            writer.WriteUInt16((ushort)SchemeKdf);
        }

        if (Type == AlgorithmId.Ecc && SchemeKdf != AlgorithmId.Null)
        {
            writer.WriteUInt16((ushort)KdfHash);
        }
    }

    private static TpmResponseCode ReadCipher(ref TpmReader reader, out PublicParameters value)
    {
        TpmResponseCode code = SymmetricDefinition.Read(ref reader, AlgorithmUse.SymmetricObject, false, out SymmetricDefinition symmetric);
        value = new PublicParameters(AlgorithmId.SymmetricCipher) { Symmetric = symmetric };
        return code;
    }

    private static TpmResponseCode ReadKeyedHash(ref TpmReader reader, out PublicParameters value)
    {
        AlgorithmId kdf = AlgorithmId.Null;
        TpmResponseCode code = AsymmetricScheme.Read(ref reader, AlgorithmUse.KeyedHashScheme, true, out AsymmetricScheme scheme);
        if (code == TpmResponseCode.Success && scheme.Scheme == AlgorithmId.Xor)
        {
            code = reader.ReadAlgorithm(AlgorithmUse.KeyDerivation, true, out kdf);
        }

        value = new PublicParameters(AlgorithmId.KeyedHash) { KeyScheme = scheme, SchemeKdf = kdf };
        return code;
    }

    private static TpmResponseCode ReadRsa(ref TpmReader reader, out PublicParameters value)
    {
        ushort bits = 0;
        uint exponent = 0;
        TpmResponseCode code = ReadAsymmetric(ref reader, AlgorithmUse.RsaScheme, out SymmetricDefinition symmetric, out AsymmetricScheme scheme);
        if (code == TpmResponseCode.Success && (code = reader.ReadUInt16(out bits)) == TpmResponseCode.Success)
        {
            code = bits is 2048 or 3072 or 4096 ? reader.ReadUInt32(out exponent) : TpmResponseCode.Value;
        }

        value = new PublicParameters(AlgorithmId.Rsa) { Symmetric = symmetric, KeyScheme = scheme, KeyBits = bits, Exponent = exponent };
        return code;
    }

    private static TpmResponseCode ReadEcc(ref TpmReader reader, out PublicParameters value)
    {
        ushort curve = 0;
        AlgorithmId kdf = AlgorithmId.Null;
        AlgorithmId kdfHash = AlgorithmId.Null;
        TpmResponseCode code = ReadAsymmetric(ref reader, AlgorithmUse.EccScheme, out SymmetricDefinition symmetric, out AsymmetricScheme scheme);
        if (code == TpmResponseCode.Success && (code = reader.ReadUInt16(out curve)) == TpmResponseCode.Success)
        {
            code = !Algorithms.Curves.Contains((EccCurve)curve) ? TpmResponseCode.Curve : reader.ReadAlgorithm(AlgorithmUse.KeyDerivation, true, out kdf);
        }

        if (code == TpmResponseCode.Success && kdf != AlgorithmId.Null)
        {
            code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out kdfHash);
        }

        value = new PublicParameters(AlgorithmId.Ecc)
        {
            Symmetric = symmetric, KeyScheme = scheme, Curve = (EccCurve)curve, SchemeKdf = kdf, KdfHash = kdfHash,
        };
        return code;
    }

    private static TpmResponseCode ReadAsymmetric(ref TpmReader reader, AlgorithmUse use, out SymmetricDefinition symmetric, out AsymmetricScheme scheme)
    {
        scheme = AsymmetricScheme.None;
        TpmResponseCode code = SymmetricDefinition.Read(ref reader, AlgorithmUse.SymmetricObject, true, out symmetric);
        return code != TpmResponseCode.Success ? code : AsymmetricScheme.Read(ref reader, use, true, out scheme);
    }
}

/// <summary>TPMT_PUBLIC: what anybody may know about an object.</summary>
/// <param name="Parameters">The type and its parameters.</param>
/// <param name="NameHash">The algorithm of the Name; TPM_ALG_NULL for external objects that need none.</param>
/// <param name="Attributes">TPMA_OBJECT.</param>
/// <param name="Policy">The policy's digest, or nothing.</param>
/// <param name="Unique">The modulus, a digest, or x of a point.</param>
/// <param name="UniqueY">Of an ECC key: y of the point. Of a template for derivation: the context, with the label in <paramref name="Unique"/>.</param>
internal readonly record struct PublicArea(
    PublicParameters Parameters, AlgorithmId NameHash, ObjectAttributes Attributes, byte[] Policy, byte[] Unique, byte[] UniqueY)
{
    /// <summary>Bytes of the largest.</summary>
    internal const int MaxSize = TpmLimits.MaxRsaKey + 128;

    internal AlgorithmId Type => Parameters.Type;

    /// <summary>The public point of an ECC key.</summary>
    internal EccPoint Point => new(Unique, UniqueY);

    /// <summary>A restricted decryption key: a parent of other objects, or the source of derived ones.</summary>
    internal bool IsParent => (Attributes & (ObjectAttributes.Restricted | ObjectAttributes.Decrypt | ObjectAttributes.Sign)) == (ObjectAttributes.Restricted | ObjectAttributes.Decrypt);

    internal static TpmResponseCode Read(ref TpmReader reader, out PublicArea value) => Read(ref reader, false, false, out value);

    /// <summary>Also without a name algorithm.</summary>
    internal static TpmResponseCode ReadOrNull(ref TpmReader reader, out PublicArea value) => Read(ref reader, true, false, out value);

    /// <summary>A template for derivation: label and context (TPMS_DERIVE) are in the place of the unique value.</summary>
    internal static TpmResponseCode ReadDerivation(ref TpmReader reader, out PublicArea value) => Read(ref reader, false, true, out value);

    internal bool Has(ObjectAttributes attribute) => (Attributes & attribute) != 0;

    /// <summary>Whether one of several attributes is set.</summary>
    internal bool HasAny(ObjectAttributes attributes) => (Attributes & attributes) != 0;

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Type);
        writer.WriteUInt16((ushort)NameHash);
        writer.WriteUInt32((uint)Attributes);
        writer.WriteSized(Policy);
        Parameters.WriteDetail(ref writer);
        writer.WriteSized(Unique);
        if (Type == AlgorithmId.Ecc)
        {
            writer.WriteSized(UniqueY);
        }
    }

    /// <summary>The structure's bytes, as Names are made of.</summary>
    internal byte[] ToBytes()
    {
        var writer = new TpmWriter(new byte[MaxSize]);
        Write(ref writer);
        return writer.Written.ToArray();
    }

    private static TpmResponseCode Read(ref TpmReader reader, bool nameOrNull, bool isDerivation, out PublicArea value)
    {
        value = default;
        TpmResponseCode code;
        if ((code = reader.ReadAlgorithm(AlgorithmUse.Public, false, out AlgorithmId type)) != TpmResponseCode.Success
            || (code = reader.ReadAlgorithm(AlgorithmUse.Hash, nameOrNull, out AlgorithmId nameHash)) != TpmResponseCode.Success
            || (code = ObjectFlags.Read(ref reader, out ObjectFlags flags)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out byte[] policy)) != TpmResponseCode.Success
            || (code = PublicParameters.ReadDetail(ref reader, type, out PublicParameters parameters)) != TpmResponseCode.Success)
        {
            return code;
        }

        int limit = isDerivation ? TpmLimits.MaxLabel
            : type == AlgorithmId.Rsa ? TpmLimits.MaxRsaKey
            : type == AlgorithmId.Ecc ? TpmLimits.MaxEccKey
            : TpmLimits.MaxDigest;
        byte[] second = [];
        if ((code = reader.ReadSizedCopy(limit, out byte[] unique)) != TpmResponseCode.Success
            || ((isDerivation || type == AlgorithmId.Ecc) && (code = reader.ReadSizedCopy(limit, out second)) != TpmResponseCode.Success))
        {
            return code;
        }

        value = new PublicArea(parameters, nameHash, flags.Attributes, policy, unique, second);
        return TpmResponseCode.Success;
    }
}

/// <summary>TPMT_SENSITIVE: the secret part of an object.</summary>
/// <param name="Type">The object's type.</param>
/// <param name="Auth">The authValue.</param>
/// <param name="SeedValue">Obfuscates the public part; of a parent, the seed of what protects its children.</param>
/// <param name="Secret">The private key, one prime, the symmetric key or the data.</param>
internal readonly record struct Sensitive(AlgorithmId Type, byte[] Auth, byte[] SeedValue, byte[] Secret)
{
    /// <summary>Bytes of the largest.</summary>
    internal const int MaxSize = 8 + (2 * TpmLimits.MaxDigest) + (TpmLimits.MaxRsaKey / 2);

    internal static TpmResponseCode Read(ref TpmReader reader, out Sensitive value)
    {
        value = default;
        byte[] auth = [];
        byte[] seed = [];
        TpmResponseCode code;
        if ((code = reader.ReadAlgorithm(AlgorithmUse.Public, false, out AlgorithmId type)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out auth)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out seed)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(SecretLimit(type), out byte[] secret)) != TpmResponseCode.Success)
        {
            CryptographicOperations.ZeroMemory(auth);
            CryptographicOperations.ZeroMemory(seed);
            return code;
        }

        value = new Sensitive(type, auth, seed, secret);
        return TpmResponseCode.Success;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Type);
        writer.WriteSized(Auth);
        writer.WriteSized(SeedValue);
        writer.WriteSized(Secret);
    }

    internal void Clear()
    {
        CryptographicOperations.ZeroMemory(Auth);
        CryptographicOperations.ZeroMemory(SeedValue);
        CryptographicOperations.ZeroMemory(Secret);
    }

    private static int SecretLimit(AlgorithmId type) => type switch
    {
        AlgorithmId.Rsa => TpmLimits.MaxRsaKey / 2,
        AlgorithmId.Ecc => TpmLimits.MaxEccKey,
        AlgorithmId.SymmetricCipher => 32,
        _ => TpmLimits.MaxSensitiveData,
    };
}

[TpmStructure]
internal readonly partial record struct ObjectFlags(ObjectAttributes Attributes);

/// <summary>TPMS_SENSITIVE_CREATE: the authValue and, for sealed data and keys from outside, the data.</summary>
[TpmStructure]
internal readonly partial record struct SensitiveCreate(
    [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> UserAuth, [Size(TpmLimits.MaxSensitiveData)] ReadOnlyMemory<byte> Data);

/// <summary>TPMS_CREATION_DATA.</summary>
[TpmStructure]
internal readonly partial record struct CreationData(
    [Count(TpmLimits.HashCount)] PcrSelection[] PcrSelect,
    [Size(TpmLimits.MaxDigest)] byte[] PcrDigest,
    byte Locality,
    AlgorithmId ParentNameAlg,
    [Size(TpmLimits.MaxData)] byte[] ParentName,
    [Size(TpmLimits.MaxData)] byte[] ParentQualifiedName,
    [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> OutsideInfo);
