// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The fuzzing guest: random calls on all vCPUs at once, in turns that are drawn from a seed, and in threads. It checks the answers itself; here the
// run must end, and end well.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class FuzzTests
{
    // Far beyond what a run takes on a busy machine.
    private static readonly TimeSpan s_hang = TimeSpan.FromMinutes(15);
    private static readonly TimeSpan s_longHang = TimeSpan.FromHours(6);

    // By instruction count: what fails here fails again.
    [Fact]
    public async Task Fuzz_TwentyThousandCallsInDrawnTurns_AreAnswered() =>
        AssertAnswered(await FuzzAsync("fuzz:20000:1", options => options with { VcpuCount = 4, CountInstructions = true, TurnSeed = 1 }));

    [Fact]
    public async Task Fuzz_TwentyThousandCallsInThreads_AreAnswered() =>
        AssertAnswered(await FuzzAsync("fuzz:20000:1", options => options with { VcpuCount = 4, Threads = true }));

    [Theory]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Fuzz_OtherTurns_AreAnswered(ulong seed) =>
        AssertAnswered(await FuzzAsync("fuzz:2000:7", options => options with { VcpuCount = 4, CountInstructions = true, TurnSeed = seed }));

    [Fact]
    public async Task Fuzz_OneVcpu_IsAnswered() => AssertAnswered(await FuzzAsync("fuzz:2000:2", options => options with { VcpuCount = 1 }));

    // The same run twice, by instruction count: a failure can be looked at again.
    [Theory]
    [InlineData(null)]
    [InlineData(5ul)]
    public async Task Fuzz_SameSeeds_TakeTheSameInstructions(ulong? turnSeed)
    {
        MachineResult first = await FuzzAsync("fuzz:300:3", options => options with { VcpuCount = 3, CountInstructions = true, TurnSeed = turnSeed });
        MachineResult second = await FuzzAsync("fuzz:300:3", options => options with { VcpuCount = 3, CountInstructions = true, TurnSeed = turnSeed });

        AssertAnswered(first);
        Assert.Equal(first.Statistics, second.Statistics);
        Assert.Equal(first.Events, second.Events);
    }

    [Theory]
    [Trait("Run", "all")]
    [InlineData("fuzz:500000:4", 4)]
    [InlineData("fuzz:300000:5", 2)]
    [InlineData("fuzz:200000:6", 16)]
    public async Task Fuzz_AMillionCallsInDrawnTurns_AreAnswered(string command, int vcpuCount) =>
        AssertAnswered(await FuzzAsync(command, options => options with { VcpuCount = vcpuCount, Timeout = s_longHang, CountInstructions = true, TurnSeed = 6 }));

    [Theory]
    [Trait("Run", "all")]
    [InlineData("fuzz:500000:4", 4)]
    [InlineData("fuzz:500000:5", 3)]
    public async Task Fuzz_AMillionCallsInThreads_AreAnswered(string command, int vcpuCount) =>
        AssertAnswered(await FuzzAsync(command, options => options with { VcpuCount = vcpuCount, Timeout = s_longHang, Threads = true }));

    private static async Task<MachineResult> FuzzAsync(string command, Func<MachineOptions, MachineOptions> how)
    {
        using ImageUnderTest image = ImageUnderTest.Build(command);
        return await ImageUnderTest.RunAsync(how(image.Options() with { Timeout = s_hang }));
    }

    private static void AssertAnswered(MachineResult result)
    {
        string guest = result.ConsoleText((int)Vmpl.Vmpl2);
        Assert.True(result.ExitStatus == 0, result + "\n" + guest);
        Assert.Contains("probe: ok   fuzz: what was lent comes back", guest, StringComparison.Ordinal);
        Assert.DoesNotContain("stopped", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }
}
