// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A page is copied when no processor can write it through an old translation any more. Without the flush behind the loss of rights a run stops: TCG alone would hide it.

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.EndToEnd.Tests;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class FlushTests
{
    [Fact]
    public async Task Kernel_WithoutTheFlushOfTakenPages_StopsTheRun()
    {
        KernelCall[] calls = [.. KernelCall.Find(MovingPair.KernelPath, "svsm_x64_invlpgb").Where(call => call.Function.Contains("GuestMove", StringComparison.Ordinal))];
        KernelCall call = Assert.Single(calls);
        Assert.EndsWith("Take", call.Function, StringComparison.Ordinal);
        await using MovingPair pair = await MovingPair.StartAsync("moving:256", 2, alterKernel: call.Remove);
        await pair.Source.WaitForLineAsync("moving: round", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        MachineResult source = await pair.Source.WaitForEndAsync();
        Assert.True(source.Violation == ViolationKind.StaleTranslation, source.ToString());
        Assert.Equal(0u, source.Report!.Value.Vmpl);
    }
}
