// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Measurement;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>Migration: an image that can move its guest, from the template to the policy that it is reviewed by.</summary>
public sealed class MigrationTests(Workspace workspace)
{
    private const string Output = "bin/Debug/net10.0";
    private const string Image = Output + "/Acme.Svsm.igvm";
    private const string Family = "00112233445566778899aabbccddeeff";

    [Fact]
    public async Task Template_WithMigration_SaysWithWhom()
    {
        string project = await workspace.NewProjectAsync("Acme.Svsm", options: ["--migration"]);
        string file = Path.Combine(project, "Acme.Svsm.csproj");
        using ECDsa author = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using X509Certificate2 root = WriteKeys(project, author);
        Assert.Contains("openssl ecparam -name secp384r1", File.ReadAllText(Path.Combine(project, "README.md")), StringComparison.Ordinal);
        Assert.DoesNotContain("#if", File.ReadAllText(Path.Combine(project, "README.md")), StringComparison.Ordinal);

        (await workspace.RunAsync(project, "build")).MustFailWith("SVSM4011", "neither SvsmMigrationPeer nor SvsmMigrationRoot", "Svsm.Modules.Migration");

        Uncomment(file, "SvsmMigration");
        (await BuildAsync()).MustFailWith("SVSM4010", "SvsmMigrationPeer 'keys/author.pem' has no MinimumSvn");

        // With all that the template says, and nothing else.
        Uncomment(file, "SvsmIdKeyFile", "SvsmAuthorKeyFile", "SvsmFamilyId", "SvsmGuestSvn");
        CommandResult build = (await BuildAsync()).MustSucceed();
        Assert.Contains("    0 Warning(s)\n", build.Output, StringComparison.Ordinal);
        Assert.Contains("# 160 /migration.policy for Svsm.Modules.Migration.MigrationModule\n", File.ReadAllText(Path.Combine(project, Output, "Acme.Svsm.map")), StringComparison.Ordinal);
        JsonElement policy = await PolicyAsync(project);
        Assert.Equal(Convert.ToHexStringLower(SHA384.HashData(root.PublicKey.ExportSubjectPublicKeyInfo())), policy.GetProperty("rootKeyDigest").GetString());
        Assert.Equal("0xdb18000000000004", policy.GetProperty("minimumTcb").GetString());
        JsonElement peer = policy.GetProperty("peers").EnumerateArray().Single();
        Assert.Equal(IdKey.FromKey(author).Digest.ToString(), peer.GetProperty("authorKeyDigest").GetString());
        Assert.Equal((Family, 1), (peer.GetProperty("familyId").GetString(), peer.GetProperty("minimumSvn").GetInt32()));
        CommandResult inspect = (await workspace.RunToolAsync(project, "igvm", "inspect", Image)).MustSucceed();
        Assert.Matches(@"and a TCB of at least +0xdb18000000000004, in each byte\n", inspect.Output);
        Assert.Matches($@"  of family +{Family}\n  with an SVN of at least +1\n", inspect.Output);

        // The peer is the image itself, as its reference values have it.
        using JsonDocument values = JsonDocument.Parse(File.ReadAllText(Path.Combine(project, Output, "Acme.Svsm.reference-values.json")));
        Assert.Equal(values.RootElement.GetProperty("authorKeyDigest").GetString(), peer.GetProperty("authorKeyDigest").GetString());

        // With no channel of a migration the module has nothing to do: it starts.
        CommandResult run = (await workspace.RunAsync(project, "run", "--no-build")).MustSucceed();
        Assert.Contains("Svsm.Modules.Migration.MigrationModule: serves protocol 0x80005303,", run.Output, StringComparison.Ordinal);
        Assert.Contains("Svsm.Modules.Attestation.AttestationModule: serves protocol 0x1,", run.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("nothing is moved", run.Output, StringComparison.Ordinal);

        // The same bytes in another folder, from the public key of the author as well.
        string other = await workspace.NewProjectAsync("Acme.Svsm", options: ["--migration"]);
        foreach (string name in (string[])["Acme.Svsm.csproj", "keys/id.pem", "keys/author.pem", "keys/ark.pem"])
        {
            Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(other, name))!);
            File.Copy(Path.Combine(project, name), Path.Combine(other, name), overwrite: true);
        }

        Replace(Path.Combine(other, "Acme.Svsm.csproj"), "SvsmMigrationPeer Include=\"keys/author.pem\"", "SvsmMigrationPeer Include=\"keys/author.pub.pem\"");
        File.WriteAllText(Path.Combine(other, "keys/author.pub.pem"), author.ExportSubjectPublicKeyInfoPem());
        (await workspace.RunAsync(other, "build")).MustSucceed();
        Assert.Equal(File.ReadAllBytes(Path.Combine(project, Image)), File.ReadAllBytes(Path.Combine(other, Image)));

        // Other metadata, another root, another author: each time another image, with the same program.
        string program = Path.Combine(project, "obj/Debug/net10.0/modules/modules.elf");
        DateTime written = File.GetLastWriteTimeUtc(program);
        Replace(file, "MinimumTcb=\"0xdb18000000000004\"", "MinimumTcb=\"7\"");
        (await BuildAsync()).MustSucceed();
        Assert.Equal("0x7", (await PolicyAsync(project)).GetProperty("minimumTcb").GetString());

        using ECDsa next = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        WriteKeys(project, next).Dispose();
        (await BuildAsync()).MustSucceed();
        policy = await PolicyAsync(project);
        Assert.Equal(IdKey.FromKey(next).Digest.ToString(), policy.GetProperty("peers")[0].GetProperty("authorKeyDigest").GetString());
        Assert.NotEqual(Convert.ToHexStringLower(SHA384.HashData(root.PublicKey.ExportSubjectPublicKeyInfo())), policy.GetProperty("rootKeyDigest").GetString());
        Assert.Equal(written, File.GetLastWriteTimeUtc(program));

        Task<CommandResult> BuildAsync() => workspace.RunAsync(project, "build", "--no-restore");
    }

    [Fact]
    public async Task Build_ItemsThatCannotBe_SayWhy()
    {
        string image = workspace.NewProject($"""
            <PropertyGroup>
              <SvsmIdKeyFile Condition="'$(Case)' != 'anonymous'">keys/id.pem</SvsmIdKeyFile>
              <SvsmAuthorKeyFile Condition="'$(Case)' != 'anonymous' and '$(Case)' != 'author'">keys/author.pem</SvsmAuthorKeyFile>
              <SvsmGuestPolicy Condition="'$(Case)' == 'debug'">0xB0000</SvsmGuestPolicy>
            </PropertyGroup>
            <ItemGroup>
              <PackageReference Include="Svsm.Modules.Migration" Version="{workspace.Version}" Condition="'$(Case)' != 'module'" />
              <SvsmMigrationPeer Include="keys/author.pem" MinimumSvn="0x10" />
              <SvsmMigrationRoot Include="keys/ark.pem" MinimumTcb="0" Condition="'$(Case)' != 'rootless' and '$(Case)' != 'tcb'" />
              <SvsmMigrationPeer Include="keys/missing.pem" MinimumSvn="1" Condition="'$(Case)' == 'missing'" />
              <SvsmMigrationPeer Include="keys/ark.pem" MinimumSvn="1" Condition="'$(Case)' == 'key'" />
              <SvsmMigrationPeer Include="keys/id.pem" MinimumSvn="-1" Condition="'$(Case)' == 'svn'" />
              <SvsmMigrationPeer Include="keys/id.pem" MinimumSvn="1" FamilyId="acme" Condition="'$(Case)' == 'family'" />
              <SvsmMigrationPeer Include="keys/author.pem" MinimumSvn="1" Condition="'$(Case)' == 'twice'" />
              <SvsmMigrationRoot Include="keys/ark.pem" Condition="'$(Case)' == 'tcb'" />
              <SvsmMigrationRoot Include="keys/author.pem" MinimumTcb="0" Condition="'$(Case)' == 'roots'" />
              <SvsmFile Include="keys/ark.pem" Path="/migration.policy" Module="Svsm.Modules.Migration" Condition="'$(Case)' == 'file'" />
            </ItemGroup>
            """);
        using ECDsa author = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        WriteKeys(image, author).Dispose();
        (await workspace.RunAsync(image, "build")).MustSucceed();

        (await BuildAsync("rootless")).MustFailWith("SVSM4010", "1 SvsmMigrationPeer and 0 SvsmMigrationRoot");
        (await BuildAsync("roots")).MustFailWith("SVSM4010", "1 SvsmMigrationPeer and 2 SvsmMigrationRoot");
        (await BuildAsync("missing")).MustFailWith("SVSM2015", "SvsmMigrationPeer is 'keys/missing.pem'");
        (await BuildAsync("key")).MustFailWith("SVSM4010", "SvsmMigrationPeer 'keys/ark.pem': ");
        (await BuildAsync("svn")).MustFailWith("SVSM4010", "SvsmMigrationPeer 'keys/id.pem' has MinimumSvn '-1'", "from 0 to 0xFFFFFFFF");
        (await BuildAsync("family")).MustFailWith("SVSM4010", "SvsmMigrationPeer 'keys/id.pem' has FamilyId 'acme'", "32 hexadecimal digits");
        (await BuildAsync("twice")).MustFailWith("SVSM4010", "'keys/author.pem' and 'keys/author.pem' with the same key");
        (await BuildAsync("tcb")).MustFailWith("SVSM4010", "SvsmMigrationRoot 'keys/ark.pem' has no MinimumTcb");
        (await BuildAsync("file")).MustFailWith("SVSM4008", "two files with the path '/migration.policy'");

        Assert.Contains("warning SVSM4012: No other image will move a guest to or from this one: an image without an ID block", (await BuildAsync("anonymous")).MustSucceed().Output, StringComparison.Ordinal);
        Assert.Contains("warning SVSM4012: No other image will move a guest to or from this one: an ID block without an author key", (await BuildAsync("author")).MustSucceed().Output, StringComparison.Ordinal);
        Assert.Contains("guest policy 0xb0000", (await BuildAsync("debug")).MustSucceed().Output, StringComparison.Ordinal);
        Assert.DoesNotContain("SVSM4012", (await BuildAsync("anonymous", "-p:NoWarn=SVSM4012")).MustSucceed().Output, StringComparison.Ordinal);

        (await workspace.RunAsync(image, "build", "-p:Case=module")).MustFailWith("SVSM4010", "SvsmMigrationPeer 'keys/author.pem' in an image without migration", "Svsm.Modules.Migration");

        Task<CommandResult> BuildAsync(string name, params string[] options) => workspace.RunAsync(image, ["build", "--no-restore", $"-p:Case={name}", .. options]);
    }

    private async Task<JsonElement> PolicyAsync(string project)
    {
        CommandResult inspect = (await workspace.RunToolAsync(project, "igvm", "inspect", Image, "--json")).MustSucceed();
        return JsonDocument.Parse(inspect.Output).RootElement.GetProperty("svsm").GetProperty("migrationPolicy");
    }

    // Takes lines of the template out of their comments.
    private static void Uncomment(string file, params string[] elements) => File.WriteAllLines(file, File.ReadAllLines(file).Select(line =>
        elements.Any(element => line.TrimStart().StartsWith("<!-- <" + element, StringComparison.Ordinal))
            ? line.Replace("<!-- ", "", StringComparison.Ordinal).Replace(" -->", "", StringComparison.Ordinal)
            : line));

    private static void Replace(string file, string from, string to)
    {
        string text = File.ReadAllText(file);
        Assert.Contains(from, text, StringComparison.Ordinal);
        File.WriteAllText(file, text.Replace(from, to, StringComparison.Ordinal));
    }

    // id.pem, author.pem and ark.pem of a root of its own, which it returns.
    private static X509Certificate2 WriteKeys(string project, ECDsa author)
    {
        string keys = Directory.CreateDirectory(Path.Combine(project, "keys")).FullName;
        using ECDsa id = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using RSA key = RSA.Create(4096);
        X509Certificate2 root = new CertificateRequest("CN=ARK", key, HashAlgorithmName.SHA384, RSASignaturePadding.Pss)
            .CreateSelfSigned(DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch.AddDays(1));
        File.WriteAllText(Path.Combine(keys, "id.pem"), id.ExportECPrivateKeyPem());
        File.WriteAllText(Path.Combine(keys, "author.pem"), author.ExportECPrivateKeyPem());
        File.WriteAllText(Path.Combine(keys, "ark.pem"), root.ExportCertificatePem());
        return root;
    }
}
