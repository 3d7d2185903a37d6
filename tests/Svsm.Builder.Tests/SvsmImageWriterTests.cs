// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Measurement;
using Svsm.Wire;
using Xunit;

namespace Svsm.Builder.Tests;

public sealed class SvsmImageWriterTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("svsm-builder-tests-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static SvsmImageOptions Options() => new() { Kernel = TestElf.Kernel().ToArray(), GuestPayload = TestElf.Payload().ToArray() };

    private static string NewKey(ECCurve? curve = null)
    {
        using var key = ECDsa.Create(curve ?? ECCurve.NamedCurves.nistP384);
        return key.ExportECPrivateKeyPem();
    }

    private static void Fails(SvsmDiagnostic error, Action action, string text)
    {
        var e = Assert.Throws<SvsmDiagnosticException>(action);
        Assert.Same(error, e.Diagnostic);
        Assert.Contains(text, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WriteFiles_SeveralFlavours_NamesFilesByFlavour()
    {
        string folder = Path.Combine(_folder, "new", "folder");
        var written = SvsmImageWriter.WriteFiles(Options(), folder, "My.Image", [HostFlavour.Qemu, HostFlavour.StockQemu, HostFlavour.HyperV, HostFlavour.Vanadium]);

        string[] stems = ["My.Image", "My.Image.stock-qemu", "My.Image.hyperv", "My.Image.vanadium"];
        string[] extensions = [".igvm", ".digest.json", ".reference-values.json", ".map"];
        Assert.Equal(
            stems.SelectMany(stem => extensions.Select(extension => stem + extension)).Order(StringComparer.Ordinal),
            Directory.GetFiles(folder).Select(f => Path.GetFileName(f)).Order(StringComparer.Ordinal));
        Assert.Equal(stems.Select(stem => Path.Combine(folder, stem + ".igvm")), written.Select(w => w.ImagePath));
        Assert.All(written, w => Assert.Equal(w.Files.Igvm.ToArray(), File.ReadAllBytes(w.ImagePath)));
    }

    [Fact]
    public void WriteFiles_TwoFolders_GivesTheSameBytes()
    {
        HostFlavour[] flavours = [HostFlavour.Qemu, HostFlavour.StockQemu];
        SvsmImageOptions options = Options() with { Identity = new ImageIdentity { IdKeyPem = NewKey(), AuthorKeyPem = NewKey() } };
        SvsmImageWriter.WriteFiles(options, Path.Combine(_folder, "a"), "Image", flavours);
        SvsmImageWriter.WriteFiles(options, Path.Combine(_folder, "b", "c"), "Image", flavours);

        foreach (string file in Directory.GetFiles(Path.Combine(_folder, "a")))
        {
            Assert.Equal(File.ReadAllBytes(file), File.ReadAllBytes(Path.Combine(_folder, "b", "c", Path.GetFileName(file))));
        }
    }

    [Fact]
    public void Render_Digest_IsThatOfTheFile()
    {
        SvsmImageFiles files = SvsmImageWriter.Render(SvsmImageBuilder.Build(Options()), "Image");
        MeasurementResult measured = LaunchMeasurement.Measure(IgvmFile.Parse(files.Igvm), HostFlavour.Qemu);
        using JsonDocument digest = JsonDocument.Parse(files.DigestJson);
        JsonElement root = digest.RootElement;

        Assert.Equal(measured.Digest, files.LaunchDigest);
        Assert.Equal(["formatVersion", "image", "sdkVersion", "flavour", "policy", "launchDigest", "pages"], root.EnumerateObject().Select(p => p.Name));
        Assert.Equal(measured.Digest.ToString(), root.GetProperty("launchDigest").GetString());
        Assert.Equal("Image.igvm", root.GetProperty("image").GetString());
        Assert.Equal("qemu", root.GetProperty("flavour").GetString());
        Assert.Equal("0x30000", root.GetProperty("policy").GetString());
        Assert.Equal(measured.Pages.Length, root.GetProperty("pages").GetArrayLength());
        JsonElement last = root.GetProperty("pages")[measured.Pages.Length - 1];
        Assert.Equal(("0xfffffffff000", "vmsa"), (last.GetProperty("gpa").GetString(), last.GetProperty("type").GetString()));
        Assert.Contains(root.GetProperty("pages").EnumerateArray(), p => p.TryGetProperty("part", out JsonElement part) && part.GetString() == "boot.parameters");
    }

    // The log is enough to compute the digest again, without the image.
    [Fact]
    public void Render_PageLog_LeadsToTheDigest()
    {
        SvsmImageFiles files = SvsmImageWriter.Render(SvsmImageBuilder.Build(Options()), "Image");
        using JsonDocument digest = JsonDocument.Parse(files.DigestJson);
        byte[] current = new byte[48];
        foreach (JsonElement page in digest.RootElement.GetProperty("pages").EnumerateArray())
        {
            byte[] info = new byte[0x70];
            current.CopyTo(info, 0);
            if (page.TryGetProperty("contents", out JsonElement contents))
            {
                Convert.FromHexString(contents.GetString()!).CopyTo(info, 0x30);
            }

            info[0x60] = 0x70;
            info[0x62] = page.GetProperty("type").GetString() switch { "normal" => 1, "vmsa" => 2, "zero" => 3, "unmeasured" => 4, "secrets" => 5, _ => 6 };
            BitConverter.GetBytes(Convert.ToUInt64(page.GetProperty("gpa").GetString()![2..], 16)).CopyTo(info, 0x68);
            current = SHA384.HashData(info);
        }

        Assert.Equal(files.LaunchDigest.ToString(), Convert.ToHexStringLower(current));
    }

    [Fact]
    public void Render_StockQemu_HasADigestForEachNumberOfVcpus()
    {
        SvsmImageFiles files = SvsmImageWriter.Render(SvsmImageBuilder.Build(Options() with { Flavour = HostFlavour.StockQemu }), "Image");
        using JsonDocument digest = JsonDocument.Parse(files.ReferenceValuesJson);
        JsonElement list = digest.RootElement.GetProperty("launchDigests");

        Assert.Equal([1, 2, 4, 8, 16, 32, 64], list.EnumerateArray().Select(e => e.GetProperty("vcpus").GetInt32()));
        Assert.Equal(7, list.EnumerateArray().Select(e => e.GetProperty("launchDigest").GetString()).Distinct().Count());
        Assert.Equal(
            LaunchMeasurement.Measure(IgvmFile.Parse(files.Igvm), HostFlavour.StockQemu, 8).Digest.ToString(), list[3].GetProperty("launchDigest").GetString());
    }

    [Fact]
    public void Render_WithIdentity_AddsAnIdBlockThatVerifies()
    {
        string idKey = NewKey();
        string authorKey = NewKey();
        byte[] family = [.. Enumerable.Range(1, 16).Select(i => (byte)i)];
        SvsmImage image = SvsmImageBuilder.Build(Options());
        var identity = new ImageIdentity { IdKeyPem = idKey, AuthorKeyPem = authorKey, FamilyId = family, GuestSvn = 7 };
        SvsmImageFiles files = SvsmImageWriter.Render(image, "Image", identity);
        IgvmFile file = IgvmFile.Parse(files.Igvm);
        (IdBlock block, IdAuthentication authentication) = IdAuthentication.FromIgvm(Assert.IsType<IgvmSnpIdBlock>(file.Directives[^1]), 0x3_0000);
        using JsonDocument values = JsonDocument.Parse(files.ReferenceValuesJson);

        Assert.True(authentication.Verify(block));
        Assert.Equal(files.LaunchDigest, block.LaunchDigest);
        Assert.Equal(SvsmImageWriter.Render(image, "Image").LaunchDigest, files.LaunchDigest);
        Assert.Equal(7u, values.RootElement.GetProperty("guestSvn").GetUInt32());
        Assert.Equal("0102030405060708090a0b0c0d0e0f10", values.RootElement.GetProperty("familyId").GetString());
        Assert.Equal(IdKey.FromPem(idKey).Digest.ToString(), values.RootElement.GetProperty("idKeyDigest").GetString());
        Assert.Equal(IdKey.FromPem(authorKey).Digest.ToString(), values.RootElement.GetProperty("authorKeyDigest").GetString());
    }

    [Fact]
    public void Sign_SignedFile_HasOneIdBlockAfterwards()
    {
        var identity = new ImageIdentity { IdKeyPem = NewKey() };
        IgvmFile once = ImageSigner.Sign(SvsmImageBuilder.Build(Options()).ToIgvm(), HostFlavour.Qemu, identity);
        IgvmFile twice = ImageSigner.Sign(once, HostFlavour.Qemu, identity);

        Assert.Single(twice.Directives.OfType<IgvmSnpIdBlock>());
        Assert.Equal(once.Directives.Length, twice.Directives.Length);
    }

    [Fact]
    public void Render_WithoutIdentity_ReferenceValuesAreThoseOfAReportWithoutIdBlock()
    {
        using JsonDocument values = JsonDocument.Parse(SvsmImageWriter.Render(SvsmImageBuilder.Build(Options()), "Image").ReferenceValuesJson);
        JsonElement root = values.RootElement;

        Assert.Equal(new string('0', 32), root.GetProperty("familyId").GetString());
        Assert.Equal(new string('0', 96), root.GetProperty("idKeyDigest").GetString());
        Assert.True(root.GetProperty("policyBits").GetProperty("smt").GetBoolean());
        Assert.False(root.GetProperty("policyBits").GetProperty("debug").GetBoolean());
        Assert.Equal(0, root.GetProperty("vmpl").GetInt32());
        Assert.Equal(2, root.GetProperty("guestVmpl").GetInt32());
    }

    [Fact]
    public void Map_Lines_AreSymbolsOrComments()
    {
        string map = Encoding.UTF8.GetString(SvsmImageWriter.Render(SvsmImageBuilder.Build(Options()), "Image").Map.Span);
        string[] lines = map.TrimEnd('\n').Split('\n');

        Assert.Equal("# Image.igvm for host qemu", lines[0]);
        Assert.Contains("# 0x000000012000 0x000000012fff 0x0000000000012000 r-- data      boot.parameters", lines);
        Assert.Equal(
            ["0xffffff8000200100 svsm_kernel_entry", "0xffffff8000200200 a_second", "0xffffff8000200200 b_second"],
            lines.Where(line => !line.StartsWith('#')));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WriteFiles_NoOrRepeatedFlavours_Fails(bool repeated) => Fails(
        SvsmDiagnostics.ImageOptionInvalid,
        () => SvsmImageWriter.WriteFiles(Options(), _folder, "Image", repeated ? [HostFlavour.Qemu, HostFlavour.Qemu] : []),
        "none twice");

    [Fact]
    public void WriteFiles_FolderIsAFile_Fails()
    {
        string path = Path.Combine(_folder, "file");
        File.WriteAllText(path, "");
        Fails(SvsmDiagnostics.ImageFileFailed, () => SvsmImageWriter.WriteFiles(Options(), path, "Image", [HostFlavour.Qemu]), path);
    }

    [Fact]
    public void WriteFiles_OneFlavourFails_WritesNothing()
    {
        SvsmImageOptions options = Options() with { SevFeatures = SevFeatures.SnpActive | SevFeatures.VmplSss };
        Fails(SvsmDiagnostics.ImageOptionInvalid, () => SvsmImageWriter.WriteFiles(options, _folder, "Image", [HostFlavour.Qemu, HostFlavour.StockQemu]), "VmplSss");
        Assert.Empty(Directory.GetFiles(_folder));
    }

    [Theory]
    [InlineData("not a key")]
    [InlineData("p256")]
    public void Sign_BadKey_Fails(string which) => Fails(
        SvsmDiagnostics.IdBlockFailed,
        () => SvsmImageWriter.Render(
            SvsmImageBuilder.Build(Options()), "Image",
            new ImageIdentity { IdKeyPem = which == "p256" ? NewKey(ECCurve.NamedCurves.nistP256) : which }),
        "P-384");

    [Fact]
    public void Sign_BadId_Fails() => Fails(
        SvsmDiagnostics.IdBlockFailed,
        () => ImageSigner.Sign(SvsmImageBuilder.Build(Options()).ToIgvm(), HostFlavour.Qemu, new ImageIdentity { IdKeyPem = NewKey(), ImageId = new byte[15] }),
        "image id of 15 bytes");

    [Fact]
    public void Sign_FileWithoutPolicy_Fails() => Fails(
        SvsmDiagnostics.IdBlockFailed,
        () => ImageSigner.Sign(SvsmImageBuilder.Build(Options()).ToIgvm() with { Initializations = [] }, HostFlavour.Qemu, new ImageIdentity { IdKeyPem = NewKey() }),
        "policy");

    [Fact]
    public void Measure_FileWithoutContext_Fails()
    {
        IgvmFile file = SvsmImageBuilder.Build(Options()).ToIgvm();
        Fails(
            SvsmDiagnostics.MeasurementFailed,
            () => ImageSigner.Measure(file with { Directives = [.. file.Directives.Where(d => d is not IgvmVpContext)] }, HostFlavour.Qemu),
            "VP_CONTEXT");
    }

    [Theory]
    [InlineData("qemu", HostFlavour.Qemu)]
    [InlineData("STOCK-qemu", HostFlavour.StockQemu)]
    [InlineData("hyperv", HostFlavour.HyperV)]
    [InlineData("vanadium", HostFlavour.Vanadium)]
    public void HostFlavourNames_KnownName_GoesBothWays(string name, HostFlavour flavour)
    {
        Assert.True(HostFlavourNames.TryParse(name, out HostFlavour parsed));
        Assert.Equal(flavour, parsed);
        Assert.Equal(name, HostFlavourNames.ToName(flavour), ignoreCase: true);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("xen")]
    public void HostFlavourNames_UnknownName_IsRefused(string? name) => Assert.False(HostFlavourNames.TryParse(name, out _));
}
