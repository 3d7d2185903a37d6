// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

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

/// <summary>TPMT_PUBLIC_PARMS: the type of a key and its parameters.</summary>
/// <param name="Type">The type.</param>
/// <param name="Symmetric">Of a symmetric cipher.</param>
/// <param name="Scheme">Of a keyed hash: TPM_ALG_HMAC, TPM_ALG_XOR or TPM_ALG_NULL.</param>
/// <param name="SchemeHash">Of a keyed hash with a scheme.</param>
/// <param name="SchemeKdf">Of TPM_ALG_XOR.</param>
internal readonly record struct PublicParameters(
    AlgorithmId Type, SymmetricDefinition Symmetric, AlgorithmId Scheme, AlgorithmId SchemeHash, AlgorithmId SchemeKdf)
{
    internal static TpmResponseCode Read(ref TpmReader reader, out PublicParameters value)
    {
        value = default;
        TpmResponseCode code = reader.ReadAlgorithm(AlgorithmUse.Public, false, out AlgorithmId type);
        return code != TpmResponseCode.Success ? code : ReadDetail(ref reader, type, out value);
    }

    /// <summary>TPMU_PUBLIC_PARMS: the type was read elsewhere.</summary>
    internal static TpmResponseCode ReadDetail(ref TpmReader reader, AlgorithmId type, out PublicParameters value)
    {
        value = default;
        TpmResponseCode code;
        if (type == AlgorithmId.SymmetricCipher)
        {
            code = SymmetricDefinition.Read(ref reader, AlgorithmUse.SymmetricObject, false, out SymmetricDefinition symmetric);
            value = new PublicParameters(type, symmetric, AlgorithmId.Null, AlgorithmId.Null, AlgorithmId.Null);
            return code;
        }

        // TPM_ALG_KEYEDHASH: the only other type in the table.
        AlgorithmId hash = AlgorithmId.Null;
        AlgorithmId kdf = AlgorithmId.Null;
        if ((code = reader.ReadAlgorithm(AlgorithmUse.KeyedHashScheme, true, out AlgorithmId scheme)) != TpmResponseCode.Success
            || (scheme != AlgorithmId.Null && (code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out hash)) != TpmResponseCode.Success)
            || (scheme == AlgorithmId.Xor && (code = reader.ReadAlgorithm(AlgorithmUse.KeyDerivation, true, out kdf)) != TpmResponseCode.Success))
        {
            return code;
        }

        value = new PublicParameters(type, SymmetricDefinition.None, scheme, hash, kdf);
        return TpmResponseCode.Success;
    }

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Type);
        WriteDetail(ref writer);
    }

    /// <summary>TPMU_PUBLIC_PARMS: without the type.</summary>
    internal void WriteDetail(ref TpmWriter writer)
    {
        if (Type == AlgorithmId.SymmetricCipher)
        {
            Symmetric.Write(ref writer);
            return;
        }

        writer.WriteUInt16((ushort)Scheme);
        if (Scheme != AlgorithmId.Null)
        {
            writer.WriteUInt16((ushort)SchemeHash);
        }

        if (Scheme == AlgorithmId.Xor)
        {
            writer.WriteUInt16((ushort)SchemeKdf);
        }
    }
}

/// <summary>TPMT_PUBLIC: what anybody may know about an object.</summary>
internal readonly record struct PublicArea(
    PublicParameters Parameters, AlgorithmId NameHash, ObjectAttributes Attributes, byte[] Policy, byte[] Unique)
{
    internal AlgorithmId Type => Parameters.Type;

    internal static TpmResponseCode Read(ref TpmReader reader, out PublicArea value)
    {
        value = default;
        TpmResponseCode code;
        if ((code = reader.ReadAlgorithm(AlgorithmUse.Public, false, out AlgorithmId type)) != TpmResponseCode.Success
            || (code = reader.ReadAlgorithm(AlgorithmUse.Hash, false, out AlgorithmId nameHash)) != TpmResponseCode.Success
            || (code = ObjectFlags.Read(ref reader, out ObjectFlags flags)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out byte[] policy)) != TpmResponseCode.Success
            || (code = PublicParameters.ReadDetail(ref reader, type, out PublicParameters parameters)) != TpmResponseCode.Success
            || (code = reader.ReadSizedCopy(TpmLimits.MaxDigest, out byte[] unique)) != TpmResponseCode.Success)
        {
            return code;
        }

        value = new PublicArea(parameters, nameHash, flags.Attributes, policy, unique);
        return TpmResponseCode.Success;
    }

    internal bool Has(ObjectAttributes attribute) => (Attributes & attribute) != 0;

    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Type);
        writer.WriteUInt16((ushort)NameHash);
        writer.WriteUInt32((uint)Attributes);
        writer.WriteSized(Policy);
        Parameters.WriteDetail(ref writer);
        writer.WriteSized(Unique);
    }

    /// <summary>The structure's bytes, as Names are made of.</summary>
    internal byte[] ToBytes()
    {
        var writer = new TpmWriter(new byte[512]);
        Write(ref writer);
        return writer.Written.ToArray();
    }
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
