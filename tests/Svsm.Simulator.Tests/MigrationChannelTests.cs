// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of a migration between a driver, whose requests this test makes, and relays, whose sockets it has.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
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
    private readonly List<byte[]> _taken = [];
    private Task<byte[]> _state = Task.FromResult<byte[]>([1, 2, 3]);
    private int _saves;
    private int _deaf;
    private int _tellings;

    public MigrationChannelTests()
    {
        _path = Path.Combine(_folder.FullName, "channel");
        _channel = new MigrationChannel(_path);
        _channel.Open();
        _channel.Start(MakeExchange, NotifyAsync);
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
        Assert.Equal((byte[])[.. first, .. second], await TakeAsync(first.Length + second.Length));
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
        await UntilAsync(() => _channel.HasNews(Receive) && Volatile.Read(ref _tellings) != before);
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
            await UntilAsync(() => _channel.CanHandle(Receive));
        }

        byte[] frame = ChannelFrames.Make(2, [1, 2, 3]);
        Handle(Transmit, frame[..4], 0);
        using Socket next = Connect();
        await SendUntilConnectedAsync(next, frame[4..], frame);
        Assert.Equal(ChannelFrames.Make(3, [7]), Handle(Receive, [], 100));
    }

    // It has sent more than the machine takes while the driver takes nothing: a megabyte, a frame, and what is read at a time.
    [Fact]
    public async Task Relay_ThatGoesWhileItsFramesWait_LosesNoneAndBlocksNobody()
    {
        const int Count = 18;
        byte[] frame = ChannelFrames.Make(1, RandomNumberGenerator.GetBytes(ChannelFrames.MaxContents));
        using (Socket relay = Connect())
        {
            await _told.WaitAsync(Cancellation);

            // Room for what the machine does not read, so that it can go.
            relay.SendBufferSize = 4 * frame.Length;
            for (int i = 0; i < Count; i++)
            {
                relay.Send(frame);
            }

            relay.Send(frame.AsSpan(0, 10));
        }

        byte[] answer = ChannelFrames.Make(2, [1]);
        using (Socket next = Connect())
        {
            await SendUntilConnectedAsync(next, answer, answer);
            next.Send(ChannelFrames.Make(3, [9]));
        }

        // It has gone as well: there is an end to those whose frames wait.
        using Socket third = Connect();
        Assert.True(IsClosed(third));

        // What the first one had begun is none.
        byte[] all = [.. Enumerable.Repeat(frame, Count).SelectMany(bytes => bytes), .. ChannelFrames.Make(3, [9])];
        byte[] taken = await TakeAsync(all.Length);
        Assert.True(all.AsSpan().SequenceEqual(taken));
        Assert.False(_channel.CanHandle(Receive));
        bool isTaken = false;
        while (!isTaken)
        {
            using Socket last = Connect();
            isTaken = await SendUntilAnsweredAsync(last, answer, answer) != 0;
        }
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
        Assert.Equal(0, _saves);
    }

    [Fact]
    public async Task FrameOfTheMachine_FromTheRelay_IsNotTheSvsms()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        relay.Send(ChannelFrames.Make(4, [1]));
        Assert.Equal(Given([1, 2, 3]), ReceiveAll(relay, Given([1, 2, 3]).Length));
        Assert.False(_channel.CanHandle(Receive));

        relay.Send(ChannelFrames.Make(4, [5]));
        Assert.True(IsClosed(relay));
    }

    [Fact]
    public async Task StateOfARelayThatHasGone_IsForgotten()
    {
        using (Socket relay = Connect())
        {
            await _told.WaitAsync(Cancellation);
            relay.Send(ChannelFrames.Make(4, [0x81, 1, 2]));
        }

        using Socket next = Connect();
        next.Send(Given([5]));
        Assert.Equal(ChannelFrames.Make(4, [0x83]), ReceiveAll(next, 9));
        Assert.Equal([5], Assert.Single(_taken));
    }

    // A megabyte waits for it, and what the socket holds; then neither the rest of the state nor another one is made ready for it.
    [Fact]
    public async Task Relay_ThatAsksAndDoesNotRead_IsAnsweredNoFurther()
    {
        _state = Task.FromResult(new byte[3 << 20]);
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        relay.Send((byte[])[.. ChannelFrames.Make(4, [1]), .. ChannelFrames.Make(4, [1]), .. ChannelFrames.Make(3, [1])]);
        await UntilAsync(() => !_channel.CanHandle(Transmit));
        Assert.Equal(1, _saves);

        byte[] given = Given(await _state);
        Assert.True(given.AsSpan().SequenceEqual(ReceiveAll(relay, given.Length)) && given.AsSpan().SequenceEqual(ReceiveAll(relay, given.Length)));
        await UntilAsync(() => _channel.CanHandle(Receive));
        Assert.Equal(2, _saves);
    }

    // The machine waits for it to take its state: it goes, and the next one comes.
    [Fact]
    public async Task Relay_ThatGoesWhileItsAnswersWait_BlocksNobody()
    {
        _state = Task.FromResult(new byte[3 << 20]);
        using (Socket relay = Connect())
        {
            await _told.WaitAsync(Cancellation);
            relay.Send(ChannelFrames.Make(4, [1]));
            await UntilAsync(() => !_channel.CanHandle(Transmit));
        }

        await UntilAsync(() => _channel.CanHandle(Transmit));
        using Socket next = Connect();
        byte[] frame = ChannelFrames.Make(2, [1]);
        await SendUntilConnectedAsync(next, frame, frame);
    }

    // What nobody has thought of must not leave the relay where it is.
    [Fact]
    public async Task Exchange_ThatFails_ClosesTheConnectionAndTheNextOneIsTaken()
    {
        _state = Task.FromException<byte[]>(new IOException("because"));
        using (Socket relay = Connect())
        {
            await _told.WaitAsync(Cancellation);
            relay.Send(ChannelFrames.Make(4, [1]));
            Assert.True(IsClosed(relay));
        }

        _state = Task.FromResult<byte[]>([4]);
        using Socket next = Connect();
        next.Send(ChannelFrames.Make(4, [1]));
        Assert.Equal(Given([4]), ReceiveAll(next, Given([4]).Length));
    }

    [Fact]
    public async Task Relay_ThatSaysNothingMore_GetsItsAnswers()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        relay.Send(ChannelFrames.Make(4, [1]));
        relay.Shutdown(SocketShutdown.Send);
        Assert.Equal(Given([1, 2, 3]), ReceiveAll(relay, Given([1, 2, 3]).Length));
        Assert.True(IsClosed(relay));
    }

    [Fact]
    public async Task Reset_BeginsTheFrameOfTheRelayAnew()
    {
        using Socket relay = Connect();
        await _told.WaitAsync(Cancellation);
        byte[] first = ChannelFrames.Make(1, [1, 2, 3]);
        byte[] second = ChannelFrames.Make(1, [4, 5]);
        relay.Send((byte[])[.. first, .. second]);
        await UntilAsync(() => _channel.CanHandle(Receive));
        Assert.Equal(first[..9], Handle(Receive, [], 9));
        _channel.Reset();
        Assert.Equal((byte[])[.. first, .. second], await TakeAsync(first.Length + second.Length));
        Assert.False(_channel.CanHandle(Receive));

        // A whole one that it has had is not said again.
        _channel.Reset();
        Assert.False(_channel.CanHandle(Receive));
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
        await UntilAsync(() => _channel.HasNews(Transmit));
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
            channel.Start(MakeExchange, NotifyAsync);
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

    private HostStateExchange MakeExchange() => new(
        () =>
        {
            _saves++;
            return _state;
        },
        state =>
        {
            _taken.Add(state.ToArray());
            return Task.CompletedTask;
        },
        maxLength: 1000);

    private Task<bool> NotifyAsync()
    {
        Interlocked.Increment(ref _tellings);
        bool takes = Interlocked.Decrement(ref _deaf) < 0;
        if (takes)
        {
            _told.Release();
        }

        return Task.FromResult(takes);
    }

    // The frames that give a state.
    private static byte[] Given(byte[] state)
    {
        var frames = new List<byte>();
        foreach (byte[] part in state.Chunk(65_536))
        {
            frames.AddRange(ChannelFrames.Make(4, [0x81, .. part]));
        }

        return [.. frames, .. ChannelFrames.Make(4, [0x82, .. BitConverter.GetBytes((ulong)state.Length), .. SHA256.HashData(state)])];
    }

    private async Task SendUntilConnectedAsync(Socket relay, byte[] first, byte[] frame) =>
        Assert.Equal(frame.Length, await SendUntilAnsweredAsync(relay, first, frame));

    // What the driver sends before the machine has taken the relay is lost: it sends the same frame until one has come, or the relay is closed. Only the
    // first may be the rest of one.
    private async Task<int> SendUntilAnsweredAsync(Socket relay, byte[] first, byte[] frame)
    {
        byte[] got = new byte[frame.Length];
        Task<int> received = relay.ReceiveAsync(got, Cancellation).AsTask();
        Handle(Transmit, first, 0);
        while (!received.IsCompleted)
        {
            Handle(Transmit, frame, 0);
            await Task.Yield();
        }

        int count = await received;
        Assert.Equal(count == 0 ? new byte[frame.Length] : frame, got);
        return count;
    }

    private async Task<byte[]> TakeAsync(int length)
    {
        var got = new List<byte>();
        while (got.Count < length)
        {
            await UntilAsync(() => _channel.CanHandle(Receive));
            got.AddRange(Handle(Receive, [], 4096));
        }

        return [.. got];
    }

    private static async Task UntilAsync(Func<bool> holds)
    {
        while (!holds())
        {
            Cancellation.ThrowIfCancellationRequested();
            await Task.Yield();
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
