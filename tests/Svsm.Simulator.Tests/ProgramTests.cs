// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

/// <summary>The program as a user meets it: another process.</summary>
public sealed class ProgramTests : IDisposable
{
    // The program takes the hypervisor beside it; so it gets a folder of its own, with the hypervisor of the test.
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");
    private Process? _process;

    public ProgramTests()
    {
        foreach (string file in Directory.EnumerateFiles(AppContext.BaseDirectory))
        {
            if (Path.GetExtension(file) is ".dll" or ".json")
            {
                File.Copy(file, Path.Combine(_folder.FullName, Path.GetFileName(file)));
            }
        }
    }

    public void Dispose()
    {
        // A test that failed, or was cancelled, has left it running.
        if (_process is { HasExited: false })
        {
            _process.Kill(entireProcessTree: true);
        }

        _process?.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public async Task Run_GuestExit_IsTheExitStatus()
    {
        using var qemu = new FakeQemu("cat \"$here/frames\"", Frames.Hello, Frames.Console(0, 0, "hello\n"), Frames.Exit(StopReason.GuestExit, 42));

        Process process = Start(qemu, "run", qemu.Path("image.igvm"), "--digest", TestImage.Digest, "--timeout", "100");
        string output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal("[vmpl0] hello\n", output);
        Assert.Equal(42, process.ExitCode);
    }

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    [InlineData("HUP")]
    public async Task Run_Signal_EndsQemuAndGivesStatus(string signal)
    {
        using var qemu = new FakeQemu(
            "echo $$ > \"$here/pid\"; tail -f /dev/null & echo $! > \"$here/child\"; cat \"$here/frames\"; wait", Frames.Hello, Frames.Console(0, 0, "ready\n"));

        Process process = Start(qemu, "run", qemu.Path("image.igvm"));
        Assert.Equal("[vmpl0] ready", await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        using Process kill = Process.Start("kill", ["-" + signal, process.Id.ToString(CultureInfo.InvariantCulture)]);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(RunExitStatus.Interrupted, process.ExitCode);
        await qemu.WaitUntilGoneAsync("pid");
        await qemu.WaitUntilGoneAsync("child");
        Assert.False(Directory.Exists(qemu.WorkingFolder));
    }

    // Nobody can clean up after itself then; a guard does.
    [Fact]
    public async Task Run_Killed_LeavesNoQemuAndNoFolder()
    {
        using var qemu = new FakeQemu("echo $$ > \"$here/pid\"; cat \"$here/frames\"; exec tail -f /dev/null", Frames.Hello, Frames.Console(0, 0, "ready\n"));

        Process process = Start(qemu, "run", qemu.Path("image.igvm"));
        Assert.Equal("[vmpl0] ready", await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        process.Kill();
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        await qemu.WaitUntilGoneAsync("pid");
        while (Directory.Exists(qemu.WorkingFolder))
        {
            await Task.Delay(10, TestContext.Current.CancellationToken);
        }
    }

    [Theory]
    [InlineData("run")]
    [InlineData("run", "x.igvm", "--vcpus", "many")]
    [InlineData("run", "x.igvm", "--expect-violation", "Nonsense")]
    [InlineData("fly")]
    [InlineData("run", "x.igvm", "--vcpus", "0")]
    [InlineData("run", "x.igvm", "--timeout", "-1")]
    public async Task Run_BadUsage_GivesStatus(params string[] arguments)
    {
        using var qemu = new FakeQemu("exit 0");

        Process process = Start(qemu, arguments);
        Task<string> output = process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        string error = await process.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        await output;
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);

        Assert.Equal(RunExitStatus.Usage, process.ExitCode);
        Assert.NotEmpty(error);
    }

    private Process Start(FakeQemu qemu, params string[] arguments)
    {
        File.Copy(qemu.Path("hypervisor.elf"), Path.Combine(_folder.FullName, "hypervisor.elf"));
        File.Copy(qemu.Path("frames"), Path.Combine(_folder.FullName, "frames"));

        // The script looks beside the hypervisor: what it writes goes where the test looks.
        foreach (string name in new[] { "pid", "child", "folder", "arguments" })
        {
            File.CreateSymbolicLink(Path.Combine(_folder.FullName, name), qemu.Path(name));
        }

        // A program leaves a signal ignored that was ignored when it started, as nohup and a shell's & have it; whoever runs the tests so
        // must not decide what they see.
        var start = new ProcessStartInfo("env", ["--default-signal=INT,HUP,TERM", "dotnet", Path.Combine(_folder.FullName, "svsm-simulator.dll"), .. arguments])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.Environment["SVSM_QEMU"] = FakeQemu.Program;
        return _process = Process.Start(start)!;
    }
}
