// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.Json;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>An image project as the template makes it: what a build writes, when it writes it again, and that it is the same everywhere.</summary>
public sealed partial class ImageProjectTests(Workspace workspace)
{
    private const string OutputFolder = "bin/Debug/net10.0";

    private static readonly string[] s_outputs = ["Acme.Svsm.digest.json", "Acme.Svsm.igvm", "Acme.Svsm.map", "Acme.Svsm.reference-values.json"];
    private static readonly string[] s_workTargets = ["SvsmRunIlc", "SvsmRunAssembler", "SvsmRunLinker", "_SvsmRunWriteImage"];

    [Fact]
    public void Build_FromTemplateWithEmptyCache_WritesTheImageFilesAndNothingElse()
    {
        Assert.Equal(s_outputs, FilesBelow(Path.Combine(workspace.Project, OutputFolder)));
        Assert.All(s_outputs, file => Assert.NotEqual(0, new FileInfo(Path.Combine(workspace.Project, OutputFolder, file)).Length));
    }

    [Fact]
    public void Build_FromTemplate_SaysWhereTheImageIsAndItsDigestOnce()
    {
        string image = Path.Combine(workspace.Project, OutputFolder, "Acme.Svsm.igvm");

        Assert.Equal([$"Acme.Svsm -> {image}"], Lines(workspace.FirstBuild, line => line.Contains(" -> ", StringComparison.Ordinal)));
        Assert.Equal([$"launch digest: {DigestOf(workspace.Project)}"], Lines(workspace.FirstBuild, line => line.StartsWith("launch digest", StringComparison.Ordinal)));
        Assert.Contains("    0 Warning(s)\n", workspace.FirstBuild.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void Build_FromTemplate_BringsTheCompanionsOfItsOwnVersion()
    {
        Assert.All(["svsm.sdk", "svsm.core", "svsm.simulator"], package =>
            Assert.Equal([workspace.Version], Directory.GetDirectories(Path.Combine(workspace.Packages, package)).Select(Path.GetFileName)));
    }

    [Fact]
    public void Build_ReferenceValues_HaveTheDigestAndThePolicy()
    {
        using JsonDocument values = JsonDocument.Parse(File.ReadAllText(Path.Combine(workspace.Project, OutputFolder, "Acme.Svsm.reference-values.json")));

        Assert.Equal(DigestOf(workspace.Project), values.RootElement.GetProperty("launchDigest").GetString());
        Assert.Equal("0x30000", values.RootElement.GetProperty("policy").GetString());
    }

    [Fact]
    public async Task Build_AgainWithoutAChange_RunsNeitherCompilerNorLinkerNorImageTask()
    {
        string project = await workspace.NewProjectAsync("Acme.Svsm");
        (await workspace.RunAsync(project, "build")).MustSucceed();
        IReadOnlyDictionary<string, DateTime> before = Stamps(project);

        CommandResult again = (await workspace.RunAsync(project, "build", "--verbosity", "detailed")).MustSucceed();

        Assert.All(s_workTargets, target => Assert.Matches($"Skipping target \"{target}\" because all output files are up-to-date", again.Output));
        Assert.Equal(before, Stamps(project));
        Assert.Equal([$"launch digest: {DigestOf(project)}"], Lines(again, line => line.StartsWith("launch digest", StringComparison.Ordinal)).Distinct());
    }

    [Fact]
    public async Task Build_AfterAChangeOfTheGuestPolicy_WritesTheImageAnewAndLinksNothing()
    {
        string project = await workspace.NewProjectAsync("Acme.Svsm");
        (await workspace.RunAsync(project, "build")).MustSucceed();
        string file = Path.Combine(project, "Acme.Svsm.csproj");
        await File.WriteAllTextAsync(file, (await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken)).Replace("0x30000", "0xB0000", StringComparison.Ordinal), TestContext.Current.CancellationToken);

        CommandResult again = (await workspace.RunAsync(project, "build", "--verbosity", "detailed")).MustSucceed();

        Assert.Contains("Skipping target \"SvsmRunLinker\"", again.Output, StringComparison.Ordinal);
        using JsonDocument values = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(project, OutputFolder, "Acme.Svsm.reference-values.json"), TestContext.Current.CancellationToken));
        Assert.Equal("0xb0000", values.RootElement.GetProperty("policy").GetString());
        Assert.True(values.RootElement.GetProperty("policyBits").GetProperty("debug").GetBoolean());
    }

    [Fact]
    public async Task Build_InAnotherFolder_WritesTheSameBytes()
    {
        string project = await workspace.NewProjectAsync("Acme.Svsm");
        (await workspace.RunAsync(project, "build")).MustSucceed();

        Assert.NotEqual(workspace.Project, project);
        Assert.All(s_outputs, file => Assert.Equal(
            File.ReadAllBytes(Path.Combine(workspace.Project, OutputFolder, file)), File.ReadAllBytes(Path.Combine(project, OutputFolder, file))));
    }

    [Fact]
    public async Task Clean_AfterBuild_RemovesEverythingThatTheBuildWrote()
    {
        string project = await workspace.NewProjectAsync("Acme.Svsm");
        (await workspace.RunAsync(project, "build")).MustSucceed();

        (await workspace.RunAsync(project, "clean")).MustSucceed();

        Assert.Empty(FilesBelow(Path.Combine(project, "bin")));
        // What stays is MSBuild's and restore's own.
        Assert.All(FilesBelow(Path.Combine(project, "obj")), file => Assert.Matches("^(Acme[.]Svsm[.]csproj[.]nuget[.].*|project[.].*|Debug/net10[.]0/Acme[.]Svsm[.](assets[.]cache|csproj[.]FileListAbsolute[.]txt))$", file));
    }

    [Fact]
    public async Task Build_TwoFlavours_WritesTheFilesOfBoth()
    {
        string project = workspace.NewProject("<PropertyGroup><SvsmHostFlavours>qemu;HyperV</SvsmHostFlavours></PropertyGroup>");

        CommandResult build = (await workspace.RunAsync(project, "build")).MustSucceed();

        Assert.Equal(
            ["Image.digest.json", "Image.hyperv.digest.json", "Image.hyperv.igvm", "Image.hyperv.map", "Image.hyperv.reference-values.json", "Image.igvm", "Image.map", "Image.reference-values.json"],
            FilesBelow(Path.Combine(project, OutputFolder)));
        Assert.Equal(2, Lines(build, line => line.StartsWith("launch digest: ", StringComparison.Ordinal)).Distinct().Count());
        Assert.Contains("warning SVSM2030: No image for this host has been started yet: SvsmHostFlavours has 'hyperv'", build.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("'qemu';", build.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_WithIdKey_SignsTheDigestThatTheUnsignedImageHas()
    {
        string project = workspace.NewProject("""
            <PropertyGroup>
              <SvsmIdKeyFile>id-key.pem</SvsmIdKeyFile>
              <SvsmImageId>00112233445566778899aabbccddeeff</SvsmImageId>
              <SvsmGuestSvn>7</SvsmGuestSvn>
            </PropertyGroup>
            """);
        using var key = System.Security.Cryptography.ECDsa.Create(System.Security.Cryptography.ECCurve.NamedCurves.nistP384);
        await File.WriteAllTextAsync(Path.Combine(project, "id-key.pem"), key.ExportECPrivateKeyPem(), TestContext.Current.CancellationToken);

        (await workspace.RunAsync(project, "build")).MustSucceed();

        using JsonDocument values = JsonDocument.Parse(await File.ReadAllTextAsync(Path.Combine(project, OutputFolder, "Image.reference-values.json"), TestContext.Current.CancellationToken));
        Assert.Equal(DigestOf(workspace.Project), values.RootElement.GetProperty("launchDigest").GetString());
        Assert.Equal("00112233445566778899aabbccddeeff", values.RootElement.GetProperty("imageId").GetString());
        Assert.Equal(7, values.RootElement.GetProperty("guestSvn").GetInt32());
        Assert.Matches("^(?!0{96})[0-9a-f]{96}$", values.RootElement.GetProperty("idKeyDigest").GetString()!);
    }

    private static string DigestOf(string project)
    {
        using JsonDocument digest = JsonDocument.Parse(File.ReadAllText(Path.Combine(project, OutputFolder, "Acme.Svsm.digest.json")));
        string value = digest.RootElement.GetProperty("launchDigest").GetString()!;
        Assert.Matches(Digest(), value);
        return value;
    }

    private static string[] Lines(CommandResult result, Func<string, bool> which) => [.. result.Output.Split('\n').Select(line => line.Trim()).Where(which)];

    private static string[] FilesBelow(string folder) =>
        Directory.Exists(folder)
            ? [.. Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Select(file => Path.GetRelativePath(folder, file)).Order(StringComparer.Ordinal)]
            : [];

    private static Dictionary<string, DateTime> Stamps(string project) =>
        FilesBelow(Path.Combine(project, "bin")).Select(file => Path.Combine("bin", file))
            .Concat(FilesBelow(Path.Combine(project, "obj/Debug/net10.0/native")).Select(file => Path.Combine("obj/Debug/net10.0/native", file)))
            .ToDictionary(file => file, file => File.GetLastWriteTimeUtc(Path.Combine(project, file)));

    [GeneratedRegex("^[0-9a-f]{96}$")]
    private static partial Regex Digest();
}
