// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Formats.Asn1;
using System.Numerics;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.State;

// The body of an X.509 certificate (TBSCertificate) of which the caller gives one part and the TPM the other.
//
//   from the caller   SEQUENCE { [signature algorithm], issuer, validity, subject, [3] extensions }
//   from the TPM      SEQUENCE { [0] version 3, serial number, [signature algorithm], subject's public key }
//   the body          SEQUENCE { version, serial number, signature algorithm, issuer, validity, subject, public key, extensions }
//
// The signature algorithm comes from the caller if there are four sequences before the extensions, else from the TPM. The serial number is a
// digest of everything else, 20 bytes at most.
//
// Sources: RFC 5280, 4.1 and 4.2.1.3; RFC 4055; RFC 5758; TCG TPM 2.0 Library, Part 3, TPM2_CertifyX509; Part 2, TPMA_X509_KEY_USAGE.
internal sealed class CertificateBody
{
    private const int MaxSerialNumber = 20;
    private const string KeyUsageExtension = "2.5.29.15";

    /// <summary>tcg-tpmaObject.</summary>
    private const string AttributesExtension = "2.23.133.10.1.1.1";

    // Key usages as they are in a bit string, the first one highest.
    private const uint DigitalSignature = 1u << 31;
    private const uint NonRepudiation = 1u << 30;
    private const uint KeyEncipherment = 1u << 29;
    private const uint CertificateSign = 1u << 26;
    private const uint ListSign = 1u << 25;
    private const uint SignUsages = DigitalSignature | CertificateSign | ListSign;
    private const uint AllUsages = 0xFF80_0000;
    private const uint DecryptUsages = AllUsages & ~(SignUsages | NonRepudiation);

    private static readonly Asn1Tag s_version = new(TagClass.ContextSpecific, 0, isConstructed: true);
    private static readonly Asn1Tag s_extensions = new(TagClass.ContextSpecific, 3, isConstructed: true);

    // The hash, RSASSA with it, ECDSA with it.
    private static readonly (AlgorithmId Hash, string Own, string Rsa, string Ecdsa)[] s_hashes =
    [
        (AlgorithmId.Sha1, "1.3.14.3.2.26", "1.2.840.113549.1.1.5", "1.2.840.10045.4.1"),
        (AlgorithmId.Sha256, "2.16.840.1.101.3.4.2.1", "1.2.840.113549.1.1.11", "1.2.840.10045.4.3.2"),
        (AlgorithmId.Sha384, "2.16.840.1.101.3.4.2.2", "1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"),
        (AlgorithmId.Sha512, "2.16.840.1.101.3.4.2.3", "1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"),
    ];

    // The curves that have an identifier; a key on another one has no encoding.
    private static readonly (EccCurve Curve, string Identifier)[] s_curves =
    [
        (EccCurve.NistP256, "1.2.840.10045.3.1.7"),
        (EccCurve.NistP384, "1.3.132.0.34"),
        (EccCurve.NistP521, "1.3.132.0.35"),
    ];

    private readonly ReadOnlyMemory<byte> _signatureAlgorithm;
    private readonly ReadOnlyMemory<byte> _names;
    private readonly ReadOnlyMemory<byte> _extensions;

    private CertificateBody(ReadOnlyMemory<byte> signatureAlgorithm, ReadOnlyMemory<byte> names, ReadOnlyMemory<byte> extensions)
    {
        _signatureAlgorithm = signatureAlgorithm;
        _names = names;
        _extensions = extensions;
    }

    /// <summary>The TPM has to say with what it signs.</summary>
    internal bool NeedsSignatureAlgorithm => _signatureAlgorithm.IsEmpty;

    /// <summary>Whether the public key has an encoding.</summary>
    internal static bool CanEncode(in PublicArea key)
    {
        EccCurve curve = key.Parameters.Curve;
        return key.Type == AlgorithmId.Rsa || (key.Type == AlgorithmId.Ecc && Array.Exists(s_curves, c => c.Curve == curve));
    }

    /// <summary>Reads the caller's part.</summary>
    /// <returns>TPM_RC_SIZE when it is not one sequence; TPM_RC_VALUE for other elements.</returns>
    internal static TpmResponseCode Read(ReadOnlyMemory<byte> partial, out CertificateBody body)
    {
        body = new CertificateBody(default, default, default);
        try
        {
            var outer = new AsnReader(partial, AsnEncodingRules.DER);
            if (!outer.HasData || outer.PeekTag() != Asn1Tag.Sequence || outer.PeekEncodedValue().Length != partial.Length)
            {
                return partial.IsEmpty ? TpmResponseCode.Value : TpmResponseCode.Size;
            }

            AsnReader inner = outer.ReadSequence();
            ReadOnlyMemory<byte> content = partial[^RemainingLength(inner)..];
            int count = 0;
            int firstLength = 0;
            int namesLength = 0;
            while (inner.HasData && inner.PeekTag() == Asn1Tag.Sequence)
            {
                int length = inner.ReadEncodedValue().Length;
                firstLength = count == 0 ? length : firstLength;
                namesLength += length;
                count++;
            }

            if (count is not (3 or 4) || !inner.HasData || inner.PeekTag() != s_extensions)
            {
                return TpmResponseCode.Value;
            }

            ReadOnlyMemory<byte> extensions = inner.ReadEncodedValue();
            int algorithmLength = count == 4 ? firstLength : 0;
            body = new CertificateBody(content[..algorithmLength], content[algorithmLength..namesLength], extensions);
            return inner.HasData ? TpmResponseCode.Value : TpmResponseCode.Success;
        }
        catch (AsnContentException)
        {
            return TpmResponseCode.Value;
        }
    }

    /// <summary>Whether the extensions say of the key what is so.</summary>
    /// <returns>TPM_RC_ATTRIBUTES for other attributes; TPM_RC_VALUE for usages that the key has not, or no usages; TPM_RC_RESERVED_BITS.</returns>
    internal TpmResponseCode CheckExtensions(ObjectAttributes attributes)
    {
        uint? usages = null;
        uint? claimed = null;
        try
        {
            var outer = new AsnReader(_extensions, AsnEncodingRules.DER);
            AsnReader list = outer.ReadSequence(s_extensions).ReadSequence();
            while (list.HasData)
            {
                AsnReader extension = list.ReadSequence();
                string identifier = extension.ReadObjectIdentifier();
                if (extension.HasData && extension.PeekTag() == Asn1Tag.Boolean)
                {
                    extension.ReadBoolean();
                }

                byte[] value = extension.ReadOctetString();
                if (identifier == KeyUsageExtension)
                {
                    usages ??= Bits(value);
                }
                else if (identifier == AttributesExtension)
                {
                    claimed ??= Bits(value);
                }
            }
        }
        catch (AsnContentException)
        {
            return TpmResponseCode.Value;
        }

        if (claimed is not null && claimed != (uint)attributes)
        {
            return TpmResponseCode.Attributes;
        }

        if ((usages & ~AllUsages) is not (null or 0))
        {
            return TpmResponseCode.ReservedBits;
        }

        // (usages, the attribute that the key has to have for them)
        foreach ((uint mask, ObjectAttributes needed) in (ReadOnlySpan<(uint, ObjectAttributes)>)
        [
            (SignUsages, ObjectAttributes.Sign),
            (DecryptUsages, ObjectAttributes.Decrypt),
            (NonRepudiation, ObjectAttributes.FixedTpm),
            (KeyEncipherment, ObjectAttributes.Restricted),
        ])
        {
            if ((usages & mask) != 0 && (attributes & needed) == 0)
            {
                return TpmResponseCode.Value;
            }
        }

        return usages is null ? TpmResponseCode.Value : TpmResponseCode.Success;
    }

    /// <summary>The identifier of a signature algorithm; null when it has none.</summary>
    internal static byte[]? SignatureAlgorithm(in AsymmetricScheme scheme)
    {
        AlgorithmId id = scheme.Hash;
        (AlgorithmId Hash, string Own, string Rsa, string Ecdsa) hash = Array.Find(s_hashes, h => h.Hash == id);
        var writer = new AsnWriter(AsnEncodingRules.DER);
        switch (scheme.Scheme)
        {
            case AlgorithmId.RsaSsa:
                WriteIdentifier(writer, hash.Rsa);
                break;
            case AlgorithmId.RsaPss when id == AlgorithmId.Sha1:
                // Everything has its default.
                WriteIdentifier(writer, "1.2.840.113549.1.1.10");
                break;
            case AlgorithmId.RsaPss:
                using (writer.PushSequence())
                {
                    writer.WriteObjectIdentifier("1.2.840.113549.1.1.10");
                    using (writer.PushSequence())
                    {
                        using (writer.PushSequence(new Asn1Tag(TagClass.ContextSpecific, 0, isConstructed: true)))
                        {
                            WriteIdentifier(writer, hash.Own);
                        }

                        using (writer.PushSequence(new Asn1Tag(TagClass.ContextSpecific, 1, isConstructed: true)))
                        using (writer.PushSequence())
                        {
                            writer.WriteObjectIdentifier("1.2.840.113549.1.1.8");
                            WriteIdentifier(writer, hash.Own);
                        }

                        // The salt is as long as the digest for every key that this TPM has.
                        using (writer.PushSequence(new Asn1Tag(TagClass.ContextSpecific, 2, isConstructed: true)))
                        {
                            writer.WriteInteger(Algorithms.DigestSize(id));
                        }
                    }
                }

                break;
            case AlgorithmId.EcDsa:
                using (writer.PushSequence())
                {
                    writer.WriteObjectIdentifier(hash.Ecdsa);
                }

                break;
            default:
                return null;
        }

        return writer.Encode();
    }

    /// <summary>Puts the certificate's body together.</summary>
    /// <param name="cryptography">For digests.</param>
    /// <param name="signer">The key that signs.</param>
    /// <param name="scheme">What it signs with.</param>
    /// <param name="subject">The key that the certificate is about; it <see cref="CanEncode">can be encoded</see>.</param>
    /// <param name="added">The TPM's part.</param>
    /// <returns>The body.</returns>
    internal byte[] Complete(ICryptography cryptography, KeyObject signer, in AsymmetricScheme scheme, KeyObject subject, out byte[] added)
    {
        byte[] ownAlgorithm = NeedsSignatureAlgorithm ? SignatureAlgorithm(scheme)! : [];
        ReadOnlyMemory<byte> algorithm = NeedsSignatureAlgorithm ? ownAlgorithm : _signatureAlgorithm;
        byte[] publicKey = EncodePublicKey(cryptography, subject.Public);

        IHashState state = cryptography.StartHash(signer.Public.NameHash);
        foreach (ReadOnlyMemory<byte> part in (ReadOnlySpan<ReadOnlyMemory<byte>>)[algorithm, _names, publicKey, _extensions, signer.Name, subject.Name])
        {
            state.Update(part.Span);
        }

        byte[] digest = state.Finish();
        var head = new AsnWriter(AsnEncodingRules.DER);
        using (head.PushSequence(s_version))
        {
            head.WriteInteger(2);
        }

        head.WriteInteger(new BigInteger(digest.AsSpan(0, Math.Min(digest.Length, MaxSerialNumber)), isUnsigned: true, isBigEndian: true));
        byte[] versionAndNumber = head.Encode();
        added = Sequence(versionAndNumber, ownAlgorithm, publicKey);
        return Sequence(versionAndNumber, algorithm, _names, publicKey, _extensions);
    }

    private static byte[] EncodePublicKey(ICryptography cryptography, in PublicArea key)
    {
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            if (key.Type == AlgorithmId.Rsa)
            {
                var numbers = new AsnWriter(AsnEncodingRules.DER);
                using (numbers.PushSequence())
                {
                    numbers.WriteIntegerUnsigned(key.Unique);
                    numbers.WriteInteger(RsaPublicKey.ExponentOf(key));
                }

                WriteIdentifier(writer, "1.2.840.113549.1.1.1");
                writer.WriteBitString(numbers.Encode());
            }
            else
            {
                EccCurve curve = key.Parameters.Curve;
                using (writer.PushSequence())
                {
                    writer.WriteObjectIdentifier("1.2.840.10045.2.1");
                    writer.WriteObjectIdentifier(Array.Find(s_curves, c => c.Curve == curve).Identifier);
                }

                // Keys from elsewhere may have shorter coordinates.
                int size = cryptography.Curve(curve).Size;
                writer.WriteBitString([4, .. new byte[size - key.Unique.Length], .. key.Unique, .. new byte[size - key.UniqueY.Length], .. key.UniqueY]);
            }
        }

        return writer.Encode();
    }

    // Up to 32 bits of a bit string, the first one highest.
    private static uint Bits(byte[] encoded)
    {
        var reader = new AsnReader(encoded, AsnEncodingRules.DER);
        byte[] bits = reader.ReadBitString(out _);
        if (reader.HasData || bits.Length > sizeof(uint))
        {
            throw new AsnContentException();
        }

        uint value = 0;
        for (int i = 0; i < bits.Length; i++)
        {
            value |= (uint)bits[i] << (24 - (8 * i));
        }

        return value;
    }

    private static int RemainingLength(AsnReader reader)
    {
        // A reader does not tell how much it has: count what its values take.
        var copy = reader.Clone();
        int length = 0;
        while (copy.HasData)
        {
            length += copy.ReadEncodedValue().Length;
        }

        return length;
    }

    private static void WriteIdentifier(AsnWriter writer, string identifier)
    {
        using (writer.PushSequence())
        {
            writer.WriteObjectIdentifier(identifier);
            writer.WriteNull();
        }
    }

    private static byte[] Sequence(params ReadOnlySpan<ReadOnlyMemory<byte>> parts)
    {
        var writer = new AsnWriter(AsnEncodingRules.DER);
        using (writer.PushSequence())
        {
            foreach (ReadOnlyMemory<byte> part in parts)
            {
                // A part is one value or several, or nothing.
                var values = new AsnReader(part, AsnEncodingRules.DER);
                while (values.HasData)
                {
                    writer.WriteEncodedValue(values.ReadEncodedValue().Span);
                }
            }
        }

        return writer.Encode();
    }
}
