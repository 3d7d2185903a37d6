// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Core;
using Svsm.Diagnostics;
using Svsm.Keys;
using Svsm.Modules.Attestation.Tests;
using Svsm.Store;
using Xunit;

namespace Svsm.StoreKeys.Tests;

/// <summary>The broker behind its HTTP listener, the proxy behind its socket.</summary>
[Collection(ChipGroup.Name)]
public sealed class ServerTests(ChipFixture fixture)
{
    [Fact]
    public async Task Svsm_ThroughSocketAndHttp_GetsItsSecretAndMovesItsAnchor()
    {
        using var harness = new BrokerHarness(fixture.Chip);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        string url = Serving.FreeUrl();
        string socket = harness.PathOf("vm1.sock");
        Task broker = await Serving.StartAsync(started => BrokerServer.ServeAsync(harness.Broker, url, started, end.Token));
        Task proxy = await Serving.StartAsync(started => ProxyServer.ServeAsync(socket, new Uri(url), BrokerHarness.Resource, harness.Log.Enqueue, started, end.Token));
        try
        {
            using TestLaunch launch = harness.NewLaunch();
            using var first = new SocketChannel(socket);
            using var second = new SocketChannel(socket);
            Assert.Equal(BrokerResult.Done, BrokerSession.TryOpen(first, launch.Peer, harness.Pin(), out BrokerSession? one));
            Assert.Equal(BrokerResult.Done, BrokerSession.TryOpen(second, launch.Peer, harness.Pin(), out BrokerSession? two));
            Assert.Equal(harness.Secret, one!.Secret.ToArray());
            for (ulong generation = 1; generation < 20; generation++)
            {
                StoreVersion? from = generation == 1 ? null : BrokerHarness.Version(generation - 1);
                Assert.Equal(BrokerResult.Done, (generation % 2 == 0 ? one : two!).MoveAnchor(from, BrokerHarness.Version(generation), out _));
            }

            Assert.Equal(BrokerResult.Done, one.GetAnchor(out StoreVersion? version));
            Assert.Equal(19u, version!.Value.Generation);
        }
        finally
        {
            await end.CancelAsync();
            await Task.WhenAll(broker, proxy);
        }

        Assert.False(File.Exists(socket));
    }

    [Fact]
    public async Task BrokerIsAway_SvsmIsTold()
    {
        using var harness = new BrokerHarness(fixture.Chip);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        string socket = harness.PathOf("vm1.sock");
        Task proxy = await Serving.StartAsync(started => ProxyServer.ServeAsync(socket, new Uri(Serving.FreeUrl()), BrokerHarness.Resource, harness.Log.Enqueue, started, end.Token));
        using TestLaunch launch = harness.NewLaunch();
        using (var channel = new SocketChannel(socket))
        {
            Assert.Equal(BrokerResult.Unreachable, BrokerSession.TryOpen(channel, launch.Peer, harness.Pin(), out _));
            Assert.Equal(BrokerResult.Unreachable, BrokerSession.TryOpen(channel, launch.Peer, harness.Pin(), out _));
        }

        Assert.Empty(launch.Kernel.Left);
        await end.CancelAsync();
        await proxy;
        Assert.Equal(2, harness.Log.Count(line => line.StartsWith("the broker at ", StringComparison.Ordinal)));
    }

    // Frames that are none end the connection, and no other one.
    [Fact]
    public async Task FramesThatAreNone_EndTheConnection()
    {
        using var harness = new BrokerHarness(fixture.Chip);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        string socket = harness.PathOf("vm1.sock");
        Task proxy = await Serving.StartAsync(started => ProxyServer.ServeAsync(socket, new Uri(Serving.FreeUrl()), BrokerHarness.Resource, harness.Log.Enqueue, started, end.Token));
        using (var channel = new SocketChannel(socket))
        {
            Assert.False(channel.TryExchangeRaw([0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0], out _));
        }

        using (var channel = new SocketChannel(socket))
        {
            // Bad requests have an answer: 4.
            foreach (byte[] request in (byte[][])[[], [1], [0, 0, 0, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 2, 0, 0, 0], [1, 0, 0, 0, 1, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0], new byte[0x1_0000]])
            {
                Assert.True(channel.TryExchange(request, out byte[] answer));
                Assert.Equal([4, 0, 0, 0], answer);
            }

            // In order, and too early: 5.
            Assert.True(channel.TryExchange([3, 0, 0, 0, .. new byte[104]], out byte[] early));
            Assert.Equal([5, 0, 0, 0], early);
            Assert.True(channel.TryExchange([2, 0, 0, 0, 0, 0, 0, 0, .. new byte[132 + 1184]], out early));
            Assert.Equal([5, 0, 0, 0], early);
        }

        await end.CancelAsync();
        await proxy;
    }

    [Fact]
    public async Task Http_OnlyWhatThereIs()
    {
        using var harness = new BrokerHarness(fixture.Chip);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        string url = Serving.FreeUrl();
        Task broker = await Serving.StartAsync(started => BrokerServer.ServeAsync(harness.Broker, url, started, end.Token));
        using (var client = new HttpClient { BaseAddress = new Uri(url) })
        {
            Assert.Equal(HttpStatusCode.NotFound, (await client.GetAsync("x", end.Token)).StatusCode);
            Assert.Equal(HttpStatusCode.NotFound, (await client.GetAsync("kbs/v0/auth", end.Token)).StatusCode);
            Assert.Equal(HttpStatusCode.BadRequest, (await client.PostAsync("kbs/v0/auth", new ByteArrayContent([]), end.Token)).StatusCode);
            Assert.Equal(HttpStatusCode.RequestEntityTooLarge, (await client.PostAsync("kbs/v0/auth", new ByteArrayContent(new byte[KeyBroker.MaxContent + 1]), end.Token)).StatusCode);
            Assert.Equal(HttpStatusCode.Unauthorized, (await client.GetAsync("kbs/v0/resource/default/svsm/vm1", end.Token)).StatusCode);
            HttpResponseMessage hello = await client.PostAsync("kbs/v0/auth", new ByteArrayContent("""{"version":"0.4.0","tee":"snp","extra-params":""}"""u8.ToArray()), end.Token);
            Assert.Equal(HttpStatusCode.OK, hello.StatusCode);
            Assert.StartsWith("kbs-session-id=", hello.Headers.GetValues("Set-Cookie").Single(), StringComparison.Ordinal);
        }

        await Assert.ThrowsAsync<SvsmDiagnosticException>(() => BrokerServer.ServeAsync(harness.Broker, url, () => { }, end.Token));
        await end.CancelAsync();
        await broker;
    }

    // It says that it is going to send something, and does not: it is let go, and others are served.
    [Fact]
    public async Task ClientThatIsTooSlow_IsLetGo()
    {
        using var harness = new BrokerHarness(fixture.Chip);
        using var end = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        string url = Serving.FreeUrl();
        Task broker = await Serving.StartAsync(started => BrokerServer.ServeAsync(harness.Broker, url, started, TimeSpan.FromMilliseconds(300), end.Token));
        var uri = new Uri(url);
        using (var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveTimeout = 60_000 })
        {
            await socket.ConnectAsync(uri.Host, uri.Port, end.Token);
            socket.Send("POST /kbs/v0/auth HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"u8);
            using var stream = new NetworkStream(socket);
            using var reader = new StreamReader(stream);
            Assert.StartsWith("HTTP/1.1 408 ", await reader.ReadToEndAsync(end.Token), StringComparison.Ordinal);
        }

        using (var client = new HttpClient { BaseAddress = uri })
        {
            Assert.Equal(HttpStatusCode.NotFound, (await client.GetAsync("x", end.Token)).StatusCode);
        }

        await end.CancelAsync();
        await broker;
    }

    [Theory]
    [InlineData("nonsense")]
    [InlineData("https://127.0.0.1:1/")]
    [InlineData("http://127.0.0.1/no-slash")]
    public async Task ListenWhereNobodyCan_IsRefused(string url)
    {
        using var harness = new BrokerHarness(fixture.Chip);
        SvsmDiagnosticException error = await Assert.ThrowsAsync<SvsmDiagnosticException>(() => BrokerServer.ServeAsync(harness.Broker, url, () => Assert.Fail("it listens"), new CancellationToken(true)));
        Assert.Equal("SVSM7052", error.Diagnostic.Code);
    }

    [Fact]
    public async Task SocketThatIsThere_IsRefusedAndStays()
    {
        using var harness = new BrokerHarness(fixture.Chip);
        File.WriteAllText(harness.PathOf("vm1.sock"), "here");
        SvsmDiagnosticException error = await Assert.ThrowsAsync<SvsmDiagnosticException>(
            () => ProxyServer.ServeAsync(harness.PathOf("vm1.sock"), new Uri("http://127.0.0.1:1/"), BrokerHarness.Resource, _ => { }, () => Assert.Fail("it listens"), CancellationToken.None));
        Assert.Equal("SVSM7052", error.Diagnostic.Code);
        Assert.Equal("here", File.ReadAllText(harness.PathOf("vm1.sock")));
    }

    /// <summary>The channel as a device of the host has it.</summary>
    private sealed class SocketChannel : IBrokerChannel, IDisposable
    {
        private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        private int _number = 0x7000_0000;

        public SocketChannel(string path) => _socket.Connect(new UnixDomainSocketEndPoint(path));

        public bool TryExchange(ReadOnlySpan<byte> request, out byte[] answer)
        {
            byte[] frame = new byte[8 + request.Length];
            BinaryPrimitives.WriteInt32LittleEndian(frame, request.Length);
            BinaryPrimitives.WriteInt32LittleEndian(frame.AsSpan(4), ++_number);
            request.CopyTo(frame.AsSpan(8));
            return TryExchangeRaw(frame, out answer);
        }

        public bool TryExchangeRaw(ReadOnlySpan<byte> frame, out byte[] answer)
        {
            answer = [];
            _socket.Send(frame);
            byte[] head = new byte[8];
            if (!TryFill(head))
            {
                return false;
            }

            Assert.Equal(_number, BinaryPrimitives.ReadInt32LittleEndian(head.AsSpan(4)));

            answer = new byte[BinaryPrimitives.ReadInt32LittleEndian(head)];
            return TryFill(answer);
        }

        public void Dispose() => _socket.Dispose();

        private bool TryFill(Span<byte> rest)
        {
            while (!rest.IsEmpty)
            {
                int count = _socket.Receive(rest);
                if (count == 0)
                {
                    return false;
                }

                rest = rest[count..];
            }

            return true;
        }
    }
}
