// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The relays of `svsm migrate` between two machines: over TCP, with the state of the hypervisor, and the file of the release.

using System;
using System.IO;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Migration.Relay;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class RelayTests
{
    [Fact]
    public async Task Relays_MoveTheGuest_AndMoveItOn()
    {
        await using MovingPair pair = await MovingPair.StartAsync("moving:256", 2);
        await pair.Source.WaitForLineAsync("moving: round", (int)Vmpl.Vmpl2);
        await MoveAsync(pair, "release");
        await pair.AdvanceAsync();
        await MoveAsync(pair, "second release");
        await MovingGuest.EndAsync(pair.Target);
    }

    private static async Task MoveAsync(MovingPair pair, string name)
    {
        await pair.Target.WaitForLineAsync("waits for a guest", (int)Vmpl.Vmpl0);
        string release = pair.PathOf(name);
        var listening = new TaskCompletionSource<IPEndPoint>(TaskCreationOptions.RunContinuationsAsynchronously);
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        Task<RelayOutcome> receiving = MigrationRelay.ReceiveAsync(new ReceiveOptions
        {
            Machine = pair.TargetSocket,
            Listen = new IPEndPoint(IPAddress.Loopback, 0),
            Listening = address => listening.TrySetResult(address),
            Cancel = cancellation,
            End = cancellation,
        });
        IPEndPoint address = await listening.Task.WaitAsync(cancellation);
        RelayOutcome sent = await MigrationRelay.SendAsync(new SendOptions
        {
            Machine = pair.SourceSocket, Host = "127.0.0.1", Port = address.Port, ReleaseFile = release, Cancel = cancellation, End = cancellation,
        });
        RelayOutcome received = await receiving;
        Assert.Equal((RelayEnding.Running, MigrationState.Ended, MigrationState.Ended), (sent.Ending, sent.Source, sent.Target));
        Assert.Equal(RelayEnding.Running, received.Ending);
        Assert.True(new FileInfo(release).Length > 0);

        // What goes beyond the pages, at most 3 %: without what is said once, and the hypervisor's state.
        Assert.InRange((double)sent.BytesSent - new FileInfo(release).Length - 20_000, 0, sent.Pages * 4096 * 1.03);
        await MovingGuest.GoesOnAsync(pair.Target);
    }
}
