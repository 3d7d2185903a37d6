// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Builder.Tests;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>An image project with a Linux guest. The kernel is a file of the right form whose 64-bit entry ends the VM: real ones are booted by Svsm.EndToEnd.Tests.</summary>
public sealed class LinuxProjectTests(Workspace workspace)
{
    private const string OutputFolder = "bin/Debug/net10.0";
    private const int Terminated = 67;

    // mov ecx, GHCB MSR; mov eax, terminate, reason set 7, reason 0x2A; xor edx, edx; wrmsr; vmgexit
    private static readonly byte[] s_terminate =
    [
        0xB9, 0x30, 0x01, 0x01, 0xC0, 0xB8, 0x00, 0x71, 0x2A, 0x00, 0x31, 0xD2, 0x0F, 0x30, 0xF3, 0x0F, 0x01, 0xD9,
    ];

    [Fact]
    public async Task Build_LinuxGuest_IsMeasuredAndTheSameInAnyFolder()
    {
        string first = NewProject();
        (await workspace.RunAsync(first, "build")).MustSucceed();
        string second = NewProject();
        (await workspace.RunAsync(second, "build")).MustSucceed();

        Assert.NotEqual(first, second);
        Assert.All(["Image.igvm", "Image.digest.json", "Image.map", "Image.reference-values.json"], file => Assert.Equal(
            File.ReadAllBytes(Path.Combine(first, OutputFolder, file)), File.ReadAllBytes(Path.Combine(second, OutputFolder, file))));
        Assert.Contains("guest.linux.initrd", await File.ReadAllTextAsync(Path.Combine(first, OutputFolder, "Image.map"), TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_AfterAChangeOfCommandLineOrDisk_HasAnotherDigest()
    {
        string project = NewProject();
        (await workspace.RunAsync(project, "build")).MustSucceed();
        string digest = DigestOf(project);

        (await workspace.RunAsync(project, "build", "-p:SvsmGuestCommandLine=quiet")).MustSucceed();
        string otherLine = DigestOf(project);
        await File.WriteAllBytesAsync(Path.Combine(project, "initrd"), [3, 2, 1], TestContext.Current.CancellationToken);
        (await workspace.RunAsync(project, "build", "-p:SvsmGuestCommandLine=quiet")).MustSucceed();

        Assert.NotEqual(digest, otherLine);
        Assert.NotEqual(otherLine, DigestOf(project));
    }

    [Fact]
    public async Task Build_TwoGuests_SaysSeenWantedAndWayOut()
    {
        string project = NewProject();

        CommandResult build = await workspace.RunAsync(project, "build", "-p:SvsmGuest=guest.elf");

        build.MustFailWith("SVSM4004", "SvsmGuest is 'guest.elf' and SvsmGuestKernel is 'vmlinuz'", "wanted is", "one guest");
    }

    [Fact]
    public async Task Run_LinuxGuest_StartsAtItsEntry()
    {
        string project = NewProject();

        CommandResult run = await workspace.RunAsync(project, "run");

        Assert.True(run.ExitStatus == Terminated, $"ended with {run.ExitStatus}:\n{run.Output}");
        Assert.Contains("svsm: the guest starts at VMPL2, entry 0x1000200", run.Output, StringComparison.Ordinal);
        Assert.Contains("reason set 7, reason 0x2A", run.Output, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Sample_WithAKernel_BuildsAndRuns()
    {
        string sample = NewSample();

        CommandResult build = await workspace.RunAsync(sample, "build", "-p:LinuxKernel=vmlinuz", "-p:LinuxInitrd=initrd");
        build.MustSucceed();
        CommandResult run = await workspace.RunAsync(sample, "run", "--no-build", "-p:LinuxKernel=vmlinuz", "-p:LinuxInitrd=initrd");

        Assert.True(run.ExitStatus == Terminated, $"ended with {run.ExitStatus}:\n{run.Output}");
        Assert.Contains("svsm: the guest starts at VMPL2, entry 0x1000200", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Sample_WithoutAKernel_SaysWhatIsMissing() =>
        (await workspace.RunAsync(NewSample(), "build")).MustFailWith("SVSM4004", "SvsmGuestKernel is not set", "wanted is", "a kernel");

    private string NewSample()
    {
        string folder = workspace.NewProject("");
        File.Delete(Path.Combine(folder, "Image.csproj"));
        foreach (string file in Directory.GetFiles(Path.Combine(Workspace.Repository, "samples", "linux-guest")))
        {
            File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
        }

        WriteGuest(folder);
        return folder;
    }

    private static string DigestOf(string project)
    {
        using JsonDocument digest = JsonDocument.Parse(File.ReadAllText(Path.Combine(project, OutputFolder, "Image.digest.json")));
        return digest.RootElement.GetProperty("launchDigest").GetString()!;
    }

    private string NewProject()
    {
        string project = workspace.NewProject("""
            <PropertyGroup>
              <SvsmGuestKernel>vmlinuz</SvsmGuestKernel>
              <SvsmGuestInitrd>initrd</SvsmGuestInitrd>
              <SvsmGuestCommandLine>console=ttyS0; quiet %41 'a b'</SvsmGuestCommandLine>
            </PropertyGroup>
            """);
        WriteGuest(project);
        return project;
    }

    private static void WriteGuest(string folder)
    {
        byte[] kernel = TestBzImage.Create();
        s_terminate.CopyTo(kernel, TestBzImage.ProtectedModeOffset + 0x200);
        File.WriteAllBytes(Path.Combine(folder, "vmlinuz"), kernel);
        File.WriteAllBytes(Path.Combine(folder, "initrd"), [1, 2, 3]);
    }
}
