// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Guests that send garbage to their host, and images that are damaged: every run ends with a report, and nothing is left of it.

using System;
using System.IO;
using System.Linq;
using System.Runtime.Versioning;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.Simulator;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class BadGuestTests
{
    [Fact]
    public async Task Guest_AsksForEveryMsr_IsAnsweredEachTime()
    {
        const ulong Msrs = 4 * 0x2000 * 2;
        using ImageUnderTest image = ImageUnderTest.Build("host-msrs:1");

        MachineResult result = await image.RunAsync();

        Assert.True(result.ExitStatus == 0, result.ToString());
        Assert.True(result.Statistics.Sum(entry => (long)entry.VmgExits) > (long)Msrs);
    }

    [Theory]
    [InlineData("host-page:1")]
    [InlineData("host-page:2")]
    [InlineData("host-page:3")]
    [InlineData("host-reg:1")]
    [InlineData("host-reg:2")]
    public async Task Guest_SendsGarbage_EndsWithAReport(string command)
    {
        using ImageUnderTest image = ImageUnderTest.Build(command);

        MachineResult result = await image.RunAsync();

        Assert.True(
            result.Stop is MachineStop.GuestExit or MachineStop.Violation or MachineStop.Terminate or MachineStop.Shutdown or MachineStop.Reset,
            $"{result}\n{result.ConsoleText(-1)}");
        Assert.True(result.Stop == MachineStop.GuestExit || result.Reports.Length == 1, result.ToString());
        Assert.NotEmpty(result.Memory.Ranges);
    }

    // Whatever becomes of it, it is said: refused before the start, or the guest's own end.
    [Fact]
    public async Task Image_WithDamagedBytes_IsRefusedOrEndsWithAReport()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0");
        byte[] whole = File.ReadAllBytes(image.Written.ImagePath);
        var random = new Random(7);
        for (int i = 0; i < 12; i++)
        {
            byte[] damaged = [.. whole];
            for (int change = 0; change < 4; change++)
            {
                // The tables are at the beginning; what follows is contents.
                int limit = i % 2 == 0 ? 4096 : damaged.Length;
                damaged[random.Next(limit)] ^= (byte)random.Next(1, 256);
            }

            await File.WriteAllBytesAsync(image.Written.ImagePath, i % 4 == 3 ? damaged[..random.Next(damaged.Length)] : damaged, TestContext.Current.CancellationToken);
            try
            {
                MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Timeout = TimeSpan.FromSeconds(20) });
                Assert.True(
                    result.Stop is not (MachineStop.HypervisorFault or MachineStop.LinkBroken or MachineStop.QemuFailed or MachineStop.BadLaunch),
                    $"{i}: {result}\n{result.ConsoleText(-1)}");
            }
            catch (SvsmDiagnosticException exception)
            {
                Assert.StartsWith("SVSM600", exception.Diagnostic.Code, StringComparison.Ordinal);
            }
        }
    }

    [Fact]
    [SupportedOSPlatform("linux")]
    public async Task Runs_OfAllKinds_LeaveNoFolderAndNoProcess()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        DirectoryInfo temporary = Directory.CreateTempSubdirectory("svsm-e2e-tmp-");
        string wrapper = Path.Combine(temporary.FullName, "qemu");
        string pids = Path.Combine(temporary.FullName, "pids");
        await File.WriteAllTextAsync(wrapper, $"#!/bin/sh\ncase \"$*\" in *-version*) ;; *) echo \"$$ $PWD\" >> '{pids}' ;; esac\nexec qemu-system-x86_64 \"$@\"\n", TestContext.Current.CancellationToken);
        File.SetUnixFileMode(wrapper, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        MachineOptions options = image.Options() with { QemuPath = wrapper };

        await using (MachineTest stopped = await MachineTest.StartAsync(options, TestContext.Current.CancellationToken))
        {
            await stopped.WaitForLineAsync("probe: running for ever");
            await stopped.StopAsync();
        }

        await using (MachineTest disposed = await MachineTest.StartAsync(options, TestContext.Current.CancellationToken))
        {
            await disposed.WaitForLineAsync("probe: running for ever");
        }

        MachineResult timedOut = await ImageUnderTest.RunAsync(options with { Timeout = TimeSpan.FromSeconds(3) });

        Assert.Equal(MachineStop.Timeout, timedOut.Stop);
        string[][] started = [.. File.ReadAllLines(pids).Select(line => line.Split(' '))];
        Assert.Equal(3, started.Length);
        Assert.All(started, run =>
        {
            Assert.False(Directory.Exists($"/proc/{run[0]}"), run[0]);
            Assert.False(Directory.Exists(run[1]), run[1]);
        });
        temporary.Delete(recursive: true);
    }
}
