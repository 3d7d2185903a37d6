// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The debugger's server with gdb itself, in batch mode, with the kernel's symbols: what docs/simulated-machine.md tells to type.

using System;
using System.Diagnostics;
using System.Globalization;
using System.IO;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class GdbProgramTests
{
    private const string Main = "Svsm_Kernel_Svsm_Kernel_KernelMain__Main";

    [Fact]
    public async Task Gdb_BreakpointsRegistersMemoryAndSteps_WorkOnTheKernel()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:5");
        byte[] kernel = await File.ReadAllBytesAsync(ImageUnderTest.PathOf("Kernel"), TestContext.Current.CancellationToken);
        ulong main = ElfFile.Parse(kernel, "kernel").FindSymbol(Main)!.Value.Value;
        byte[] code = ProbeCommand.BytesAt(kernel, main)[..8].ToArray();
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0, VcpuCount = 2 }, TestContext.Current.CancellationToken);

        string output = await RunAsync(
            $"symbol-file {ImageUnderTest.PathOf("Kernel")}",
            $"target remote 127.0.0.1:{machine.GdbPort}",
            "info threads",

            // Of the kernel by symbol, before its address space exists; then by address, in memory.
            $"hbreak {Main}",
            "continue",
            "printf \"at main: %d\\n\", $rip == (unsigned long)&" + Main,
            "output/x *(unsigned long *)$rip",
            "echo \\n",
            "info symbol $rip",
            "stepi",
            "printf \"stepped: %d\\n\", (long)$rip - (long)&" + Main,
            "delete",
            "break *$rip",
            "printf \"same place: %d\\n\", $bpnum",

            // Registers and memory, written and read back.
            "set var $saved = $rbx",
            "set var $rbx = 0x1122334455667788",
            "printf \"rbx: 0x%lx\\n\", $rbx",
            "set var $rbx = $saved",
            "set var *(unsigned int *)($rsp - 512) = 0xdeadbeef",
            "printf \"memory: 0x%x\\n\", *(unsigned int *)($rsp - 512)",
            "x/i $rip",
            "info registers rip eflags",
            "delete",
            "continue");

        Assert.Contains("vCPU 0, VMPL0, CPL0", output, StringComparison.Ordinal);
        Assert.Contains("at main: 1\n", output, StringComparison.Ordinal);
        Assert.Contains(string.Create(CultureInfo.InvariantCulture, $"0x{BitConverter.ToUInt64(code):x}\n"), output, StringComparison.Ordinal);
        Assert.Contains("svsm_kernel_main in section .text", output, StringComparison.Ordinal);
        Assert.Matches("stepped: ([1-9]|1[0-5])\n", output);
        Assert.Contains("rbx: 0x1122334455667788\n", output, StringComparison.Ordinal);
        Assert.Contains("memory: 0xdeadbeef\n", output, StringComparison.Ordinal);
        Assert.Contains("exited normally", output, StringComparison.Ordinal);
        Assert.Equal(5, (await machine.WaitForEndAsync()).ExitStatus);
    }

    [Fact]
    public async Task Gdb_ThatDetaches_LetsTheGuestRun()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:5");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { GdbPort = 0 }, TestContext.Current.CancellationToken);

        string output = await RunAsync($"target remote 127.0.0.1:{machine.GdbPort}", "stepi", "detach");

        Assert.Contains("detached", output, StringComparison.Ordinal);
        Assert.Equal(5, (await machine.WaitForEndAsync()).ExitStatus);
    }

    // What gdb says to its commands, both outputs.
    private static async Task<string> RunAsync(params string[] commands)
    {
        var start = new ProcessStartInfo("gdb") { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in (string[])["--nx", "--quiet", "--batch", "-ex", "set confirm off", "-ex", "set pagination off", "-ex", "set remotetimeout 120"])
        {
            start.ArgumentList.Add(argument);
        }

        foreach (string command in commands)
        {
            start.ArgumentList.Add("-ex");
            start.ArgumentList.Add(command);
        }

        using Process gdb = Process.Start(start)!;
        using var kill = TestContext.Current.CancellationToken.Register(() => gdb.Kill());
        Task<string> errors = gdb.StandardError.ReadToEndAsync(TestContext.Current.CancellationToken);
        string output = await gdb.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await gdb.WaitForExitAsync(TestContext.Current.CancellationToken);
        output += await errors;
        TestContext.Current.TestOutputHelper?.WriteLine(output);
        Assert.True(gdb.ExitCode == 0, output);
        return output;
    }
}
