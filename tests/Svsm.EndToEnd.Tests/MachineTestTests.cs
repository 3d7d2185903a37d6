// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A machine in the hands of a test, on real images.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class MachineTestTests
{
    private const string Running = "probe: running for ever";

    [Fact]
    public async Task ReadRmp_OfARunningMachine_TellsOwnersAndRights()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await StartAsync(image);
        ConsoleLine line = await machine.WaitForLineAsync(Running, vmpl: 2);

        RmpMap memory = await machine.ReadRmpAsync();

        Assert.Equal((int)Vmpl.Vmpl2, line.Source.Vmpl);
        RmpEntry kernel = memory[image.Written.Files.Image.Configuration.RegionBase];
        Assert.Equal((true, true, "rwus", "----"), (kernel.IsAssigned, kernel.IsValidated, kernel.Rights(0), kernel.Rights(2)));
        RmpEntry guest = memory[image.GpaOf("guest.memory-map")];
        Assert.Equal((true, true, 'r'), (guest.IsAssigned, guest.IsValidated, guest.Rights(2)[0]));
        Assert.True(memory.Count(entry => entry.IsVmsa) >= 1);
        Assert.Equal(memory.Ranges, (await machine.ReadRmpAsync()).Ranges);

        MachineResult result = await machine.StopAsync();
        Assert.Equal(MachineStop.Stopped, result.Stop);
        Assert.Equal(memory.Ranges, result.Memory.Ranges);
        Assert.Equal(memory.Ranges, (await machine.ReadRmpAsync()).Ranges);
    }

    [Fact]
    public async Task Stop_OfARunningMachine_TellsWhereEveryVcpuIs()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { VcpuCount = 3 }, TestContext.Current.CancellationToken);
        await machine.WaitForLineAsync(Running);

        MachineResult result = await machine.StopAsync();

        Assert.Equal([0u, 1u, 2u], result.Reports.Select(report => report.Vcpu));
        Assert.Contains("who       vCPU 2, VMPL", result.ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public async Task WaitForEnd_OfAHungRun_FailsWithRegistersAndSymbols()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { Timeout = TimeSpan.FromSeconds(15) }, TestContext.Current.CancellationToken);

        var exception = await Assert.ThrowsAsync<MachineTestException>(machine.WaitForEndAsync);

        Assert.Contains("The run hung.", exception.Message, StringComparison.Ordinal);
        Assert.Contains("who       vCPU 0, VMPL", exception.Message, StringComparison.Ordinal);
        Assert.Contains("RAX ", exception.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WaitForLine_ThatNeverComes_FailsWithTheEndOfTheRun()
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:7");
        await using MachineTest machine = await StartAsync(image);

        var exception = await Assert.ThrowsAsync<MachineTestException>(() => machine.WaitForLineAsync("no such line"));

        Assert.Contains("'no such line'", exception.Message, StringComparison.Ordinal);
        Assert.Contains("The guest ended the run with status 7.", exception.Message, StringComparison.Ordinal);
        Assert.Equal(7, (await machine.WaitForEndAsync()).ExitStatus);
    }

    [Fact]
    public async Task Attack_OnARunningGuest_ActsAtOnce()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await StartAsync(image);
        await machine.WaitForLineAsync(Running);

        await machine.AttackAsync(Attack.InjectNmi(AttackTime.AtExit(1, vmpl: 2)));
        MachineResult result = await machine.WaitForEndAsync();

        Assert.Equal(AttackOutcome.Done, Assert.Single(result.Attacks).Outcome);
        Assert.True(result.ExitStatus == 3, result.ToString());
    }

    [Fact]
    public async Task Attack_ThatBeginsWithTheLaunch_IsRefused()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop");
        await using MachineTest machine = await StartAsync(image);

        await Assert.ThrowsAsync<ArgumentException>(() => machine.AttackAsync(Attack.CorruptParameters(1)));
    }

    [Fact]
    public async Task Machines_InParallel_DoNotDisturbEachOther()
    {
        int[] statuses = [11, 22, 33];

        MachineResult[] results = await Task.WhenAll(statuses.Select(async status =>
        {
            using ImageUnderTest image = ImageUnderTest.Build($"exit:{status}");
            await using MachineTest machine = await StartAsync(image);
            return await machine.WaitForEndAsync();
        }));

        Assert.Equal(statuses, results.Select(result => result.ExitStatus ?? -1));
    }

    private static Task<MachineTest> StartAsync(ImageUnderTest image) => MachineTest.StartAsync(image.Options(), TestContext.Current.CancellationToken);
}
