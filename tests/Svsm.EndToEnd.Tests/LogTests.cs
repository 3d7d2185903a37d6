// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the kernel tells of itself: the log in its memory, what of it the console gets, counters of calls.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Boot;
using Svsm.Builder;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed partial class LogTests
{
    private const ulong DebugPolicy = 0xB_0000;
    private const string Victim = "Svsm_Kernel_Svsm_Kernel_Guest_FirstVcpu__Create";

    [Theory]
    [InlineData(LogLevel.Information, true)]
    [InlineData(LogLevel.Warning, false)]
    [InlineData(LogLevel.None, false)]
    public async Task Boot_ConsoleLevel_DecidesAboutTheConsoleAlone(LogLevel level, bool isOnConsole)
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0", alterOptions: options => options with { ConsoleLevel = level });

        MachineResult result = await image.RunAsync();

        Assert.Equal(0, result.ExitStatus);
        Assert.Equal(isOnConsole, result.ConsoleText((int)Vmpl.Vmpl0).Contains("svsm: the guest starts", StringComparison.Ordinal));
        Assert.Contains(result.Kernel!.Log, line => line.Text.StartsWith("svsm: the guest starts", StringComparison.Ordinal) && line.Level == LogLevel.Information);
    }

    // The general registers of a panic may hold secrets: in memory always, on the console only if the policy lets the host see them anyway.
    [Theory]
    [InlineData(0x3_0000, false)]
    [InlineData(DebugPolicy, true)]
    public async Task Panic_Registers_AreOnTheConsoleOfADebugImageOnly(ulong policy, bool isOnConsole)
    {
        using ImageUnderTest image = ImageUnderTest.Build(
            alterKernel: kernel =>
            {
                ElfSymbol symbol = ElfFile.Parse(kernel, "kernel").Symbols.Single(candidate => candidate.Name == Victim);
                new byte[] { 0x0F, 0x0B }.CopyTo(ProbeCommand.BytesAt(kernel, symbol.Value));
            },
            alterOptions: options => options with { Policy = policy });

        MachineResult result = await image.RunAsync();

        string console = result.ConsoleText((int)Vmpl.Vmpl0);
        Assert.Contains("svsm: rip 0x", console, StringComparison.Ordinal);
        Assert.Equal(isOnConsole, console.Contains("svsm: rax 0x", StringComparison.Ordinal));
        Assert.Equal(isOnConsole, console.Contains("svsm: r8 0x", StringComparison.Ordinal));
        Assert.Contains(result.Kernel!.Log, line => line.Level == LogLevel.Debug && RegisterLine().IsMatch(line.Text));
        Assert.Contains("SVSM log", result.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Run_CallsOfTheGuest_AreCountedByCpuAndInTheSummary()
    {
        using ImageUnderTest idle = ImageUnderTest.Build("exit:0");
        using ImageUnderTest bench = ImageUnderTest.Build("bench");

        MachineResult without = await idle.RunAsync();
        MachineResult with = await bench.RunAsync();

        Assert.Equal(1000ul, Count(with, "QUERY_PROTOCOL", "SUCCESS") - Count(without, "QUERY_PROTOCOL", "SUCCESS"));
        Assert.All(with.Kernel!.Calls, count => Assert.Equal(0, count.Cpu));
        Assert.Matches(@"SVSM calls +[0-9]+  PVALIDATE \(SUCCESS [0-9]+\)", with.ToSummary());
        Assert.Matches(@"[0-9]+  QUERY_PROTOCOL \(SUCCESS 10[0-9]+\)", with.ToSummary());
        Assert.Equal(without.Kernel!.FramesInUse, with.Kernel.FramesInUse);
    }

    [Fact]
    public async Task Run_SeveralVcpus_AreCountedApart()
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = 3 });

        Assert.Equal(0, result.ExitStatus);
        Assert.Equal([0, 1, 2], result.Kernel!.Calls.Where(count => count.Call == "QUERY_PROTOCOL").Select(count => count.Cpu).Distinct());
        Assert.Contains(result.Kernel.Log, line => line.Level == LogLevel.Warning && line.Cpu == 1 && line.Text.Contains("has taken the VMSA", StringComparison.Ordinal));
    }

    // An image without its map: nothing is known of the kernel's addresses.
    [Fact]
    public async Task Run_WithoutMap_HasNone()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0");
        File.Delete(Path.ChangeExtension(image.Written.ImagePath, ".map"));

        MachineResult result = await image.RunAsync();

        Assert.Equal(0, result.ExitStatus);
        Assert.Null(result.Kernel);
    }

    [Fact]
    public async Task Run_ThatTimesOut_HasTheLog()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Timeout = TimeSpan.FromSeconds(20) });

        Assert.Equal(MachineStop.Timeout, result.Stop);
        Assert.NotEmpty(result.Kernel!.Log);
    }

    private static ulong Count(MachineResult result, string call, string answer) =>
        result.Kernel!.Calls.Where(count => count.Call == call && count.Result == answer).Aggregate(0ul, (sum, count) => sum + count.Count);

    [GeneratedRegex("^svsm: rax 0x[0-9a-f]+ rcx 0x[0-9a-f]+ .* rdi 0x[0-9a-f]+$")]
    private static partial Regex RegisterLine();
}
