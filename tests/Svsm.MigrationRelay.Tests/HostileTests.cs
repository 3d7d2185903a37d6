// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias relay;

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using relay::Svsm.Migration.Relay;
using Svsm.Diagnostics;
using Svsm.Migration;
using Svsm.Migration.Tests;
using Xunit;

namespace Svsm.MigrationRelay.Tests;

/// <summary>Machines, relays and others that say what they should not, or nothing: a name for each, no hang, nothing left behind.</summary>
[Collection(LaunchGroup.Name)]
public sealed class HostileTests(LaunchFixture fixture)
{
    private static readonly RelayLimits s_short = new()
    {
        Pause = TimeSpan.FromMilliseconds(1),
        Begin = TimeSpan.FromSeconds(1),
        Answer = TimeSpan.FromMilliseconds(100),
        Close = TimeSpan.FromMilliseconds(100),
    };

    /// <summary>What a machine cannot say.</summary>
    public static TheoryData<string> MachineGarbage => new(
        "08110100" + "02000000", "00000000" + "00000000", "01000000" + "0900000000", "01000000" + "02010000FF",
        "01000000" + "0300000081", "01000000" + "0400000082", "01000000" + "0500000003",
        "20000000" + "03000000" + "8109" + new string('0', 60), "FFFFFFFFFFFFFFFFFFFFFFFF");

    [Theory]
    [MemberData(nameof(MachineGarbage))]
    public async Task SourceMachine_Garbage_IsNamed(string garbage)
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var machine = new RawEnd(harness.At("raw"), async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Notice(MigrationState.Copying), end);
            await RawEnd.ReadAsync(stream, 10, end);
            await stream.WriteAsync(Convert.FromHexString(garbage), end);
            await RawEnd.DrainAsync(stream, end);
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();

        RelayOutcome sent = await harness.SendAsync(address.Port, harness.At("raw"));

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        Assert.Equal("SVSM7103", sent.Failure?.Diagnostic.Code);
        RelayHarness.AssertEnding(RelayEnding.Aborted, await receive);
        Assert.Equal(MigrationState.Aborted, harness.Target.State);
    }

    [Theory]
    [MemberData(nameof(MachineGarbage))]
    public async Task TargetMachine_Garbage_IsNamed(string garbage)
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var machine = new RawEnd(harness.At("raw"), async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Notice(MigrationState.Greeting), end);
            await RawEnd.ReadAsync(stream, 10, end);

            // OFFER.
            await RawEnd.ReadAsync(stream, 8, end);
            await stream.WriteAsync(Convert.FromHexString(garbage), end);
            await RawEnd.DrainAsync(stream, end);
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync(harness.At("raw"));

        RelayOutcome sent = await harness.SendAsync(address.Port);

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        Assert.Contains("SVSM7103", sent.PeerWords, StringComparison.Ordinal);
        Assert.Equal("SVSM7103", (await receive).Failure?.Diagnostic.Code);
        harness.AssertAtSource();
    }

    [Fact]
    public async Task Machine_NotThere_IsNamed()
    {
        await using var harness = new RelayHarness(fixture);

        foreach (Func<Task> relay in (Func<Task>[])
        [
            () => harness.SendAsync(1, harness.At("none")),
            () => harness.ReceiveAsync(harness.At("none")),
            () => harness.SendAsync(1, harness.At(new string('x', 200))),
        ])
        {
            Assert.Equal("SVSM7101", (await Assert.ThrowsAsync<SvsmDiagnosticException>(relay)).Diagnostic.Code);
        }
    }

    [Fact]
    public async Task Machine_SvsmSaysNothing_IsNamed()
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var machine = new RawEnd(harness.At("raw"), RawEnd.DrainAsync);
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();

        RelayOutcome sent = await harness.SendAsync(address.Port, harness.At("raw"));

        Assert.Equal("SVSM7112", sent.Failure?.Diagnostic.Code);
        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        RelayHarness.AssertEnding(RelayEnding.Aborted, await receive);
    }

    // A target whose machine reads nothing: what the source says stays where it is, behind the limit, until the receiver has had enough.
    [Fact]
    public async Task TargetMachine_ReadsNothing_BoundsMemory()
    {
        const int Total = 64 << 20;
        const int Buffers = 16 << 20;
        await using var harness = new RelayHarness(fixture)
        {
            Limits = s_short with { Unacknowledged = 1 << 20, Incoming = 16, MachineWrite = TimeSpan.FromSeconds(1), Answer = TimeSpan.FromSeconds(1) },
        };
        long written = 0;
        await using var source = new RawEnd(harness.At("raw-source"), async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Notice(MigrationState.Copying), end);
            byte[] page = FakeMachine.Bytes(2, new byte[0x1028]);
            page[12] = 2;
            while (written < Total)
            {
                await stream.WriteAsync(page, end);
                written += page.Length;
            }

            await RawEnd.DrainAsync(stream, end);
        });
        await using var target = new RawEnd(harness.At("raw-target"), async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Notice(MigrationState.Copying), end);
            await Task.Delay(Timeout.Infinite, end);
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync(harness.At("raw-target"));

        RelayOutcome sent = await harness.SendAsync(address.Port, harness.At("raw-source"));

        Assert.Equal("SVSM7102", (await receive).Failure?.Diagnostic.Code);
        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        Assert.InRange(sent.BytesSent, 1, Buffers);
    }

    [Fact]
    public async Task Receiver_Strangers_AreTurnedAway()
    {
        await using var harness = new RelayHarness(fixture, pages: 400, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            Works = () => h.Source.PagesSent < 100,
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
        List<Socket> open = [];
        for (int i = 0; i < 30; i++)
        {
            var stranger = new Socket(SocketType.Stream, ProtocolType.Tcp);
            await stranger.ConnectAsync(address, TestContext.Current.CancellationToken);
            open.Add(stranger);
            if (i % 3 != 0)
            {
                stranger.Send(i % 3 == 1 ? RandomNumberGenerator.GetBytes(40) : RawEnd.Preamble(RandomNumberGenerator.GetBytes(16), 5));
            }

            // The silent ones stay, up to a number.
            if (i % 3 != 0 || i > 12)
            {
                stranger.Dispose();
            }
        }

        Task<RelayOutcome> send = harness.SendAsync(address.Port);
        await MigrationRelayTests.UntilAsync(() => harness.Source.PagesSent == 100, send, receive);
        await harness.CancelSend.CancelAsync();

        RelayHarness.AssertEnding(RelayEnding.Aborted, await send);
        RelayHarness.AssertEnding(RelayEnding.Aborted, await receive);
        open.ForEach(socket => socket.Dispose());
        harness.AssertAtSource();
    }

    /// <summary>What comes behind a good preamble, and is not what a relay says.</summary>
    public static TheoryData<string> PeerGarbage => new(
        "08110100" + "02000000", "20000000" + "03000000" + "8104" + new string('0', 60), "01000000" + "0500000077",
        "09000000" + "05000000" + "01FFFFFFFF00000000",
        "08000000" + "05000000" + "0100000000000000", "01000000" + "0400000001", "03000000" + "0500000002FFFF", "FFFFFFFFFFFFFFFFFFFFFFFF");

    [Theory]
    [MemberData(nameof(PeerGarbage))]
    public async Task Receiver_Garbage_IsNamed(string garbage)
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
        using var hostile = new Socket(SocketType.Stream, ProtocolType.Tcp);
        await hostile.ConnectAsync(address, TestContext.Current.CancellationToken);

        hostile.Send([.. RawEnd.Preamble(RandomNumberGenerator.GetBytes(16), 0), .. Convert.FromHexString(garbage)]);

        RelayOutcome received = await receive;
        RelayHarness.AssertEnding(RelayEnding.Aborted, received);
        Assert.Equal("SVSM7105", received.Failure?.Diagnostic.Code);
        Assert.Equal(MigrationState.Aborted, harness.Target.State);
    }

    [Theory]
    [MemberData(nameof(PeerGarbage))]
    public async Task Sender_Garbage_IsNamed(string garbage)
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var hostile = new RawEnd(null, async (stream, end) =>
        {
            byte[] preamble = await RawEnd.ReadAsync(stream, 32, end);
            await stream.WriteAsync(preamble, end);
            await stream.WriteAsync(Convert.FromHexString(garbage), end);
            await RawEnd.DrainAsync(stream, end);
        });

        RelayOutcome sent = await harness.SendAsync(hostile.Port);

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        Assert.Equal("SVSM7105", sent.Failure?.Diagnostic.Code);
        harness.AssertAtSource();
    }

    // A web server, a session of somebody else, more frames than there were.
    [Theory]
    [InlineData(0, "SVSM7105")]
    [InlineData(1, "SVSM7105")]
    [InlineData(2, "SVSM7105")]
    [InlineData(3, "SVSM7109")]
    public async Task Sender_BadPreamble_HasNotBegun(int kind, string code)
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var hostile = new RawEnd(null, async (stream, end) =>
        {
            byte[] id = (await RawEnd.ReadAsync(stream, 32, end))[8..24];
            await stream.WriteAsync(kind switch
            {
                0 => "HTTP/1.1 400 Bad Request\r\n\r\n<html>"u8.ToArray(),
                1 => RawEnd.Preamble(RandomNumberGenerator.GetBytes(16), 0),
                2 => RawEnd.Preamble(id, 1),
                _ => RawEnd.Preamble(new byte[16], 0),
            }, end);
            await RawEnd.DrainAsync(stream, end);
        });

        var failure = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => harness.SendAsync(hostile.Port));

        Assert.Equal(code, failure.Diagnostic.Code);
        Assert.Empty(harness.SourceMachine.Came);
        Assert.False(File.Exists(harness.ReleaseFile));
    }

    [Fact]
    public async Task Sender_NobodyThere_IsNamed()
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short, Retry = TimeSpan.Zero };
        using var closed = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        closed.Bind(new IPEndPoint(IPAddress.Loopback, 0));

        var failure = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => harness.SendAsync(((IPEndPoint)closed.LocalEndPoint!).Port));

        Assert.Equal("SVSM7104", failure.Diagnostic.Code);
        Assert.Empty(harness.SourceMachine.Came);
    }

    // It takes the connection, and then nothing comes any more: neither words nor an end.
    [Fact]
    public async Task Sender_PeerFallsSilent_EndsIt()
    {
        await using var harness = new RelayHarness(fixture)
        {
            Limits = s_short with { Silence = TimeSpan.FromMilliseconds(200), Handshake = TimeSpan.FromMilliseconds(200) },
            Retry = TimeSpan.Zero,
        };
        int connections = 0;
        await using var hostile = new RawEnd(null, async (stream, end) =>
        {
            if (connections++ == 0)
            {
                await stream.WriteAsync(await RawEnd.ReadAsync(stream, 32, end), end);
            }

            await RawEnd.DrainAsync(stream, end);
        });

        RelayOutcome sent = await harness.SendAsync(hostile.Port);

        Assert.Equal("SVSM7104", sent.Failure?.Diagnostic.Code);
        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        harness.AssertAtSource();
    }

    // It says something all the time, and never that it has got anything.
    [Fact]
    public async Task Sender_PeerNeverAcknowledges_EndsIt()
    {
        await using var harness = new RelayHarness(fixture)
        {
            Limits = s_short with { Acknowledged = TimeSpan.FromMilliseconds(200), Handshake = TimeSpan.FromMilliseconds(200) },
            Retry = TimeSpan.Zero,
        };
        await using var hostile = new RawEnd(null, async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Preamble((await RawEnd.ReadAsync(stream, 32, end)).AsSpan(8, 16), 0), end);
            while (true)
            {
                await stream.WriteAsync(FakeMachine.Bytes(5, [1, .. new byte[8]]), end);
                await Task.Delay(TimeSpan.FromMilliseconds(20), end);
            }
        });

        RelayOutcome sent = await harness.SendAsync(hostile.Port);

        Assert.Equal("SVSM7104", sent.Failure?.Diagnostic.Code);
        Assert.Contains("nothing was acknowledged", sent.Failure!.Message, StringComparison.Ordinal);
        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        harness.AssertAtSource();
    }

    // "It runs here", says a relay whose target has nothing: the source has not given up, so it is not believed.
    [Fact]
    public async Task Sender_PeerLiesOfRunning_IsNotBelieved()
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var hostile = new RawEnd(null, async (stream, end) =>
        {
            await stream.WriteAsync(await RawEnd.ReadAsync(stream, 32, end), end);
            await stream.WriteAsync(FakeMachine.Bytes(5, [2, .. RawEnd.Notice(MigrationState.Ended)[8..]]), end);
            await stream.WriteAsync(FakeMachine.Bytes(2, [.. new byte[4], 0x44, .. new byte[35]]), end);
            await stream.WriteAsync(FakeMachine.Bytes(5, 3), end);
            await RawEnd.DrainAsync(stream, end);
        });

        RelayOutcome sent = await harness.SendAsync(hostile.Port);

        RelayHarness.AssertEnding(RelayEnding.Aborted, sent);
        harness.AssertAtSource();
    }

    // The source has given up, and the other relay says that the guest runs: RUNNING is a record, which only the source's SVSM can check, and it says nothing.
    [Fact]
    public async Task Sender_PeerLiesOfRunningAfterGivingUp_IsNotBelieved()
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var machine = new RawEnd(harness.At("raw"), GivesUpAsync);
        await using var hostile = new RawEnd(null, async (stream, end) =>
        {
            await stream.WriteAsync(await RawEnd.ReadAsync(stream, 32, end), end);
            while (await FakeMachine.ReadAsync(stream, end) is not { Kind: FrameKind.Record, Contents: [_, _, _, _, 8, ..] })
            {
            }

            await stream.WriteAsync(FakeMachine.Bytes(5, [2, .. RawEnd.Notice(MigrationState.Ended)[8..]]), end);
            await stream.WriteAsync(FakeMachine.Bytes(2, [.. new byte[4], 0x44, .. new byte[35]]), end);
            await stream.WriteAsync(FakeMachine.Bytes(5, 3), end);
            await RawEnd.DrainAsync(stream, end);
        });

        RelayOutcome sent = await harness.SendAsync(hostile.Port, harness.At("raw"));

        RelayHarness.AssertEnding(RelayEnding.Unreleased, sent);
        Assert.Equal((6, 7), ((int)sent.Source, (int)sent.Target));
        Assert.Equal(harness.ReleaseFile, sent.ReleaseFile);
    }

    // The other relay says that its source has aborted; but the target is held, and its SVSM has not heard of it.
    [Fact]
    public async Task Receiver_HeldAndPeerSaysAborted_IsNotAborted()
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var machine = new RawEnd(harness.At("raw"), async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Notice(MigrationState.HandedOver), end);
            await RawEnd.DrainAsync(stream, end);
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync(harness.At("raw"));
        using var hostile = new TcpClient();
        await hostile.ConnectAsync(address, TestContext.Current.CancellationToken);
        await hostile.GetStream().WriteAsync(
            (byte[])
            [
                .. RawEnd.Preamble(RandomNumberGenerator.GetBytes(16), 0),
                .. FakeMachine.Bytes(5, [2, .. RawEnd.Notice(MigrationState.Aborted, MigrationReason.Failed)[8..]]),
                .. FakeMachine.Bytes(5, 3),
            ],
            TestContext.Current.CancellationToken);
        Task draining = RawEnd.DrainAsync(hostile.GetStream(), TestContext.Current.CancellationToken);

        RelayOutcome received = await receive;

        RelayHarness.AssertEnding(RelayEnding.Unreleased, received);
        Assert.Equal(6, (int)received.Target);
        await draining.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
    }

    // HELD has gone by, and the machine goes before it says its state: the source may have given up.
    [Fact]
    public async Task TargetMachine_GoneBehindHeld_IsNotAborted()
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        await using var machine = new RawEnd(harness.At("raw"), async (stream, end) =>
        {
            await RawEnd.ReadAsync(stream, 10, end);
            await stream.WriteAsync(RawEnd.Notice(MigrationState.Copying), end);
            await stream.WriteAsync(FakeMachine.Bytes(2, [.. new byte[4], 0x43, .. new byte[83]]), end);
        });

        (Task<RelayOutcome> receive, _) = await harness.ReceiveAsync(harness.At("raw"));

        RelayOutcome received = await receive;
        RelayHarness.AssertEnding(RelayEnding.Unreleased, received);
        Assert.Equal("SVSM7102", received.Failure?.Diagnostic.Code);
    }

    // The wish to cancel waits behind a page that the machine does not take. The second interruption waits for nothing.
    [Fact]
    public async Task TargetMachine_TakesNothing_SecondInterruptionEnds()
    {
        await using var harness = new RelayHarness(fixture)
        {
            Limits = s_short with { Unacknowledged = 1 << 20, Incoming = 16, MachineWrite = TimeSpan.FromHours(1), Answer = TimeSpan.FromHours(1) },
        };
        long written = 0;
        await using var source = new RawEnd(harness.At("raw-source"), async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Notice(MigrationState.Copying), end);
            while (true)
            {
                byte[] page = FakeMachine.Bytes(2, new byte[0x1028]);
                await stream.WriteAsync(page, end);
                Interlocked.Add(ref written, page.Length);
            }
        });
        await using var target = new RawEnd(harness.At("raw-target"), async (stream, end) =>
        {
            await stream.WriteAsync(RawEnd.Notice(MigrationState.Copying), end);
            await Task.Delay(Timeout.Infinite, end);
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync(harness.At("raw-target"));
        Task<RelayOutcome> send = harness.SendAsync(address.Port, harness.At("raw-source"));

        // Until everything is full.
        for (long before = -1; before != Interlocked.Read(ref written) || before == 0;)
        {
            before = Interlocked.Read(ref written);
            await Task.Delay(TimeSpan.FromMilliseconds(500), TestContext.Current.CancellationToken);
        }

        await harness.CancelReceive.CancelAsync();
        await Task.Delay(TimeSpan.FromMilliseconds(100), TestContext.Current.CancellationToken);
        await harness.EndReceive.CancelAsync();

        RelayHarness.AssertEnding(RelayEnding.Aborted, await receive);
        await harness.EndSend.CancelAsync();
        RelayHarness.AssertEnding(RelayEnding.Aborted, await send);
    }

    // Whatever fails in a relay ends it, with a code and an outcome.
    [Fact]
    public async Task Relay_LoopFails_IsNamed()
    {
        await using var harness = new RelayHarness(fixture) { Limits = s_short };
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();

        RelayOutcome sent = await relay::Svsm.Migration.Relay.MigrationRelay.SendAsync(new SendOptions
        {
            Machine = harness.At("source"),
            Host = "127.0.0.1",
            Port = address.Port,
            ReleaseFile = harness.ReleaseFile,
            Progress = _ => throw new InvalidOperationException("no more paper"),
            End = TestContext.Current.CancellationToken,
            Limits = s_short,
        });

        Assert.Equal("SVSM7113", sent.Failure?.Diagnostic.Code);
        Assert.Contains("no more paper", sent.Failure!.Message, StringComparison.Ordinal);
        Assert.Contains("SVSM7113", (await receive).PeerWords, StringComparison.Ordinal);
        harness.AssertAtSource();
    }

    // Bytes of a seed behind a good preamble, as frames of every kind: an end in every case, and never with a name of the machine.
    [Fact]
    public async Task Relays_RandomFrames_AlwaysEnd()
    {
        for (int seed = 0; seed < 20; seed++)
        {
            var random = new Random(seed);
            byte[] bytes = [.. Enumerable.Range(0, 40).SelectMany(_ => RandomFrame(random))];
            await using var harness = new RelayHarness(fixture)
            {
                Limits = s_short with { MachineState = TimeSpan.FromMilliseconds(200) },
                Retry = TimeSpan.Zero,
            };
            await using (var hostile = new RawEnd(null, async (stream, end) =>
            {
                await stream.WriteAsync(await RawEnd.ReadAsync(stream, 32, end), end);
                await stream.WriteAsync(bytes, end);
                await stream.FlushAsync(end);
            }))
            {
                RelayHarness.AssertEnding(RelayEnding.Aborted, await harness.SendAsync(hostile.Port));
            }

            (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
            using var caller = new Socket(SocketType.Stream, ProtocolType.Tcp);
            await caller.ConnectAsync(address, TestContext.Current.CancellationToken);
            caller.Send([.. RawEnd.Preamble(RandomNumberGenerator.GetBytes(16), 0), .. bytes]);
            caller.Dispose();
            RelayOutcome received = await receive;
            Assert.NotEqual(RelayEnding.Running, received.Ending);
            harness.AssertAtSource();
        }

        static byte[] RandomFrame(Random random)
        {
            byte[] contents = new byte[random.Next(60)];
            random.NextBytes(contents);
            if (contents.Length != 0)
            {
                contents[0] = (byte)(random.Next(2) == 0 ? random.Next(1, 4) : random.Next(0x81, 0x86));
            }

            return FakeMachine.Bytes((byte)(random.Next(12) == 0 ? random.Next(256) : random.Next(2) == 0 ? 5 : random.Next(1, 5)), contents);
        }
    }

    // Somebody has the session's number, and a wrong count: the session goes on. With a count that may be, he takes the connection; the sender takes it back.
    [Fact]
    public async Task Receiver_SessionOfAnother_GoesOn()
    {
        byte[] id = [];
        await using var harness = new RelayHarness(fixture, pages: 300, source: h => new FakeMachine(h.At("source"), h.Source, h.Guest, h.BeginSource)
        {
            State = h.State,
            Works = () => h.Source.PagesSent < 100 || Volatile.Read(ref id).Length == 1,
        });
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();
        byte[] preamble = [];
        await using var tap = new RawEnd(null, async (stream, end) =>
        {
            using var to = new TcpClient();
            await to.ConnectAsync(address, end);
            preamble = await RawEnd.ReadAsync(stream, 32, end);
            await to.GetStream().WriteAsync(preamble, end);
            using var both = CancellationTokenSource.CreateLinkedTokenSource(end);
            Task[] pumps = [stream.CopyToAsync(to.GetStream(), both.Token), to.GetStream().CopyToAsync(stream, both.Token)];
            await Task.WhenAny(pumps);
            await both.CancelAsync();
            await Task.WhenAll(pumps).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        });
        Task<RelayOutcome> send = harness.SendAsync(tap.Port);
        await MigrationRelayTests.UntilAsync(() => harness.Source.PagesSent == 100, send, receive);

        using (var liar = new TcpClient())
        {
            await liar.ConnectAsync(address, TestContext.Current.CancellationToken);
            await liar.GetStream().WriteAsync(RawEnd.Preamble(preamble.AsSpan(8, 16), ulong.MaxValue), TestContext.Current.CancellationToken);
            Assert.Equal(RawEnd.Preamble(new byte[16], 0), await RawEnd.ReadAsync(liar.GetStream(), 32, TestContext.Current.CancellationToken));
        }

        Volatile.Write(ref id, [1]);
        await harness.CancelSend.CancelAsync();
        RelayHarness.AssertEnding((await receive).Ending, await send);
    }

    // A machine whose source is done at once, gives up when it is asked to begin, and has no state.
    private static async Task GivesUpAsync(NetworkStream stream, CancellationToken end)
    {
        await RawEnd.ReadAsync(stream, 10, end);
        await stream.WriteAsync(RawEnd.Notice(MigrationState.HandedOver), end);
        await stream.WriteAsync(FakeMachine.Bytes(2, [.. new byte[4], 8, .. new byte[83]]), end);
        await RawEnd.ReadAsync(stream, 9, end);
        await stream.WriteAsync(FakeMachine.Bytes(4, [0x82, .. new byte[8], .. SHA256.HashData([])]), end);
        await RawEnd.DrainAsync(stream, end);
    }

    [Fact]
    public async Task Receiver_AddressTaken_IsNamed()
    {
        await using var harness = new RelayHarness(fixture);
        using var taken = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        taken.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        taken.Listen();

        var failure = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => relay::Svsm.Migration.Relay.MigrationRelay.ReceiveAsync(
            new ReceiveOptions { Machine = harness.At("target"), Listen = (IPEndPoint)taken.LocalEndPoint! }));

        Assert.Equal("SVSM7106", failure.Diagnostic.Code);
    }

    [Fact]
    public async Task Sender_ReleaseFileIsThere_HasNotBegun()
    {
        await using var harness = new RelayHarness(fixture);
        File.WriteAllText(harness.ReleaseFile, "another guest");

        var failure = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => harness.SendAsync(1));

        Assert.Equal("SVSM7108", failure.Diagnostic.Code);
        Assert.Equal("another guest", File.ReadAllText(harness.ReleaseFile));
        Assert.Empty(harness.SourceMachine.Came);
    }

    // The operator ends the relay at once, with the source gone: the release is in the file, also if the machine has not given its state yet.
    [Fact]
    public async Task Sender_EndedAfterGivingUp_LeavesTheFile()
    {
        await using var harness = new RelayHarness(fixture);
        harness.Guest.OnGiveUp = harness.EndSend.Cancel;
        (Task<RelayOutcome> receive, IPEndPoint address) = await harness.ReceiveAsync();

        RelayOutcome sent = await harness.SendAsync(address.Port);

        Assert.True(harness.Guest.HasGivenUp);
        RelayHarness.AssertEnding(sent.Ending == RelayEnding.Running ? RelayEnding.Running : RelayEnding.Unreleased, sent);
        RelayOutcome received = await receive;
        Assert.Equal(harness.TargetGuest.IsRunning, received.Ending == RelayEnding.Running);
    }
}
