// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Attestation.Tests;

/// <summary>Certificates, manifests, reference values: in each form, damaged, and drawn from a seed.</summary>
public sealed class FileTests
{
    private static readonly Guid s_table = new("63849ebb-3d92-4670-a1ff-58f9c94b87bb");

    private static byte[] Manifest(params (Guid Service, byte[] Bytes)[] services)
    {
        int at = 24 * (services.Length + 1);
        var table = new List<byte>();
        Add(s_table, at + services.Sum(service => service.Bytes.Length), services.Length);
        foreach ((Guid service, byte[] bytes) in services)
        {
            Add(service, at, bytes.Length);
            at += bytes.Length;
        }

        return [.. table, .. services.SelectMany(service => service.Bytes)];

        void Add(Guid id, int first, int second)
        {
            table.AddRange(id.ToByteArray());
            table.AddRange(BitConverter.GetBytes(first));
            table.AddRange(BitConverter.GetBytes(second));
        }
    }

    private const string Reference =
        """
        { "formatVersion": 1, "launchDigest": "D", "policy": "0x30000", "vmpl": 0, "guestSvn": 3, "familyId": "000102030405060708090a0b0c0d0e0f",
          "imageId": "00000000000000000000000000000000", "idKeyDigest": "D", "authorKeyDigest": "D" }
        """;

    private static ReferenceValues ParseReference(string json) => ReferenceValues.Parse(Encoding.UTF8.GetBytes(json.Replace("\"D\"", $"\"{new string('a', 96)}\"", StringComparison.Ordinal)), "file");

    [Fact]
    public void Certificates_InEachForm_AreRead()
    {
        (byte[] ark, byte[] ask, byte[] vcek) = TestAuthority.MakeChain();
        string pem = PemEncoding.WriteString("CERTIFICATE", ask) + "\nsome text\n" + PemEncoding.WriteString("X509 CRL", [1]) + "\n" + PemEncoding.WriteString("CERTIFICATE", ark) + "\n";
        Assert.Equal([ask, ark], CertificateFile.Read(Encoding.ASCII.GetBytes(pem), "file"));
        Assert.Equal([vcek], CertificateFile.Read(vcek, "file"));
        Assert.Equal([vcek, ark], CertificateFile.Read(TestAuthority.MakeTable(vcek, "a revocation list"u8.ToArray(), ark), "file"));
    }

    [Fact]
    public void Certificates_None_AreRefused()
    {
        byte[][] files =
        [
            [], [0x30], new byte[4096], [0x30, 0x82, 0xFF, 0xFF], [.. Enumerable.Repeat((byte)0xFF, 4096)], "-----BEGIN CERTIFICATE-----"u8.ToArray(),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"u8.ToArray(), new byte[CertificateFile.MaxLength + 1],
        ];
        foreach (byte[] file in files)
        {
            Assert.Equal(SvsmDiagnostics.CertificatesUnusable, Assert.Throws<SvsmDiagnosticException>(() => CertificateFile.Read(file, "file")).Diagnostic);
        }
    }

    // Bytes behind a certificate are not part of it.
    [Fact]
    public void Certificates_BytesBehindOne_AreRefused() =>
        Assert.Throws<SvsmDiagnosticException>(() => CertificateFile.Read([.. TestAuthority.MakeChain().Vcek, 0], "file"));

    [Fact]
    public void Manifest_OfServices_IsRead()
    {
        Assert.Empty(ServicesManifest.Parse(Manifest(), "file"));
        var read = ServicesManifest.Parse(Manifest((ServiceManifest.Vtpm, [1, 2]), (ServiceManifest.UefiMm, []), (new Guid(1, 2, 3, new byte[8]), [3])), "file");
        Assert.Equal(["vTPM", "UEFI MM", null], read.Select(service => service.Name));
        Assert.Equal(["0102", "", "03"], read.Select(service => Convert.ToHexString(service.Manifest.Span)));
    }

    [Theory]
    [InlineData(0, 0u)]
    [InlineData(16, 23u)]
    [InlineData(16, 75u)]
    [InlineData(16, uint.MaxValue)]
    [InlineData(20, 3u)]
    [InlineData(20, uint.MaxValue)]
    [InlineData(40, 71u)]
    [InlineData(40, 75u)]
    [InlineData(40, uint.MaxValue)]
    [InlineData(44, 3u)]
    [InlineData(44, uint.MaxValue)]
    [InlineData(48, 0xC476F1EBu)]
    public void Manifest_Damaged_IsRefused(int offset, uint value)
    {
        byte[] manifest = Manifest((ServiceManifest.Vtpm, [1]), (new Guid(1, 0x0123, 0x45A5, [0x96, 0x41, 0xB4, 0xE7, 0xDD, 0xE5, 0xBF, 0xE3]), [2]));
        BinaryPrimitives.WriteUInt32LittleEndian(manifest.AsSpan(offset), value);
        Assert.Equal(SvsmDiagnostics.ManifestDamaged, Assert.Throws<SvsmDiagnosticException>(() => ServicesManifest.Parse(manifest, "file")).Diagnostic);
    }

    [Fact]
    public void EndorsementKey_HasTheNameOfATpm()
    {
        byte[] key = [0x00, 0x01, 0x00, 0x0B, 1, 2, 3];
        EndorsementKey read = EndorsementKey.TryRead(key)!;
        Assert.Equal("RSA", read.Kind);
        Assert.Equal([0x00, 0x0B, .. SHA256.HashData(key)], read.Name.ToArray());
        Assert.Equal(66, EndorsementKey.TryRead([0x00, 0x23, 0x00, 0x0D])!.Name.Length);
        Assert.Null(EndorsementKey.TryRead([0x00, 0x01, 0x00]));
        Assert.Null(EndorsementKey.TryRead([0x00, 0x01, 0x00, 0x04]));
        Assert.Null(EndorsementKey.TryRead([0x00, 0x08, 0x00, 0x0B]));
    }

    [Fact]
    public void ReferenceValues_OfABuild_AreRead()
    {
        ReferenceValues values = ParseReference(Reference);
        Assert.Equal(0x3_0000ul, values.Policy.Value);
        Assert.Equal(3u, values.GuestSvn);
        Assert.Equal(0x0F, values.FamilyId.Span[15]);
        Assert.Single(values.LaunchDigests);
        Assert.Equal(2, ParseReference(Reference.Replace("\"policy\"", "\"launchDigests\": [ { \"vcpus\": 1, \"launchDigest\": \"D\" } ], \"policy\"", StringComparison.Ordinal)).LaunchDigests.Length);
    }

    [Theory]
    [InlineData("\"formatVersion\": 1", "\"formatVersion\": 2")]
    [InlineData("\"formatVersion\": 1", "\"formatVersion\": \"1\"")]
    [InlineData("\"launchDigest\": \"D\"", "\"launchDigest\": \"aa\"")]
    [InlineData("\"launchDigest\": \"D\"", "\"launchDigest\": null")]
    [InlineData("\"launchDigest\": \"D\"", "\"launchDigest\": \"D\", \"launchDigests\": 5")]
    [InlineData("\"0x30000\"", "\"30000\"")]
    [InlineData("\"0x30000\"", "\"0x11223344556677889\"")]
    [InlineData("\"0x30000\"", "\"0x\"")]
    [InlineData("\"guestSvn\": 3", "\"guestSvn\": -1")]
    [InlineData("\"guestSvn\": 3", "\"guestSvn\": 4294967296")]
    [InlineData("0e0f", "0e")]
    [InlineData("0e0f", "0e0g")]
    [InlineData("\"vmpl\": 0,", "")]
    [InlineData("{", "[")]
    [InlineData("{", "")]
    public void ReferenceValues_Damaged_AreRefused(string what, string by) =>
        Assert.Equal(SvsmDiagnostics.ReferenceValuesUnusable, Assert.Throws<SvsmDiagnosticException>(() => ParseReference(Reference.Replace(what, by, StringComparison.Ordinal))).Diagnostic);

    [Fact]
    public void HostileFiles_EndWithAMessage() => Fuzz(1, 1_000);

    [Fact]
    [Trait("Run", "all")]
    public void HostileFiles_ManyOfThem_EndWithAMessage() => Fuzz(2, 300_000);

    // Whatever is read is verified as well: certificates of strangers reach the class library.
    private static void Fuzz(int seed, int rounds)
    {
        var random = new Random(seed);
        (byte[] ark, byte[] ask, byte[] vcek) = TestAuthority.MakeChain();
        byte[] report = TestAuthority.MakeReport();
        byte[] table = TestAuthority.MakeTable(vcek, ask, ark);
        byte[] pem = Encoding.ASCII.GetBytes(PemEncoding.WriteString("CERTIFICATE", vcek));
        byte[] manifest = Manifest((ServiceManifest.Vtpm, [0, 1, 0, 11, 5]), (ServiceManifest.UefiMm, [1]));
        var reference = new ReferenceValues { LaunchDigests = [default], Policy = default };
        for (int round = 0; round < rounds; round++)
        {
            Try(() => ServicesManifest.Parse(Change(manifest), "file").Select(service => EndorsementKey.TryRead(service.Manifest.Span)).ToList());
            Try(() => ReferenceValues.Parse(Change(Encoding.UTF8.GetBytes(Reference)), "file"));
            Try(() => AttestationVerifier.Verify(
                new AttestationEvidence
                {
                    Report = AttestationReport.Parse(random.Next(2) == 0 ? report : Change(report), "file"),
                    Certificates = CertificateFile.Read(Change(random.Next(3) switch { 0 => pem, 1 => vcek, _ => table }), "file"),
                },
                TrustedRoot.FromCertificate(ark),
                reference,
                TestAuthority.Now));
        }

        byte[] Change(byte[] bytes)
        {
            byte[] changed = bytes[..(random.Next(4) == 0 ? random.Next(bytes.Length + 1) : bytes.Length)];
            for (int i = random.Next(4); i > 0 && changed.Length != 0; i--)
            {
                changed[random.Next(random.Next(2) == 0 ? Math.Min(96, changed.Length) : changed.Length)] = (byte)random.Next(256);
            }

            return changed;
        }

        static void Try(Func<object> read)
        {
            try
            {
                _ = read();
            }
            catch (SvsmDiagnosticException)
            {
                // That is the message.
            }
        }
    }
}
