// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.CoreLib.Tests;

/// <summary>Two equal projects in two folders, built once. Tests change the first and must leave it built; the second takes the failures.</summary>
public sealed class FreestandingProjects : IAsyncLifetime
{
    internal FreestandingProject First { get; } = new("first");

    internal FreestandingProject Second { get; } = new("a folder with spaces");

    /// <summary>What the first build of each gave: ELF file and map.</summary>
    internal (byte[] Elf, string Map)[] Pristine { get; private set; } = [];

    public async ValueTask InitializeAsync()
    {
        await Task.WhenAll(First.BuildAsync("-restore"), Second.BuildAsync("-restore"));
        Pristine = [Outputs(First), Outputs(Second)];
    }

    private static (byte[] Elf, string Map) Outputs(FreestandingProject project) => (File.ReadAllBytes(project.Elf), File.ReadAllText(project.Map));

    public ValueTask DisposeAsync()
    {
        First.Dispose();
        Second.Dispose();
        return ValueTask.CompletedTask;
    }
}

public sealed partial class FreestandingTargetsTests(FreestandingProjects projects) : IClassFixture<FreestandingProjects>
{
    private readonly FreestandingProject _project = projects.First;
    private readonly FreestandingProject _other = projects.Second;

    [Fact]
    public void Build_TwoFolders_SameBytes()
    {
        Assert.Equal(projects.Pristine[0].Elf, projects.Pristine[1].Elf);
        Assert.Equal(projects.Pristine[0].Map, projects.Pristine[1].Map);
    }

    [Fact]
    public async Task Build_NothingChanged_RunsNoTool() => Assert.Empty(await _project.RebuiltAsync());

    [Fact]
    public async Task Build_LinkerScriptChanged_OnlyLinks()
    {
        _project.Append("App.ld", "app_symbol = 0x1234;");

        Assert.Equal(["App.elf"], await _project.RebuiltAsync());
    }

    [Fact]
    public async Task Build_AssemblySourceChanged_AssemblesItAndLinks()
    {
        _project.Append("Second.S", "        nop");

        Assert.Equal(["Second.o", "App.elf"], await _project.RebuiltAsync());
    }

    [Fact]
    public async Task Build_IncludedFileChanged_AssemblesAllAndLinks()
    {
        _project.Append("App.Shared.inc", "        .set    OTHER, 1");

        Assert.Equal(["First.o", "Second.o", "Svsm.CoreLib.Runtime.o", "App.elf"], await _project.RebuiltAsync());
    }

    [Fact]
    public async Task Build_CodeChanged_CompilesAndLinks()
    {
        _project.Append("Program.cs", "internal static class Added { [System.Runtime.RuntimeExport(\"app_added\")] private static int Added_() => 5; }");

        Assert.Equal(["App.ilc.o", "App.elf"], await _project.RebuiltAsync());
    }

    [Fact]
    public void ResponseFile_Always_LacksResilientMode() =>
        Assert.DoesNotContain("resilient", File.ReadAllText(_project.NativeFile("App.ilc.rsp")), StringComparison.OrdinalIgnoreCase);

    [Fact]
    public async Task Clean_AfterBuild_RemovesEveryOutput()
    {
        await _other.BuildAsync();
        (int exitCode, string output) = await _other.RunAsync("Clean");

        Assert.True(exitCode == 0, output);
        Assert.Empty(Directory.GetFiles(Path.Combine(_other.Folder, "bin"), "*", SearchOption.AllDirectories));
        Assert.Empty(Directory.GetFiles(Path.GetDirectoryName(_other.NativeFile("x"))!, "*", SearchOption.AllDirectories));
    }

    [Fact]
    public async Task CompileNative_PrebuiltAssemblies_LoadsTheSameBytes()
    {
        string assemblies = Path.GetDirectoryName(_project.Elf)!;
        using var project = new FreestandingProject("prebuilt");
        project.Write("App.csproj", $"""
            <Project Sdk="Microsoft.NET.Sdk">
              <PropertyGroup>
                <TargetFramework>net10.0</TargetFramework>
                <EnableDefaultItems>false</EnableDefaultItems>
                <SvsmFreestandingImage>true</SvsmFreestandingImage>
                <SvsmLinkerScript>{assemblies}/App.ld</SvsmLinkerScript>
              </PropertyGroup>
              <ItemGroup>
                <SvsmIlcInput Include="{assemblies}/App.dll" />
                <SvsmIlcReference Include="{FreestandingProject.LibraryPath("Svsm.CoreLib")};{FreestandingProject.LibraryPath("Svsm.Platform")}" />
                <SvsmAssemblySource Include="{assemblies}/App.*.S" />
                <SvsmAssemblyInclude Include="{assemblies}/App.*.inc" />
              </ItemGroup>
              <Import Project="{Repository.Root}/Svsm.Sdk/targets/Svsm.Freestanding.targets" />
            </Project>
            """);
        (int exitCode, string output) = await project.RunAsync("SvsmCompileNative", "-restore");

        Assert.True(exitCode == 0, output);
        Assert.Equal(LoadedBytes(_project.Elf), LoadedBytes(project.Elf));
    }

    // Addresses and contents of the PT_LOAD segments. The symbol table behind them names objects, whose names differ.
    private static byte[] LoadedBytes(string path)
    {
        byte[] file = File.ReadAllBytes(path);
        var loaded = new MemoryStream();
        int header = (int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(32));
        for (int left = BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(56)); left > 0; left--, header += 56)
        {
            if (BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(header)) == 1)
            {
                loaded.Write(file.AsSpan(header, 56));
                loaded.Write(file.AsSpan((int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(header + 8)), (int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(header + 32))));
            }
        }

        Assert.True(loaded.Length > 1000);
        return loaded.ToArray();
    }

    [Theory]
    [InlineData("SVSM0001", "-p:SvsmAs=/nonexistent/as")]
    [InlineData("SVSM0002", "-p:SvsmLd=/nonexistent/ld")]
    [InlineData("SVSM0003", "-p:SvsmIlcVersion=0.0.1")]
    [InlineData("SVSM0004", "-p:NETCoreSdkPortableRuntimeIdentifier=osx-arm64")]
    [InlineData("SVSM1001", "-p:DefineConstants=GENERIC_VIRTUAL")]
    [InlineData("SVSM1002", "-p:ExtraAssembly=Broken.S")]
    [InlineData("SVSM1003", "-p:DefineConstants=UNDEFINED")]
    public async Task Build_Failure_HasItsCode(string code, string property)
    {
        // Every step has to run: an up-to-date one would not notice a missing tool.
        string native = Path.GetDirectoryName(_other.NativeFile("x"))!;
        if (Directory.Exists(native))
        {
            Directory.Delete(native, recursive: true);
        }

        (int exitCode, string output) = await _other.RunAsync("Build", property);

        Assert.NotEqual(0, exitCode);
        Assert.Contains($"error {code}: ", output, StringComparison.Ordinal);
        Assert.Contains($"docs/errors/{code}.md", output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_MissingSymbol_IsNamed()
    {
        (_, string output) = await _other.RunAsync("Build", "-p:DefineConstants=UNDEFINED");

        Assert.Matches("error .*undefined reference to `app_missing'", output);
    }

    [Fact]
    public void CompilerVersion_DefaultOfTheTargets_IsThePinnedOne()
    {
        string pinned = IlcVersion().Match(File.ReadAllText(Path.Combine(Repository.Root, "Directory.Packages.props"))).Groups[1].Value;
        string byDefault = IlcVersion().Match(File.ReadAllText(Path.Combine(Repository.Root, "Svsm.Sdk", "targets", "Svsm.Freestanding.targets"))).Groups[1].Value;

        Assert.NotEmpty(pinned);
        Assert.Equal(pinned, byDefault);
    }

    [GeneratedRegex("<SvsmIlcVersion[^>]*>([^<]+)<")]
    private static partial Regex IlcVersion();
}
