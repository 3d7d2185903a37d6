// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Svsm.Diagnostics;
using Svsm.Measurement;
using Svsm.Migration;
using Svsm.Wire;
using Xunit;

namespace Svsm.Builder.Tests;

/// <summary>The migration policy, from the keys and the certificate of its owner to the file of the archive.</summary>
public sealed class MigrationPolicyFileTests
{
    private const uint Protocol = 0x8000_5303;
    private const ulong Tcb = 0xDB18_0000_0000_0004;

    private static readonly ImmutableArray<ModuleOptions> s_modules =
        [new() { TypeName = "A", Protocol = 1 }, new() { TypeName = "B", Protocol = Protocol, Permissions = ModulePermissions.Migrate }];

    private static readonly ECDsa s_one = ECDsa.Create(ECCurve.NamedCurves.nistP384);
    private static readonly ECDsa s_two = ECDsa.Create(ECCurve.NamedCurves.nistP384);
    private static readonly RSA s_rootKey = RSA.Create(4096);
    private static readonly X509Certificate2 s_root = Issue("CN=ARK", s_rootKey, "CN=ARK");
    private static readonly byte[] s_family = [.. Enumerable.Range(1, 16).Select(i => (byte)i)];

    private static X509Certificate2 Issue(string subject, RSA key, string issuer) => new CertificateRequest(subject, key, HashAlgorithmName.SHA384, RSASignaturePadding.Pss)
        .Create(new X500DistinguishedName(issuer), X509SignatureGenerator.CreateForRSA(s_rootKey, RSASignaturePadding.Pss), DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1), [1]);

    private static byte[] Text(string text) => Encoding.ASCII.GetBytes(text);

    private static MigrationPeer Peer(string pem, byte[]? family = null, uint svn = 3, string path = "peer") => new(path, Text(pem), family ?? s_family, svn);

    private static MigrationRoot Root(byte[] contents, ulong tcb = Tcb, string path = "root") => new(path, contents, tcb);

    private static MigrationRoot Root() => Root(s_root.RawData);

    private static string Refused(ImmutableArray<MigrationPeer> peers, ImmutableArray<MigrationRoot> roots, ImmutableArray<ModuleOptions>? modules = null, string code = "SVSM4010")
    {
        SvsmDiagnosticException exception = Assert.Throws<SvsmDiagnosticException>(() => MigrationPolicyFile.Write(peers, roots, modules ?? s_modules));
        Assert.Equal(code, exception.Diagnostic.Code);
        return exception.Message;
    }

    [Fact]
    public void Write_WithoutMigration_IsNoFile() => Assert.Empty(MigrationPolicyFile.Write([], [], [s_modules[0]]));

    [Fact]
    public void Write_AnyFormOfAKey_IsARuleWithTheDigestOfReports()
    {
        ModuleFile file = Assert.Single(MigrationPolicyFile.Write(
            [
                Peer(s_one.ExportECPrivateKeyPem()), Peer(s_two.ExportSubjectPublicKeyInfoPem(), new byte[16], uint.MaxValue), Peer(s_one.ExportPkcs8PrivateKeyPem(), new byte[16], 0),
            ],
            [Root()],
            s_modules));

        Assert.Equal("/migration.policy", file.Path);
        Assert.Equal([Protocol], file.Readers);
        MigrationPolicy policy = MigrationPolicy.TryRead(file.Contents.Span)!;
        Assert.Equal(SHA384.HashData(s_root.PublicKey.ExportSubjectPublicKeyInfo()), policy.RootDigest.ToArray());
        Assert.Equal(Tcb, policy.MinimumTcb);
        Assert.Equal([Digest(s_one), Digest(s_two), Digest(s_one)], policy.Rules.Select(rule => Convert.ToHexStringLower(rule.AuthorKeyDigest.Span)));
        Assert.Equal([s_family, new byte[16], new byte[16]], policy.Rules.Select(rule => rule.FamilyId.ToArray()));
        Assert.Equal([3, uint.MaxValue, 0], policy.Rules.Select(rule => rule.MinimumSvn));

        static string Digest(ECDsa key) => IdKey.FromKey(key).Digest.ToString();
    }

    [Fact]
    public void Write_AnyFormOfARoot_IsTheSameFile()
    {
        byte[] expected = Write(s_root.RawData);
        using RSA authority = RSA.Create(2048);
        using X509Certificate2 ask = Issue("CN=ASK", authority, "CN=ARK");

        Assert.Equal(expected, Write(Text(s_root.ExportCertificatePem())));
        // As AMD's key distribution service has them for a generation of chips.
        Assert.Equal(expected, Write(Text(ask.ExportCertificatePem() + "\n" + s_root.ExportCertificatePem())));

        static byte[] Write(byte[] contents) => MigrationPolicyFile.Write([Peer(s_one.ExportECPrivateKeyPem())], [Root(contents)], s_modules)[0].Contents.ToArray();
    }

    [Fact]
    public void Write_ModuleWithoutItems_IsAnError()
    {
        string message = Refused([], [], code: "SVSM4011");

        Assert.Contains("at least one SvsmMigrationPeer and one SvsmMigrationRoot", message, StringComparison.Ordinal);
        Assert.Contains("or leave out the package Svsm.Modules.Migration", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Write_ItemsWithoutTheModule_AreAnError()
    {
        MigrationPeer peer = Peer(s_one.ExportECPrivateKeyPem());

        Assert.Contains("SvsmMigrationPeer 'peer' in an image without migration", Refused([peer], [Root()], []), StringComparison.Ordinal);
        Assert.Contains("SvsmMigrationRoot 'root' in an image without migration", Refused([], [Root()], [s_modules[0]]), StringComparison.Ordinal);
        Assert.Contains("Svsm.Modules.Migration", Refused([peer], [], []), StringComparison.Ordinal);
    }

    [Fact]
    public void Write_NumberOfItems_IsLimited()
    {
        MigrationPeer peer = Peer(s_one.ExportECPrivateKeyPem());
        Assert.Contains("1 SvsmMigrationPeer and 0 SvsmMigrationRoot", Refused([peer], []), StringComparison.Ordinal);
        Assert.Contains("0 SvsmMigrationPeer and 1 SvsmMigrationRoot", Refused([], [Root()]), StringComparison.Ordinal);
        Assert.Contains("1 SvsmMigrationPeer and 2 SvsmMigrationRoot", Refused([peer], [Root(), Root()]), StringComparison.Ordinal);

        ImmutableArray<MigrationPeer> many = [.. Enumerable.Range(0, 17).Select(i => Peer(s_one.ExportECPrivateKeyPem(), [(byte)i, .. new byte[15]]))];
        Assert.Contains("17 SvsmMigrationPeer; wanted is at most 16", Refused(many, [Root()]), StringComparison.Ordinal);
        Assert.Equal(16, MigrationPolicy.TryRead(MigrationPolicyFile.Write(many[..16], [Root()], s_modules)[0].Contents.Span)!.Rules.Count);
    }

    [Fact]
    public void Write_TwoRulesForTheSame_AreAnError() =>
        Assert.Contains(
            "SvsmMigrationPeer 'a' and 'b' with the same key and the same FamilyId",
            Refused([Peer(s_one.ExportECPrivateKeyPem(), path: "a"), Peer(s_one.ExportSubjectPublicKeyInfoPem(), svn: 7, path: "b")], [Root()]), StringComparison.Ordinal);

    [Fact]
    public void Write_FileThatIsNoKey_IsAnError()
    {
        using ECDsa small = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        string encrypted = s_one.ExportEncryptedPkcs8PrivateKeyPem("secret", new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1));
        foreach (string text in (string[])["", "key", s_rootKey.ExportPkcs8PrivateKeyPem(), s_root.ExportCertificatePem(), encrypted, small.ExportECPrivateKeyPem()])
        {
            Assert.Contains("SvsmMigrationPeer 'peer': ", Refused([Peer(text)], [Root()]), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Write_FileThatIsNoRoot_IsAnError()
    {
        using RSA small = RSA.Create(2048);
        using X509Certificate2 smallRoot = new CertificateRequest("CN=ARK", small, HashAlgorithmName.SHA384, RSASignaturePadding.Pss)
            .CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
        using X509Certificate2 curve = new CertificateRequest("CN=ARK", s_one, HashAlgorithmName.SHA384).CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
        using X509Certificate2 ask = Issue("CN=ASK", small, "CN=ARK");

        foreach (byte[] contents in (byte[][])[[], [1, 2, 3], s_root.RawData[..^1], Text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----")])
        {
            Assert.Contains("SvsmMigrationRoot 'root' is no certificate", RefusedRoot(contents), StringComparison.Ordinal);
        }

        Assert.Contains("has 0 certificates, 0 of which", RefusedRoot(Text(s_one.ExportECPrivateKeyPem())), StringComparison.Ordinal);
        Assert.Contains("has 1 certificates, 0 of which", RefusedRoot(ask.RawData), StringComparison.Ordinal);
        Assert.Contains("has 2 certificates, 2 of which", RefusedRoot(Text(s_root.ExportCertificatePem() + "\n" + smallRoot.ExportCertificatePem())), StringComparison.Ordinal);
        Assert.Contains("has another key; wanted is the root certificate of the chips (ARK)", RefusedRoot(smallRoot.RawData), StringComparison.Ordinal);
        Assert.Contains("has another key", RefusedRoot(curve.RawData), StringComparison.Ordinal);

        static string RefusedRoot(byte[] contents) => Refused([Peer(s_one.ExportECPrivateKeyPem())], [Root(contents)]);
    }

    [Theory]
    [InlineData(0x3_0000ul, null)]
    [InlineData(0x7_0000ul, "guest policy 0x70000")]
    [InlineData(0xB_0000ul, "guest policy 0xb0000")]
    public void FindProblemAsPeer_GuestPolicy_IsOneThatOthersAccept(ulong policy, string? seen) =>
        Assert.Equal(seen, MigrationPolicyFile.FindProblemAsPeer(Options(new ImageIdentity { IdKeyPem = "", AuthorKeyPem = "" }) with { Policy = policy })?.Seen);

    [Fact]
    public void FindProblemAsPeer_Identity_HasAnAuthor()
    {
        Assert.Equal("an image without an ID block", MigrationPolicyFile.FindProblemAsPeer(Options(null))?.Seen);
        Assert.Equal("an ID block without an author key", MigrationPolicyFile.FindProblemAsPeer(Options(new ImageIdentity { IdKeyPem = "" }))?.Seen);
        Assert.Null(MigrationPolicyFile.FindProblemAsPeer(Options(null) with { Modules = [s_modules[0]], Policy = 0xB_0000 }));
    }

    private static SvsmImageOptions Options(ImageIdentity? identity) => new() { Kernel = default, Modules = s_modules, Identity = identity };
}
