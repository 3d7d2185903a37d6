// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A relay that attacks, between two machines. Whatever it does before the hand-over, the guest goes on at the source, with its memory, and the target never runs
// it; after the hand-over the guest runs at the target alone, once the release has come there. The same against the protocol without machines:
// tests/Svsm.Migration.Tests/ThreatTests.cs.

using System;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Wire;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class AttackTests
{

    [Fact]
    public Task ChangedStream_EndsTheMigration_AndTheGuestStays() => ChangeAsync("flip text");

    // RandomTests has some of them, and the protocol's own tests have all and more.
    [Theory]
    [Trait("Run", "all")]
    [InlineData("drop")]
    [InlineData("replay")]
    [InlineData("flip tag")]
    [InlineData("flip address")]
    [InlineData("repeat")]
    [InlineData("swap")]
    [InlineData("truncate")]
    [InlineData("kind")]
    public Task ChangedStreamOtherwise_EndsTheMigration_AndTheGuestStays(string change) => ChangeAsync(change);

    private static async Task ChangeAsync(string change)
    {
        int pages = 0;
        Frame held = default;
        IEnumerable<Frame> Script(Frame frame)
        {
            if (frame.RecordType != RecordType.Page || ++pages is not (10 or 11))
            {
                return [frame];
            }

            if (pages == 11)
            {
                return change == "swap" ? [frame, held] : change == "replay" ? [held] : [frame];
            }

            held = frame;
            byte[] changed = [.. frame.Contents];
            switch (change)
            {
                case "flip text":
                    changed[0x100] ^= 1;
                    break;
                case "flip tag":
                    changed[^1] ^= 0x80;
                    break;
                case "flip address":
                    changed[0x12] ^= 1;
                    break;
                case "truncate":
                    changed = changed[..^16];
                    break;
                case "kind":
                    return [frame with { Kind = FrameKind.Clear }];
                case "drop" or "swap":
                    return [];
                case "repeat":
                    return [frame, frame];
                default:
                    return [frame];
            }

            return [frame with { Contents = changed }];
        }

        await using MovingPair pair = await MovingPair.StartAsync("moving:64", 1);
        using var relay = new TestRelay(pair) { FromSource = Script };
        await relay.BeginAsync();
        Notice target = await relay.WaitForAsync(ofSource: false, MigrationState.Aborted, TestContext.Current.CancellationToken);
        Assert.Equal(change == "kind" ? MigrationReason.Malformed : MigrationReason.NotAuthentic, target.Reason);
        Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Aborted, TestContext.Current.CancellationToken);
        Assert.Equal(target.Reason, source.Reason);
        await StaysAsync(pair);
    }

    [Fact]
    public async Task Cancelled_TheGuestStays_AndMovesLater()
    {
        await using MovingPair pair = await MovingPair.StartAsync("moving:512", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        await relay.WaitForAsync(ofSource: true, MigrationState.Copying, TestContext.Current.CancellationToken);
        await relay.CancelAsync(ofSource: true);
        Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Aborted, TestContext.Current.CancellationToken);
        Assert.Equal(MigrationReason.Cancelled, source.Reason);
        await StaysAsync(pair);
    }

    // It writes faster than its pages go, so it is paced from the second round on; and then it is not any more.
    [Fact]
    public async Task CancelledWhilePaced_TheGuestWritesAgainAsItLikes()
    {
        await using MovingPair pair = await MovingPair.StartAsync("touching:2000", 2);
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        await Polling.UntilAsync("the third round", () => relay.SourceNotice is { Round: >= 3 } or { State: > MigrationState.Copying });
        Assert.Equal(MigrationState.Copying, relay.SourceNotice.State);
        await relay.CancelAsync(ofSource: true);
        Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Aborted, TestContext.Current.CancellationToken);
        Assert.Equal((MigrationReason.Cancelled, 0ul), (source.Reason, source.PagesOfRest));
        await MovingGuest.GoesOnAsync(pair.Source);
        await StaysAsync(pair);
    }

    // The source has given up; until its release comes, nobody runs the guest, and then the target does. The release may come again and again.
    [Fact]
    public async Task LostRelease_NobodyRunsTheGuest_UntilItComes()
    {
        bool isLost = true;
        await using MovingPair pair = await MovingPair.StartAsync("moving:64", 2);
        using var relay = new TestRelay(pair) { FromSource = frame => frame.RecordType == RecordType.Release && isLost ? [] : [frame] };
        await relay.BeginAsync();
        await relay.WaitForAsync(ofSource: true, MigrationState.HandedOver, TestContext.Current.CancellationToken);
        await relay.WaitForAsync(ofSource: false, MigrationState.HandedOver, TestContext.Current.CancellationToken);
        await relay.CancelAsync(ofSource: true);
        Assert.Equal(MigrationState.HandedOver, (await relay.WaitForAsync(ofSource: true, MigrationState.HandedOver, TestContext.Current.CancellationToken)).State);

        isLost = false;
        await relay.BeginAsync(ofSource: true);
        Assert.Equal(MigrationState.Ended, (await relay.WaitForAsync(ofSource: false, MigrationState.Ended, TestContext.Current.CancellationToken)).State);
        await pair.Target.WaitForLineAsync("moving: round", (int)Vmpl.Vmpl2);
        await MovingGuest.EndAsync(pair.Target);

        // Nothing of the guest has happened at the source since it has given up.
        string source = (await pair.Source.StopAsync()).ConsoleText((int)Vmpl.Vmpl2);
        Assert.DoesNotContain("passed", source, StringComparison.Ordinal);
    }

    // It looks at all its memory once more before it ends.
    private static async Task StaysAsync(MovingPair pair)
    {
        MachineResult target = await pair.Target.WaitForEndAsync();
        Assert.Equal(MachineStop.Terminate, target.Stop);
        Assert.Equal("", target.ConsoleText((int)Vmpl.Vmpl2));
        await MovingGuest.EndAsync(pair.Source);
    }
}
