// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Threading.Tasks;
using System.Xml.Linq;
using Svsm.Wire;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>Images with modules: from a project beside the image's, and from a package.</summary>
public sealed class ModuleImageTests(Workspace workspace)
{
    [Theory]
    [InlineData]
    [InlineData("--vtpm")]
    [InlineData("--attestation")]
    [InlineData("--variables")]
    [InlineData("--migration")]
    [InlineData("--vtpm", "--attestation", "--variables", "--storage", "--migration")]
    public async Task Template_WithModules_ReferencesTheirPackages(params string[] options)
    {
        string project = await workspace.NewProjectAsync("Acme.Svsm", options: options);

        string[] wanted =
        [
            .. options.Select(option => option switch
            {
                "--vtpm" => "Svsm.Modules.Vtpm",
                "--variables" => "Svsm.Modules.VarStore",
                "--storage" => "Svsm.Modules.Storage",
                "--migration" => "Svsm.Modules.Migration",
                _ => "Svsm.Modules.Attestation",
            }).Order(StringComparer.Ordinal),
        ];
        var file = XDocument.Load(Path.Combine(project, "Acme.Svsm.csproj"));
        Assert.Equal(wanted, file.Descendants("PackageReference").Select(reference => (string?)reference.Attribute("Include")).Order(StringComparer.Ordinal));
    }

    [Fact]
    public async Task Build_ModuleOfAProject_IsInTheImage()
    {
        string image = Image("""
            <ProjectReference Include="../Acme.Echo/Acme.Echo.csproj" />
            <SvsmModule Include="Acme.Echo" Type="Acme.Echo.EchoModule" HeapLimit="2MiB" MemoryLimit="4096 KiB" OnFailure="retire" Permissions="ReadGuest; WriteGuest" />
            <SvsmFile Include="keys/pk.cer" Path="/keys/pk.cer" Module="Acme.Echo" />
            """);
        AddModule(image, ModuleOfTheGuide());
        AddFile(image, "keys/pk.cer", "certificate");

        CommandResult build = (await workspace.RunAsync(image, "build")).MustSucceed();

        string output = Path.Combine(image, "bin/Debug/net10.0");
        Assert.Equal(
            ["Image.digest.json", "Image.igvm", "Image.map", "Image.modules.txt", "Image.reference-values.json"],
            Directory.GetFiles(output).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        string sizes = File.ReadAllText(Path.Combine(output, "Image.modules.txt")).TrimEnd();
        Assert.Matches(@"^modules: [0-9]+ bytes: .*Acme\.Echo [0-9]+, .*runtime, class library and data [0-9]+$", sizes);
        Assert.Contains(sizes, build.Output, StringComparison.Ordinal);
        string map = File.ReadAllText(Path.Combine(output, "Image.map"));
        Assert.Matches($"0x{KernelAddressSpace.Archive:x16} r-- data +modules\n", map);
        // The region: 8 MiB, 2 for the program, 4 for the module.
        Assert.Contains(" 0x000008dfffff ", map, StringComparison.Ordinal);
        Assert.Contains("# 11 /keys/pk.cer for Acme.Echo.EchoModule\n", map, StringComparison.Ordinal);
        CommandResult inspect = (await workspace.RunToolAsync(output, "igvm", "inspect", "Image.igvm")).MustSucceed();
        Assert.Matches("/keys/pk.cer +11 +Acme.Echo.EchoModule", inspect.Output);

        // Nothing is done again; and when something changed, it is.
        string program = Path.Combine(image, "obj/Debug/net10.0/modules/modules.elf");
        DateTime written = File.GetLastWriteTimeUtc(program);
        DateTime imageWritten = File.GetLastWriteTimeUtc(Path.Combine(output, "Image.igvm"));
        (await workspace.RunAsync(image, "build", "--no-restore")).MustSucceed();
        Assert.Equal((written, imageWritten), (File.GetLastWriteTimeUtc(program), File.GetLastWriteTimeUtc(Path.Combine(output, "Image.igvm"))));

        // A file is no part of the program.
        AddFile(image, "keys/pk.cer", "another certificate");
        (await workspace.RunAsync(image, "build", "--no-restore")).MustSucceed();
        Assert.Equal(written, File.GetLastWriteTimeUtc(program));
        Assert.Contains("# 19 /keys/pk.cer for Acme.Echo.EchoModule\n", File.ReadAllText(Path.Combine(output, "Image.map")), StringComparison.Ordinal);
        imageWritten = File.GetLastWriteTimeUtc(Path.Combine(output, "Image.igvm"));

        AddModule(image, ModuleOfTheGuide().Replace("[SvsmProtocol(0x8000_0001)]", "[SvsmProtocol(0x8000_0009)]", StringComparison.Ordinal));
        (await workspace.RunAsync(image, "build", "--no-restore")).MustSucceed();
        Assert.NotEqual(imageWritten, File.GetLastWriteTimeUtc(Path.Combine(output, "Image.igvm")));

        (await workspace.RunAsync(image, "clean")).MustSucceed();
        Assert.Empty(Directory.GetFiles(output));
        Assert.False(File.Exists(program));
    }

    [Fact]
    public async Task Build_FilesThatCannotBe_SayWhy()
    {
        string image = Image("""
            <ProjectReference Include="../Acme.Echo/Acme.Echo.csproj" />
            <SvsmModule Include="Acme.Echo" Type="Acme.Echo.EchoModule" />
            <SvsmFile Include="a.txt" Module="Acme.Echo" />
            <SvsmFile Include="missing.txt" Module="Acme.Echo" Condition="'$(Case)' == 'missing'" />
            <SvsmFile Include="b.txt" Path="/keys/../b.txt" Module="Acme.Echo" Condition="'$(Case)' == 'path'" />
            <SvsmFile Include="b.txt" Path="b.txt" Module="Acme.Echo" Condition="'$(Case)' == 'relative'" />
            <SvsmFile Include="b.txt" Path="/a.txt" Module="Acme.Echo" Condition="'$(Case)' == 'twice'" />
            <SvsmFile Include="b.txt" Path="/modules" Module="Acme.Echo" Condition="'$(Case)' == 'program'" />
            <SvsmFile Include="b.txt" Condition="'$(Case)' == 'nobody'" />
            <SvsmFile Include="b.txt" Module="Acme.Echo;Acme.Other" Condition="'$(Case)' == 'other'" />
            <SvsmFile Include="many/*" Module="Acme.Echo" Condition="'$(Case)' == 'many'" />
            """);
        AddModule(image, ModuleOfTheGuide());
        AddFile(image, "a.txt", "a");
        AddFile(image, "b.txt", "b");
        for (int i = 0; i < 255; i++)
        {
            AddFile(image, $"many/{i}.txt", "c");
        }

        (await workspace.RunAsync(image, "build")).MustSucceed();

        (await BuildAsync("missing")).MustFailWith("SVSM2015", "SvsmFile is 'missing.txt'");
        (await BuildAsync("path")).MustFailWith("SVSM4008", "a file with the path '/keys/../b.txt'");
        (await BuildAsync("relative")).MustFailWith("SVSM4008", "a file with the path 'b.txt'");
        (await BuildAsync("twice")).MustFailWith("SVSM4008", "two files with the path '/a.txt'");
        (await BuildAsync("program")).MustFailWith("SVSM4008", "two files with the path '/modules'");
        (await BuildAsync("nobody")).MustFailWith("SVSM4008", "SvsmFile 'b.txt' has no Module", "Acme.Echo");
        (await BuildAsync("other")).MustFailWith("SVSM4008", "SvsmFile 'b.txt' has Module 'Acme.Other', which the image does not have", "Acme.Echo");
        (await BuildAsync("many")).MustFailWith("SVSM4008", "257 files", "256");
        (await BuildAsync("none")).MustSucceed();

        string empty = workspace.NewProject("""<ItemGroup><SvsmFile Include="a.txt" Module="Acme.Echo" /></ItemGroup>""");
        AddFile(empty, "a.txt", "a");
        (await workspace.RunAsync(empty, "build")).MustFailWith("SVSM4008", "SvsmFile 'a.txt' has Module 'Acme.Echo', which the image does not have", "an image with modules");

        Task<CommandResult> BuildAsync(string name) => workspace.RunAsync(image, "build", "--no-restore", $"-p:Case={name}");
    }

    [Fact]
    public async Task Build_ModuleOfAPackage_IsTheSameInAnyFolder()
    {
        // As a module's author packs it.
        string author = Image("");
        AddModule(author, ModuleOfTheGuide());
        string module = Path.Combine(author, "../Acme.Echo");
        Directory.CreateDirectory(Path.Combine(module, "buildTransitive"));
        File.WriteAllText(Path.Combine(module, "buildTransitive/Acme.Echo.Packed.props"), """
            <Project>
              <ItemGroup>
                <SvsmModule Include="Acme.Echo" Type="Acme.Echo.EchoModule" MemoryLimit="5MiB" />
                <SvsmFile Include="$(MSBuildThisFileDirectory)policy.json" Module="Acme.Echo" />
              </ItemGroup>
            </Project>
            """);
        AddFile(module, "buildTransitive/policy.json", "{}");
        File.WriteAllText(Path.Combine(module, "Directory.Build.targets"), """
            <Project>
              <PropertyGroup><PackageId>Acme.Echo.Packed</PackageId></PropertyGroup>
              <ItemGroup><None Include="buildTransitive/*" Pack="true" PackagePath="buildTransitive/" /></ItemGroup>
            </Project>
            """);
        string feed = Path.Combine(author, "feed");
        (await workspace.RunAsync(module, "pack", "-o", feed)).MustSucceed();

        byte[][] files = [[], []];
        for (int i = 0; i < files.Length; i++)
        {
            string image = Image("""<PackageReference Include="Acme.Echo.Packed" Version="1.0.0" />""", i == 0 ? "" : "deeper");
            File.WriteAllText(Path.Combine(image, "../nuget.config"), $"""<configuration><packageSources><add key="acme" value="{feed}" /></packageSources></configuration>""");
            (await workspace.RunAsync(image, "build", "-c", "Release")).MustSucceed();
            Assert.Contains("# 2 /policy.json for Acme.Echo.EchoModule\n", File.ReadAllText(Path.Combine(image, "bin/Release/net10.0/Image.map")), StringComparison.Ordinal);
            files[i] = await File.ReadAllBytesAsync(Path.Combine(image, "bin/Release/net10.0/Image.igvm"), TestContext.Current.CancellationToken);
        }

        Assert.Equal(files[0], files[1]);
    }

    [Fact]
    public async Task Build_ModulesThatCannotBe_SayWhy()
    {
        string image = Image("""
            <ProjectReference Include="../Acme.Echo/Acme.Echo.csproj" />
            <SvsmModule Include="Acme.Echo" Type="Acme.Echo.EchoModule" Condition="'$(Case)' != 'class'" />
            <SvsmModule Include="Acme.Echo" Type="Acme.Echo.Bad" Condition="'$(Case)' == 'class'" />
            <SvsmModule Include="Acme.Echo" Type="Acme.Echo.TwinModule" Condition="'$(Case)' == 'twin'" />
            <SvsmModule Include="Acme.Echo" Type="Acme.Echo.HashModule" Condition="'$(Case)' == 'hash'" />
            <SvsmModule Update="Acme.Echo" HeapLimit="8MB" Condition="'$(Case)' == 'metadata'" />
            <SvsmModule Update="Acme.Echo" HeapLimit="8MiB" Condition="'$(Case)' == 'limit'" />
            """);
        AddModule(image, ModuleOfTheGuide(), """
            using System.IO.Compression;
            using System.Runtime.InteropServices;
            using System.Security.Cryptography;
            using Svsm.Core;
            using Svsm.Wire;

            namespace Acme.Echo;

            [SvsmProtocol(0x8000_0001)]
            public sealed class TwinModule : SvsmModule
            {
                protected override SvsmResult Handle(in SvsmRequest request) => SvsmResultCode.UnsupportedCall;
            }

            [SvsmProtocol(0x8000_0002)]
            public sealed class HashModule : SvsmModule
            {
                protected override SvsmResult Handle(in SvsmRequest request)
                {
                    byte[] random = new byte[32];
                    RandomNumberGenerator.Fill(random);
                    using var packed = new MemoryStream();
                    using (var stream = new GZipStream(packed, CompressionLevel.Fastest))
                    {
                        stream.Write(random);
                    }

                    return new SvsmResult(SvsmResultCode.Success)
                    {
                        Rcx = SHA256.HashData(random)[0],
                        Rdx = (ulong)Count(random, random.Length),
                        R8 = (ulong)packed.Length,
                    };
                }

                [DllImport("acme", EntryPoint = "acme_count")]
                private static extern int Count(byte[] bytes, int length);
            }
            """);
        (await workspace.RunAsync(image, "restore")).MustSucceed();

        (await BuildAsync("class")).MustFailWith("SVSM4005", "SvsmModule 'Acme.Echo' has Type 'Acme.Echo.Bad'");
        (await BuildAsync("twin")).MustFailWith("SVSM2026", "Acme.Echo.EchoModule and Acme.Echo.TwinModule serve protocol 0x80000001");
        (await BuildAsync("metadata")).MustFailWith("SVSM4006", "SvsmModule 'Acme.Echo' has HeapLimit '8MB'", "6MiB");
        (await BuildAsync("limit")).MustFailWith("SVSM2025", "Acme.Echo.EchoModule has a memory limit of 0x600000 bytes with a heap limit of 0x800000");
        CommandResult hash = await BuildAsync("hash");
        hash.MustFailWith("SVSM4007", "Acme.Echo.HashModule.Handle calls System.Security.Cryptography.SHA256.HashData", "CryptoNative_EvpDigestOneShot", "BouncyCastle.Cryptography");
        hash.MustFailWith("SVSM4007", "Acme.Echo.HashModule.Handle calls Acme.Echo.HashModule.Count, and Acme.Echo needs acme_count of the native library 'acme'");
        hash.MustFailWith("SVSM4007", "Acme.Echo.HashModule.Handle calls System.IO.Compression.DeflateStream", "CompressionNative_", "'libSystem_IO_Compression_Native'", "SharpZipLib");
        // It stays one: nothing of the failed build counts as built.
        (await BuildAsync("hash")).MustFailWith("SVSM4007", "acme_count");
        CommandResult compiler = await workspace.RunAsync(image, "build", "--no-restore", "-p:SvsmCc=no-such-compiler");
        compiler.MustFailWith("SVSM0006", "'no-such-compiler'", "gcc");

        Task<CommandResult> BuildAsync(string name) => workspace.RunAsync(image, "build", "--no-restore", $"-p:Case={name}");
    }

    // The commands of docs/write-a-module.md, from the template to the answer that a guest gets.
    [Fact]
    public async Task Guide_FromTheTemplates_ModuleAnswersAGuest()
    {
        string solution = await workspace.NewProjectAsync("Acme.Fresh", "svsm-module");
        (await workspace.RunAsync(solution, "test")).MustSucceed();
        string folder = Path.GetDirectoryName(solution)!;
        (await workspace.RunAsync(folder, "pack", "Acme.Fresh/Acme.Fresh", "-o", "packages")).MustSucceed();
        string image = await workspace.NewProjectAsync("Acme.Image", below: folder);
        // What `dotnet nuget add source` writes, but not for the whole account.
        File.WriteAllText(Path.Combine(folder, "nuget.config"), """<configuration><packageSources><add key="fresh" value="packages" /></packageSources></configuration>""");
        (await workspace.RunAsync(folder, "add", "Acme.Image", "package", "Acme.Fresh", "--version", "1.0.0")).MustSucceed();
        (await workspace.RunAsync(image, "build")).MustSucceed();
        Assert.Matches(@"Acme\.Fresh [0-9]+, ", File.ReadAllText(Path.Combine(image, "bin/Debug/net10.0/Acme.Image.modules.txt")));

        CommandResult run = (await workspace.RunAsync(
            image, "run", "--", "--type", "write 0x2000000 hello", "--type", "call 0x80000001 0 0x2000000 5 0x2001000", "--type", "read 0x2001000 5")).MustSucceed();
        Assert.Contains("[vmpl0] Acme.Fresh.EchoModule: serves protocol 0x80000001,", run.Output, StringComparison.Ordinal);
        Assert.Contains("[vmpl2] Success RCX=0x5 RDX=0x5 R8=0x2001000 R9=0x0\n[vmpl2] 68656c6c6f\n", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sample_FullImage_HasItsModules()
    {
        string samples = Path.Combine(workspace.NewProject(""), "samples");
        foreach (string file in Directory.GetFiles(Path.Combine(Workspace.Repository, "samples"), "*", SearchOption.AllDirectories))
        {
            string relative = Path.GetRelativePath(Path.Combine(Workspace.Repository, "samples"), file);
            if (!relative.Split('/').Intersect(["bin", "obj"]).Any())
            {
                Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(samples, relative))!);
                File.Copy(file, Path.Combine(samples, relative));
            }
        }

        string image = Path.Combine(samples, "FullImage");
        (await workspace.RunAsync(image, "build")).MustSucceed();

        Assert.Matches(@"Svsm\.Modules\.Vtpm\.Engine [0-9]+, .*Acme\.Echo [0-9]+, ", File.ReadAllText(Path.Combine(image, "bin/Debug/net10.0/FullImage.modules.txt")));
        (await workspace.RunToolAsync(image, "store", "prepare", "state.img", "--size", "16MiB")).MustSucceed();
        CommandResult run = (await workspace.RunAsync(image, "run", "--no-build", "--", "--svsm-disk", "state.img")).MustSucceed();
        Assert.Contains("Svsm.Modules.Attestation.AttestationModule: serves protocol 0x1,", run.Output, StringComparison.Ordinal);
        Assert.Contains("Svsm.Modules.Vtpm.VtpmModule: serves protocol 0x2,", run.Output, StringComparison.Ordinal);
        Assert.Contains("Svsm.Modules.VarStore.VarStoreModule: serves protocol 0x4,", run.Output, StringComparison.Ordinal);
        Assert.Contains("Acme.Echo.EchoModule: serves protocol 0x80000001,", run.Output, StringComparison.Ordinal);
        Assert.Contains("a new TPM, stored", run.Output, StringComparison.Ordinal);

        // The store is there the next time; and without its disk there is no other TPM in its place.
        run = (await workspace.RunAsync(image, "run", "--no-build", "--", "--svsm-disk", "state.img")).MustSucceed();
        Assert.Contains("the stored TPM", run.Output, StringComparison.Ordinal);
        run = (await workspace.RunAsync(image, "run", "--no-build")).MustSucceed();
        Assert.Contains("the store is not open: the host gives the SVSM no virtio disk", run.Output, StringComparison.Ordinal);
        Assert.DoesNotContain("VtpmModule: serves", run.Output, StringComparison.Ordinal);

        string commands = Path.Combine(image, "commands.txt");
        File.WriteAllText(commands, "call 0\n");
        CommandResult tpm = await workspace.Start(
            "sh", image, new Dictionary<string, string>(), "-c", "exec \"$0\" module run obj/Debug/net10.0/modules/modules.elf Svsm.Modules.Vtpm.VtpmModule < commands.txt", workspace.Tool);
        Assert.Contains("Success RCX=0x100 RDX=0x0", tpm.MustSucceed().Output, StringComparison.Ordinal);
    }

    // An image project in a folder of its own, beside which a module's project has room.
    private string Image(string items, string below = "")
    {
        string folder = Path.Combine(workspace.NewProject(""), below, "Image");
        Directory.CreateDirectory(folder);
        File.Copy(Path.Combine(workspace.Project, "global.json"), Path.Combine(folder, "global.json"));
        File.WriteAllText(Path.Combine(folder, "Image.csproj"), $"<Project Sdk=\"Svsm.Sdk\"><ItemGroup>{items}</ItemGroup></Project>");
        return folder;
    }

    private void AddModule(string image, params string[] sources)
    {
        string folder = Path.Combine(image, "../Acme.Echo");
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, "Acme.Echo.csproj"), $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <TargetFramework>net10.0</TargetFramework>
                <ImplicitUsings>enable</ImplicitUsings>
                <Deterministic>true</Deterministic>
              </PropertyGroup>
              <ItemGroup>
                <PackageReference Include="Svsm.Core" Version="{workspace.Version}" />
              </ItemGroup>
            </Project>
            """);
        for (int i = 0; i < sources.Length; i++)
        {
            File.WriteAllText(Path.Combine(folder, $"Module{i}.cs"), sources[i]);
        }
    }

    private static void AddFile(string folder, string path, string contents)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.Combine(folder, path))!);
        File.WriteAllText(Path.Combine(folder, path), contents);
    }

    private static string ModuleOfTheGuide() => ModuleProjectTests.ModuleOfTheGuide();
}
