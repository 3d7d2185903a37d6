// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of a migration: a virtio console with one port, whose other end is a Unix socket that the machine listens on. One relay at a time is
// connected; another one is closed at once. When a relay has gone, the next one may come; what the driver sends meanwhile is lost, what the relay sent
// before is not.
//
// An SVSM does not look at the device all the time. So the machine tells it (CommandKind.NotifySvsm) when a relay has connected or bytes wait, once, until
// the driver has touched a register and found nothing more. As long as the SVSM takes no interrupts it is told again after a while.
//
// Frames of the kind of the machine are not for the SVSM (HostStateExchange.cs).

using System;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Simulator;

internal sealed class MigrationChannel(string path) : VirtioDevice, IDisposable
{
    private const int ReceiveQueue = 0;
    private const int BufferLength = 64 * 1024;

    // Of either direction: a relay that sends more waits, and so does a driver.
    private const int MaxWaiting = 1 << 20;

    private static readonly TimeSpan s_tellAgain = TimeSpan.FromMilliseconds(100);

    private readonly CancellationTokenSource _end = new();
    private readonly Lock _lock = new();
    private readonly ChannelFrames _fromDriver = new();
    private readonly Queue<byte[]> _received = new();
    private readonly SemaphoreSlim _drained = new(0, 1);
    private Socket? _listener;
    private Connection? _connection;
    private Task _accepting = Task.CompletedTask;
    private int _receivedOffset;
    private long _receivedLength;
    private bool _isStalled;
    private bool _isTold;
    private ulong _telling;

    public override uint Kind => 3;

    public override ulong Features => 0;

    public override int QueueCount => 2;

    // Tells VMPL0 of vCPU 0; false when it takes no interrupts yet. Set before the start.
    public Func<Task<bool>>? Notify { get; set; }

    // Takes the contents of a frame for the machine, and a way to send frames back. False when it makes no sense. Set before the start.
    public Func<ReadOnlyMemory<byte>, Func<byte[], Task>, Task<bool>>? ForMachine { get; set; }

    // Called when a relay has connected.
    public Action? Connected { get; set; }

    // Throws SvsmDiagnosticException when there is something at the path, or the socket cannot be made.
    public void Open()
    {
        Socket? listener = null;
        try
        {
            if (File.Exists(path))
            {
                throw new IOException("it exists");
            }

            listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            listener.Bind(new UnixDomainSocketEndPoint(path));
            _listener = listener;

            // Nobody can connect before it listens.
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            }

            listener.Listen(1);
        }
        catch (Exception e) when (e is SocketException or ArgumentException or IOException or UnauthorizedAccessException)
        {
            listener?.Dispose();
            throw SvsmDiagnostics.RunOptionInvalid.Error($"the channel of a migration '{path}': {e.Message.TrimEnd('.')}", "the path of a Unix socket that the machine can make: nothing is there yet", e);
        }
    }

    // The run has begun.
    public void Start() => _accepting = AcceptAsync(_listener!);

    public override bool HasNews(int queue)
    {
        lock (_lock)
        {
            if (queue != ReceiveQueue)
            {
                return _isStalled && CanSend;
            }

            // The driver has looked; if there was nothing, it will be told of what comes.
            _isTold &= _receivedLength != 0;
            return _receivedLength != 0;
        }
    }

    public override bool CanHandle(int queue)
    {
        lock (_lock)
        {
            if (queue == ReceiveQueue)
            {
                return _receivedLength != 0;
            }

            _isStalled = !CanSend;
            return !_isStalled;
        }
    }

    public override bool TryHandle(int queue, ReadOnlyMemory<byte> input, int room, ushort id, out VirtioCompletion? completion)
    {
        bool isReceive = queue == ReceiveQueue;
        completion = null;
        if (isReceive ? room == 0 || !input.IsEmpty : room != 0 || input.IsEmpty)
        {
            return false;
        }

        byte[] data = isReceive ? Take(room) : [];
        if (!isReceive)
        {
            Send(input.Span);
        }

        completion = new() { Data = data, Length = (uint)data.Length, Id = id };
        return true;
    }

    // What the driver had sent of a frame is nothing.
    public override void Reset()
    {
        lock (_lock)
        {
            _fromDriver.Clear();
        }
    }

    public void Dispose()
    {
        _end.Cancel();
        bool isMade = _listener is not null;
        _listener?.Dispose();
        lock (_lock)
        {
            _connection?.Close();
        }

        _accepting.GetAwaiter().GetResult();
        if (isMade)
        {
            File.Delete(path);
        }
    }

    private bool CanSend => _connection is not { Waiting: >= MaxWaiting };

    private byte[] Take(int room)
    {
        lock (_lock)
        {
            byte[] data = new byte[(int)Math.Min(room, _receivedLength)];
            for (int done = 0; done < data.Length;)
            {
                ReadOnlySpan<byte> first = _received.Peek().AsSpan(_receivedOffset);
                int count = Math.Min(first.Length, data.Length - done);
                first[..count].CopyTo(data.AsSpan(done));
                done += count;
                _receivedOffset += count;
                if (count == first.Length)
                {
                    _received.Dequeue();
                    _receivedOffset = 0;
                }
            }

            bool wasFull = _receivedLength >= MaxWaiting;
            _receivedLength -= data.Length;
            _isTold &= _receivedLength != 0;
            if (wasFull && _receivedLength < MaxWaiting && _drained.CurrentCount == 0)
            {
                _drained.Release();
            }

            return data;
        }
    }

    private void Send(ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
        {
            var frames = new List<byte[]>();
            bool isSound = _fromDriver.TryPush(bytes, frames);
            foreach (byte[] frame in frames)
            {
                isSound = isSound && ChannelFrames.KindOf(frame) != ChannelFrames.KindOfMachine;
                if (isSound)
                {
                    _connection?.Send(frame);
                }
            }

            if (!isSound)
            {
                _connection?.Close();
            }
        }
    }

    private async Task AcceptAsync(Socket listener)
    {
        try
        {
            while (true)
            {
                Socket socket = await listener.AcceptAsync(_end.Token).ConfigureAwait(false);
                var connection = new Connection(socket);
                bool isFirst;
                lock (_lock)
                {
                    isFirst = _connection is null && !_end.IsCancellationRequested;
                    _connection ??= connection;
                }

                if (isFirst)
                {
                    _ = ServeAsync(connection);
                }
                else
                {
                    socket.Dispose();
                }
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // The end of the run.
        }
    }

    private async Task ServeAsync(Connection connection)
    {
        Task sending = connection.SendAsync(_end.Token);
        var frames = new List<byte[]>();
        var reader = new ChannelFrames();
        byte[] buffer = new byte[BufferLength];
        try
        {
            Connected?.Invoke();
            Tell();
            bool isSound = true;
            while (isSound && await connection.Socket.ReceiveAsync(buffer, _end.Token).ConfigureAwait(false) is int count and not 0)
            {
                isSound = reader.TryPush(buffer.AsSpan(0, count), frames);
                foreach (byte[] frame in frames)
                {
                    isSound = isSound && (ChannelFrames.KindOf(frame) == ChannelFrames.KindOfMachine
                        ? ForMachine is { } handle && await handle(frame.AsMemory(ChannelFrames.HeaderLength), connection.SendFrameAsync).ConfigureAwait(false)
                        : await TryReceiveAsync(frame).ConfigureAwait(false));
                }

                frames.Clear();
            }

            if (isSound)
            {
                // It says nothing more; what was said to it still goes.
                connection.Finish();
                await sending.ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException or InvalidOperationException or IOException)
        {
            // The relay has gone, or the run has ended.
        }

        connection.Close();
        await sending.ConfigureAwait(false);
        lock (_lock)
        {
            _connection = null;
        }
    }

    private async Task<bool> TryReceiveAsync(byte[] frame)
    {
        while (true)
        {
            lock (_lock)
            {
                if (_receivedLength < MaxWaiting)
                {
                    _received.Enqueue(frame);
                    _receivedLength += frame.Length;
                    break;
                }
            }

            await _drained.WaitAsync(_end.Token).ConfigureAwait(false);
        }

        Tell();
        return true;
    }

    private void Tell()
    {
        lock (_lock)
        {
            if (!_isTold)
            {
                _isTold = true;
                _ = TellAsync(++_telling);
            }
        }
    }

    private async Task TellAsync(ulong telling)
    {
        try
        {
            while (IsDue(telling) && !await Notify!().ConfigureAwait(false))
            {
                await Task.Delay(s_tellAgain, _end.Token).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is InvalidOperationException or OperationCanceledException or ObjectDisposedException)
        {
            // The end of the run.
        }
    }

    private bool IsDue(ulong telling)
    {
        lock (_lock)
        {
            return _isTold && telling == _telling;
        }
    }

    // A relay that is connected, and what goes to it.
    private sealed class Connection(Socket socket)
    {
        private readonly Channel<byte[]> _frames = Channel.CreateUnbounded<byte[]>(new UnboundedChannelOptions { SingleReader = true });
        private long _waiting;

        public Socket Socket => socket;

        public long Waiting => Interlocked.Read(ref _waiting);

        public void Send(byte[] frame)
        {
            if (_frames.Writer.TryWrite(frame))
            {
                Interlocked.Add(ref _waiting, frame.Length);
            }
        }

        public Task SendFrameAsync(byte[] frame)
        {
            Send(frame);
            return Task.CompletedTask;
        }

        public void Finish() => _frames.Writer.TryComplete();

        public void Close()
        {
            Finish();
            socket.Dispose();
        }

        public async Task SendAsync(CancellationToken end)
        {
            try
            {
                await foreach (byte[] frame in _frames.Reader.ReadAllAsync(end).ConfigureAwait(false))
                {
                    for (ReadOnlyMemory<byte> rest = frame; !rest.IsEmpty;)
                    {
                        rest = rest[await socket.SendAsync(rest, end).ConfigureAwait(false)..];
                    }

                    Interlocked.Add(ref _waiting, -frame.Length);
                }
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // Who reads finds out.
            }

            socket.Dispose();
        }
    }
}
