// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The signatures that go with an ID block.
//
// Layout, 4096 bytes: 000 u32 ID key algorithm (1) · 004 u32 author key algorithm (1) · 008 zeroes · 040 ID block signature[512] ·
// 240 ID key[0x404] · 644 zeroes · 680 ID key signature[512] · 880 author key[0x404] · C84 zeroes.
// The author key is optional; without it, its key and signature are zeroes.
//
// Source: SEV-SNP firmware ABI, SNP_LAUNCH_FINISH, structure ID_AUTH_INFO.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Igvm;

namespace Svsm.Measurement;

/// <summary>The signatures of an ID block, and the keys that made them.</summary>
public sealed record IdAuthentication
{
    /// <summary>Bytes of the structure.</summary>
    public const int ByteLength = 4096;

    private const uint EcdsaP384Sha384 = 1;
    private const int BlockSignatureOffset = 0x040;
    private const int IdKeyOffset = 0x240;
    private const int KeySignatureOffset = 0x680;
    private const int AuthorKeyOffset = 0x880;

    private readonly byte[] _blockSignature;
    private readonly byte[] _keySignature;

    private IdAuthentication(IdKey idKey, byte[] blockSignature, IdKey? authorKey, byte[] keySignature)
    {
        IdKey = idKey;
        AuthorKey = authorKey;
        _blockSignature = blockSignature;
        _keySignature = keySignature;
    }

    /// <summary>The key that signs the ID block.</summary>
    public IdKey IdKey { get; }

    /// <summary>The key that signs the ID key, or null.</summary>
    public IdKey? AuthorKey { get; }

    /// <summary>Signs an ID block.</summary>
    /// <param name="block">The ID block.</param>
    /// <param name="idKey">Private key on curve P-384.</param>
    /// <param name="authorKey">Private key on curve P-384 that vouches for <paramref name="idKey"/>, or null.</param>
    /// <returns>The signatures; the same block and keys give the same bytes (RFC 6979).</returns>
    /// <exception cref="MeasurementException">A curve is another one.</exception>
    /// <exception cref="CryptographicException">A key has no private part.</exception>
    public static IdAuthentication Sign(IdBlock block, ECDsa idKey, ECDsa? authorKey = null)
    {
        ArgumentNullException.ThrowIfNull(block);
        ArgumentNullException.ThrowIfNull(idKey);
        IdKey publicKey = IdKey.FromKey(idKey);
        byte[] blockSignature = IdKey.Sign(idKey, block.ToArray());
        return authorKey is null
            ? new IdAuthentication(publicKey, blockSignature, null, new byte[IdKey.SignatureLength])
            : new IdAuthentication(publicKey, blockSignature, IdKey.FromKey(authorKey), IdKey.Sign(authorKey, publicKey.ToArray()));
    }

    /// <summary>Reads the structure.</summary>
    /// <param name="bytes">4096 bytes. Untrusted.</param>
    /// <returns>The signatures; not verified.</returns>
    /// <exception cref="MeasurementException">A field has another value than the format defines.</exception>
    public static IdAuthentication Parse(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != ByteLength)
        {
            throw new MeasurementException(MeasurementError.BadIdBlock, $"An ID authentication has {ByteLength} bytes; {bytes.Length} were given.");
        }

        uint idAlgorithm = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        if (idAlgorithm != EcdsaP384Sha384)
        {
            throw new MeasurementException(MeasurementError.BadIdBlock, $"The algorithm of the ID key is {idAlgorithm}; it must be 1 (ECDSA P-384 with SHA-384).");
        }

        IdKey idKey = IdKey.ParseRecord(bytes.Slice(IdKeyOffset, IdKey.ByteLength)) ??
            throw new MeasurementException(MeasurementError.BadIdBlock, "The ID authentication has no ID key.");
        IdKey? authorKey = IdKey.ParseRecord(bytes.Slice(AuthorKeyOffset, IdKey.ByteLength));
        uint authorAlgorithm = BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]);
        if (authorKey is not null && authorAlgorithm != EcdsaP384Sha384)
        {
            throw new MeasurementException(MeasurementError.BadIdBlock, $"The algorithm of the author key is {authorAlgorithm}; it must be 1 (ECDSA P-384 with SHA-384).");
        }

        return new IdAuthentication(
            idKey,
            ReadSignature(bytes.Slice(BlockSignatureOffset, IdKey.SignatureLength), "ID block"),
            authorKey,
            ReadSignature(bytes.Slice(KeySignatureOffset, IdKey.SignatureLength), "ID key"));
    }

    /// <summary>Takes ID block and signatures from an IGVM file.</summary>
    /// <param name="directive">The directive.</param>
    /// <param name="policy">The guest policy of the file; the directive does not contain it.</param>
    /// <returns>Both; not verified.</returns>
    /// <exception cref="MeasurementException">A field has another value than the format defines.</exception>
    public static (IdBlock Block, IdAuthentication Authentication) FromIgvm(IgvmSnpIdBlock directive, ulong policy)
    {
        ArgumentNullException.ThrowIfNull(directive);
        if (directive.Version != 1 || directive.LaunchDigest.Length != LaunchDigest.ByteLength)
        {
            throw new MeasurementException(MeasurementError.BadIdBlock, $"The ID block has version {directive.Version} and a digest of {directive.LaunchDigest.Length} bytes; wanted are version 1 and 48 bytes.");
        }

        var block = new IdBlock
        {
            LaunchDigest = new LaunchDigest(directive.LaunchDigest.Span),
            FamilyId = directive.FamilyId,
            ImageId = directive.ImageId,
            GuestSvn = directive.GuestSvn,
            Policy = policy,
        };

        byte[] bytes = new byte[ByteLength];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, directive.IdKeyAlgorithm);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), directive.AuthorKeyAlgorithm);
        Copy(directive.IdKeySignature, bytes.AsSpan(BlockSignatureOffset));
        Copy(directive.IdPublicKey, bytes.AsSpan(IdKeyOffset));
        Copy(directive.AuthorKeySignature, bytes.AsSpan(KeySignatureOffset));
        Copy(directive.AuthorPublicKey, bytes.AsSpan(AuthorKeyOffset));
        return (block, Parse(bytes));
    }

    /// <summary>Checks the signatures.</summary>
    /// <param name="block">The ID block.</param>
    /// <returns>True when the ID key signed the block and the author key, if there is one, signed the ID key. Says nothing about who owns the keys.</returns>
    public bool Verify(IdBlock block)
    {
        ArgumentNullException.ThrowIfNull(block);
        return IdKey.Verify(block.ToArray(), _blockSignature) && (AuthorKey is null || AuthorKey.Verify(IdKey.ToArray(), _keySignature));
    }

    /// <summary>The structure.</summary>
    /// <returns>4096 bytes.</returns>
    public byte[] ToArray()
    {
        byte[] bytes = new byte[ByteLength];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, EcdsaP384Sha384);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), AuthorKey is null ? 0 : EcdsaP384Sha384);
        _blockSignature.CopyTo(bytes, BlockSignatureOffset);
        IdKey.ToArray().CopyTo(bytes, IdKeyOffset);
        _keySignature.CopyTo(bytes, KeySignatureOffset);
        AuthorKey?.ToArray().CopyTo(bytes, AuthorKeyOffset);
        return bytes;
    }

    /// <summary>Puts an ID block and these signatures into the form of an IGVM file.</summary>
    /// <param name="block">The ID block. Its policy must be that of the file's guest-policy header.</param>
    /// <param name="compatibilityMask">The mask of the SEV-SNP platform.</param>
    /// <returns>The directive.</returns>
    public IgvmSnpIdBlock ToIgvm(IdBlock block, uint compatibilityMask)
    {
        ArgumentNullException.ThrowIfNull(block);
        return new IgvmSnpIdBlock
        {
            CompatibilityMask = compatibilityMask,
            AuthorKeyEnabled = (byte)(AuthorKey is null ? 0 : 1),
            LaunchDigest = block.LaunchDigest.ToArray(),
            FamilyId = block.FamilyId,
            ImageId = block.ImageId,
            GuestSvn = block.GuestSvn,
            IdKeyAlgorithm = EcdsaP384Sha384,
            AuthorKeyAlgorithm = AuthorKey is null ? 0 : EcdsaP384Sha384,
            IdKeySignature = ToIgvm(_blockSignature),
            IdPublicKey = ToIgvm(IdKey),
            AuthorKeySignature = ToIgvm(_keySignature),
            AuthorPublicKey = AuthorKey is null ? IgvmSnpPublicKey.Empty : ToIgvm(AuthorKey),
        };
    }

    /// <summary>Compares by content.</summary>
    /// <param name="other">The other one.</param>
    /// <returns>True when keys and signatures are equal.</returns>
    public bool Equals(IdAuthentication? other) => other is not null && ToArray().AsSpan().SequenceEqual(other.ToArray());

    /// <inheritdoc/>
    public override int GetHashCode() => IdKey.GetHashCode();

    private static byte[] ReadSignature(ReadOnlySpan<byte> record, string name)
    {
        IdKey.RequireNumber(record[..IgvmSnpSignature.NumberLength], $"R of the {name} signature");
        IdKey.RequireNumber(record.Slice(IgvmSnpSignature.NumberLength, IgvmSnpSignature.NumberLength), $"S of the {name} signature");
        if (record[(2 * IgvmSnpSignature.NumberLength)..].ContainsAnyExcept((byte)0))
        {
            throw new MeasurementException(MeasurementError.BadIdBlock, $"The {name} signature has other bytes than zeroes behind S.");
        }

        return record.ToArray();
    }

    private static void Copy(IgvmSnpSignature signature, Span<byte> record)
    {
        signature.R.Span.CopyTo(record);
        signature.S.Span.CopyTo(record[IgvmSnpSignature.NumberLength..]);
    }

    private static void Copy(IgvmSnpPublicKey key, Span<byte> record)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(record, key.Curve);
        key.X.Span.CopyTo(record[4..]);
        key.Y.Span.CopyTo(record[(4 + IgvmSnpSignature.NumberLength)..]);
    }

    private static IgvmSnpSignature ToIgvm(byte[] record) => new(
        record.AsMemory(0, IgvmSnpSignature.NumberLength),
        record.AsMemory(IgvmSnpSignature.NumberLength, IgvmSnpSignature.NumberLength));

    private static IgvmSnpPublicKey ToIgvm(IdKey key)
    {
        byte[] record = key.ToArray();
        return new IgvmSnpPublicKey(
            BinaryPrimitives.ReadUInt32LittleEndian(record),
            record.AsMemory(4, IgvmSnpSignature.NumberLength),
            record.AsMemory(4 + IgvmSnpSignature.NumberLength, IgvmSnpSignature.NumberLength));
    }
}
