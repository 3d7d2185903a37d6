// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Tasks of the kernel while the guest has its CPU and never calls: tests/Svsm.SelfCheck leaves one that loops, one that sleeps, and one on
// another CPU, which halts (Svsm.Core/Kernel/Diagnostics/TaskCheck.cs).

using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed class PreemptionTests
{
    [Fact]
    public async Task Tick_GuestAndATaskLoop_EndsASleepAndWakesAHaltedCpu()
    {
        using ImageUnderTest image = ImageUnderTest.Build("loop", selfCheck: true);
        await using MachineTest machine = await MachineTest.StartAsync(image.Options() with { VcpuCount = 2 }, TestContext.Current.CancellationToken);

        await machine.WaitForLineAsync("svsm: self-check: a deadline passed, whoever had the CPU", vmpl: 0);
        await machine.WaitForLineAsync("svsm: self-check: a task was woken on CPU 1", vmpl: 0);
        await machine.WaitForLineAsync("probe: running for ever", vmpl: 2);

        MachineResult result = await machine.StopAsync();
        Assert.Equal(MachineStop.Stopped, result.Stop);
    }
}
