// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Attestation.Tests;
using Svsm.Measurement;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>svsm attest verify, with reports about an image that the test builds.</summary>
public sealed class AttestCommandTests : ToolTest
{
    private static readonly byte[] s_nonce = SHA512.HashData("nonce"u8);

    // A table with a vTPM, whose manifest begins as that of an RSA key does.
    private static readonly byte[] s_manifest =
    [
        .. new Guid("63849ebb-3d92-4670-a1ff-58f9c94b87bb").ToByteArray(), 54, 0, 0, 0, 1, 0, 0, 0,
        .. new Guid("c476f1eb-0123-45a5-9641-b4e7dde5bfe3").ToByteArray(), 48, 0, 0, 0, 6, 0, 0, 0, 0, 1, 0, 11, 7, 7,
    ];

    private string _image = "";

    // Writes all files of a good answer; returns the arguments that verify it.
    private string[] WriteAnswer(Action<byte[]>? change = null)
    {
        _image = WriteImage();
        using JsonDocument values = JsonDocument.Parse(File.ReadAllBytes(At("Test.reference-values.json")));
        byte[] digest = LaunchDigest.Parse(values.RootElement.GetProperty("launchDigest").GetString()!).ToArray();
        (byte[] ark, byte[] ask, byte[] vcek) = TestAuthority.MakeChain();
        File.WriteAllBytes(At("report"), TestAuthority.MakeReport(report =>
        {
            digest.CopyTo(report, 0x90);
            SHA512.HashData([.. s_nonce, .. s_manifest]).CopyTo(report, 0x50);
            change?.Invoke(report);
        }));
        File.WriteAllBytes(At("certificates"), TestAuthority.MakeTable(vcek, ask, ark));
        File.WriteAllBytes(At("manifest"), s_manifest);
        File.WriteAllBytes(At("nonce"), s_nonce);
        File.WriteAllText(At("ark.pem"), PemEncoding.WriteString("CERTIFICATE", ark));
        return
        [
            "attest", "verify", At("report"), "--certificates", At("certificates"), "--ark", At("ark.pem"), "--reference", At("Test.reference-values.json"),
            "--nonce", At("nonce"), "--manifest", At("manifest"),
        ];
    }

    private static string[] With(string[] args, string option, string? value) =>
        [.. args.Where((arg, i) => arg != option && (i == 0 || args[i - 1] != option)), .. value is null ? Array.Empty<string>() : [option, value]];

    [Fact]
    public async Task Verify_GoodAnswer_Prints()
    {
        Outcome outcome = await Run(WriteAnswer());

        Assert.True(outcome.Status == ExitStatus.Success, outcome.Output + outcome.Error);
        AssertPlain(outcome.Output);
        Assert.StartsWith(
            """
            pass  signature      made by a VCEK
            pass  certificates   they lead to the trusted root
            pass  chip           TCB 0xdb18000000000504 and chip id as certified
            pass  launch digest  that of the image
            pass  policy         0x30000
            pass  VMPL           0
            pass  identity       no ID block
            pass  report data    that of nonce and manifest
            report: verified

            """,
            outcome.Output, StringComparison.Ordinal);
        Assert.Contains("vTPM, 6 bytes", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("endorsement key RSA", outcome.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verify_GoodAnswer_HasItsFactsInJson()
    {
        JsonElement json = (await Run([.. WriteAnswer(), "--json"])).Json;
        Assert.Equal(["file", "verified", "checks", "report", "services"], Names(json));
        Assert.True(json.GetProperty("verified").GetBoolean());
        Assert.Equal(["check", "outcome", "text"], Names(json.GetProperty("checks")[0]));
        Assert.Equal(
            ["version", "vmpl", "guestSvn", "policy", "launchDigest", "currentTcb", "reportedTcb", "platformInfo", "hostData", "chipId"], Names(json.GetProperty("report")));
        JsonElement service = json.GetProperty("services")[0];
        Assert.Equal(["service", "name", "manifest", "endorsementKey", "endorsementKeyName"], Names(service));
        Assert.Equal("0001000b0707", service.GetProperty("manifest").GetString());
        Assert.Equal("000b" + Convert.ToHexStringLower(SHA256.HashData([0, 1, 0, 11, 7, 7])), service.GetProperty("endorsementKeyName").GetString());
    }

    // What a bad report says is not printed.
    [Fact]
    public async Task Verify_BadAnswer_SaysWhyAndNothingElse()
    {
        string[] args = WriteAnswer(report => report[0x0A] |= 8);
        Outcome outcome = await Run(args);
        Assert.Equal(ExitStatus.Difference, outcome.Status);
        AssertPlain(outcome.Output);
        Assert.Contains("fail  policy         SVSM3108: 0xb0000 lets the host", outcome.Output, StringComparison.Ordinal);
        Assert.Contains("report: NOT verified", outcome.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("vTPM", outcome.Output, StringComparison.Ordinal);

        JsonElement json = (await Run([.. args, "--json"])).Json;
        Assert.Equal(["file", "verified", "checks"], Names(json));
        Assert.Equal("SVSM3108", json.GetProperty("checks").EnumerateArray().Single(check => check.GetProperty("outcome").GetString() == "fail").GetProperty("code").GetString());
    }

    [Fact]
    public async Task Verify_RootAndNonceInDigits_Passes()
    {
        string[] args = WriteAnswer();
        (byte[] ark, _, _) = TestAuthority.MakeChain();
        args = With(With(args, "--nonce", Convert.ToHexString(s_nonce)), "--ark", Convert.ToHexStringLower(SHA256.HashData(ark)));
        Assert.Equal(ExitStatus.Difference, (await Run(args)).Status);

        // A signature is another one each time, and so is the certificate: this is the one that came along.
        byte[] table = File.ReadAllBytes(At("certificates"));
        byte[] root = Svsm.Attestation.CertificateFile.Read(table, "table")[2];
        Assert.Equal(ExitStatus.Success, (await Run(With(args, "--ark", Convert.ToHexStringLower(SHA256.HashData(root))))).Status);
    }

    [Fact]
    public async Task Verify_AgainstTheImage_PassesAlsoWhenItIsSigned()
    {
        string[] args = With(WriteAnswer(), "--reference", null);
        Assert.Equal(ExitStatus.Success, (await Run([.. args, "--image", _image])).Status);

        Outcome signed = await Run("sign", _image, "--id-key", WriteKey("id.pem"), "--author-key", WriteKey("author.pem"), "--svn", "5", "--family-id", "000102030405060708090a0b0c0d0e0f", "-o", At("Signed.igvm"), "--json");
        Outcome refused = await Run([.. args, "--image", At("Signed.igvm")]);
        Assert.Equal(ExitStatus.Difference, refused.Status);
        Assert.Contains("SVSM3110", refused.Output, StringComparison.Ordinal);

        byte[] key = Convert.FromHexString(signed.Json.GetProperty("idKeyDigest").GetString()!);
        byte[] author = Convert.FromHexString(signed.Json.GetProperty("authorKeyDigest").GetString()!);
        args = With(
            WriteAnswer(report =>
            {
                report[0x04] = 5;
                Enumerable.Range(0, 16).Select(i => (byte)i).ToArray().CopyTo(report, 0x10);
                report[0x48] = 1;
                key.CopyTo(report, 0xE0);
                author.CopyTo(report, 0x110);
            }),
            "--reference", null);
        Outcome good = await Run([.. args, "--image", At("Signed.igvm")]);
        Assert.True(good.Status == ExitStatus.Success, good.Output + good.Error);
    }

    [Fact]
    public async Task Verify_SingleService_NeedsItsName()
    {
        string[] args = WriteAnswer(report => SHA512.HashData([.. s_nonce, 0, 1, 0, 11]).CopyTo(report, 0x50));
        File.WriteAllBytes(At("manifest"), [0, 1, 0, 11]);
        Outcome outcome = await Run(args);
        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.Contains("error SVSM3112", outcome.Error, StringComparison.Ordinal);
        outcome = await Run([.. args, "--service", "c476f1eb-0123-45a5-9641-b4e7dde5bfe3"]);
        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Contains("endorsement key RSA", outcome.Output, StringComparison.Ordinal);
        Assert.Matches("note +service +the report does not say", outcome.Output);
    }

    [Fact]
    public async Task Verify_WithoutNonce_IsNoted()
    {
        Outcome outcome = await Run(With(With(WriteAnswer(), "--nonce", null), "--manifest", null));
        Assert.Equal(ExitStatus.Success, outcome.Status);
        Assert.Contains("note  report data", outcome.Output, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("report", "SVSM3101")]
    [InlineData("certificates", "SVSM3102")]
    [InlineData("ark.pem", "SVSM3102")]
    [InlineData("Test.reference-values.json", "SVSM3113")]
    [InlineData("manifest", "SVSM3112")]
    public async Task Verify_DamagedFile_HasACode(string file, string code)
    {
        string[] args = WriteAnswer();
        File.WriteAllBytes(At(file), [1, 2, 3]);
        Outcome outcome = await Run(args);
        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.Contains("error " + code, outcome.Error, StringComparison.Ordinal);
        File.Delete(At(file));
        outcome = await Run(args);
        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.Contains("error SVSM2015", outcome.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Verify_SeveralRoots_AreRefused()
    {
        string[] args = WriteAnswer();
        Outcome outcome = await Run(With(args, "--ark", At("certificates")));
        Assert.Equal(ExitStatus.BadFile, outcome.Status);
        Assert.Contains("with 3 certificates", outcome.Error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("--reference", null)]
    [InlineData("--nonce", null)]
    [InlineData("--manifest", null)]
    [InlineData("--ark", null)]
    [InlineData("--certificates", null)]
    [InlineData("--image", "image.igvm")]
    [InlineData("--service", "vtpm")]
    [InlineData("--vcpus", "0")]
    public async Task Verify_WrongOptions_AreRefused(string option, string? value)
    {
        Outcome outcome = await Run(With(WriteAnswer(), option, value));
        Assert.Equal(ExitStatus.Usage, outcome.Status);
    }

    [Fact]
    public async Task Verify_NonceOfAnotherSize_IsRefused()
    {
        string[] args = WriteAnswer();
        File.WriteAllBytes(At("nonce"), new byte[63]);
        Assert.Equal(ExitStatus.Usage, (await Run(args)).Status);
    }
}
