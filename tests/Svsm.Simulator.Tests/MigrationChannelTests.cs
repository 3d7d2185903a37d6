// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of a migration between a driver, whose requests this test makes, and relays, whose sockets it has.

using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class MigrationChannelTests : IDisposable
{
    private const int Receive = 0;
    private const int Transmit = 1;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");
    private readonly string _path;
    private readonly MigrationChannel _channel;
    private readonly SemaphoreSlim _told = new(0);
    private readonly List<byte[]> _forMachine = [];
    private int _deaf;
    private int _tellings;

    public MigrationChannelTests()
    {
        _path = Path.Combine(_folder.FullName, "channel");
        _channel = new MigrationChannel(_path)
        {
            Notify = () =>
            {
                Interlocked.Increment(ref _tellings);
                bool takes = Interlocked.Decrement(ref _deaf) < 0;
                if (takes)
                {
                    _told.Release();
                }

                return Task.FromResult(takes);
            },
            ForMachine = async (contents, answer) =>
            {
                _forMachine.Add(contents.ToArray());
                await answer(ChannelFrames.Make(4, [0x99]));
                return contents.Span[0] == 1;
            },
        };
        _channel.Open();
        _channel.Start();
    }

    private static CancellationToken Cancellation => TestContext.Current.CancellationToken;

    public void Dispose()
    {
        _channel.Dispose();
        _folder.Delete(recursive: true);
        _told.Dispose();
    }

    [Fact]
    public async Task Frames_BothWays_PassUnchanged()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        byte[] first = ChannelFrames.Make(1, RandomNumberGenerator.GetBytes(70_000 - 6_000));
        byte[] second = ChannelFrames.Make(3, [1, 1]);
        Look();
        relay.Send(first.AsSpan(0, 100));
        relay.Send((byte[])[.. first[100..], .. second]);
        await _told.WaitAsync(Cancellation);
        var got = new List<byte>();
        while (got.Count < first.Length + second.Length)
        {
            if (_channel.CanHandle(Receive))
            {
                got.AddRange(Handle(Receive, [], 4096));
            }
        }

        Assert.Equal((byte[])[.. first, .. second], got.ToArray());
        Assert.Empty(Handle(Transmit, first[..50], 0));
        Handle(Transmit, [.. first[50..], .. second], 0);
        Assert.Equal((byte[])[.. first, .. second], ReceiveAll(relay, first.Length + second.Length));
    }

    [Fact]
    public async Task Svsm_IsToldOnceUntilItHasLooked()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        Look();
        relay.Send(ChannelFrames.Make(3, [1]));
        await _told.WaitAsync(Cancellation);
        relay.Send(ChannelFrames.Make(3, [2]));
        int length = 0;
        while (length < 18)
        {
            length += _channel.CanHandle(Receive) ? Handle(Receive, [], 1).Length : 0;
        }

        int before = _tellings;
        Assert.InRange(before, 2, 3);
        relay.Send(ChannelFrames.Make(3, [3]));
        while (!_channel.HasNews(Receive) || Volatile.Read(ref _tellings) == before)
        {
            await Task.Yield();
        }
    }

    [Fact]
    public async Task Svsm_ThatTakesNoInterruptsYet_IsToldAgain()
    {
        _deaf = 2;
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        Assert.Equal(3, _tellings);
    }

    [Fact]
    public async Task Relay_SecondAtATime_IsClosedAndTheNextOneIsNot()
    {
        using (Socket relay = Connect())
        {
            await _told.WaitAsync(Cancellation);
            using Socket second = Connect();
            Assert.Equal(0, second.Receive(new byte[1]));

            // What is sent now is taken, though the relay goes.
            relay.Send(ChannelFrames.Make(3, [7]));
            while (!_channel.CanHandle(Receive))
            {
                await Task.Yield();
            }
        }

        byte[] frame = ChannelFrames.Make(2, [1, 2, 3]);
        Handle(Transmit, frame[..4], 0);
        Socket next = await ConnectAgainAsync(frame[4..]);
        Assert.Equal(ChannelFrames.Make(3, [7]), Handle(Receive, [], 100));
        next.Dispose();
    }

    [Fact]
    public void Driver_WhileNobodyIsThere_LosesWhatItSends()
    {
        for (int i = 0; i < 100; i++)
        {
            Assert.True(_channel.CanHandle(Transmit));
            Handle(Transmit, ChannelFrames.Make(2, new byte[ChannelFrames.MaxContents]), 0);
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task BrokenFrame_OfEitherEnd_ClosesTheConnection(bool driver)
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        byte[] broken = [1, 0, 0, 0, 9, 0, 0, 0, 5];
        if (driver)
        {
            Handle(Transmit, broken, 0);
        }
        else
        {
            relay.Send(broken);
        }

        Assert.True(IsClosed(relay));
        Assert.False(_channel.CanHandle(Receive));
    }

    [Fact]
    public async Task FrameOfTheMachine_FromTheDriver_ClosesTheConnection()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        Handle(Transmit, ChannelFrames.Make(4, [1]), 0);
        Assert.True(IsClosed(relay));
        Assert.Empty(_forMachine);
    }

    [Fact]
    public async Task FrameOfTheMachine_FromTheRelay_IsNotTheSvsms()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        relay.Send(ChannelFrames.Make(4, [1, 2]));
        Assert.Equal(ChannelFrames.Make(4, [0x99]), ReceiveAll(relay, 9));
        Assert.False(_channel.CanHandle(Receive));
        Assert.Equal([1, 2], Assert.Single(_forMachine));

        relay.Send(ChannelFrames.Make(4, [5]));
        Assert.True(IsClosed(relay));
    }

    [Fact]
    public async Task Relay_ThatSaysNothingMore_GetsItsAnswers()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        relay.Send(ChannelFrames.Make(4, [1, 2]));
        relay.Shutdown(SocketShutdown.Send);
        Assert.Equal(ChannelFrames.Make(4, [0x99]), ReceiveAll(relay, 9));
        Assert.True(IsClosed(relay));
    }

    [Fact]
    public async Task Reset_ForgetsHalfAFrameOfTheDriver()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        Handle(Transmit, [200, 0, 0, 0, 1], 0);
        _channel.Reset();
        byte[] frame = ChannelFrames.Make(1, [4]);
        Handle(Transmit, frame, 0);
        Assert.Equal(frame, ReceiveAll(relay, frame.Length));
    }

    [Theory]
    [InlineData(Receive, 1, 1)]
    [InlineData(Receive, 0, 0)]
    [InlineData(Transmit, 1, 1)]
    [InlineData(Transmit, 0, 0)]
    public void Request_InTheWrongDirection_IsAMistake(int queue, int input, int room) =>
        Assert.False(_channel.TryHandle(queue, new byte[input], room, 0, out _));

    [Fact]
    public async Task Driver_WhoseRelayDoesNotRead_WaitsInTheEnd()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        byte[] frame = ChannelFrames.Make(2, new byte[ChannelFrames.MaxContents]);
        long sent = 0;
        while (_channel.CanHandle(Transmit))
        {
            Handle(Transmit, frame, 0);
            sent += frame.Length;
        }

        Assert.False(_channel.HasNews(Transmit));
        ReceiveAll(relay, (int)sent);
        while (!_channel.HasNews(Transmit))
        {
            await Task.Yield();
        }
    }

    [Fact]
    public void Open_WhereSomethingIsOrNothingCanBe_IsRefused()
    {
        string file = Path.Combine(_folder.FullName, "file");
        File.WriteAllText(file, "x");
        foreach (string path in (string[])[_path, file, _folder.FullName, Path.Combine(_folder.FullName, "no", "folder"), Path.Combine(_folder.FullName, new string('x', 300))])
        {
            using var channel = new MigrationChannel(path);
            Assert.Same(SvsmDiagnostics.RunOptionInvalid, Assert.Throws<SvsmDiagnosticException>(channel.Open).Diagnostic);
        }

        Assert.True(File.Exists(file) && File.Exists(_path));
    }

    [Fact]
    public void Dispose_LeavesNothing()
    {
        string path = Path.Combine(_folder.FullName, "other");
        using (var channel = new MigrationChannel(path))
        {
            channel.Open();
            channel.Start();
            Assert.True(File.Exists(path));
        }

        Assert.False(File.Exists(path));
    }

    private Socket Connect()
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        socket.Connect(new UnixDomainSocketEndPoint(_path));
        return socket;
    }

    // The machine may not have seen yet that the last one has gone: then this one is closed. The driver completes its frame when this one is in.
    private async Task<Socket> ConnectAgainAsync(byte[] rest)
    {
        while (true)
        {
            Socket relay = Connect();
            using var soon = CancellationTokenSource.CreateLinkedTokenSource(Cancellation);
            Task<int> received = relay.ReceiveAsync(new byte[1], SocketFlags.Peek, soon.Token).AsTask();
            int before = _tellings;
            while (!received.IsCompleted && Volatile.Read(ref _tellings) == before)
            {
                _channel.Reset();
                Handle(Transmit, [.. ChannelFrames.Make(2, [1, 2, 3])[..4], .. rest], 0);
                await Task.Yield();
            }

            if (!received.IsCompleted || await received != 0)
            {
                await soon.CancelAsync();
                return relay;
            }

            relay.Dispose();
        }
    }

    private byte[] Handle(int queue, byte[] input, int room)
    {
        Assert.True(_channel.TryHandle(queue, input, room, 5, out VirtioCompletion? completion));
        Assert.Equal(5u, completion!.Value.Id);
        return completion.Value.Data.ToArray();
    }

    private void Look() => Assert.False(_channel.HasNews(Receive));

    private static byte[] ReceiveAll(Socket socket, int length)
    {
        byte[] data = new byte[length];
        for (int done = 0; done < length;)
        {
            int count = socket.Receive(data.AsSpan(done));
            Assert.NotEqual(0, count);
            done += count;
        }

        return data;
    }

    private static bool IsClosed(Socket socket)
    {
        try
        {
            byte[] rest = new byte[100];
            while (socket.Receive(rest) != 0)
            {
            }
        }
        catch (SocketException)
        {
            // With bytes that nobody has read.
        }

        return true;
    }
}
