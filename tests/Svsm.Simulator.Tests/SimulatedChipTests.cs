// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class SimulatedChipTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");

    [Fact]
    public void Certificates_Chain_Verifies()
    {
        using X509Certificate2 ark = X509CertificateLoader.LoadCertificate(TestChip.Instance.Ark.Span);
        using X509Certificate2 ask = X509CertificateLoader.LoadCertificate(TestChip.Instance.Ask.Span);
        using X509Certificate2 vcek = X509CertificateLoader.LoadCertificate(TestChip.Instance.Vcek.Span);
        using var chain = new X509Chain();
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(ark);
        chain.ChainPolicy.ExtraStore.Add(ask);
        chain.ChainPolicy.VerificationTime = new DateTime(2030, 1, 1, 0, 0, 0, DateTimeKind.Utc);

        Assert.True(chain.Build(vcek), string.Join(", ", chain.ChainStatus.Select(status => status.StatusInformation)));
        Assert.Equal(3, chain.ChainElements.Count);

        // RSASSA-PSS.
        Assert.All((X509Certificate2[])[ark, ask, vcek], certificate => Assert.Equal("1.2.840.113549.1.1.10", certificate.SignatureAlgorithm.Value));
        Assert.All((X509Certificate2[])[ark, ask], certificate => Assert.Equal(4096, certificate.GetRSAPublicKey()!.KeySize));
        Assert.Equal(384, vcek.GetECDsaPublicKey()!.KeySize);
    }

    [Theory]
    [InlineData("1", "020100")]
    [InlineData("2", "16084d696c616e2d4230")]
    [InlineData("3.1", "020104")]
    [InlineData("3.2", "020100")]
    [InlineData("3.3", "020118")]
    [InlineData("3.7", "020100")]
    [InlineData("3.8", "020200db")]
    public void Vcek_Extension_TellsChip(string name, string der)
    {
        using X509Certificate2 vcek = X509CertificateLoader.LoadCertificate(TestChip.Instance.Vcek.Span);

        Assert.Equal(der, Convert.ToHexStringLower(vcek.Extensions["1.3.6.1.4.1.3704.1." + name]!.RawData));
    }

    [Fact]
    public void Vcek_HardwareId_IsChipId()
    {
        using X509Certificate2 vcek = X509CertificateLoader.LoadCertificate(TestChip.Instance.Vcek.Span);

        Assert.Equal(TestChip.Instance.ChipId, vcek.Extensions["1.3.6.1.4.1.3704.1.4"]!.RawData);
    }

    [Fact]
    public void Open_FolderOfAnotherRun_IsSameChip()
    {
        // Not a whole chip of its own: the folder's certificates are what Open returns, whoever made them.
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        WriteChip(key);

        using SimulatedChip chip = SimulatedChip.Open(_folder.FullName);
        using SimulatedChip again = SimulatedChip.Open(_folder.FullName);

        Assert.Equal(TestChip.Instance.Ark.ToArray(), chip.Ark.ToArray());
        Assert.Equal(TestChip.Instance.Vcek.ToArray(), chip.Vcek.ToArray());
        Assert.Equal(chip.ChipId, again.ChipId);
        Assert.Equal(chip.KeyOf(new TcbVersion(1)), again.KeyOf(new TcbVersion(1)));
        Assert.NotEqual(chip.KeyOf(new TcbVersion(1)), chip.KeyOf(new TcbVersion(2)));
        Assert.True(key.VerifyData((byte[])[7], chip.Sign([7]), HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
    }

    [Theory]
    [InlineData("ark.pem")]
    [InlineData("ask.pem")]
    [InlineData("vcek.pem")]
    [InlineData("vcek.key")]
    [InlineData("secret")]
    public void Open_DamagedOrMissingFile_SaysWhatToDo(string file)
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        WriteChip(key);
        File.WriteAllText(Path.Combine(_folder.FullName, file), "ABCD");
        AssertRefused();
        File.Delete(Path.Combine(_folder.FullName, file));
        AssertRefused();
    }

    [Fact]
    public void Open_FolderIsAFile_SaysSo()
    {
        string file = Path.Combine(_folder.FullName, "file");
        File.WriteAllText(file, "");

        var error = Assert.Throws<SvsmDiagnosticException>(() => SimulatedChip.Open(Path.Combine(file, "chip")));

        Assert.Same(SvsmDiagnostics.RunFileUnreadable, error.Diagnostic);
    }

    [Fact]
    public void Table_Entries_PointAtCertificates()
    {
        byte[] table = CertificateTable.Make(TestChip.Instance);

        Assert.Equal(0, table.Length % 4096);
        (string Guid, ReadOnlyMemory<byte> Certificate)[] expected =
        [
            ("63da758de6644564adc5f4b93be8accd", TestChip.Instance.Vcek),
            ("4ab7b379bbac4fe4a02f05aef327c782", TestChip.Instance.Ask),
            ("c0b406a4a803495297433fb6014cd0ae", TestChip.Instance.Ark),
        ];
        for (int i = 0; i < expected.Length; i++)
        {
            ReadOnlySpan<byte> entry = table.AsSpan(i * 24, 24);
            int offset = BinaryPrimitives.ReadInt32LittleEndian(entry[16..]);
            int length = BinaryPrimitives.ReadInt32LittleEndian(entry[20..]);
            Assert.Equal(expected[i].Guid, Convert.ToHexStringLower(entry[..16]));
            Assert.Equal(expected[i].Certificate.ToArray(), table[offset..(offset + length)]);
        }

        Assert.Equal(new byte[24], table[72..96]);
    }

    public void Dispose() => _folder.Delete(recursive: true);

    private void AssertRefused()
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => SimulatedChip.Open(_folder.FullName));
        Assert.Same(SvsmDiagnostics.RunFileUnreadable, error.Diagnostic);
        Assert.Contains("delete it", error.Message, StringComparison.Ordinal);
    }

    private void WriteChip(ECDsa key)
    {
        Write("ark.pem", PemEncoding.WriteString("CERTIFICATE", TestChip.Instance.Ark.Span));
        Write("ask.pem", PemEncoding.WriteString("CERTIFICATE", TestChip.Instance.Ask.Span));
        Write("vcek.pem", PemEncoding.WriteString("CERTIFICATE", TestChip.Instance.Vcek.Span));
        Write("vcek.key", key.ExportPkcs8PrivateKeyPem());
        Write("secret", new string('5', 64));

        void Write(string name, string text) => File.WriteAllText(Path.Combine(_folder.FullName, name), text);
    }
}
