// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Builder.Tests;

/// <summary>Keys for secure boot, from the files of their owner to those of the archive.</summary>
public sealed class SecureBootKeyFilesTests
{
    private static readonly Guid s_service = new("a4453a59-9e1b-4787-a033-1986d6adbe55");
    private static readonly Guid s_owner = new("12345678-9abc-def0-1234-56789abcdef0");
    private static readonly ImmutableArray<ModuleOptions> s_modules =
        [new() { TypeName = "A", Protocol = 2 }, new() { TypeName = "B", Protocol = 4 }];

    private static readonly byte[] s_one = Certificate("One");
    private static readonly byte[] s_two = Certificate("Two");

    private static byte[] Certificate(string name)
    {
        using RSA key = RSA.Create(2048);
        using X509Certificate2 certificate = new CertificateRequest($"CN={name}", key, HashAlgorithmName.SHA256, RSASignaturePadding.Pkcs1)
            .CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
        return certificate.RawData;
    }

    private static byte[] List(byte[] certificate, Guid owner) =>
    [
        .. new Guid("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").ToByteArray(), .. BitConverter.GetBytes(28 + 16 + certificate.Length), 0, 0, 0, 0,
        .. BitConverter.GetBytes(16 + certificate.Length), .. owner.ToByteArray(), .. certificate,
    ];

    private static byte[] Hashes(int count) =>
    [
        .. new Guid("c1c41626-504c-4092-aca9-41f936934328").ToByteArray(), .. BitConverter.GetBytes(28 + (count * 48)), 0, 0, 0, 0, 48, 0, 0, 0, .. new byte[count * 48],
    ];

    private static byte[] Pem(params byte[][] certificates) =>
        Encoding.ASCII.GetBytes("Somebody's\n" + string.Concat(certificates.Select(certificate => PemEncoding.WriteString("CERTIFICATE", certificate) + "\n")));

    private static SecureBootKeyFile Key(string variable, byte[] contents, Guid? owner = null, string path = "key") => new(path, contents, variable, owner);

    private static string Refused(params SecureBootKeyFile[] keys) => Refused(s_modules, keys);

    private static string Refused(ImmutableArray<ModuleOptions> modules, params SecureBootKeyFile[] keys)
    {
        SvsmDiagnosticException exception = Assert.Throws<SvsmDiagnosticException>(() => SecureBootKeyFiles.Write([.. keys], modules));
        Assert.Equal("SVSM4009", exception.Diagnostic.Code);
        return exception.Message;
    }

    [Fact]
    public void Write_NoKeys_IsNoFile() => Assert.Empty(SecureBootKeyFiles.Write([], []));

    [Fact]
    public void Write_AnyForm_IsSignatureListsInTheirOrder()
    {
        ImmutableArray<ModuleFile> files = SecureBootKeyFiles.Write(
            [
                Key("db", s_one, s_owner), Key("dbx", Hashes(3)), Key("PK", s_one), Key("db", Pem(s_two, s_one)), Key("db", [.. Hashes(1), .. List(s_two, s_service)]),
                Key("KEK", Pem(s_two), s_owner),
            ],
            s_modules);
        Assert.Equal(["/secureboot/PK", "/secureboot/KEK", "/secureboot/db", "/secureboot/dbx"], files.Select(file => file.Path));
        Assert.All(files, file => Assert.Equal([4u], file.Readers));
        Assert.Equal(List(s_one, s_service), files[0].Contents.ToArray());
        Assert.Equal(List(s_two, s_owner), files[1].Contents.ToArray());
        Assert.Equal(
            [.. List(s_one, s_owner), .. List(s_two, s_service), .. List(s_one, s_service), .. Hashes(1), .. List(s_two, s_service)],
            files[2].Contents.ToArray());
        Assert.Equal(Hashes(3), files[3].Contents.ToArray());
    }

    [Fact]
    public void Write_WithoutTheModule_IsAnError()
    {
        Assert.Contains("Svsm.Modules.VarStore", Refused([], Key("PK", s_one)), StringComparison.Ordinal);
        Assert.Contains("without UEFI variables", Refused([s_modules[0]], Key("PK", s_one)), StringComparison.Ordinal);
    }

    [Fact]
    public void Write_Variable_IsOneOfFour()
    {
        Assert.Contains("'key' has no Variable", Refused(Key("", s_one)), StringComparison.Ordinal);
        Assert.Contains("'key' has Variable 'pk'", Refused(Key("pk", s_one)), StringComparison.Ordinal);
        Assert.Contains("PK, KEK, db, dbx", Refused(Key("PK", s_one), Key("dbt", s_one)), StringComparison.Ordinal);
    }

    [Fact]
    public void Write_PlatformKey_IsOneCertificate()
    {
        Assert.Contains("none with Variable 'PK'", Refused(Key("db", s_one)), StringComparison.Ordinal);
        Assert.Contains("'a', 'b' for PK", Refused(Key("PK", s_one, path: "a"), Key("PK", s_two, path: "b")), StringComparison.Ordinal);
        Assert.Contains("'key' for PK", Refused(Key("PK", Pem(s_one, s_two))), StringComparison.Ordinal);
        Assert.Contains("'key' for PK", Refused(Key("PK", Hashes(1))), StringComparison.Ordinal);
    }

    [Fact]
    public void Write_FileThatIsNone_IsAnError()
    {
        foreach (byte[] contents in (byte[][])[[], [1, 2, 3], s_one[..^1], [.. s_one, 0], [.. Hashes(1), 0], List(s_one[..^1], s_owner)])
        {
            Assert.Contains("'key' is neither", Refused(Key("PK", s_one), Key("db", contents)), StringComparison.Ordinal);
        }

        Assert.Contains("'key' has Owner, and is signature lists", Refused(Key("PK", s_one), Key("db", Hashes(1), s_owner)), StringComparison.Ordinal);
        Assert.Contains("no certificate that is whole", Refused(Key("PK", "-----BEGIN CERTIFICATE-----\nAAAA"u8.ToArray())), StringComparison.Ordinal);
        Assert.Contains("damaged", Refused(Key("PK", Pem(s_one[..^1]))), StringComparison.Ordinal);

        using RSA key = RSA.Create(2048);
        byte[] both = [.. Pem(s_one), .. Encoding.ASCII.GetBytes(key.ExportPkcs8PrivateKeyPem())];
        Assert.Contains("'key' has a PRIVATE KEY", Refused(Key("PK", both)), StringComparison.Ordinal);

        using ECDsa curve = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using X509Certificate2 onCurve = new CertificateRequest("CN=Curve", curve, HashAlgorithmName.SHA256).CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
        Assert.Contains("no RSA key", Refused(Key("PK", onCurve.RawData)), StringComparison.Ordinal);
        Assert.Contains("no RSA key", Refused(Key("PK", Pem(onCurve.RawData))), StringComparison.Ordinal);
    }

    [Fact]
    public void Write_TooLong_IsAnError()
    {
        Assert.Contains("at most 65536", Refused(Key("PK", s_one), Key("dbx", Hashes(1000), path: "a"), Key("dbx", Hashes(400), path: "b")), StringComparison.Ordinal);
        Assert.Equal(2, SecureBootKeyFiles.Write([Key("PK", s_one), Key("dbx", Hashes(1000)), Key("dbx", Hashes(364))], s_modules).Length);
    }
}
