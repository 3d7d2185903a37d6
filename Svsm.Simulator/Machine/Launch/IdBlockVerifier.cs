// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Checks an ID block as the security processor does at the end of a launch. QEMU hands it over in this form:
//
//   ID block, 96 bytes      00 digest (48) | 30 family (16) | 40 image (16) | 50 u32 version 1 | 54 u32 guest SVN | 58 u64 policy
//   public key, 1028 bytes  000 u32 curve 2 | 004 X (72) | 04C Y (72) | 094 zeroes
//
// The ID key signs the ID block; the author key, if there is one, signs the ID key. ECDSA P-384 with SHA-384, numbers little-endian.
// Source: AMD SEV-SNP ABI specification (56860), SNP_LAUNCH_FINISH; QEMU backends/igvm.c for what it takes from the file.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Diagnostics;
using Svsm.Igvm;

namespace Svsm.Simulator;

internal static class IdBlockVerifier
{
    private const int IdBlockLength = 96;
    private const int PublicKeyLength = 1028;
    private const int FieldLength = 72;
    private const int NumberLength = 48;
    private const uint EcdsaP384Sha384 = 1;

    // QEMU writes this version whatever the file says.
    private const uint IdBlockVersion = 1;

    public static void Verify(IgvmSnpIdBlock block, ReadOnlySpan<byte> digest, ulong policy)
    {
        if (!block.LaunchDigest.Span.SequenceEqual(digest))
        {
            throw SvsmDiagnostics.LaunchRefused.Error(
                $"an ID block for launch digest {Convert.ToHexStringLower(block.LaunchDigest.Span)}",
                $"{Convert.ToHexStringLower(digest)}, the digest of the image");
        }

        Span<byte> signed = stackalloc byte[IdBlockLength];
        signed.Clear();
        digest.CopyTo(signed);
        block.FamilyId.Span.CopyTo(signed[0x30..]);
        block.ImageId.Span.CopyTo(signed[0x40..]);
        BinaryPrimitives.WriteUInt32LittleEndian(signed[0x50..], IdBlockVersion);
        BinaryPrimitives.WriteUInt32LittleEndian(signed[0x54..], block.GuestSvn);
        BinaryPrimitives.WriteUInt64LittleEndian(signed[0x58..], policy);
        VerifySignature("ID block", "ID key", signed, block.IdKeyAlgorithm, block.IdPublicKey, block.IdKeySignature);

        // QEMU goes by the curve and not by the header's own switch.
        if (block.AuthorPublicKey.Curve != 0)
        {
            VerifySignature("ID key", "author key", PublicKeyBytes(block.IdPublicKey), block.AuthorKeyAlgorithm, block.AuthorPublicKey, block.AuthorKeySignature);
        }
    }

    // The form in which keys are signed and reported.
    public static byte[] PublicKeyBytes(IgvmSnpPublicKey key)
    {
        byte[] bytes = new byte[PublicKeyLength];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, key.Curve);
        key.X.Span.CopyTo(bytes.AsSpan(4));
        key.Y.Span.CopyTo(bytes.AsSpan(4 + FieldLength));
        return bytes;
    }

    private static void VerifySignature(
        string what, string keyName, ReadOnlySpan<byte> signed, uint algorithm, IgvmSnpPublicKey key, IgvmSnpSignature signature)
    {
        if (algorithm != EcdsaP384Sha384)
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"algorithm {algorithm} of the {keyName}", $"{EcdsaP384Sha384} (ECDSA P-384 with SHA-384)");
        }

        if (key.Curve != IgvmSnpPublicKey.P384)
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"curve {key.Curve} of the {keyName}", $"{IgvmSnpPublicKey.P384} (P-384)");
        }

        byte[] numbers = [.. BigEndian(signature.R.Span, keyName), .. BigEndian(signature.S.Span, keyName)];
        bool valid;
        try
        {
            using var ecdsa = ECDsa.Create(new ECParameters
            {
                Curve = ECCurve.NamedCurves.nistP384,
                Q = new ECPoint { X = BigEndian(key.X.Span, keyName), Y = BigEndian(key.Y.Span, keyName) },
            });
            valid = ecdsa.VerifyData(signed, numbers, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);
        }
        catch (CryptographicException exception)
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"a public key of the {keyName} that is no point of P-384", "a key of that curve", exception);
        }

        if (!valid)
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"a signature of the {what} that does not verify with the {keyName}", "a valid one over the digest and policy of this image");
        }
    }

    private static byte[] BigEndian(ReadOnlySpan<byte> field, string keyName)
    {
        if (field[NumberLength..].ContainsAnyExcept((byte)0))
        {
            throw SvsmDiagnostics.LaunchRefused.Error($"a number of the {keyName} with more than {NumberLength} bytes", $"zeroes after byte {NumberLength}");
        }

        byte[] number = field[..NumberLength].ToArray();
        Array.Reverse(number);
        return number;
    }
}
