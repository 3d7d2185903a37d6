// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias relay;

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using relay::Svsm.Migration.Relay;
using Svsm.Diagnostics;
using Svsm.Migration;
using Svsm.Migration.Tests;
using Xunit;
using RelayReason = relay::Svsm.Migration.MigrationReason;
using RelayState = relay::Svsm.Migration.MigrationState;

namespace Svsm.MigrationRelay.Tests;

/// <summary>Whole migrations through both relays.</summary>
[Collection(LaunchGroup.Name)]
public sealed class MigrationRelayTests(LaunchFixture fixture)
{
    [Fact]
    public async Task Move_WithProof_RunsAtTheTarget()
    {
        await using var harness = new RelayHarness(fixture, pages: 200, skipsProof: false, source: h => h.NewSource(writes: 1));

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Running, sent);
        RelayHarness.AssertEnding(RelayEnding.Running, received);
        harness.AssertWhole();
        Assert.Equal(harness.ReleaseFile, sent.ReleaseFile);
        Assert.Equal((RelayState.Ended, RelayState.Ended), (sent.Source, sent.Target));
        Assert.Equal(harness.Source.PagesSent, sent.Pages);
        Assert.Equal(harness.Source.Rounds, sent.Rounds);
        Assert.Equal(harness.Source.PagesOfRest, sent.PagesOfRest);
        Assert.True(sent.BytesSent > harness.State.Length);
        Assert.Equal(sent.BytesSent, received.BytesReceived);
        Assert.NotNull(sent.Downtime);
        Assert.Equal(0, sent.Reconnections);
        Assert.Contains(harness.Progress, progress => progress.Source == RelayState.Copying);

        // The file is the state and RELEASE, as they went.
        byte[] file = File.ReadAllBytes(harness.ReleaseFile);
        Assert.Equal(FakeMachine.Bytes(4, [0x81, .. harness.State[..0x1_0000]]), file[..(0x1_0000 + 9)]);
        Assert.Equal([88, 0, 0, 0, 2, 0, 0, 0, 48, 0, 0, 0, 8], file[^96..^83]);
    }

    // The state goes before the release, and the file is there before either.
    [Fact]
    public async Task Move_HandOver_IsInOrder()
    {
        bool? hadFile = null;
        await using var harness = new RelayHarness(fixture, target: h =>
        {
            h.TargetGuest.OnRun = () => hadFile = File.Exists(h.ReleaseFile);
            return h.NewTarget();
        });

        await harness.MoveAsync();

        harness.AssertWhole();
        Assert.True(hadFile);
        string[] order = [.. harness.TargetMachine.Came.Select(frame => (frame.Kind, frame.Contents) switch
        {
            (FrameKind.Machine, [0x82, ..]) => "state",
            (FrameKind.Record, [_, _, _, _, 8, ..]) => "release",
            _ => "",
        }).Where(name => name.Length != 0)];
        Assert.Equal(["state", "release"], order);
    }

    // Connections break where a seed says, also in the middle of a frame, at both relays: nothing is lost, and nothing comes twice, or an end would abort.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Move_BrokenConnections_LosesNothing(int fault)
    {
        for (int seed = 0; seed < 15; seed++)
        {
            // The last acknowledgement may be what is lost: that end calls for so long.
            await using var harness = new RelayHarness(fixture, pages: 60, seed: seed, source: h => h.NewSource(writes: 1)) { Retry = TimeSpan.FromSeconds(10) };
            (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync((Fault)fault, seed, breaks: 12, most: 60_000);
            RelayHarness.AssertEnding(RelayEnding.Running, sent);
            RelayHarness.AssertEnding(RelayEnding.Running, received);
            harness.AssertWhole();
        }
    }

    // The module tells its state before it gives the record that goes with it: the last word of a relay goes behind both.
    [Fact]
    public async Task Move_NoticesBeforeRecords_RunningIsKnownAtTheSource()
    {
        await using var harness = new RelayHarness(
            fixture,
            source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource) { State = h.State, IsNoticeFirst = true },
            target: h => new FakeMachine(h.At("target"), h.Target, null, h.BeginTarget) { IsNoticeFirst = true, Goes = IsLate(RecordType.Running) });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Running, sent);
        RelayHarness.AssertEnding(RelayEnding.Running, received);
        harness.AssertWhole();
    }

    // A target that holds its guest refuses to cancel: ABORT is all that it hears of it.
    [Fact]
    public async Task Abort_NoticeBeforeRecord_BringsTheRecord()
    {
        await using var harness = new RelayHarness(
            fixture,
            source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource) { IsNoticeFirst = true, Goes = IsLate(RecordType.SourceAbort) },
            target: h => new FakeMachine(h.At("target"), h.Target, null, h.BeginTarget) { IsNoticeFirst = true });
        harness.Guest.RefusesToLeave = true;

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        RelayHarness.AssertEnding(RelayEnding.Aborted, received);
        Assert.Equal(MigrationState.Aborted, harness.Target.State);
        Assert.Contains(harness.TargetMachine.Came, frame => TestMigration.TypeOf(frame) == RecordType.SourceAbort);
        harness.AssertAtSource();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Cancel_WhileCopying_GoesOnAtTheSource(bool atReceiver)
    {
        await using var harness = new RelayHarness(fixture, pages: 400, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            // It works until there is something to cancel.
            Works = () =>
            {
                if (h.Source.PagesSent == 100)
                {
                    (atReceiver ? h.CancelReceive : h.CancelSend).Cancel();
                }

                return h.Source.PagesSent < 100;
            },
        });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        RelayHarness.AssertEnding(RelayEnding.Aborted, received);
        Assert.Equal((RelayReason.Cancelled, RelayReason.Cancelled), (sent.Reason, received.Reason));
        Assert.Equal((MigrationState.Aborted, MigrationState.Aborted), (harness.Source.State, harness.Target.State));
        harness.AssertAtSource();
    }

    [Fact]
    public async Task Cancel_AfterGivingUp_IsRefusedAndSaid()
    {
        await using var harness = new RelayHarness(fixture, target: h =>
        {
            h.TargetGuest.HasEarlyClock = true;
            return h.NewTarget();
        });
        harness.Guest.OnGiveUp = harness.CancelSend.Cancel;
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
        Task<RelayOutcome> send = harness.SendAsync(address.Port);
        await UntilAsync(() => harness.SendLog.Any(line => line.StartsWith("it is too late to cancel", StringComparison.Ordinal)), send);
        harness.TargetGuest.HasEarlyClock = false;

        // A target looks at the clock when something comes.
        await UntilAsync(() => harness.TargetMachine.Came.Any(frame => frame.Contents is [_, _, _, _, 8, ..]), send);
        await harness.CancelReceive.CancelAsync();

        RelayHarness.AssertEnding(RelayEnding.Running, await send);
        RelayHarness.AssertEnding(RelayEnding.Running, await receive);
        harness.AssertWhole();
    }

    // A page that is none ends it; who has found it says so, and the other one is told.
    [Fact]
    public async Task Abort_ByTheTarget_IsKnownAtTheSource()
    {
        await using var harness = new RelayHarness(fixture, pages: 100, target: h =>
        {
            h.TargetGuest.TakesAtMost = 20;
            return h.NewTarget();
        });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        RelayHarness.AssertEnding(RelayEnding.Aborted, received);
        Assert.Equal((RelayReason.Failed, RelayReason.Failed), (sent.Reason, received.Reason));
        harness.AssertAtSource();
    }

    [Fact]
    public async Task Abort_ByTheSource_IsKnownAtTheTarget()
    {
        await using var harness = new RelayHarness(fixture);
        harness.Guest.RefusesToStop = true;

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        RelayHarness.AssertEnding(RelayEnding.Aborted, received);
        Assert.Equal((RelayReason.Failed, RelayReason.Failed), (sent.Reason, received.Reason));
        harness.AssertAtSource();
    }

    // Without keys there is no ABORT between the SVSMs; the relays tell each other what theirs have said.
    [Fact]
    public async Task Abort_WithoutTrust_IsKnownAtOnce()
    {
        await using var harness = new RelayHarness(fixture, skipsProof: false, target: h =>
            new FakeMachine(h.At("target"), h.Target, null, h.BeginTarget) { Change = bytes => bytes.Length > 0x400 && bytes[4] == 1 ? Flip(bytes) : bytes });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        Assert.Equal(RelayReason.NotTrusted, sent.Reason);
        RelayHarness.AssertEnding(RelayEnding.Aborted, received);
        Assert.Equal(RelayReason.NotTrusted, received.Reason);
        harness.AssertAtSource();

        // Of the report.
        static byte[] Flip(byte[] bytes)
        {
            bytes[0x100] ^= 1;
            return bytes;
        }
    }

    // The sender dies between the file and the network; the target holds the guest, and an operator brings the release.
    [Fact]
    public async Task Release_ByFile_RunsTheTarget()
    {
        await using var harness = new RelayHarness(fixture) { Retry = TimeSpan.Zero };
        await LoseTheSenderAsync(harness);
        string file = harness.ReleaseFile;

        RelayOutcome released = await harness.ReleaseAsync(file);

        RelayHarness.AssertEnding(RelayEnding.Running, released);
        Assert.True(harness.TargetGuest.IsRunning);
        Assert.Equal(harness.State, harness.TargetMachine.Taken);

        // Once more changes nothing.
        RelayHarness.AssertEnding(RelayEnding.Running, await harness.ReleaseAsync(file));
    }

    // The source's VM is still there, and so is the target's: two new relays do it without the file.
    [Fact]
    public async Task Release_ByNewRelays_RunsTheTarget()
    {
        await using var harness = new RelayHarness(fixture) { Retry = TimeSpan.Zero };
        await LoseTheSenderAsync(harness);
        File.Delete(harness.ReleaseFile);
        harness.Retry = TimeSpan.FromSeconds(60);

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Running, sent);
        RelayHarness.AssertEnding(RelayEnding.Running, received);
        harness.AssertWhole();
    }

    [Fact]
    public async Task Release_TargetThatIsNotHeld_IsLeftAlone()
    {
        await using var harness = new RelayHarness(fixture) { Retry = TimeSpan.Zero };
        await LoseTheSenderAsync(harness);
        await using var other = new RelayHarness(fixture);

        RelayOutcome outcome = await other.ReleaseAsync(harness.ReleaseFile);

        RelayHarness.AssertEnding(RelayEnding.Unreleased, outcome);
        Assert.Equal("SVSM7111", outcome.Failure?.Diagnostic.Code);
        Assert.Equal(MigrationState.Offer, other.Target.State);
        Assert.DoesNotContain(other.TargetMachine.Came, frame => frame.Kind != FrameKind.Local || frame.Contents is not [1, 2]);
    }

    // The target's machine does not take the state: the release is not passed on. It is mended, and the file brought.
    [Fact]
    public async Task State_Refused_KeepsTheReleaseBack()
    {
        await using var harness = new RelayHarness(fixture, target: h =>
        {
            FakeMachine machine = h.NewTarget();
            machine.Refuses = "another \u001b[2Jchipset";
            return machine;
        });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        RelayHarness.AssertEnding(RelayEnding.Unreleased, received);
        Assert.Equal("SVSM7110", received.Failure?.Diagnostic.Code);
        Assert.Contains("another ?[2Jchipset", received.Failure!.Message, StringComparison.Ordinal);
        Assert.Contains("SVSM7110", sent.PeerWords, StringComparison.Ordinal);
        Assert.Equal(RelayState.HandedOver, sent.Target);
        Assert.DoesNotContain(harness.TargetMachine.Came, frame => frame.Contents is [_, _, _, _, 8, ..] && frame.Kind == FrameKind.Record);
        Assert.False(harness.TargetGuest.IsRunning);

        harness.TargetMachine.Refuses = null;
        RelayHarness.AssertEnding(RelayEnding.Running, await harness.ReleaseAsync(sent.ReleaseFile!));
        Assert.True(harness.TargetGuest.IsRunning);
    }

    [Fact]
    public async Task State_Unavailable_KeepsTheReleaseInTheFile()
    {
        await using var harness = new RelayHarness(fixture, source: h =>
        {
            FakeMachine machine = h.NewSource();
            machine.Unavailable = "a device that cannot be moved";
            return machine;
        });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        RelayHarness.AssertEnding(RelayEnding.Unreleased, received);
        Assert.Equal("SVSM7110", sent.Failure?.Diagnostic.Code);
        Assert.Contains("a device that cannot be moved", sent.Failure!.Message, StringComparison.Ordinal);
        Assert.Equal(96, new FileInfo(sent.ReleaseFile!).Length);
        Assert.False(harness.TargetGuest.IsRunning);
    }

    // From the moment at which RELEASE is with the relay, however long the machine takes for its state.
    [Fact]
    public async Task State_NotGivenYet_ReleaseIsInTheFile()
    {
        await using var harness = new RelayHarness(fixture, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            State = h.State,
            Fault = StateFault.Silent,
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
        Task<RelayOutcome> send = harness.SendAsync(address.Port);

        await UntilAsync(() => new FileInfo(harness.ReleaseFile) is { Exists: true, Length: 96 }, send);
        await harness.EndSend.CancelAsync();

        RelayOutcome sent = await send;
        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        Assert.Equal(harness.ReleaseFile, sent.ReleaseFile);
        Assert.Equal(96, new FileInfo(harness.ReleaseFile).Length);
        RelayHarness.AssertEnding(RelayEnding.Unreleased, await receive);
    }

    // RELEASE is with the relay; the machine gives no state, or a wrong one. The file has the release alone.
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(4)]
    public async Task State_NotGiven_KeepsTheReleaseInTheFile(int fault)
    {
        await using var harness = new RelayHarness(fixture, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            State = h.State,
            Fault = (StateFault)fault,
        });
        harness.Limits = harness.Limits with { MachineState = TimeSpan.FromMilliseconds(300) };

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        RelayHarness.AssertEnding(RelayEnding.Unreleased, received);
        Assert.Equal("SVSM7110", sent.Failure?.Diagnostic.Code);
        Assert.Equal(96, new FileInfo(sent.ReleaseFile!).Length);
        Assert.False(harness.TargetGuest.IsRunning);

        // An operator may do without it.
        RelayHarness.AssertEnding(RelayEnding.Running, await harness.ReleaseAsync(sent.ReleaseFile!));
        Assert.True(harness.TargetGuest.IsRunning);
        Assert.Null(harness.TargetMachine.Taken);
    }

    [Fact]
    public async Task State_NoAnswerOfTheTarget_KeepsTheReleaseBack()
    {
        await using var harness = new RelayHarness(fixture, target: h =>
            new FakeMachine(h.At("target"), h.Target, null, h.BeginTarget) { Fault = StateFault.Silent });
        harness.Limits = harness.Limits with { MachineState = TimeSpan.FromMilliseconds(300) };

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        RelayHarness.AssertEnding(RelayEnding.Unreleased, received);
        Assert.Equal("SVSM7110", received.Failure?.Diagnostic.Code);
        Assert.False(harness.TargetGuest.IsRunning);
    }

    // When the relay has state and release, the source's machine may go. That the guest runs, the sender has from the other relay alone: it is not sure of it.
    [Fact]
    public async Task SourceMachine_GoneBehindTheState_RunsAtTheTarget()
    {
        await using var harness = new RelayHarness(fixture, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            State = h.State,
            Fault = StateFault.OffBehind,
        });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        Assert.Equal((RelayState.HandedOver, RelayState.Ended), (sent.Source, sent.Target));
        Assert.Equal(harness.ReleaseFile, sent.ReleaseFile);
        RelayHarness.AssertEnding(RelayEnding.Running, received);
        Assert.True(harness.TargetGuest.IsRunning);
        Assert.Equal(harness.State, harness.TargetMachine.Taken);
    }

    // The source's machine goes off with RELEASE on its way: the relay has it, or the guest is lost.
    [Theory]
    [InlineData(RecordType.Offer)]
    [InlineData(RecordType.Page)]
    [InlineData(RecordType.Finish)]
    [InlineData(RecordType.Release)]
    public async Task SourceMachine_Gone_IsTold(RecordType at)
    {
        await using var harness = new RelayHarness(fixture, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            State = h.State,
            Goes = frame => TestMigration.TypeOf(frame) != at,
        });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        Assert.Equal("SVSM7102", sent.Failure?.Diagnostic.Code);
        Assert.Contains("SVSM7102", received.PeerWords, StringComparison.Ordinal);
        Assert.False(harness.TargetGuest.IsRunning);
        RelayHarness.AssertEnding(at == RecordType.Release ? RelayEnding.Unreleased : RelayEnding.Aborted, sent);
        Assert.Null(sent.ReleaseFile);
    }

    [Theory]
    [InlineData(RecordType.Accept)]
    [InlineData(RecordType.Held)]
    [InlineData(RecordType.Running)]
    public async Task TargetMachine_Gone_IsTold(RecordType at)
    {
        await using var harness = new RelayHarness(fixture, target: h => new FakeMachine(h.At("target"), h.Target, null, h.BeginTarget)
        {
            Goes = frame => TestMigration.TypeOf(frame) != at,
        });

        (RelayOutcome sent, RelayOutcome received) = await harness.MoveAsync();

        Assert.Equal("SVSM7102", received.Failure?.Diagnostic.Code);
        Assert.Contains("SVSM7102", sent.PeerWords, StringComparison.Ordinal);
        RelayHarness.AssertEnding(at == RecordType.Running ? RelayEnding.Unreleased : RelayEnding.Aborted, sent);
        Assert.Equal(at == RecordType.Running, sent.ReleaseFile is not null);
        Assert.Equal(at == RecordType.Running, harness.Guest.HasGivenUp);
        Assert.Equal(at != RecordType.Running, !harness.Guest.IsStopped);
    }

    [Fact]
    public async Task Sender_OtherSession_IsRefused()
    {
        await using var harness = new RelayHarness(fixture, pages: 400, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            State = h.State,
            Works = () => h.Source.PagesSent < 100 || File.Exists(h.At("go")),
        });
        await using var other = new RelayHarness(fixture);
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
        Task<RelayOutcome> send = harness.SendAsync(address.Port);
        await UntilAsync(() => harness.Source.PagesSent == 100, send);

        var refused = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => other.SendAsync(address.Port));

        Assert.Equal("SVSM7109", refused.Diagnostic.Code);
        Assert.False(File.Exists(other.ReleaseFile));
        Assert.DoesNotContain(other.SourceMachine.Came, frame => frame.Contents is [1, ..]);

        // The other one goes on as if nothing had been.
        await harness.CancelSend.CancelAsync();
        RelayHarness.AssertEnding(RelayEnding.Aborted, await send);
        RelayHarness.AssertEnding(RelayEnding.Aborted, await receive);
        harness.AssertAtSource();
    }

    internal static async Task UntilAsync(Func<bool> isSo, params Task[] running)
    {
        while (true)
        {
            bool isOver = running.Any(task => task.IsCompleted);
            if (isSo())
            {
                return;
            }

            Assert.False(isOver);
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            await Task.Yield();
        }
    }

    // Long enough for a relay that does not wait for the record to be over.
    private static Func<MigrationFrame, bool> IsLate(RecordType type) => frame =>
    {
        if (TestMigration.TypeOf(frame) == type)
        {
            Thread.Sleep(300);
        }

        return true;
    };

    // The network is gone from the moment at which the source gives up; so both relays end.
    private static async Task LoseTheSenderAsync(RelayHarness harness)
    {
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
        await using var network = new BadNetwork(address, Fault.None, 0, 0, 0);
        harness.Guest.OnGiveUp = () =>
        {
            network.IsDown = true;
            network.Break();
        };
        RelayOutcome sent = await harness.SendAsync(network.Port);
        RelayOutcome received = await receive;

        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        Assert.Equal("SVSM7104", sent.Failure?.Diagnostic.Code);
        Assert.Equal(harness.ReleaseFile, sent.ReleaseFile);
        RelayHarness.AssertEnding(RelayEnding.Unreleased, received);
        Assert.Equal(RelayState.HandedOver, received.Target);
        Assert.True(harness.Guest.HasGivenUp);
        Assert.False(harness.TargetGuest.IsRunning);
    }
}
