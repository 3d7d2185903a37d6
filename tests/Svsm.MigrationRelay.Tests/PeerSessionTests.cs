// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias relay;

using System;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using relay::Svsm.Migration;
using relay::Svsm.Migration.Relay;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.MigrationRelay.Tests;

/// <summary>Numbered frames in both directions over connections that break; files of releases; speeds.</summary>
public sealed class PeerSessionTests : IDisposable
{
    private static readonly RelayLimits s_limits = new() { Unacknowledged = 20_000, Incoming = 4, AcknowledgeEvery = 8, Pause = TimeSpan.FromMilliseconds(1) };

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-release-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    public async Task Frames_BrokenConnections_ComeOnceAndInOrder(int fault)
    {
        const int Count = 300;
        for (int seed = 0; seed < 30; seed++)
        {
            using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
            var here = new PeerSession(s_limits, TimeProvider.System);
            var there = new PeerSession(s_limits, TimeProvider.System);
            var options = new SendOptions { Machine = "", Host = "127.0.0.1", Port = 0, Limits = s_limits };
            using var listener = new PeerListener(new IPEndPoint(IPAddress.Loopback, 0), options, there, _ => { });
            await using var network = new BadNetwork(listener.Address, (Fault)fault, seed, breaks: 25, most: 6000);
            var caller = new PeerCaller(options with { Port = network.Port }, RandomNumberGenerator.GetBytes(16), here, _ => { });
            Task[] links = [caller.RunAsync(end.Token), listener.RunAsync(end.Token)];
            Task[] work = [PutAsync(here, seed), TakeAsync(there, seed), PutAsync(there, ~seed), TakeAsync(here, ~seed)];

            Task all = Task.WhenAll(work);
            Assert.Same(all, await Task.WhenAny([all, .. links]));
            await all;
            Assert.True(here.KeptBytes <= s_limits.Unacknowledged);
            await end.CancelAsync();
            await Task.WhenAll(links).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
            Assert.Equal(here.BytesSent, there.BytesReceived);
            Assert.Equal(there.BytesSent, here.BytesReceived);

            async Task PutAsync(PeerSession session, int seed)
            {
                var random = new Random(seed);
                for (int i = 0; i < Count; i++)
                {
                    await session.SendAsync(Numbered(random, i), end.Token);
                    Assert.True(session.KeptBytes <= s_limits.Unacknowledged);
                }
            }

            async Task TakeAsync(PeerSession session, int seed)
            {
                var random = new Random(seed);
                for (int i = 0; i < Count; i++)
                {
                    Assert.Equal(Numbered(random, i).Bytes, (await session.ReceiveAsync(end.Token)).Bytes);
                }
            }
        }

        static RelayFrame Numbered(Random random, int number)
        {
            byte[] contents = new byte[random.Next(4, 400)];
            random.NextBytes(contents);
            BitConverter.TryWriteBytes(contents, number);
            return RelayFrame.Make(FrameKind.Record, contents);
        }
    }

    [Fact]
    public async Task SendAsync_NothingAcknowledged_WaitsAtTheLimit()
    {
        var session = new PeerSession(s_limits, TimeProvider.System);
        RelayFrame frame = RelayFrame.Make(FrameKind.Record, new byte[4992]);
        for (int i = 0; i < 4; i++)
        {
            await session.SendAsync(frame, TestContext.Current.CancellationToken);
        }

        Task waits = session.SendAsync(frame, TestContext.Current.CancellationToken);
        Assert.False(waits.IsCompleted);
        session.WaitNever();
        await waits;
        Assert.Equal(20_000, session.KeptBytes);
        session.Finish();
        await session.SendAsync(frame, TestContext.Current.CancellationToken);
    }

    [Fact]
    public async Task Listener_CannotAccept_IsNamed()
    {
        var options = new SendOptions { Machine = "", Host = "", Port = 0, Limits = s_limits };
        using var listener = new PeerListener(new IPEndPoint(IPAddress.Loopback, 0), options, new PeerSession(s_limits, TimeProvider.System), _ => { });
        Task running = listener.RunAsync(TestContext.Current.CancellationToken);

        listener.Dispose();

        Assert.Equal("SVSM7106", (await Assert.ThrowsAsync<SvsmDiagnosticException>(() => running)).Diagnostic.Code);
    }

    // Everything has gone, and the connection breaks before that was acknowledged: the next one may say that it has come.
    [Fact]
    public async Task DrainAsync_ConnectionBreaks_WaitsForTheNextOne()
    {
        var session = new PeerSession(s_limits with { Close = TimeSpan.FromMilliseconds(1) }, TimeProvider.System);
        RelayFrame frame = RelayFrame.Make(FrameKind.Relay, RelayVerb.End);
        await session.SendAsync(frame, TestContext.Current.CancellationToken);
        using var first = await Pair.MakeAsync();
        Task running = session.RunAsync(first.Here, 0, TestContext.Current.CancellationToken);
        byte[] bytes = new byte[frame.Bytes.Length];
        await first.There.ReadExactlyAsync(bytes, TestContext.Current.CancellationToken);
        Task draining = session.DrainAsync(TestContext.Current.CancellationToken);
        first.There.Dispose();
        await Assert.ThrowsAnyAsync<IOException>(() => running);

        await Task.Delay(TimeSpan.FromMilliseconds(100), TestContext.Current.CancellationToken);
        Assert.False(draining.IsCompleted);

        using var second = await Pair.MakeAsync();
        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        running = session.RunAsync(second.Here, 1, end.Token);
        await draining;
        await end.CancelAsync();
        await running.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
    }

    [Fact]
    public void ReleaseFile_Tried_LeavesNothing()
    {
        string path = Path.Combine(_folder.FullName, "file");
        ReleaseFile.Try(path);
        Assert.Empty(_folder.GetFileSystemInfos());

        File.WriteAllText(path, "another guest");
        Assert.Equal("SVSM7108", Assert.Throws<SvsmDiagnosticException>(() => ReleaseFile.Try(path)).Diagnostic.Code);
        Assert.Equal("SVSM7108", Assert.Throws<SvsmDiagnosticException>(() => ReleaseFile.Try(Path.Combine(path, "file"))).Diagnostic.Code);
        Assert.Equal("another guest", File.ReadAllText(path));
        Assert.Single(_folder.GetFileSystemInfos());
    }

    [Fact]
    public async Task ReleaseFile_EveryDamage_IsNamed()
    {
        string path = Path.Combine(_folder.FullName, "file");
        byte[] state = RandomNumberGenerator.GetBytes(100);
        RelayFrame part = RelayFrame.Make(FrameKind.Machine, [MachineVerb.Part], state);
        RelayFrame last = RelayFrame.Make(FrameKind.Machine, [MachineVerb.End, .. BitConverter.GetBytes(100UL)], SHA256.HashData(state));
        byte[] record = new byte[ReleaseFile.ReleaseLength];
        record[4] = (byte)RecordType.Release;
        RelayFrame release = RelayFrame.Make(FrameKind.Record, record);
        ReleaseFile.Write(path, release);
        ReleaseFile.Replace(path, [part, last], release);
        byte[] good = File.ReadAllBytes(path);
        Assert.Equal([.. part.Bytes, .. last.Bytes, .. release.Bytes], good);
        (System.Collections.Generic.IReadOnlyList<RelayFrame> frames, RelayFrame read) = await ReleaseFile.ReadAsync(path, 100, CancellationToken.None);
        Assert.Equal((2, release.Bytes.Length), (frames.Count, read.Bytes.Length));
        Assert.Equal("SVSM7108", Assert.Throws<SvsmDiagnosticException>(() => ReleaseFile.Write(path, release)).Diagnostic.Code);
        await AssertBadAsync(good, 99);

        for (int length = 0; length < good.Length; length++)
        {
            await AssertBadAsync(good[..length], 100);
        }

        // What is in the record, nobody but the target can check.
        for (int at = 0; at < good.Length - ReleaseFile.ReleaseLength; at++)
        {
            byte[] bad = [.. good];
            bad[at] ^= 0x10;
            await AssertBadAsync(bad, 100);
        }

        await AssertBadAsync([.. good, 0], 100);
        await AssertBadAsync([.. last.Bytes, .. release.Bytes], 100);
        await AssertBadAsync([.. part.Bytes, .. release.Bytes], 100);
        await AssertBadAsync([.. good, .. release.Bytes], 100);
        File.Delete(path);
        await AssertNamedAsync(100);

        // Alone, for machines that give no state.
        ReleaseFile.Write(path, release);
        Assert.Empty((await ReleaseFile.ReadAsync(path, 100, CancellationToken.None)).State);
        Assert.Single(_folder.GetFileSystemInfos());

        async Task AssertBadAsync(byte[] bytes, int limit)
        {
            File.WriteAllBytes(path, bytes);
            await AssertNamedAsync(limit);
        }

        async Task AssertNamedAsync(int limit)
        {
            var failure = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => ReleaseFile.ReadAsync(path, limit, CancellationToken.None));
            Assert.Equal("SVSM7107", failure.Diagnostic.Code);
        }
    }

    [Fact]
    public void ProgressMeter_TwoNotices_GivesSpeeds()
    {
        var clock = new Svsm.Migration.Tests.TestClock();
        var meter = new ProgressMeter(clock);
        Assert.Null(meter.Take(new Notice(MigrationState.Offer, 0, 0, 0, 0, 0), MigrationState.Offer, 100).Downtime);
        Assert.Equal(0, meter.Take(new Notice(MigrationState.Copying, 0, 0, 1000, 1, 0), MigrationState.Copying, 100).PagesPerSecond);
        clock.Pass(TimeSpan.FromSeconds(2));

        RelayProgress progress = meter.Take(new Notice(MigrationState.Copying, 0, 600, 500, 1, 0), MigrationState.Copying, 4100);

        Assert.Equal((300.0, 50.0, 2000.0), (progress.PagesPerSecond, progress.DirtiedPerSecond, progress.BytesPerSecond));
        Assert.Equal(500 / 300.0, progress.Downtime!.Value.TotalSeconds, 5);

        // Numbers of a hostile one.
        clock.Pass(TimeSpan.FromTicks(1));
        meter.Take(new Notice(MigrationState.Rest, 0, ulong.MaxValue, ulong.MaxValue, uint.MaxValue, 0), MigrationState.Copying, 0);
        clock.Pass(TimeSpan.FromTicks(1));
        Assert.True(meter.Take(new Notice(MigrationState.Rest, 0, 0, ulong.MaxValue, 0, 0), MigrationState.Copying, 0).PagesPerSecond >= 0);
    }

    // Both ends of a connection.
    private sealed record Pair(NetworkStream Here, NetworkStream There) : IDisposable
    {
        public static async Task<Pair> MakeAsync()
        {
            using var listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
            listener.Listen();
            var here = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            await here.ConnectAsync(listener.LocalEndPoint!, TestContext.Current.CancellationToken);
            return new Pair(new NetworkStream(here, ownsSocket: true), new NetworkStream(await listener.AcceptAsync(TestContext.Current.CancellationToken), ownsSocket: true));
        }

        public void Dispose()
        {
            Here.Dispose();
            There.Dispose();
        }
    }
}
