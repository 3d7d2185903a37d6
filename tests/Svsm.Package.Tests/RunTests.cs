// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Runtime.Versioning;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>dotnet run in an image project, and the svsm tool on the same files.</summary>
public sealed class RunTests(Workspace workspace)
{
    private const string OutputFolder = "bin/Debug/net10.0";
    private const int Sigint = 2;

    // How the host program of the simulated machine reports what is not a guest's own exit status; docs/simulated-machine.md.
    private const int Refused = 65;
    private const int QemuFailed = 66;
    private const int Interrupted = 130;

    [Fact]
    public async Task Run_ProbeGuest_ChecksEveryAnswerAndSucceeds()
    {
        CommandResult run = (await workspace.RunAsync(workspace.Project, "run", "--no-build")).MustSucceed();

        Assert.Matches(@"\[vmpl2\] probe: [1-9][0-9]* passed, 0 failed", run.Output);
    }

    [Fact]
    public async Task Run_FromNothing_BuildsFirst()
    {
        string project = workspace.NewProject("");

        CommandResult run = (await workspace.RunAsync(project, "run")).MustSucceed();

        Assert.True(File.Exists(Path.Combine(project, OutputFolder, "Image.igvm")));
        Assert.Contains(" passed, 0 failed", run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_GuestExits_ItsStatusIsThatOfDotnetRun()
    {
        string project = NewProjectWithGuest("exit:42");

        CommandResult run = await workspace.RunAsync(project, "run");

        Assert.True(run.ExitStatus == 42, $"ended with {run.ExitStatus}:\n{run.Output}");
    }

    [Fact]
    public async Task Run_OptionsOfTheMachine_ReachIt()
    {
        CommandResult run = (await workspace.RunAsync(workspace.Project, "run", "--no-build", "--", "--json")).MustSucceed();

        Assert.Contains(DigestOf(workspace.Project, "Acme.Svsm"), run.Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_WithoutQemu_SaysWhatToInstall()
    {
        CommandResult run = await workspace.RunAsync(workspace.Project, new Dictionary<string, string> { ["SVSM_QEMU"] = "/no/such/qemu" }, "run", "--no-build");

        run.MustFailWith("SVSM6001", "'/no/such/qemu'", "wanted is", "qemu-system-x86");
        Assert.Equal(QemuFailed, run.ExitStatus);
    }

    [Fact]
    public async Task Run_FlippedByteInAMeasuredPage_IsRefusedByTheMachineAndByTheTool()
    {
        string project = workspace.NewProject("");
        (await workspace.RunAsync(project, "build")).MustSucceed();
        string image = Path.Combine(project, OutputFolder, "Image.igvm");
        await FlipByteOfTheKernelAsync(project, image);

        CommandResult run = await workspace.RunAsync(project, "run", "--no-build");
        CommandResult verify = await workspace.RunToolAsync(project, "igvm", "verify", image);

        run.MustFailWith("SVSM6004", DigestOf(project, "Image"), "wanted is");
        Assert.Equal(Refused, run.ExitStatus);
        Assert.DoesNotContain("[vmpl", run.Output, StringComparison.Ordinal);
        Assert.Equal(1, verify.ExitStatus);
    }

    [Fact]
    [SupportedOSPlatform("linux")]
    public async Task Run_Interrupted_EndsWithQemu()
    {
        string project = NewProjectWithGuest("loop");
        (await workspace.RunAsync(project, "build")).MustSucceed();
        string pipe = Path.Combine(project, "qemu.pid");
        Assert.Equal(0, MakeFifo(pipe, 0x180));
        string wrapper = Path.Combine(project, "qemu");
        // Tells its process id and becomes QEMU, but for the question about the version.
        await File.WriteAllTextAsync(wrapper, $"""
            #!/bin/sh
            case "$*" in *-version*) ;; *) echo $$ > '{pipe}' ;; esac
            exec qemu-system-x86_64 "$@"
            """, TestContext.Current.CancellationToken);
        File.SetUnixFileMode(wrapper, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);

        // What a terminal does on Ctrl-C: the signal to every process of the group. setsid makes a group of its own; a program leaves the
        // signal ignored that was ignored when it started, as a shell's & has it.
        Task<CommandResult> ended = workspace.Start(
            "setsid", project, new Dictionary<string, string> { ["SVSM_QEMU"] = wrapper }, "--wait", "env", "--default-signal=INT", "dotnet", "run", "--no-build");
        Task<string> pid = Task.Run(() => File.ReadAllText(pipe), TestContext.Current.CancellationToken);
        if (await Task.WhenAny(pid, ended) == ended)
        {
            Assert.Fail($"ended before QEMU started:\n{(await ended).Output}");
        }

        int qemu = int.Parse(await pid, CultureInfo.InvariantCulture);
        Assert.Equal(0, Kill(-GetProcessGroup(qemu), Sigint));

        CommandResult run = await ended;
        Assert.True(run.ExitStatus == Interrupted, $"ended with {run.ExitStatus}:\n{run.Output}");
        Assert.False(Directory.Exists($"/proc/{qemu}"));
    }

    [Fact]
    public async Task Tool_OnTheBuiltImage_AgreesWithTheBuild()
    {
        string image = Path.Combine(workspace.Project, OutputFolder, "Acme.Svsm.igvm");

        CommandResult verify = (await workspace.RunToolAsync(workspace.Project, "igvm", "verify", image, "--json")).MustSucceed();
        CommandResult run = (await workspace.RunToolAsync(workspace.Project, "run", image)).MustSucceed();

        using JsonDocument verified = JsonDocument.Parse(verify.Output);
        Assert.True(verified.RootElement.GetProperty("verified").GetBoolean());
        Assert.Equal(DigestOf(workspace.Project, "Acme.Svsm"), verified.RootElement.GetProperty("launchDigest").GetString());
        Assert.Contains(" passed, 0 failed", run.Output, StringComparison.Ordinal);
    }

    private static string DigestOf(string project, string name)
    {
        using JsonDocument digest = JsonDocument.Parse(File.ReadAllText(Path.Combine(project, OutputFolder, name + ".digest.json")));
        return digest.RootElement.GetProperty("launchDigest").GetString()!;
    }

    // Somewhere in the kernel's text, which the file has as it is in the ELF file.
    private static async Task FlipByteOfTheKernelAsync(string project, string image)
    {
        ElfFile kernel = ElfFile.Parse(await File.ReadAllBytesAsync(Path.Combine(project, "obj/Debug/net10.0/native/kernel.elf"), TestContext.Current.CancellationToken), "kernel");
        byte[] text = kernel.Segments.First(segment => segment.Flags.HasFlag(ElfSegmentFlags.Execute) && segment.VirtualAddress > uint.MaxValue).Data[..256].ToArray();
        byte[] file = await File.ReadAllBytesAsync(image, TestContext.Current.CancellationToken);
        int offset = file.AsSpan().IndexOf(text);
        Assert.NotEqual(-1, offset);
        file[offset + 100] ^= 1;
        // The header's checksum is right for the new contents: what refuses the file is the measurement.
        await File.WriteAllBytesAsync(image, Svsm.Igvm.IgvmFile.Parse(file).Write(), TestContext.Current.CancellationToken);
    }

    [DllImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static extern int Kill(int process, int signal);

    [DllImport("libc", EntryPoint = "mkfifo", SetLastError = true, CharSet = CharSet.Ansi, BestFitMapping = false, ThrowOnUnmappableChar = true)]
    private static extern int MakeFifo(string path, uint mode);

    [DllImport("libc", EntryPoint = "getpgid", SetLastError = true)]
    private static extern int GetProcessGroup(int process);

    // The probe guest does what the text in one of its symbols says; Svsm.Simulator/ProbeGuest/Commands.cs lists what it knows.
    private string NewProjectWithGuest(string command)
    {
        string project = workspace.NewProject("<PropertyGroup><SvsmGuest>guest.elf</SvsmGuest></PropertyGroup>");
        byte[] guest = File.ReadAllBytes(Path.Combine(workspace.Packages, "svsm.simulator", workspace.Version, "tools/net10.0/probe-guest.elf"));
        ProbeCommand.Set(guest, command);
        File.WriteAllBytes(Path.Combine(project, "guest.elf"), guest);
        return project;
    }
}
