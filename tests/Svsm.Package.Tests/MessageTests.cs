// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.IO;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>What an integrator can do wrong in an image project, and the message that says so.</summary>
public sealed class MessageTests(Workspace workspace)
{
    [Theory]
    [InlineData("SvsmGuestPolicy", "abc", "SVSM4003", "abc", "a number from 0 to 0xFFFFFFFFFFFFFFFF")]
    [InlineData("SvsmGuestPolicy", "0x1_0000", "SVSM4003", "0x1_0000", "a number from 0 to 0xFFFFFFFFFFFFFFFF")]
    [InlineData("SvsmGuestPolicy", "-1", "SVSM4003", "-1", "a number from 0 to 0xFFFFFFFFFFFFFFFF")]
    [InlineData("SvsmGuestPolicy", "0x10000000000000000", "SVSM4003", "0x10000000000000000", "a number from 0 to 0xFFFFFFFFFFFFFFFF")]
    [InlineData("SvsmGuestPolicy", "0x10000", "SVSM2013", "0x10000", "bit 17")]
    [InlineData("SvsmConsoleLevel", "loud", "SVSM4003", "loud", "none, error, warning, information, debug")]
    [InlineData("SvsmConsoleLevel", "3", "SVSM4003", "3", "none, error, warning, information, debug")]
    [InlineData("SvsmConsoleLevel", "debug", "SVSM2013", "console level debug", "bit 19")]
    [InlineData("SvsmHostFlavours", "xen", "SVSM4003", "xen", "qemu, stock-qemu, hyperv, vanadium")]
    [InlineData("SvsmHostFlavours", "qemu%3Bqemu", "SVSM2013", "2 host flavours, 1 of them different", "none twice")]
    [InlineData("SvsmGuest", "no/such/guest.elf", "SVSM2015", "no/such/guest.elf", "the path of a file that can be read")]
    [InlineData("SvsmGuest", "global.json", "SVSM2001", "guest", "ELF")]
    [InlineData("SvsmGuestKernel", "no/such/vmlinuz", "SVSM2015", "SvsmGuestKernel is 'no/such/vmlinuz'", "the path of a file that can be read")]
    [InlineData("SvsmGuestKernel", "global.json", "SVSM2018", "a file of", "at least 620")]
    [InlineData("SvsmGuestInitrd", "global.json", "SVSM4004", "SvsmGuestInitrd is 'global.json'", "a kernel that it belongs to")]
    [InlineData("SvsmGuestCommandLine", "quiet", "SVSM4004", "SvsmGuestCommandLine is 'quiet'", "a kernel that it belongs to")]
    [InlineData("SvsmIdKeyFile", "no-key.pem", "SVSM2015", "no-key.pem", "the path of a file that can be read")]
    [InlineData("SvsmIdKeyFile", "global.json", "SVSM3001", "PEM", "P-384")]
    [InlineData("SvsmImageId", "00112233445566778899aabbccddeeff", "SVSM4003", "00112233445566778899aabbccddeeff", "nothing while SvsmIdKeyFile is not set")]
    [InlineData("SvsmGuestSvn", "1", "SVSM4003", "1", "nothing while SvsmIdKeyFile is not set")]
    [InlineData("SvsmAs", "/no/such/as", "SVSM0001", "/no/such/as", "GNU as")]
    [InlineData("SvsmLd", "/no/such/ld", "SVSM0002", "/no/such/ld", "GNU ld")]
    public async Task Build_WrongProperty_SaysSeenWantedAndWayOut(string property, string value, string code, string seen, string wanted)
    {
        string project = workspace.NewProject("");

        CommandResult build = await workspace.RunAsync(project, "build", $"-p:{property}={value}");

        build.MustFailWith(code, seen, "wanted is", wanted);
        Assert.Empty(Directory.Exists(Path.Combine(project, "bin")) ? Directory.GetFiles(Path.Combine(project, "bin"), "*", SearchOption.AllDirectories) : []);
    }

    [Fact]
    public async Task Build_ModuleWithoutItsPackage_SaysWhatIsMissing()
    {
        string project = workspace.NewProject("<ItemGroup><SvsmModule Include=\"Svsm.Modules.Vtpm\" Type=\"Svsm.Modules.Vtpm.VtpmModule\" /></ItemGroup>");

        (await workspace.RunAsync(project, "build")).MustFailWith("SVSM4001", "SvsmModule 'Svsm.Modules.Vtpm'", "Reference the module's package");
    }

    [Fact]
    public async Task Build_PackagesDeletedAfterRestore_SaysWhichAndToRestore()
    {
        string project = workspace.NewProject("");
        string cache = Path.Combine(project, "cache");
        System.Collections.Generic.Dictionary<string, string> own = new() { ["NUGET_PACKAGES"] = cache };
        (await workspace.RunAsync(project, own, "restore")).MustSucceed();

        Directory.Delete(Path.Combine(cache, "runtime.linux-x64.microsoft.dotnet.ilcompiler"), recursive: true);
        (await workspace.RunAsync(project, own, "build", "--no-restore")).MustFailWith("SVSM0003", "runtime.linux-x64.Microsoft.DotNet.ILCompiler", "dotnet restore");

        foreach (string package in new[] { "Svsm.Simulator", "Svsm.Core" })
        {
            Directory.Delete(Path.Combine(cache, package.ToLowerInvariant()), recursive: true);
            (await workspace.RunAsync(project, own, "build", "--no-restore")).MustFailWith("SVSM0005", $"the package {package} {workspace.Version}", "dotnet restore");
        }
    }
}
