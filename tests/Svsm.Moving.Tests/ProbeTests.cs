// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The probe guest, which writes its memory on all vCPUs and looks whether it is there, is moved.

using System;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class ProbeTests
{

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Guest_GoesOnAtTheTarget(int vcpuCount)
    {
        await using MovingPair pair = await MovingPair.StartAsync("moving:512", vcpuCount);
        await pair.Source.WaitForLineAsync("moving: round 8,", (int)Vmpl.Vmpl2);
        await pair.Target.WaitForLineAsync("waits for a guest from another machine", (int)Vmpl.Vmpl0);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Ended, TestContext.Current.CancellationToken);
        Assert.Equal((MigrationState.Ended, MigrationReason.None), (source.State, source.Reason));
        await pair.Target.WaitForLineAsync("moving: round", (int)Vmpl.Vmpl2);
        await pair.Target.TypeAsync("q");
        MachineResult result = await pair.Target.WaitForEndAsync();
        Assert.True(result.ExitStatus == 0, result.ToString());
    }
}
