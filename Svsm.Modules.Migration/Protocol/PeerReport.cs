// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Whether the report of the other end is good: signed by a chip whose certificates lead to the root of the policy, and about an SVSM that the policy allows, in a VM as
// this one. docs/migration-protocol.md, "Policy". Svsm.Sdk/Attestation has the same checks for verifiers, with the class library's cryptography, which no module has.
//
// Times of certificates are not checked: an SVSM has no clock that the host does not set.
//
// Source: AMD SEV-SNP ABI specification (56860), ATTESTATION_REPORT; AMD VCEK certificate specification (57230), extensions; RFC 8017, 8.1 (RSASSA-PSS).

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Org.BouncyCastle.Asn1;
using Org.BouncyCastle.Asn1.X509;
using Org.BouncyCastle.Crypto;
using Org.BouncyCastle.Crypto.Digests;
using Svsm.Cryptography;

namespace Svsm.Migration;

internal static class PeerReport
{
    private const int SignedLength = 0x2A0;
    private const int FieldLength = 72;
    private const int RsaKeyBits = 4096;
    private const int RsaExponentBits = 32;
    private const ulong MigrationAgent = 1ul << 18;
    private const ulong Debug = 1ul << 19;
    private const uint EcdsaP384 = 1;
    private const int SvnOffset = 0x004;
    private const int PolicyOffset = 0x008;
    private const int FamilyOffset = 0x010;
    private const int VmplOffset = 0x030;
    private const int AlgorithmOffset = 0x034;
    private const int FlagsOffset = 0x048;
    private const int DataOffset = 0x050;
    private const int DataLength = 64;
    private const int HostDataOffset = 0x0C0;
    private const int HostDataLength = 32;
    private const int AuthorOffset = 0x110;
    private const int TcbOffset = 0x180;
    private const int ChipOffset = 0x1A0;
    private const int ChipLength = 64;

    // Author key, no masked chip key, signed by a VCEK: bits 4:0.
    private const uint FlagsMask = 0x1F;
    private const uint FlagsWanted = 1;

    // Bytes of a TCB version and the extensions that have them. Turin has another order, and one more part, which its certificates name.
    private const string Extension = "1.3.6.1.4.1.3704.1.";
    private const string FirmwareController = "3.9";
    private const string ChipIdentity = "4";
    private static readonly (int Byte, string Name)[] s_milanTcb = [(0, "3.1"), (1, "3.2"), (2, "3.4"), (3, "3.5"), (4, "3.6"), (5, "3.7"), (6, "3.3"), (7, "3.8")];
    private static readonly (int Byte, string Name)[] s_turinTcb = [(0, "3.9"), (1, "3.1"), (2, "3.2"), (3, "3.3"), (7, "3.8")];

    /// <summary>Checks a report.</summary>
    /// <param name="report">The other end's, 1184 bytes. Untrusted.</param>
    /// <param name="table">The table of certificates that came with it. Untrusted.</param>
    /// <param name="own">This end's report, from its security processor.</param>
    /// <param name="policy">The image's policy.</param>
    /// <param name="data">What REPORT_DATA must begin with, 48 bytes; zeroes follow.</param>
    /// <param name="why">What is wrong, for the log; empty: nothing.</param>
    /// <returns><see cref="MigrationReason.None"/>: it is good.</returns>
    public static MigrationReason Check(ReadOnlySpan<byte> report, ReadOnlySpan<byte> table, ReadOnlySpan<byte> own, MigrationPolicy policy, ReadOnlySpan<byte> data, out string why)
    {
        why = FindProblem(report, table, policy, data);
        if (why.Length != 0)
        {
            return MigrationReason.NotTrusted;
        }

        ulong vm = BinaryPrimitives.ReadUInt64LittleEndian(report[PolicyOffset..]);
        ulong ownVm = BinaryPrimitives.ReadUInt64LittleEndian(own[PolicyOffset..]);
        if (vm != ownVm)
        {
            why = $"POLICY 0x{vm:X}; this VM has 0x{ownVm:X}";
            return MigrationReason.NotThisGuest;
        }

        if (!report.Slice(HostDataOffset, HostDataLength).SequenceEqual(own.Slice(HostDataOffset, HostDataLength)))
        {
            why = "HOST_DATA is not that of this VM";
            return MigrationReason.NotThisGuest;
        }

        return MigrationReason.None;
    }

    private static string FindProblem(ReadOnlySpan<byte> report, ReadOnlySpan<byte> table, MigrationPolicy policy, ReadOnlySpan<byte> data)
    {
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(report);
        uint algorithm = BinaryPrimitives.ReadUInt32LittleEndian(report[AlgorithmOffset..]);
        if (version is not (2 or 3 or 5) || algorithm != EcdsaP384)
        {
            return $"a report of version {version}, with algorithm {algorithm}; wanted are 2, 3 or 5, and {EcdsaP384}";
        }

        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(report[FlagsOffset..]) & FlagsMask;
        if (flags != FlagsWanted)
        {
            return $"flags 0x{flags:X}; wanted is an author key, and a signature by the chip's own key";
        }

        uint vmpl = BinaryPrimitives.ReadUInt32LittleEndian(report[VmplOffset..]);
        if (vmpl != 0)
        {
            return $"it is about VMPL{vmpl}; wanted is VMPL0";
        }

        ulong vm = BinaryPrimitives.ReadUInt64LittleEndian(report[PolicyOffset..]);
        if ((vm & (Debug | MigrationAgent)) != 0)
        {
            return $"POLICY 0x{vm:X} allows debugging, or a migration agent";
        }

        ReadOnlySpan<byte> reportData = report.Slice(DataOffset, DataLength);
        if (!reportData[..data.Length].SequenceEqual(data) || reportData[data.Length..].ContainsAnyExcept((byte)0))
        {
            return "REPORT_DATA is of another conversation";
        }

        if (!IsAllowed(report, policy))
        {
            return $"author key {Convert.ToHexStringLower(report.Slice(AuthorOffset, MigrationFormat.DigestLength))}, family id {Convert.ToHexStringLower(report.Slice(FamilyOffset, 16))}, "
                + $"SVN {BinaryPrimitives.ReadUInt32LittleEndian(report[SvnOffset..])}: no rule allows these";
        }

        for (int part = 0; part < sizeof(ulong); part++)
        {
            if (report[TcbOffset + part] < (byte)(policy.MinimumTcb >> (8 * part)))
            {
                return $"TCB 0x{BinaryPrimitives.ReadUInt64LittleEndian(report[TcbOffset..]):X16}; wanted is at least 0x{policy.MinimumTcb:X16} in each byte";
            }
        }

        try
        {
            return FindProblemOfCertificates(report, table, policy);
        }
        catch (Exception e) when (IsBadDer(e))
        {
            return "a certificate has something that none has";
        }
    }

    private static bool IsAllowed(ReadOnlySpan<byte> report, MigrationPolicy policy)
    {
        uint svn = BinaryPrimitives.ReadUInt32LittleEndian(report[SvnOffset..]);
        foreach (MigrationRule rule in policy.Rules)
        {
            if (report.Slice(AuthorOffset, MigrationFormat.DigestLength).SequenceEqual(rule.AuthorKeyDigest.Span)
                && report.Slice(FamilyOffset, rule.FamilyId.Length).SequenceEqual(rule.FamilyId.Span) && svn >= rule.MinimumSvn)
            {
                return true;
            }
        }

        return false;
    }

    private static string FindProblemOfCertificates(ReadOnlySpan<byte> report, ReadOnlySpan<byte> table, MigrationPolicy policy)
    {
        List<X509CertificateStructure> certificates = ReadTable(table);
        NistCurve curve = NistCurve.P384();
        byte[] hash = Sha384(report[..SignedLength]);
        byte[] signature = Signature(report);
        X509CertificateStructure? chip = certificates.Find(certificate => KeyOf(curve, certificate) is CurvePoint key && curve.Verifies(key, hash, signature));
        if (chip is null)
        {
            return $"no key of {certificates.Count} certificates has signed it";
        }

        X509CertificateStructure? issuer = certificates.Find(certificate => IsIssuedBy(chip, certificate));
        X509CertificateStructure? root = issuer is null || IsIssuedBy(issuer, issuer) ? null : certificates.Find(certificate => IsIssuedBy(issuer, certificate));
        return root is null
            ? "the certificate of its chip has no chain of two that RSA keys of 4096 bits have signed"
            : !Sha384(root.SubjectPublicKeyInfo.GetDerEncoded()).AsSpan().SequenceEqual(policy.RootDigest.Span)
            ? "the chain ends with another root than that of the policy"
            : FindProblemOfChip(report, chip);
    }

    private static string FindProblemOfChip(ReadOnlySpan<byte> report, X509CertificateStructure chip)
    {
        X509Extensions? extensions = chip.TbsCertificate.Extensions;
        foreach ((int index, string name) in ValueOf(extensions, FirmwareController) is null ? s_milanTcb : s_turinTcb)
        {
            if (ValueOf(extensions, name) is not byte[] value || ReadNumber(value) != report[TcbOffset + index])
            {
                return $"byte {index} of its TCB is not that of the certificate";
            }
        }

        // The host may leave the chip's id out.
        ReadOnlySpan<byte> id = report.Slice(ChipOffset, ChipLength);
        return !id.ContainsAnyExcept((byte)0) || (ValueOf(extensions, ChipIdentity) is byte[] identity && IsChipId(identity, id)) ? "" : "it is of another chip than its certificate";
    }

    // DER: INTEGER of one byte, or of two of which the first is zero. -1: none.
    private static int ReadNumber(byte[] der)
    {
        const byte Integer = 2;
        const int Sign = 0x80;
        return der switch
        {
            [Integer, 1, < Sign and byte value] => value,
            [Integer, 2, 0, >= Sign and byte value] => value,
            _ => -1,
        };
    }

    // As it is, or as an OCTET STRING. Turin's has 8 bytes, and the report zeroes behind them.
    private static bool IsChipId(ReadOnlySpan<byte> extension, ReadOnlySpan<byte> chipId)
    {
        const int Short = 8;
        const byte OctetString = 4;
        const int HeadLength = 2;
        if (extension.Length is ChipLength + HeadLength or Short + HeadLength && extension[0] == OctetString && extension[1] == extension.Length - HeadLength)
        {
            extension = extension[HeadLength..];
        }

        return extension.Length is ChipLength or Short && chipId.StartsWith(extension) && !chipId[extension.Length..].ContainsAnyExcept((byte)0);
    }

    private static byte[]? ValueOf(X509Extensions? extensions, string name) => extensions?.GetExtension(new DerObjectIdentifier(Extension + name))?.Value.GetOctets();

    // Null: no key on P-384.
    private static CurvePoint? KeyOf(NistCurve curve, X509CertificateStructure certificate)
    {
        const string EcPublicKey = "1.2.840.10045.2.1";
        const string P384 = "1.3.132.0.34";
        const byte Uncompressed = 4;
        SubjectPublicKeyInfo info = certificate.SubjectPublicKeyInfo;
        return info.Algorithm.Algorithm.Id == EcPublicKey && info.Algorithm.Parameters is DerObjectIdentifier { Id: P384 } && info.PublicKey.GetBytes() is [Uncompressed, .. byte[] point]
            ? curve.TryReadPoint(point)
            : null;
    }

    private static bool IsIssuedBy(X509CertificateStructure certificate, X509CertificateStructure issuer)
    {
        const string RsassaPss = "1.2.840.113549.1.1.10";
        const string RsaEncryption = "1.2.840.113549.1.1.1";
        if (certificate.SignatureAlgorithm.Algorithm.Id != RsassaPss || !certificate.TbsCertificate.Signature.Equals(certificate.SignatureAlgorithm)
            || issuer.SubjectPublicKeyInfo.Algorithm.Algorithm.Id != RsaEncryption
            || !certificate.Issuer.GetDerEncoded().AsSpan().SequenceEqual(issuer.Subject.GetDerEncoded()))
        {
            return false;
        }

        RsaPublicKeyStructure key = RsaPublicKeyStructure.GetInstance(issuer.SubjectPublicKeyInfo.ParsePublicKey());
        if (key.Modulus.BitLength != RsaKeyBits || key.PublicExponent.BitLength > RsaExponentBits)
        {
            return false;
        }

        // Hash, mask and salt are AMD's, whatever the parameters say: others verify nothing.
        return RsaPss.Verify(
            key.Modulus.ToByteArrayUnsigned(), key.PublicExponent.ToByteArrayUnsigned(), certificate.TbsCertificate.GetDerEncoded(), certificate.Signature.GetOctets());
    }

    // Entries: GUID (16), u32 offset, u32 bytes; zeroes end them. What is no certificate is left out; what a certificate is for, its key tells.
    private static List<X509CertificateStructure> ReadTable(ReadOnlySpan<byte> table)
    {
        const int EntryLength = 24;
        const int OffsetOffset = 16;
        const int LengthOffset = 20;
        const int MaxEntries = 16;
        var certificates = new List<X509CertificateStructure>();
        for (int i = 0; i < MaxEntries && (i + 1) * EntryLength <= table.Length; i++)
        {
            ReadOnlySpan<byte> entry = table.Slice(i * EntryLength, EntryLength);
            uint offset = BinaryPrimitives.ReadUInt32LittleEndian(entry[OffsetOffset..]);
            uint length = BinaryPrimitives.ReadUInt32LittleEndian(entry[LengthOffset..]);
            if (!entry.ContainsAnyExcept((byte)0))
            {
                break;
            }

            if (offset > (uint)table.Length || length > (uint)table.Length - offset)
            {
                continue;
            }

            try
            {
                // Of nothing, and of zeroes, it makes null.
                if (X509CertificateStructure.GetInstance(Asn1Object.FromByteArray(table.Slice((int)offset, (int)length).ToArray())) is X509CertificateStructure certificate)
                {
                    certificates.Add(certificate);
                }
            }
            catch (Exception e) when (IsBadDer(e))
            {
            }
        }

        return certificates;
    }

    // What BouncyCastle throws for contents that are not what they should be.
    private static bool IsBadDer(Exception e) =>
        e is System.IO.IOException or CryptoException or ArgumentException or InvalidOperationException or InvalidCastException or FormatException or ArithmeticException or IndexOutOfRangeException;

    // R and S, little-endian, 72 bytes each, in a report; big-endian, 48 bytes each, in what comes of it. What is behind them is as it should be, or the signature is not.
    private static byte[] Signature(ReadOnlySpan<byte> report)
    {
        byte[] signature = new byte[2 * MigrationFormat.NumberLength];
        for (int i = 0; i < MigrationFormat.NumberLength; i++)
        {
            signature[MigrationFormat.NumberLength - 1 - i] = report[SignedLength + i];
            signature[(2 * MigrationFormat.NumberLength) - 1 - i] = report[SignedLength + FieldLength + i];
        }

        return signature;
    }

    internal static byte[] Sha384(params ReadOnlySpan<byte[]> parts)
    {
        var sha384 = new Sha384Digest();
        foreach (byte[] part in parts)
        {
            sha384.BlockUpdate(part);
        }

        byte[] hash = new byte[MigrationFormat.DigestLength];
        sha384.DoFinal(hash);
        return hash;
    }

    private static byte[] Sha384(ReadOnlySpan<byte> bytes) => Sha384(bytes.ToArray());
}
