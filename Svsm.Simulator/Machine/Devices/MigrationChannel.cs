// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of a migration: a port, whose other end is a Unix socket that the machine listens on. One relay at a time is connected; another one is closed at
// once. When a relay has gone, the next one may come; what the driver sends meanwhile is lost, what the relay sent before is not: the machine goes on reading
// it, and reads nothing of the next one before that is done.
//
// Neither end makes the machine's memory grow: who is not read by the other one is not read either (Backlog).
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

internal sealed class MigrationChannel(string path) : VirtioPort, IDisposable
{
    private const int BufferLength = 64 * 1024;

    // One that is connected, and one that has gone and has not been read to its end.
    private const int MaxRelays = 2;

    private static readonly TimeSpan s_tellAgain = TimeSpan.FromMilliseconds(100);

    private readonly CancellationTokenSource _end = new();
    private readonly Lock _lock = new();
    private readonly ChannelFrames _fromDriver = new();

    // Frames for the driver, and how much of the first one it has.
    private readonly Queue<byte[]> _received = new();
    private readonly Backlog _waiting = new();
    private int _receivedOffset;

    // Held for the relay that is read.
    private readonly SemaphoreSlim _reading = new(1, 1);
    private Socket? _listener;
    private Connection? _connection;
    private Task _accepting = Task.CompletedTask;
    private Func<HostStateExchange>? _exchange;
    private Func<Task<bool>>? _notify;
    private bool _isStalled;
    private bool _isTold;
    private ulong _telling;

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

    // The run has begun. Each relay gets an exchange for its frames for the machine; notify tells VMPL0 of vCPU 0, and is false when that takes no interrupts yet.
    public void Start(Func<HostStateExchange> exchange, Func<Task<bool>> notify)
    {
        _exchange = exchange;
        _notify = notify;
        _accepting = AcceptAsync(_listener!);
    }

    public override bool HasNews(int queue)
    {
        lock (_lock)
        {
            if (queue != ReceiveQueue)
            {
                return _isStalled && CanSend;
            }

            // The driver has looked; if there was nothing, it will be told of what comes.
            _isTold &= _received.Count != 0;
            return _received.Count != 0;
        }
    }

    public override bool CanHandle(int queue)
    {
        lock (_lock)
        {
            if (queue == ReceiveQueue)
            {
                return _received.Count != 0;
            }

            _isStalled = !CanSend;
            return !_isStalled;
        }
    }

    // What the driver had sent of a frame is nothing, and of what it had taken in part it gets all: there are no halves of frames.
    public override void Reset()
    {
        lock (_lock)
        {
            _fromDriver.Clear();
            _waiting.Add(_receivedOffset);
            _receivedOffset = 0;
        }
    }

    public void Dispose()
    {
        _end.Cancel();
        if (_listener is not null)
        {
            _listener.Dispose();
            File.Delete(path);
        }

        _accepting.GetAwaiter().GetResult();
    }

    protected override ReadOnlyMemory<byte> Take(int room)
    {
        lock (_lock)
        {
            byte[] data = new byte[(int)Math.Min(room, _waiting.Length)];
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

            _waiting.Add(-data.Length);
            _isTold &= _received.Count != 0;
            return data;
        }
    }

    protected override void Send(ReadOnlySpan<byte> bytes)
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

    private bool CanSend => _connection is not { IsFull: true };

    private async Task AcceptAsync(Socket listener)
    {
        var serving = new List<Task>();
        try
        {
            while (true)
            {
                Socket socket = await listener.AcceptAsync(_end.Token).ConfigureAwait(false);
                serving.RemoveAll(task => task.IsCompleted);
                Connection? connection = null;
                lock (_lock)
                {
                    if (_connection is null || (_connection.HasGone && serving.Count < MaxRelays))
                    {
                        connection = _connection = new Connection(socket, _end.Token);
                    }
                }

                if (connection is not null)
                {
                    serving.Add(ServeAsync(connection));
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

        await Task.WhenAll(serving).ConfigureAwait(false);
    }

    private async Task ServeAsync(Connection connection)
    {
        Task sending = connection.SendAsync();
        try
        {
            Tell();
            await _reading.WaitAsync(_end.Token).ConfigureAwait(false);
            bool isSound;
            try
            {
                isSound = await TryReadAsync(connection).ConfigureAwait(false);
            }
            finally
            {
                _reading.Release();
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
        finally
        {
            connection.Close();
            await sending.ConfigureAwait(false);
            lock (_lock)
            {
                _connection = ReferenceEquals(_connection, connection) ? null : _connection;
            }
        }
    }

    // Reads a relay to its end. False when it sends what makes no sense.
    private async Task<bool> TryReadAsync(Connection connection)
    {
        HostStateExchange exchange = _exchange!();
        var frames = new List<byte[]>();
        var reader = new ChannelFrames();
        byte[] buffer = new byte[BufferLength];
        bool isSound = true;
        while (isSound)
        {
            // What has been read has room: a relay that goes leaves nothing behind that is neither here nor there.
            await _waiting.AwaitRoomAsync(_end.Token).ConfigureAwait(false);
            int count = await connection.Socket.ReceiveAsync(buffer, _end.Token).ConfigureAwait(false);
            if (count == 0)
            {
                return true;
            }

            isSound = reader.TryPush(buffer.AsSpan(0, count), frames);
            foreach (byte[] frame in frames)
            {
                if (isSound && ChannelFrames.KindOf(frame) == ChannelFrames.KindOfMachine)
                {
                    isSound = await exchange.HandleAsync(frame.AsMemory(ChannelFrames.HeaderLength), connection.SendWithRoomAsync).ConfigureAwait(false);
                }
                else if (isSound)
                {
                    Receive(frame);
                }
            }

            frames.Clear();
        }

        return false;
    }

    private void Receive(byte[] frame)
    {
        lock (_lock)
        {
            _received.Enqueue(frame);
            _waiting.Add(frame.Length);
        }

        Tell();
    }

    private void Tell()
    {
        ulong telling;
        lock (_lock)
        {
            if (_isTold)
            {
                return;
            }

            _isTold = true;
            telling = ++_telling;
        }

        _ = TellAsync(telling);
    }

    private async Task TellAsync(ulong telling)
    {
        try
        {
            while (IsDue(telling) && !await _notify!().ConfigureAwait(false))
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

    // How many bytes wait for somebody who is to take them. Who has more for him waits until there is room.
    private sealed class Backlog
    {
        private const long MaxLength = 1 << 20;

        private readonly Lock _lock = new();
        private TaskCompletionSource? _room;

        public long Length { get; private set; }

        public bool IsFull => Length >= MaxLength;

        public void Add(int count)
        {
            lock (_lock)
            {
                Length += count;
                if (!IsFull)
                {
                    _room?.TrySetResult();
                    _room = null;
                }
            }
        }

        public Task AwaitRoomAsync(CancellationToken cancellationToken)
        {
            lock (_lock)
            {
                // Whoever goes on does so behind the locks of who made room.
                return IsFull ? (_room ??= new(TaskCreationOptions.RunContinuationsAsynchronously)).Task.WaitAsync(cancellationToken) : Task.CompletedTask;
            }
        }
    }

    // A relay that is connected, and what goes to it.
    private sealed class Connection(Socket socket, CancellationToken end)
    {
        private readonly Channel<byte[]> _frames = Channel.CreateUnbounded<byte[]>(new UnboundedChannelOptions { SingleReader = true });
        private readonly Backlog _waiting = new();
        private readonly Lock _starting = new();
        private Task<int> _lastSend = Task.FromResult(0);

        public Socket Socket => socket;

        public bool IsFull => _waiting.IsFull;

        // Whether it will never hear anything more. Bytes that are on their way find out by themselves, and then there are no more of them; otherwise it is
        // asked by sending none, which fails when the other end is closed. Reading would not tell: what it has said before comes first.
        public bool HasGone
        {
            get
            {
                lock (_starting)
                {
                    try
                    {
                        if (_lastSend.IsCompleted)
                        {
                            socket.Send(ReadOnlySpan<byte>.Empty);
                        }

                        return false;
                    }
                    catch (Exception e) when (e is SocketException or ObjectDisposedException)
                    {
                        return true;
                    }
                }
            }
        }

        // Whatever waits already: the driver has been asked before whether there is room.
        public void Send(byte[] frame)
        {
            if (_frames.Writer.TryWrite(frame))
            {
                _waiting.Add(frame.Length);
            }
        }

        public async Task SendWithRoomAsync(byte[] frame)
        {
            await _waiting.AwaitRoomAsync(end).ConfigureAwait(false);
            Send(frame);
        }

        public void Finish() => _frames.Writer.TryComplete();

        public void Close()
        {
            Finish();
            socket.Dispose();
        }

        // Sends until there is nothing more, or nobody to take it. Never throws.
        public async Task SendAsync()
        {
            try
            {
                await foreach (byte[] frame in _frames.Reader.ReadAllAsync(end).ConfigureAwait(false))
                {
                    _waiting.Add(-frame.Length);
                    for (ReadOnlyMemory<byte> rest = frame; !rest.IsEmpty;)
                    {
                        lock (_starting)
                        {
                            _lastSend = socket.SendAsync(rest, end).AsTask();
                        }

                        rest = rest[await _lastSend.ConfigureAwait(false)..];
                    }
                }
            }
            catch (Exception e) when (e is SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // Who reads it finds out when it is at the end of what it has said.
            }

            // What was for it is nothing, and nobody waits for room.
            Finish();
            while (_frames.Reader.TryRead(out byte[]? frame))
            {
                _waiting.Add(-frame.Length);
            }
        }
    }
}
