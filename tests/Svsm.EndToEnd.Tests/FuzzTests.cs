// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The fuzzing guest: random calls on all vCPUs at once. It checks the answers itself; here the run must end, and end well.

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

    [Fact]
    public async Task Fuzz_TwentyThousandCallsOnFourVcpus_AreAnswered() => AssertAnswered(await FuzzAsync("fuzz:20000:1", 4, s_hang));

    [Fact]
    public async Task Fuzz_OneVcpu_IsAnswered() => AssertAnswered(await FuzzAsync("fuzz:2000:2", 1, s_hang));

    // The same run twice, by instruction count: a failure can be looked at again.
    [Fact]
    public async Task Fuzz_SameSeed_TakesTheSameInstructions()
    {
        MachineResult first = await FuzzAsync("fuzz:300:3", 3, s_hang, countInstructions: true);
        MachineResult second = await FuzzAsync("fuzz:300:3", 3, s_hang, countInstructions: true);

        AssertAnswered(first);
        Assert.Equal(first.Statistics.Select(entry => entry.Ticks), second.Statistics.Select(entry => entry.Ticks));
    }

    [Theory]
    [Trait("Run", "all")]
    [InlineData("fuzz:500000:4", 4)]
    [InlineData("fuzz:300000:5", 2)]
    [InlineData("fuzz:200000:6", 16)]
    public async Task Fuzz_AMillionCalls_AreAnswered(string command, int vcpuCount) => AssertAnswered(await FuzzAsync(command, vcpuCount, s_longHang));

    private static async Task<MachineResult> FuzzAsync(string command, int vcpuCount, TimeSpan timeout, bool countInstructions = false)
    {
        using ImageUnderTest image = ImageUnderTest.Build(command);
        return await ImageUnderTest.RunAsync(image.Options() with { VcpuCount = vcpuCount, Timeout = timeout, CountInstructions = countInstructions });
    }

    private static void AssertAnswered(MachineResult result)
    {
        string guest = result.ConsoleText((int)Vmpl.Vmpl2);
        Assert.True(result.ExitStatus == 0, result + "\n" + guest);
        Assert.Contains("probe: ok   fuzz: what was lent comes back", guest, StringComparison.Ordinal);
        Assert.DoesNotContain("stopped", result.ConsoleText((int)Vmpl.Vmpl0), StringComparison.Ordinal);
    }
}
