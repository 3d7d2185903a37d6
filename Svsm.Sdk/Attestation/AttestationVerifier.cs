// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Whether a report proves that an image runs, and what it says about its services. Each rule is a check with an outcome of its own, so that one who looks
// for the reason of a refusal sees all of them; a report is good if none failed.
//
//   signature      ECDSA P-384 with SHA-384 by the key of a certificate that came along
//   certificates   that certificate <- ASK <- ARK: RSA-4096, RSASSA-PSS; the ARK is the trusted one. Valid at the time that the caller names
//   chip           TCB and chip id in the certificate are those of the report
//   launch digest, policy, VMPL, identity   those of the reference values; never a policy that lets the host debug
//   report data    SHA-512(nonce | manifest)
//
// Not checked: whether AMD has revoked a certificate, and whether the firmware of the chip is new enough: the TCB is told, and the verifier decides.
//
// Source: AMD VCEK certificate and KDS interface specification (57230), as virtee/sev and google/go-sev-guest read it: extensions 1.3.6.1.4.1.3704.1.*; REPORT_DATA:
// Secure VM Service Module specification (58019), "Attestation Protocol".

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Formats.Asn1;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Svsm.Diagnostics;
using Svsm.Measurement;

namespace Svsm.Attestation;

/// <summary>What is to be verified. All of it is untrusted, but the nonce.</summary>
public sealed record AttestationEvidence
{
    /// <summary>Bytes of a nonce. There is no other length: the hash is of nonce and manifest in one piece, and would fit a longer nonce with a shorter manifest.</summary>
    public const int NonceLength = 64;

    /// <summary>The report.</summary>
    public required AttestationReport Report { get; init; }

    /// <summary>Certificates of the chip, DER, in any order.</summary>
    public required IReadOnlyList<byte[]> Certificates { get; init; }

    /// <summary>The nonce that the verifier chose, <see cref="NonceLength"/> bytes, and the manifest that came with the report; null: nobody looks at the report data.</summary>
    public (ReadOnlyMemory<byte> Nonce, ReadOnlyMemory<byte> Manifest)? Binding { get; init; }
}

/// <summary>How a check went.</summary>
public enum AttestationOutcome
{
    /// <summary>As it should be.</summary>
    Pass,

    /// <summary>Nothing to compare with, or something that the verifier should know.</summary>
    Note,

    /// <summary>The report is not to be trusted.</summary>
    Fail,
}

/// <summary>A check.</summary>
/// <param name="Name">What was checked.</param>
/// <param name="Outcome">How it went.</param>
/// <param name="Text">What was seen.</param>
/// <param name="Diagnostic">Which failure it is; null if it did not fail.</param>
public sealed record AttestationCheck(string Name, AttestationOutcome Outcome, string Text, SvsmDiagnostic? Diagnostic = null);

/// <summary>Verifies attestation reports.</summary>
public static class AttestationVerifier
{
    private const string RsassaPss = "1.2.840.113549.1.1.10";
    private const string P384 = "1.3.132.0.34";
    private const int RsaKeySize = 4096;
    private const string Extension = "1.3.6.1.4.1.3704.1.";

    // Bytes of a TCB version and the extensions that have them. Turin has another order, and one more part, which its certificates name.
    private static readonly (int Byte, string Name)[] s_milanTcb = [(0, "3.1"), (1, "3.2"), (2, "3.4"), (3, "3.5"), (4, "3.6"), (5, "3.7"), (6, "3.3"), (7, "3.8")];
    private static readonly (int Byte, string Name)[] s_turinTcb = [(0, "3.9"), (1, "3.1"), (2, "3.2"), (3, "3.3"), (7, "3.8")];
    private const string FirmwareController = "3.9";
    private const string ChipIdentity = "4";

    /// <summary>Verifies a report.</summary>
    /// <param name="evidence">What there is.</param>
    /// <param name="root">The root that is trusted.</param>
    /// <param name="reference">What the report must say.</param>
    /// <param name="time">When certificates must be valid.</param>
    /// <returns>The checks. The report is good if none has <see cref="AttestationOutcome.Fail"/>.</returns>
    public static ImmutableArray<AttestationCheck> Verify(AttestationEvidence evidence, TrustedRoot root, ReferenceValues reference, DateTimeOffset time)
    {
        ArgumentNullException.ThrowIfNull(evidence);
        ArgumentNullException.ThrowIfNull(root);
        ArgumentNullException.ThrowIfNull(reference);
        var checks = ImmutableArray.CreateBuilder<AttestationCheck>();
        AttestationReport report = evidence.Report;
        CheckSignature(evidence, root, time, checks);
        CheckDigest(report, reference, checks);
        CheckPolicy(report, reference, checks);
        Compare(checks, "VMPL", SvsmDiagnostics.ReportVmplUnexpected, $"{report.Vmpl}", $"{reference.Vmpl}");
        CheckIdentity(report, reference, checks);
        CheckReportData(evidence, checks);
        return checks.ToImmutable();
    }

    private static void CheckSignature(AttestationEvidence evidence, TrustedRoot root, DateTimeOffset time, ImmutableArray<AttestationCheck>.Builder checks)
    {
        const string Name = "signature";
        AttestationReport report = evidence.Report;
        X509Certificate2[] certificates = [.. evidence.Certificates.Select(certificate => X509CertificateLoader.LoadCertificate(certificate))];
        try
        {
            bool hasKey = false;
            X509Certificate2? signer = null;
            foreach (X509Certificate2 certificate in certificates)
            {
                using ECDsa? key = KeyOf(certificate);
                hasKey |= key is not null;
                signer ??= key is not null && IsSignedBy(report, key) ? certificate : null;
            }

            if (!hasKey)
            {
                checks.Add(Fail(Name, SvsmDiagnostics.CertificatesUnusable, $"none of {certificates.Length} certificates has a key on curve P-384, as that of a chip has"));
                return;
            }

            if (report.Signer is not (ReportSigner.Vcek or ReportSigner.Vlek) || signer is null)
            {
                checks.Add(Fail(Name, SvsmDiagnostics.ReportSignatureWrong, signer is null ? "no key of the certificates made it" : $"signed by {report.Signer}, says the report"));
                return;
            }

            checks.Add(new(Name, AttestationOutcome.Pass, $"made by a {report.Signer.ToString().ToUpperInvariant()}"));
            checks.Add(CheckChain(signer, certificates, root.Find(evidence.Certificates), time));
            checks.Add(CheckChip(report, signer));
        }
        finally
        {
            foreach (X509Certificate2 certificate in certificates)
            {
                certificate.Dispose();
            }
        }
    }

    // Null: it is of another kind, or damaged.
    private static ECDsa? KeyOf(X509Certificate2 certificate)
    {
        try
        {
            ECDsa? key = certificate.GetECDsaPublicKey();
            if (key is not null && key.ExportParameters(includePrivateParameters: false).Curve.Oid?.Value != P384)
            {
                key.Dispose();
                return null;
            }

            return key;
        }
        catch (CryptographicException)
        {
            return null;
        }
    }

    private static bool IsSignedBy(AttestationReport report, ECDsa key) =>
        key.VerifyData(report.Signed, report.Signature(), HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation);

    private static AttestationCheck CheckChain(X509Certificate2 signer, X509Certificate2[] certificates, byte[]? rootCertificate, DateTimeOffset time)
    {
        const string Name = "certificates";
        if (rootCertificate is null)
        {
            return Fail(Name, SvsmDiagnostics.RootNotTrusted, "none of them is the trusted root");
        }

        using X509Certificate2 root = X509CertificateLoader.LoadCertificate(rootCertificate);
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(root);
        chain.ChainPolicy.ExtraStore.AddRange(certificates);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.DisableCertificateDownloads = true;
        chain.ChainPolicy.VerificationTime = time.UtcDateTime;
        bool good = chain.Build(signer);
        X509ChainStatusFlags flags = chain.ChainStatus.Aggregate(X509ChainStatusFlags.NoError, (all, status) => all | status.Status);
        if (!good)
        {
            string seen = string.Join("; ", chain.ChainStatus.Select(status => status.StatusInformation.Trim().TrimEnd('.')));
            return (flags & (X509ChainStatusFlags.UntrustedRoot | X509ChainStatusFlags.PartialChain)) != 0
                ? Fail(Name, SvsmDiagnostics.RootNotTrusted, $"they do not lead to the trusted root: {seen}")
                : Fail(Name, SvsmDiagnostics.CertificateChainBroken, seen);
        }

        // Three, as AMD makes them: what the chain's own rules would let pass otherwise.
        const int Length = 3;
        if (chain.ChainElements.Count != Length || !chain.ChainElements[Length - 1].Certificate.RawData.AsSpan().SequenceEqual(rootCertificate))
        {
            return Fail(Name, SvsmDiagnostics.CertificateChainBroken, $"{chain.ChainElements.Count} certificates up to the root; wanted are {Length}");
        }

        for (int i = 0; i < Length; i++)
        {
            X509Certificate2 certificate = chain.ChainElements[i].Certificate;
            if (certificate.SignatureAlgorithm.Value != RsassaPss)
            {
                return Fail(Name, SvsmDiagnostics.CertificateChainBroken, $"'{certificate.Subject}' is signed by {certificate.SignatureAlgorithm.Value}; wanted is RSASSA-PSS");
            }

            using RSA? key = i == 0 ? null : certificate.GetRSAPublicKey();
            if (i != 0 && key?.KeySize != RsaKeySize)
            {
                return Fail(Name, SvsmDiagnostics.CertificateChainBroken, $"'{certificate.Subject}' has a key of {key?.KeySize ?? 0} bits; wanted is RSA with {RsaKeySize}");
            }
        }

        return new(Name, AttestationOutcome.Pass, "they lead to the trusted root");
    }

    private static AttestationCheck CheckChip(AttestationReport report, X509Certificate2 signer)
    {
        const string Name = "chip";
        var extensions = new Dictionary<string, byte[]>();
        foreach (X509Extension extension in signer.Extensions)
        {
            if (extension.Oid?.Value is string id && id.StartsWith(Extension, StringComparison.Ordinal) && !extensions.TryAdd(id[Extension.Length..], extension.RawData))
            {
                return Fail(Name, SvsmDiagnostics.ChipUnexpected, $"its certificate has the extension {id} twice");
            }
        }

        foreach ((int index, string name) in extensions.ContainsKey(FirmwareController) ? s_turinTcb : s_milanTcb)
        {
            if (!extensions.TryGetValue(name, out byte[]? value))
            {
                return Fail(Name, SvsmDiagnostics.ChipUnexpected, $"its certificate lacks the extension {Extension}{name}, a part of the TCB");
            }

            if (ReadNumber(value) is not int version || version != report.ReportedTcb.Part(index))
            {
                return Fail(Name, SvsmDiagnostics.ChipUnexpected, $"byte {index} of the TCB is {report.ReportedTcb.Part(index)} in the report, another one in its certificate");
            }
        }

        // A lent key is not one chip's.
        if (report.Signer == ReportSigner.Vlek)
        {
            return new(Name, AttestationOutcome.Note, $"TCB {report.ReportedTcb} as certified; the key is a provider's, not the chip's");
        }

        if (!extensions.TryGetValue(ChipIdentity, out byte[]? identity))
        {
            return Fail(Name, SvsmDiagnostics.ChipUnexpected, $"its certificate lacks the extension {Extension}{ChipIdentity}, the chip's id");
        }

        if (!report.ChipId.Span.ContainsAnyExcept((byte)0))
        {
            return new(Name, AttestationOutcome.Note, $"TCB {report.ReportedTcb} as certified; the host left out the chip's id");
        }

        return IsChipId(identity, report.ChipId.Span)
            ? new(Name, AttestationOutcome.Pass, $"TCB {report.ReportedTcb} and chip id as certified")
            : Fail(Name, SvsmDiagnostics.ChipUnexpected, "the certificate is that of another chip");
    }

    private static int? ReadNumber(byte[] der)
    {
        try
        {
            var reader = new AsnReader(der, AsnEncodingRules.DER);
            bool read = reader.TryReadInt32(out int value);
            return read && !reader.HasData ? value : null;
        }
        catch (AsnContentException)
        {
            return null;
        }
    }

    // As it is, or as an OCTET STRING. Turin's has 8 bytes, and the report zeroes behind them.
    private static bool IsChipId(ReadOnlySpan<byte> extension, ReadOnlySpan<byte> chipId)
    {
        const int Long = 64;
        const int Short = 8;
        const byte OctetString = 4;
        const int HeadLength = 2;
        if (extension.Length is Long + HeadLength or Short + HeadLength && extension[0] == OctetString && extension[1] == extension.Length - HeadLength)
        {
            extension = extension[HeadLength..];
        }

        return extension.Length is Long or Short && chipId.StartsWith(extension) && !chipId[extension.Length..].ContainsAnyExcept((byte)0);
    }

    private static void CheckDigest(AttestationReport report, ReferenceValues reference, ImmutableArray<AttestationCheck>.Builder checks)
    {
        const string Name = "launch digest";
        checks.Add(reference.LaunchDigests.Contains(report.LaunchDigest)
            ? new(Name, AttestationOutcome.Pass, "that of the image")
            : Fail(Name, SvsmDiagnostics.LaunchDigestUnexpected, $"{report.LaunchDigest} is not {reference.LaunchDigests[0]}"));
    }

    private static void CheckPolicy(AttestationReport report, ReferenceValues reference, ImmutableArray<AttestationCheck>.Builder checks)
    {
        const string Name = "policy";
        checks.Add(report.Policy.AllowsDebug
            ? Fail(Name, SvsmDiagnostics.PolicyUnexpected, $"{report.Policy} lets the host read and change the guest's memory")
            : report.Policy != reference.Policy
            ? Fail(Name, SvsmDiagnostics.PolicyUnexpected, $"{report.Policy} is not {reference.Policy}")
            : report.Policy.AllowsMigration
            ? new(Name, AttestationOutcome.Note, $"{report.Policy} allows a migration agent, which can have the guest run elsewhere")
            : new(Name, AttestationOutcome.Pass, $"{report.Policy}"));
    }

    private static void CheckIdentity(AttestationReport report, ReferenceValues reference, ImmutableArray<AttestationCheck>.Builder checks)
    {
        const string Name = "identity";
        SvsmDiagnostic diagnostic = SvsmDiagnostics.IdentityUnexpected;
        int before = checks.Count;
        CompareIfDifferent($"SVN {report.GuestSvn}", $"SVN {reference.GuestSvn}");
        CompareIfDifferent($"family id {Convert.ToHexStringLower(report.FamilyId.Span)}", $"family id {Convert.ToHexStringLower(reference.FamilyId.Span)}");
        CompareIfDifferent($"image id {Convert.ToHexStringLower(report.ImageId.Span)}", $"image id {Convert.ToHexStringLower(reference.ImageId.Span)}");
        CompareIfDifferent($"ID key {report.IdKeyDigest}", $"ID key {reference.IdKeyDigest}");
        CompareIfDifferent(
            report.HasAuthorKey ? $"author key {report.AuthorKeyDigest}" : "no author key",
            reference.AuthorKeyDigest != default ? $"author key {reference.AuthorKeyDigest}" : "no author key");
        if (checks.Count == before)
        {
            checks.Add(new(Name, AttestationOutcome.Pass, reference.IdKeyDigest == default ? "no ID block" : "that of the image's ID block"));
        }

        void CompareIfDifferent(string seen, string wanted)
        {
            if (seen != wanted)
            {
                checks.Add(Fail(Name, diagnostic, $"{seen} is not {wanted}"));
            }
        }
    }

    private static void CheckReportData(AttestationEvidence evidence, ImmutableArray<AttestationCheck>.Builder checks)
    {
        const string Name = "report data";
        if (evidence.Binding is not (ReadOnlyMemory<byte> nonce, ReadOnlyMemory<byte> manifest))
        {
            checks.Add(new(Name, AttestationOutcome.Note, "compared with nothing: the report may be old, and somebody else's"));
            return;
        }

        if (nonce.Length != AttestationEvidence.NonceLength)
        {
            checks.Add(Fail(Name, SvsmDiagnostics.ReportDataUnexpected, $"a nonce of {nonce.Length} bytes; it has {AttestationEvidence.NonceLength}"));
            return;
        }

        byte[] wanted = SHA512.HashData([.. nonce.Span, .. manifest.Span]);
        checks.Add(evidence.Report.ReportData.Span.SequenceEqual(wanted)
            ? new(Name, AttestationOutcome.Pass, "that of nonce and manifest")
            : Fail(Name, SvsmDiagnostics.ReportDataUnexpected, "not the hash of this nonce and this manifest"));
    }

    private static void Compare(ImmutableArray<AttestationCheck>.Builder checks, string name, SvsmDiagnostic diagnostic, string seen, string wanted) =>
        checks.Add(seen == wanted ? new(name, AttestationOutcome.Pass, seen) : Fail(name, diagnostic, $"{seen} is not {wanted}"));

    private static AttestationCheck Fail(string name, SvsmDiagnostic diagnostic, string text) => new(name, AttestationOutcome.Fail, text, diagnostic);
}
