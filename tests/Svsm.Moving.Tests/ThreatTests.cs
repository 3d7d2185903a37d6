// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Targets and guests that are not each other's, and relays that bring one what is another one's: rows of the table "Threats" of docs/migration-protocol.md, between
// machines. The guest stays at the source, and moves to the right target in the end. What a relay does to a single stream: AttackTests.cs; the same against
// the protocol without machines: tests/Svsm.Migration.Tests/ThreatTests.cs.

using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Builder;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Moving.Tests;

public sealed class ThreatTests
{
    private const int PagesBefore = 10;

    // In HELLO.
    private const int VersionOffset = 0x0C;
    private const ulong DebuggingAllowed = 1ul << 19;

    private static readonly (string Name, Func<SvsmImageOptions, SvsmImageOptions> Alter)[] s_otherImages =
    [
        ("another author's", image => image with { Identity = image.Identity! with { AuthorKeyPem = MovingPair.NewKey() } }),
        ("one of nobody", image => image with { Identity = image.Identity! with { AuthorKeyPem = null } }),
        ("an older one", image => image with { Identity = image.Identity! with { GuestSvn = image.Identity.GuestSvn - 1 } }),
        ("one of another family", image => image with { Identity = image.Identity! with { FamilyId = new byte[16] } }),
        ("one for debugging", image => image with { Policy = image.Policy | DebuggingAllowed }),
    ];

    [Fact]
    public async Task WrongTargetAndWrongGuest_NothingIsSent_AndTheGuestStays()
    {
        await using MovingPair pair = await MovingPair.StartAsync("moving:64", 1);
        foreach ((string name, Func<SvsmImageOptions, SvsmImageOptions> alter) in s_otherImages)
        {
            pair.BuildOther("other", alter);
            await pair.StartTargetAsync("other");
            await RefusesAsync(pair, name, MigrationReason.NotTrusted, MigrationReason.NotThisGuest);
        }

        await pair.StartTargetAsync(alter: machine => machine with { ChipFolder = pair.PathOf("a chip whose keys somebody knows") });
        await RefusesAsync(pair, "another root", MigrationReason.NotTrusted);
        byte[] data = new byte[MachineOptions.HostDataLength];
        data[^1] = 1;
        await pair.StartTargetAsync(alter: machine => machine with { HostData = data });
        await RefusesAsync(pair, "another guest's", MigrationReason.NotThisGuest);

        await pair.StartTargetAsync();
        await MoveAsync(pair);
    }

    // It has a guest of its own making to give.
    [Fact]
    public async Task WrongSource_NothingIsTaken()
    {
        await using MovingPair pair = await MovingPair.StartAsync("moving:64", 1);
        pair.BuildOther("other", s_otherImages[0].Alter);
        await pair.StartSourceAsync("other");
        using var relay = new TestRelay(pair);
        await relay.BeginAsync();
        Notice target = await relay.WaitForAsync(ofSource: false, MigrationState.Aborted, TestContext.Current.CancellationToken);
        Assert.Equal((MigrationReason.NotTrusted, 0ul), (target.Reason, target.Pages));
        Assert.Equal(MachineStop.Terminate, (await pair.Target.WaitForEndAsync()).Stop);
        MovingGuest.AssertHasNotRun(pair.Target);
    }

    [Fact]
    public async Task RelayThatBringsWhatIsAnotherOnes_EndsTheMigration_AndTheGuestStays()
    {
        await using MovingPair pair = await MovingPair.StartAsync("moving:64", 2);

        // Downgrade: the version below the lowest; a version that the other one has not said.
        foreach ((bool ofSource, byte version) in ((bool, byte)[])[(true, 0), (true, 2), (false, 0), (false, 2)])
        {
            IEnumerable<Frame> Script(Frame frame)
            {
                if (frame.IsHello)
                {
                    frame.Contents[VersionOffset] = version;
                }

                return [frame];
            }

            using (TestRelay relay = ofSource ? new TestRelay(pair) { FromSource = Script } : new TestRelay(pair) { FromTarget = Script })
            {
                await relay.BeginAsync();
                await EndsBeforeAnythingIsSentAsync(relay, $"version {version} of the {(ofSource ? "source" : "target")}", MigrationReason.NotTrusted, MigrationReason.VersionUnknown);
            }

            await StaysAsync(pair);
        }

        // Clone: a second target hears all that the first one hears.
        var pages = new ConcurrentQueue<Frame>();
        (MachineTest second, string socket) = await pair.StartMachineAsync(MigrationRole.Target);
        await using (second)
        {
            using var end = new RelayEnd(socket);
            await end.SendAsync(new Frame(FrameKind.Local, [1, 2]), TestContext.Current.CancellationToken);
            using var relay = new TestRelay(pair)
            {
                FromSource = frame =>
                {
                    if (frame.RecordType == RecordType.Page)
                    {
                        pages.Enqueue(frame);
                    }

                    end.SendAsync(frame, TestContext.Current.CancellationToken).GetAwaiter().GetResult();
                    return [frame];
                },
            };
            await relay.BeginAsync();
            await relay.WaitForAsync(ofSource: true, MigrationState.Copying, TestContext.Current.CancellationToken);
            Assert.Equal(MachineStop.Terminate, (await second.WaitForEndAsync()).Stop);
            MovingGuest.AssertHasNotRun(second);
            await Polling.UntilAsync("pages", () => pages.Count > PagesBefore);
            await relay.CancelAsync(ofSource: true);
            await relay.WaitForAsync(ofSource: true, MigrationState.Aborted, TestContext.Current.CancellationToken);
        }

        await StaysAsync(pair);

        // Splice: a record of that migration comes in this one, in its place.
        int count = 0;
        using (var relay = new TestRelay(pair) { FromSource = Splice })
        {
            await relay.BeginAsync();
            Notice target = await relay.WaitForAsync(ofSource: false, MigrationState.Aborted, TestContext.Current.CancellationToken);
            Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Aborted, TestContext.Current.CancellationToken);
            Assert.Equal((MigrationReason.NotAuthentic, MigrationReason.NotAuthentic), (target.Reason, source.Reason));
        }

        await StaysAsync(pair);
        List<Frame> moved = await MoveAsync(pair);

        // Rollback: all of it is played to a target that waits.
        await pair.StartTargetAsync();
        using (var end = new RelayEnd(pair.TargetSocket))
        {
            await end.SendAsync(new Frame(FrameKind.Local, [1, 2]), TestContext.Current.CancellationToken);
            foreach (Frame frame in moved)
            {
                await end.SendAsync(frame, TestContext.Current.CancellationToken);
            }

            Assert.Equal(MachineStop.Terminate, (await pair.Target.WaitForEndAsync()).Stop);
            MovingGuest.AssertHasNotRun(pair.Target);
        }

        IEnumerable<Frame> Splice(Frame frame) => [frame.RecordType == RecordType.Page && count++ == PagesBefore ? pages.ElementAt(PagesBefore) : frame];
    }

    // Whoever does not trust the other one has no key to tell it by: that one hears nothing, and is told to end here.
    private static async Task RefusesAsync(MovingPair pair, string what, params MigrationReason[] reasons)
    {
        using (var relay = new TestRelay(pair))
        {
            await relay.BeginAsync();
            await EndsBeforeAnythingIsSentAsync(relay, what, reasons);
        }

        MovingGuest.AssertHasNotRun(pair.Target);
        await MovingGuest.GoesOnAsync(pair.Source);
    }

    private static async Task EndsBeforeAnythingIsSentAsync(TestRelay relay, string what, params MigrationReason[] reasons)
    {
        Task<Notice> source = relay.WaitForAsync(ofSource: true, MigrationState.Aborted, TestContext.Current.CancellationToken);
        Task<Notice> target = relay.WaitForAsync(ofSource: false, MigrationState.Aborted, TestContext.Current.CancellationToken);
        Notice first = await await Task.WhenAny(source, target);
        Assert.True(reasons.Contains(first.Reason), $"{what}: reason {first.Reason}");
        if (!source.IsCompleted)
        {
            await relay.CancelAsync(ofSource: true);
        }

        Assert.Equal(0ul, (await source).Pages);
        if (!target.IsCompleted)
        {
            await relay.CancelAsync(ofSource: false);
        }

        Assert.Equal(0ul, (await target).Pages);
    }

    private static async Task StaysAsync(MovingPair pair)
    {
        MovingGuest.AssertHasNotRun(pair.Target);
        await MovingGuest.GoesOnAsync(pair.Source);
        await pair.StartTargetAsync();
    }

    // To the right one. Returns what the source has said.
    private static async Task<List<Frame>> MoveAsync(MovingPair pair)
    {
        List<Frame> said = [];
        using (var relay = new TestRelay(pair)
        {
            FromSource = frame =>
            {
                said.Add(frame);
                return [frame];
            },
        })
        {
            await relay.BeginAsync();
            Notice source = await relay.WaitForAsync(ofSource: true, MigrationState.Ended, TestContext.Current.CancellationToken);
            Assert.Equal((MigrationState.Ended, MigrationReason.None), (source.State, source.Reason));
        }

        await MovingGuest.GoesOnAsync(pair.Target);
        await MovingGuest.EndAsync(pair.Target);
        return said;
    }
}
