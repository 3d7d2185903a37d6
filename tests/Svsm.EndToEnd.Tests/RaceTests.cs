// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the machine's ways to run vCPUs find: a race whose window is two instructions long, in a guest that has one on purpose; and that the kernel
// has none where all vCPUs want the same.

using System;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class RaceTests
{
    private const int VcpuCount = 4;

    // Exit status of the probe guest when one of its checks failed.
    private const int Failed = 1;

    // Some seventy turns of such a run end in the window.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public async Task TornAddition_InDrawnTurns_LosesSomething_AndTheSameAgain(ulong seed)
    {
        using ImageUnderTest image = ImageUnderTest.Build("sum-torn:5000");
        MachineOptions options = image.Options() with { VcpuCount = VcpuCount, CountInstructions = true, TurnSeed = seed };

        MachineResult first = await ImageUnderTest.RunAsync(options);
        MachineResult second = await ImageUnderTest.RunAsync(options);

        Assert.True(first.ExitStatus == Failed, first.ToString());
        Assert.Contains("FAIL sum: nothing is lost", first.ConsoleText((int)Vmpl.Vmpl2), StringComparison.Ordinal);
        Assert.Equal(first.Console, second.Console);
        Assert.Equal(first.Statistics, second.Statistics);
    }

    // A hundred thousand of four million are lost on two cores.
    [Fact]
    public async Task TornAddition_InThreads_LosesSomething()
    {
        using ImageUnderTest image = ImageUnderTest.Build("sum-torn:1000000");

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = VcpuCount, Threads = true });

        Assert.True(result.ExitStatus == Failed, result.ToString());
        Assert.Contains("FAIL sum: nothing is lost", result.ConsoleText((int)Vmpl.Vmpl2), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("sum:5000", 1ul)]
    [InlineData("sum:1000000", null)]
    [InlineData("race:300", 2ul)]
    [InlineData("race:300", null)]
    public async Task WholeTransitions_InDrawnTurnsOrThreads_LoseNothing(string command, ulong? turnSeed)
    {
        using ImageUnderTest image = ImageUnderTest.Build(command);

        MachineResult result = await ImageUnderTest.RunAsync(
            image.Options() with { VcpuCount = VcpuCount, CountInstructions = turnSeed is not null, TurnSeed = turnSeed, Threads = turnSeed is null });

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
    }

    // Emulated processors write each other's state (OuterProcessors.cs): a vCPU on the first one would not come far.
    [Fact]
    public async Task RestoredState_InThreads_LeavesTheFirstVcpuAlone()
    {
        using ImageUnderTest image = ImageUnderTest.Build("fxrstor:5000");

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = VcpuCount, Threads = true });

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
    }

    // The kernel's and the guest's checks on as many vCPUs as the probe guest has room for.
    [Theory]
    [Trait("Run", "all")]
    [InlineData(3ul)]
    [InlineData(null)]
    public async Task Checks_OnSixteenVcpus_Pass(ulong? turnSeed)
    {
        using ImageUnderTest image = ImageUnderTest.Build();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = 16, TurnSeed = turnSeed, Threads = turnSeed is null });

        Assert.True(result.ExitStatus == 0, result + "\n" + result.ConsoleText((int)Vmpl.Vmpl2));
        Assert.Contains(" passed, 0 failed", result.ConsoleText((int)Vmpl.Vmpl2), StringComparison.Ordinal);
    }
}
