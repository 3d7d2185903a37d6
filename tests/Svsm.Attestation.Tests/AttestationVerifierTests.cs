// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Diagnostics;
using Svsm.Measurement;
using Xunit;

namespace Svsm.Attestation.Tests;

/// <summary>Good reports, and one for each way to be wrong.</summary>
public sealed class AttestationVerifierTests
{
    private static readonly byte[] s_nonce = SHA512.HashData("nonce"u8);
    private static readonly byte[] s_manifest = [1, 2, 3];

    private static ReferenceValues Reference => new() { LaunchDigests = [new LaunchDigest(SHA384.HashData("image"u8))], Policy = new GuestPolicy(0x3_0000) };

    private static void Bind(byte[] report) => SHA512.HashData([.. s_nonce, .. s_manifest]).CopyTo(report, 0x50);

    private static ImmutableArray<AttestationCheck> Verify(
        byte[]? report = null, ChainOptions? chain = null, ReferenceValues? reference = null, TrustedRoot? root = null, bool bound = true,
        Func<(byte[] Ark, byte[] Ask, byte[] Vcek), IReadOnlyList<byte[]>>? certificates = null, DateTimeOffset? time = null, (byte[] Nonce, byte[] Manifest)? binding = null)
    {
        (byte[] Ark, byte[] Ask, byte[] Vcek) made = TestAuthority.MakeChain(chain);
        var evidence = new AttestationEvidence
        {
            Report = AttestationReport.Parse(report ?? TestAuthority.MakeReport(Bind), "report"),
            Certificates = certificates?.Invoke(made) ?? [made.Vcek, made.Ask, made.Ark],
            Binding = binding is var (nonce, manifest) ? (nonce, manifest) : bound ? (s_nonce, s_manifest) : null,
        };
        return AttestationVerifier.Verify(evidence, root ?? TrustedRoot.FromCertificate(made.Ark), reference ?? Reference, time ?? TestAuthority.Now);
    }

    private static void AssertFails(SvsmDiagnostic diagnostic, ImmutableArray<AttestationCheck> checks)
    {
        AttestationCheck check = Assert.Single(checks, check => check.Outcome == AttestationOutcome.Fail);
        Assert.Equal(diagnostic, check.Diagnostic);
    }

    private static void AssertGood(ImmutableArray<AttestationCheck> checks, string? note = null)
    {
        Assert.DoesNotContain(checks, check => check.Outcome == AttestationOutcome.Fail || check.Diagnostic is not null);
        Assert.Equal(note is null ? [] : [note], checks.Where(check => check.Outcome == AttestationOutcome.Note).Select(check => check.Name));
    }

    [Theory]
    [InlineData(2u)]
    [InlineData(3u)]
    [InlineData(5u)]
    public void GoodReport_OfEachVersion_Passes(uint version)
    {
        byte[] report = TestAuthority.MakeReport(bytes =>
        {
            Bind(bytes);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes, version);
        });
        ImmutableArray<AttestationCheck> checks = Verify(report);

        AssertGood(checks);
        Assert.Equal(["signature", "certificates", "chip", "launch digest", "policy", "VMPL", "identity", "report data"], checks.Select(check => check.Name));
    }

    [Fact]
    public void RootByFingerprint_Passes()
    {
        (byte[] ark, _, _) = TestAuthority.MakeChain();
        AssertGood(Verify(root: TrustedRoot.FromFingerprint(SHA256.HashData(ark)), certificates: chain => [chain.Ark, chain.Vcek, ark, chain.Ask]));
    }

    // The root that is trusted need not come along.
    [Fact]
    public void RootDoesNotComeAlong_Passes() => AssertGood(Verify(certificates: chain => [chain.Vcek, chain.Ask]));

    [Fact]
    public void NoNonce_IsNoted() => AssertGood(Verify(bound: false), "report data");

    // No bit of a report may change: signed, signature, and what lies around it.
    [Fact]
    public void AnyBitFlipped_IsRefused()
    {
        byte[] good = TestAuthority.MakeReport(Bind);
        (byte[] ark, byte[] ask, byte[] vcek) = TestAuthority.MakeChain();
        var root = TrustedRoot.FromCertificate(ark);
        int refused = 0;
        int failed = 0;
        for (int bit = 0; bit < good.Length * 8; bit++)
        {
            byte[] report = [.. good];
            report[bit / 8] ^= (byte)(1 << (bit % 8));
            try
            {
                var evidence = new AttestationEvidence { Report = AttestationReport.Parse(report, "report"), Certificates = [vcek, ask], Binding = (s_nonce, s_manifest) };
                ImmutableArray<AttestationCheck> checks = AttestationVerifier.Verify(evidence, root, Reference, TestAuthority.Now);
                Assert.Contains(checks, check => check.Diagnostic == SvsmDiagnostics.ReportSignatureWrong);
                failed++;
            }
            catch (SvsmDiagnosticException e)
            {
                Assert.Equal(SvsmDiagnostics.ReportDamaged, e.Diagnostic);
                refused++;
            }
        }

        Assert.True(refused > 368 * 8 && failed > 0x298 * 8, $"{refused} refused, {failed} failed");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0x2A0)]
    [InlineData(0x49F)]
    [InlineData(0x4A1)]
    [InlineData(4096)]
    public void ReportOfAnotherLength_IsRefused(int length)
    {
        byte[] report = TestAuthority.MakeReport();
        Array.Resize(ref report, length);
        Assert.Equal(SvsmDiagnostics.ReportDamaged, Assert.Throws<SvsmDiagnosticException>(() => AttestationReport.Parse(report, "report")).Diagnostic);
    }

    [Theory]
    [InlineData(0x00, 4)]
    [InlineData(0x00, 6)]
    [InlineData(0x34, 0)]
    [InlineData(0x34, 2)]
    [InlineData(0x37, 1)]
    public void ReportOfAnotherFormat_IsRefused(int offset, byte value)
    {
        byte[] report = TestAuthority.MakeReport(bytes => bytes[offset] = value);
        Assert.Equal(SvsmDiagnostics.ReportDamaged, Assert.Throws<SvsmDiagnosticException>(() => AttestationReport.Parse(report, "report")).Diagnostic);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(7)]
    public void SignedByAnotherKindOfKey_IsRefused(byte signer) =>
        AssertFails(SvsmDiagnostics.ReportSignatureWrong, Verify(TestAuthority.MakeReport(report =>
        {
            Bind(report);
            report[0x48] = (byte)(signer << 2);
        })));

    [Fact]
    public void LentKey_IsNoted() => AssertGood(
        Verify(TestAuthority.MakeReport(report =>
        {
            Bind(report);
            report[0x48] = 1 << 2;
        })),
        "chip");

    [Fact]
    public void NoChipCertificate_IsRefused() => AssertFails(SvsmDiagnostics.CertificatesUnusable, Verify(certificates: chain => [chain.Ask, chain.Ark]));

    [Fact]
    public void AuthorityIsMissing_IsRefused() => AssertFails(SvsmDiagnostics.RootNotTrusted, Verify(certificates: chain => [chain.Vcek, chain.Ark]));

    // The chain is in order, but its root is somebody's: it comes along, and is not the trusted one.
    [Fact]
    public void AnotherRoot_IsRefused()
    {
        using var key = RSA.Create(2048);
        var request = new System.Security.Cryptography.X509Certificates.CertificateRequest("CN=ARK", key, HashAlgorithmName.SHA384, RSASignaturePadding.Pss);
        request.CertificateExtensions.Add(new System.Security.Cryptography.X509Certificates.X509BasicConstraintsExtension(true, false, 0, true));
        using var other = request.CreateSelfSigned(TestAuthority.Now.AddYears(-1), TestAuthority.Now.AddYears(1));
        AssertFails(SvsmDiagnostics.RootNotTrusted, Verify(root: TrustedRoot.FromFingerprint(new byte[32])));
        ImmutableArray<AttestationCheck> checks = Verify(root: TrustedRoot.FromCertificate(other.RawData));
        AttestationCheck check = Assert.Single(checks, check => check.Outcome == AttestationOutcome.Fail);
        Assert.True(check.Diagnostic == SvsmDiagnostics.RootNotTrusted || check.Diagnostic == SvsmDiagnostics.CertificateChainBroken, check.Text);
    }

    public static TheoryData<string> BrokenChains => ["pkcs1", "no authority", "small", "expired", "too short", "stranger"];

    [Theory]
    [MemberData(nameof(BrokenChains))]
    public void BrokenChain_IsRefused(string kind)
    {
        ChainOptions options = kind switch
        {
            "pkcs1" => new() { Pss = false },
            "no authority" => new() { AuthorityMaySign = false },
            "small" => new() { SmallAuthority = true },
            "expired" => new() { NotAfter = TestAuthority.Now.AddDays(-1) },
            "too short" => new() { WithoutAuthority = true },
            _ => new() { StrangerSigns = true },
        };
        ImmutableArray<AttestationCheck> checks = Verify(chain: options);
        AttestationCheck check = Assert.Single(checks, check => check.Outcome == AttestationOutcome.Fail);
        Assert.Equal("certificates", check.Name);
        Assert.True(check.Diagnostic == SvsmDiagnostics.CertificateChainBroken || (kind == "stranger" && check.Diagnostic == SvsmDiagnostics.RootNotTrusted), check.ToString());
    }

    [Fact]
    public void CertificatesOfTheFuture_AreRefused() =>
        AssertFails(SvsmDiagnostics.CertificateChainBroken, Verify(time: new DateTimeOffset(2019, 12, 31, 0, 0, 0, TimeSpan.Zero)));

    [Theory]
    [InlineData("3.1")]
    [InlineData("3.2")]
    [InlineData("3.3")]
    [InlineData("3.4")]
    [InlineData("3.7")]
    [InlineData("3.8")]
    [InlineData("4")]
    public void ExtensionOfTheChip_WrongOrMissing_IsRefused(string name)
    {
        Dictionary<string, byte[]> extensions = TestAuthority.MilanExtensions();
        extensions[name] = name == "4" ? SHA512.HashData("another"u8) : TestAuthority.Number(99);
        AssertFails(SvsmDiagnostics.ChipUnexpected, Verify(chain: new() { Extensions = extensions }));
        extensions.Remove(name);
        AssertFails(SvsmDiagnostics.ChipUnexpected, Verify(chain: new() { Extensions = extensions }));
        extensions[name] = [5, 0];
        AssertFails(SvsmDiagnostics.ChipUnexpected, Verify(chain: new() { Extensions = extensions }));
    }

    [Fact]
    public void ChipIdInAnOctetString_Passes()
    {
        Dictionary<string, byte[]> extensions = TestAuthority.MilanExtensions();
        extensions["4"] = [4, 64, .. TestAuthority.ChipId];
        AssertGood(Verify(chain: new() { Extensions = extensions }));
    }

    [Fact]
    public void MaskedChip_IsNoted() => AssertGood(
        Verify(TestAuthority.MakeReport(report =>
        {
            Bind(report);
            report.AsSpan(0x1A0, 64).Clear();
        })),
        "chip");

    // Turin: another order of the TCB, one more part, and a chip id of 8 bytes.
    [Theory]
    [InlineData(7, true)]
    [InlineData(8, false)]
    public void Turin_HasAnotherOrder(byte firmwareController, bool good)
    {
        Dictionary<string, byte[]> extensions = new()
        {
            ["3.9"] = TestAuthority.Number(firmwareController), ["3.1"] = TestAuthority.Number(1), ["3.2"] = TestAuthority.Number(2), ["3.3"] = TestAuthority.Number(3),
            ["3.8"] = TestAuthority.Number(0x54), ["4"] = TestAuthority.ChipId[..8],
        };
        byte[] report = TestAuthority.MakeReport(bytes =>
        {
            Bind(bytes);
            BinaryPrimitives.WriteUInt32LittleEndian(bytes, 3);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x180), 0x5400_0000_0302_0107);
            bytes.AsSpan(0x1A8, 56).Clear();
        });
        ImmutableArray<AttestationCheck> checks = Verify(report, new() { Extensions = extensions });
        if (good)
        {
            AssertGood(checks);
        }
        else
        {
            AssertFails(SvsmDiagnostics.ChipUnexpected, checks);
        }
    }

    [Fact]
    public void AnotherImage_IsRefused() =>
        AssertFails(SvsmDiagnostics.LaunchDigestUnexpected, Verify(reference: Reference with { LaunchDigests = [new LaunchDigest(SHA384.HashData("another"u8)), default] }));

    [Fact]
    public void OneOfSeveralDigests_Passes() => AssertGood(Verify(reference: Reference with { LaunchDigests = [default, .. Reference.LaunchDigests] }));

    [Fact]
    public void AnotherPolicy_IsRefused() => AssertFails(SvsmDiagnostics.PolicyUnexpected, Verify(reference: Reference with { Policy = new GuestPolicy(0x2_0000) }));

    // Also when the image has it.
    [Fact]
    public void PolicyThatAllowsDebug_IsRefused() => AssertFails(
        SvsmDiagnostics.PolicyUnexpected,
        Verify(
            TestAuthority.MakeReport(report =>
            {
                Bind(report);
                report[0x0A] |= 8;
            }),
            reference: Reference with { Policy = new GuestPolicy(0xB_0000) }));

    [Fact]
    public void PolicyThatAllowsMigration_IsNoted() => AssertGood(
        Verify(
            TestAuthority.MakeReport(report =>
            {
                Bind(report);
                report[0x0A] |= 4;
            }),
            reference: Reference with { Policy = new GuestPolicy(0x7_0000) }),
        "policy");

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void ReportAboutAnotherVmpl_IsRefused(byte vmpl) => AssertFails(
        SvsmDiagnostics.ReportVmplUnexpected,
        Verify(TestAuthority.MakeReport(report =>
        {
            Bind(report);
            report[0x30] = vmpl;
        })));

    [Theory]
    [InlineData(0x04)]
    [InlineData(0x10)]
    [InlineData(0x2F)]
    [InlineData(0xE0)]
    [InlineData(0x48)]
    public void AnotherIdentity_IsRefused(int offset) => AssertFails(
        SvsmDiagnostics.IdentityUnexpected,
        Verify(TestAuthority.MakeReport(report =>
        {
            Bind(report);
            report[offset] = 1;
        })));

    [Fact]
    public void IdentityOfTheImage_Passes()
    {
        byte[] key = SHA384.HashData("ID key"u8);
        byte[] author = SHA384.HashData("author key"u8);
        byte[] report = TestAuthority.MakeReport(bytes =>
        {
            Bind(bytes);
            bytes[0x04] = 7;
            bytes[0x10] = 1;
            bytes[0x20] = 2;
            bytes[0x48] = 1;
            key.CopyTo(bytes, 0xE0);
            author.CopyTo(bytes, 0x110);
        });
        ReferenceValues reference = Reference with
        {
            GuestSvn = 7,
            FamilyId = (byte[])[1, .. new byte[15]],
            ImageId = (byte[])[2, .. new byte[15]],
            IdKeyDigest = new LaunchDigest(key),
            AuthorKeyDigest = new LaunchDigest(author),
        };
        AssertGood(Verify(report, reference: reference));
        AssertFails(SvsmDiagnostics.IdentityUnexpected, Verify(report, reference: reference with { AuthorKeyDigest = new LaunchDigest(key) }));
        AssertFails(SvsmDiagnostics.IdentityUnexpected, Verify(report, reference: reference with { IdKeyDigest = new LaunchDigest(author) }));
    }

    [Fact]
    public void AnotherNonceOrManifest_IsRefused()
    {
        AssertFails(SvsmDiagnostics.ReportDataUnexpected, Verify(TestAuthority.MakeReport(report => SHA512.HashData([.. s_nonce, 1, 2, 4]).CopyTo(report, 0x50))));
        AssertFails(SvsmDiagnostics.ReportDataUnexpected, Verify(TestAuthority.MakeReport(report => SHA512.HashData([0, .. s_nonce, .. s_manifest]).CopyTo(report, 0x50))));
        AssertFails(SvsmDiagnostics.ReportDataUnexpected, Verify(TestAuthority.MakeReport(report => s_nonce.CopyTo(report, 0x50))));
    }

    // The hash is of both in one piece: a shorter nonce would leave the rest of it to whoever makes up the manifest.
    [Theory]
    [InlineData(0)]
    [InlineData(63)]
    [InlineData(65)]
    public void NonceOfAnotherLength_IsRefused(int length)
    {
        byte[] all = [.. s_nonce, .. s_manifest];
        byte[] report = TestAuthority.MakeReport(report => SHA512.HashData(all).CopyTo(report, 0x50));
        AssertFails(SvsmDiagnostics.ReportDataUnexpected, Verify(report, binding: (all[..length], all[length..])));
        AssertGood(Verify(report, binding: (all[..64], all[64..])));
    }

    // All of the reasons, not the first one.
    [Fact]
    public void ManyThingsWrong_AllAreTold()
    {
        ImmutableArray<AttestationCheck> checks = Verify(
            TestAuthority.MakeReport(report =>
            {
                report[0x30] = 2;
                report[0x90] ^= 1;
            }),
            reference: Reference with { Policy = new GuestPolicy(0) });
        Assert.Equal(["SVSM3107", "SVSM3108", "SVSM3109", "SVSM3111"], checks.Where(check => check.Outcome == AttestationOutcome.Fail).Select(check => check.Diagnostic!.Code));
    }
}
