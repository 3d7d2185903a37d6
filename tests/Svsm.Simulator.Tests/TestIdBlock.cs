// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Igvm;

namespace Svsm.Simulator.Tests;

/// <summary>Makes signed ID blocks, from the description of the format and not with the SDK's own signer.</summary>
internal static class TestIdBlock
{
    public static IgvmSnpIdBlock Sign(string digest, ulong policy, bool withAuthor = false)
    {
        using var idKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        byte[] signed = new byte[96];
        Convert.FromHexString(digest).CopyTo(signed, 0);
        signed.AsSpan(0x30, 16).Fill(0xFA);
        signed.AsSpan(0x40, 16).Fill(0x1D);
        BinaryPrimitives.WriteUInt32LittleEndian(signed.AsSpan(0x50), 1);
        BinaryPrimitives.WriteUInt32LittleEndian(signed.AsSpan(0x54), 7);
        BinaryPrimitives.WriteUInt64LittleEndian(signed.AsSpan(0x58), policy);
        IgvmSnpPublicKey idPublicKey = PublicKey(idKey);
        var block = new IgvmSnpIdBlock
        {
            CompatibilityMask = TestImage.Snp,
            LaunchDigest = Convert.FromHexString(digest),
            FamilyId = signed.AsMemory(0x30, 16),
            ImageId = signed.AsMemory(0x40, 16),
            GuestSvn = 7,
            IdKeySignature = Signature(idKey, signed),
            IdPublicKey = idPublicKey,
        };
        if (!withAuthor)
        {
            return block;
        }

        using var authorKey = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        byte[] keyBytes = new byte[1028];
        keyBytes[0] = 2;
        idPublicKey.X.CopyTo(keyBytes.AsMemory(4));
        idPublicKey.Y.CopyTo(keyBytes.AsMemory(76));
        return block with { AuthorKeySignature = Signature(authorKey, keyBytes), AuthorPublicKey = PublicKey(authorKey) };
    }

    private static IgvmSnpSignature Signature(ECDsa key, byte[] data)
    {
        byte[] signature = key.SignData(data, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
        return new IgvmSnpSignature(LittleEndian(signature.AsSpan(0, 48)), LittleEndian(signature.AsSpan(48)));
    }

    private static IgvmSnpPublicKey PublicKey(ECDsa key)
    {
        ECParameters parameters = key.ExportParameters(includePrivateParameters: false);
        return new IgvmSnpPublicKey(IgvmSnpPublicKey.P384, LittleEndian(parameters.Q.X), LittleEndian(parameters.Q.Y));
    }

    private static byte[] LittleEndian(ReadOnlySpan<byte> number)
    {
        byte[] field = new byte[72];
        number.CopyTo(field);
        field.AsSpan(0, 48).Reverse();
        return field;
    }
}
