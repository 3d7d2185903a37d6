// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Builder.Tests;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>An image project with a firmware: a file of the right form whose reset vector ends the VM. Debian's is booted by Svsm.Linux.Tests.</summary>
public sealed class FirmwareProjectTests(Workspace workspace)
{
    private const string OutputFolder = "bin/Debug/net10.0";
    private const int Shutdown = 69;

    // In 16-bit mode: loads an interrupt table without entries, which are the zeroes at the end, and divides by zero. lidt cs:[0xFFF8]; aam 0.
    private static readonly byte[] s_shutdown = [0x2E, 0x0F, 0x01, 0x1E, 0xF8, 0xFF, 0xD4, 0x00, 0, 0, 0, 0, 0, 0];

    [Fact]
    public async Task Run_Firmware_StartsAtItsResetVector()
    {
        string project = NewProject();
        CommandResult run = await workspace.RunAsync(project, "run");

        Assert.True(run.ExitStatus == Shutdown, $"ended with {run.ExitStatus}:\n{run.Output}");
        Assert.Contains("svsm: the guest starts at VMPL2, entry 0xfffffff0", run.Output, StringComparison.Ordinal);
        Assert.Contains("guest.firmware", await File.ReadAllTextAsync(Path.Combine(project, OutputFolder, "Image.map"), TestContext.Current.CancellationToken), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Build_AfterAChangeOfTheFirmware_HasAnotherDigest()
    {
        string project = NewProject();
        (await workspace.RunAsync(project, "build")).MustSucceed();
        string digest = DigestOf(project);
        byte[] file = new TestFirmware { Code = s_shutdown }.Create();
        file[^17] ^= 1;
        await File.WriteAllBytesAsync(Path.Combine(project, "OVMF.fd"), file, TestContext.Current.CancellationToken);
        (await workspace.RunAsync(project, "build")).MustSucceed();

        Assert.NotEqual(digest, DigestOf(project));
    }

    [Fact]
    public async Task Build_SecondGuest_SaysSeenWantedAndWayOut()
    {
        string project = NewProject("<SvsmFirmware Include=\"other.fd\" />");

        (await workspace.RunAsync(project, "build")).MustFailWith("SVSM4004", "SvsmFirmware is 'OVMF.fd' and SvsmFirmware is 'other.fd'", "one guest");
        (await workspace.RunAsync(NewProject(), "build", "-p:SvsmGuestKernel=vmlinuz"))
            .MustFailWith("SVSM4004", "SvsmGuestKernel is 'vmlinuz' and SvsmFirmware is 'OVMF.fd'", "one guest");
    }

    [Fact]
    public async Task Build_NoFirmwareInTheFile_SaysSeenWantedAndWayOut()
    {
        string project = NewProject();
        await File.WriteAllBytesAsync(Path.Combine(project, "OVMF.fd"), new byte[8192], TestContext.Current.CancellationToken);

        (await workspace.RunAsync(project, "build")).MustFailWith("SVSM2022", "no table of GUIDs", "OVMF");
    }

    private static string DigestOf(string project)
    {
        using JsonDocument digest = JsonDocument.Parse(File.ReadAllText(Path.Combine(project, OutputFolder, "Image.digest.json")));
        return digest.RootElement.GetProperty("launchDigest").GetString()!;
    }

    private string NewProject(string items = "")
    {
        string project = workspace.NewProject($"<ItemGroup><SvsmFirmware Include=\"OVMF.fd\" />{items}</ItemGroup>");
        File.WriteAllBytes(Path.Combine(project, "OVMF.fd"), new TestFirmware { Code = s_shutdown }.Create());
        return project;
    }
}
