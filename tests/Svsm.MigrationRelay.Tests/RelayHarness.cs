// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A guest, two machines, and what is between them.

extern alias relay;

using System;
using System.Collections.Concurrent;
using System.IO;
using System.Net;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using relay::Svsm.Migration.Relay;
using Svsm.Migration;
using Svsm.Migration.Tests;
using Xunit;
using Relays = relay::Svsm.Migration.Relay.MigrationRelay;

namespace Svsm.MigrationRelay.Tests;

/// <summary>Two machines, and relays for them.</summary>
internal sealed class RelayHarness : IAsyncDisposable
{
    private static readonly TimeSpan s_patience = TimeSpan.FromHours(1);

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-relay-");
    private readonly CancellationTokenSource _sendEnd = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
    private readonly CancellationTokenSource _receiveEnd = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);

    public RelayHarness(
        LaunchFixture fixture,
        int pages = 40,
        int seed = 1,
        bool skipsProof = true,
        Func<RelayHarness, FakeMachine>? source = null,
        Func<RelayHarness, FakeMachine>? target = null)
    {
        Guest = new SourceModel(pages, seed);
        MigrationPolicy policy = fixture.Policy();
        Source = new MigrationSource(Guest, fixture.Source.Peer, policy, Clock, s_patience);
        Target = new MigrationTarget(TargetGuest, fixture.Target.Peer, policy, Clock, s_patience);
        byte[] secrets = RandomNumberGenerator.GetBytes(96);
        BeginSource = skipsProof ? () => Source.Trust(secrets[..48], secrets[48..]) : Source.Begin;
        bool isTrusted = false;
        BeginTarget = () =>
        {
            if (skipsProof && !isTrusted)
            {
                isTrusted = true;
                Target.Trust(secrets[..48], secrets[48..]);
            }
        };
        State = new byte[150_000];
        new Random(seed).NextBytes(State);
        SourceMachine = source?.Invoke(this) ?? NewSource();
        TargetMachine = target?.Invoke(this) ?? NewTarget();
    }

    public TestClock Clock { get; } = new();

    public SourceModel Guest { get; }

    public TargetModel TargetGuest { get; } = new();

    public MigrationSource Source { get; }

    public MigrationTarget Target { get; }

    public Action BeginSource { get; }

    public Action BeginTarget { get; }

    public byte[] State { get; }

    public FakeMachine SourceMachine { get; }

    public FakeMachine TargetMachine { get; }

    public ConcurrentQueue<string> SendLog { get; } = [];

    public ConcurrentQueue<string> ReceiveLog { get; } = [];

    public ConcurrentQueue<RelayProgress> Progress { get; } = [];

    public CancellationTokenSource CancelSend { get; } = new();

    public CancellationTokenSource CancelReceive { get; } = new();

    public CancellationTokenSource EndSend => _sendEnd;

    public CancellationTokenSource EndReceive => _receiveEnd;

    public RelayLimits Limits { get; set; } = new() { Pause = TimeSpan.FromMilliseconds(1) };

    public TimeSpan Retry { get; set; } = TimeSpan.FromSeconds(60);

    public string ReleaseFile => At("guest.release");

    public string At(string name) => Path.Combine(_folder.FullName, name);

    public FakeMachine NewSource(int writes = 0) => new(At("source"), Source, Guest, BeginSource) { State = State, Writes = writes };

    public FakeMachine NewTarget() => new(At("target"), Target, null, BeginTarget);

    public Task<RelayOutcome> SendAsync(int port, string? machine = null) => Task.Run(() => Relays.SendAsync(new SendOptions
    {
        Machine = machine ?? At("source"),
        Host = "127.0.0.1",
        Port = port,
        ReleaseFile = ReleaseFile,
        Retry = Retry,
        Log = SendLog.Enqueue,
        Progress = Progress.Enqueue,
        Cancel = CancelSend.Token,
        End = _sendEnd.Token,
        Limits = Limits,
    }));

    public async Task<(Task<RelayOutcome> Relay, IPEndPoint Address)> ReceiveAsync(string? machine = null)
    {
        var listening = new TaskCompletionSource<IPEndPoint>(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<RelayOutcome> relay = Task.Run(() => Relays.ReceiveAsync(new ReceiveOptions
        {
            Machine = machine ?? At("target"),
            Listen = new IPEndPoint(IPAddress.Loopback, 0),
            Listening = listening.SetResult,
            Retry = Retry,
            Log = ReceiveLog.Enqueue,
            Cancel = CancelReceive.Token,
            End = _receiveEnd.Token,
            Limits = Limits,
        }));
        if (await Task.WhenAny(relay, listening.Task) == relay)
        {
            await relay;
        }

        return (relay, await listening.Task);
    }

    public Task<RelayOutcome> ReleaseAsync(string file) => Task.Run(() => Relays.ReceiveAsync(new ReceiveOptions
    {
        Machine = At("target"),
        ReleaseFile = file,
        Log = ReceiveLog.Enqueue,
        Cancel = CancelReceive.Token,
        Limits = Limits,
    }));

    /// <summary>Both relays over a network.</summary>
    public async Task<(RelayOutcome Sent, RelayOutcome Received)> MoveAsync(Fault fault = Fault.None, int seed = 0, int breaks = 0, int most = 1)
    {
        (Task<RelayOutcome> receive, IPEndPoint address) = await ReceiveAsync();
        await using var network = new BadNetwork(address, fault, seed, breaks, most);
        RelayOutcome sent = await SendAsync(network.Port);
        return (sent, await receive);
    }

    public void AssertWhole()
    {
        Assert.Equal((MigrationState.Ended, MigrationState.Ended), (Source.State, Target.State));
        Assert.True(TargetGuest.IsRunning);
        Assert.True(Guest.HasGivenUp);
        Assert.Equal(Guest.DigestAtStop, TargetGuest.Model!.Digest());
        Assert.Equal(State, TargetMachine.Taken);
    }

    /// <summary>The guest goes on at the source.</summary>
    public void AssertAtSource()
    {
        Assert.False(Guest.HasGivenUp);
        Assert.False(Guest.IsStopped);
        Assert.False(TargetGuest.IsRunning);
        Assert.False(File.Exists(ReleaseFile));
    }

    public static void AssertEnding(RelayEnding ending, RelayOutcome outcome) => Assert.True(
        ending == outcome.Ending,
        $"{outcome.Ending}, source {outcome.Source}, target {outcome.Target}, {outcome.Reason}: {outcome.Failure?.Message} {outcome.PeerWords}");

    public async ValueTask DisposeAsync()
    {
        try
        {
            await DisposeCoreAsync();
        }
        finally
        {
            _folder.Delete(recursive: true);
        }
    }

    private async Task DisposeCoreAsync()
    {
        await SourceMachine.DisposeAsync();
        await TargetMachine.DisposeAsync();
        Source.Dispose();
        Target.Dispose();
        CancelSend.Dispose();
        CancelReceive.Dispose();
        _sendEnd.Dispose();
        _receiveEnd.Dispose();

        // Whatever relays leave behind would be here.
        if (File.Exists(ReleaseFile))
        {
            File.Delete(ReleaseFile);
        }

        Assert.Empty(_folder.GetFileSystemInfos());
    }
}
