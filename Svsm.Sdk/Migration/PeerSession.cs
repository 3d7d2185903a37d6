// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What two relays say to each other, over as many TCP connections as it takes (docs/migration-relays.md, "Between two relays"). Each end numbers the frames
// that it sends, without a word on the wire, and keeps those that the other one has not acknowledged. A connection begins with a preamble in each direction,
// which says how many frames have come; so what was lost with the last connection goes again, and nothing goes twice.
//
// Memory is bounded: who sends waits while too much is unacknowledged; who receives reads nothing while the machine takes nothing.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;

namespace Svsm.Migration.Relay;

/// <summary>A session. One reader, any number of senders, one connection at a time.</summary>
internal sealed class PeerSession
{
    private const int WriteLength = 0x4_0000;

    private readonly RelayLimits _limits;
    private readonly TimeProvider _time;
    private readonly Channel<RelayFrame> _incoming;
    private readonly Signal _changed = new();
    private readonly Lock _lock = new();

    // Frames that the other end has not acknowledged, from number _acknowledged on; _next is the first of them that this connection has not taken, with number
    // _position.
    private readonly LinkedList<byte[]> _kept = new();
    private LinkedListNode<byte[]>? _next;
    private long _keptBytes;
    private ulong _acknowledged;
    private ulong _position;
    private ulong _written;

    private ulong _received;
    private ulong _told;
    private long _untoldSince;
    private long _waitingSince;
    private bool _hasGotOn;
    private bool _hasEnd;
    private bool _waitsNever;
    private bool _isOver;

    /// <summary>Makes a session.</summary>
    /// <param name="limits">Its limits.</param>
    /// <param name="time">The clock.</param>
    public PeerSession(RelayLimits limits, TimeProvider time)
    {
        (_limits, _time) = (limits, time);
        _incoming = Channel.CreateBounded<RelayFrame>(new BoundedChannelOptions(limits.Incoming) { SingleReader = true });
    }

    /// <summary>Bytes of frames that were sent. What goes twice counts once.</summary>
    public long BytesSent { get; private set; }

    /// <summary>Bytes of frames that have come.</summary>
    public long BytesReceived { get; private set; }

    /// <summary>Connections so far.</summary>
    public int Connections { get; private set; }

    /// <summary>Frames that have come: what to say in a preamble. Does not change while there is no connection.</summary>
    public ulong Received
    {
        get
        {
            lock (_lock)
            {
                return _received;
            }
        }
    }

    /// <summary>
    /// Something was acknowledged on the last connection, or nothing waited for it. A connection of which this is not so is as good as none.
    /// </summary>
    public bool HasGotOn
    {
        get
        {
            lock (_lock)
            {
                return _hasGotOn || _kept.Count == 0;
            }
        }
    }

    /// <summary>Bytes that wait for their acknowledgement.</summary>
    public long KeptBytes
    {
        get
        {
            lock (_lock)
            {
                return _keptBytes;
            }
        }
    }

    /// <summary>The session can go on with an end that has got so many frames.</summary>
    public bool CanResume(ulong peerReceived)
    {
        lock (_lock)
        {
            return peerReceived >= _acknowledged && peerReceived <= _written;
        }
    }

    /// <summary>
    /// Sends a frame, in its turn. Waits while too much is unacknowledged. If the session is over, or the other end has ended, nothing happens.
    /// </summary>
    public async Task SendAsync(RelayFrame frame, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed = _changed.Changed;
            lock (_lock)
            {
                if (_isOver || _hasEnd)
                {
                    return;
                }

                if (_keptBytes == 0 || _keptBytes + frame.Bytes.Length <= _limits.Unacknowledged)
                {
                    LinkedListNode<byte[]> node = _kept.AddLast(frame.Bytes);
                    _next ??= node;
                    _keptBytes += frame.Bytes.Length;
                    BytesSent += frame.Bytes.Length;
                    break;
                }

                if (_waitsNever)
                {
                    return;
                }
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }

        _changed.Set();
    }

    /// <summary>Takes the next frame of the other end: of kind 1, 2, 4 or 5, and no acknowledgement. Untrusted.</summary>
    /// <exception cref="ChannelClosedException">The session is over, and everything was taken.</exception>
    public ValueTask<RelayFrame> ReceiveAsync(CancellationToken cancellationToken) => _incoming.Reader.ReadAsync(cancellationToken);

    /// <summary>
    /// From here on, what would have to wait is lost. For a migration that is to be cancelled: what the own SVSM says last is behind what nobody takes.
    /// </summary>
    public void WaitNever()
    {
        lock (_lock)
        {
            _waitsNever = true;
        }

        _changed.Set();
    }

    /// <summary>Nothing goes or comes any more. What has come can still be taken.</summary>
    public void Finish()
    {
        lock (_lock)
        {
            _isOver = true;
        }

        _incoming.Writer.TryComplete();
        _changed.Set();
    }

    /// <summary>Carries over one connection, whose preambles have gone, until it breaks.</summary>
    /// <param name="stream">The connection.</param>
    /// <param name="peerReceived">Frames that the other end has got, as its preamble says: see <see cref="CanResume"/>.</param>
    /// <param name="cancellationToken">Leaves the connection.</param>
    /// <exception cref="IOException">It is broken.</exception>
    /// <exception cref="InvalidDataException">The other end says something that it cannot say.</exception>
    public async Task RunAsync(Stream stream, ulong peerReceived, CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            _hasGotOn = false;
            Drop(peerReceived);
            (_next, _position, _told) = (_kept.First, peerReceived, _received);
            _waitingSince = _time.GetTimestamp();
            Connections++;
        }

        _changed.Set();
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task[] both = [WriteAsync(stream, end.Token), ReadAsync(stream, end.Token)];
        try
        {
            await (await Task.WhenAny(both).ConfigureAwait(false)).ConfigureAwait(false);
        }
        finally
        {
            await end.CancelAsync().ConfigureAwait(false);
            await Task.WhenAll(both).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>Waits until the other end has everything, or the session is over.</summary>
    /// <param name="cancellationToken">Gives up.</param>
    public async Task DrainAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed = _changed.Changed;
            lock (_lock)
            {
                // Who has said that it ends wants no more than to hear that this was heard.
                if (_isOver || (_hasEnd ? _told == _received : _kept.Count == 0))
                {
                    return;
                }
            }

            await changed.WaitAsync(cancellationToken).ConfigureAwait(false);
        }
    }

    private async Task WriteAsync(Stream stream, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[WriteLength];
        bool isBeat = false;
        while (true)
        {
            Task changed = _changed.Changed;
            int length = 0;
            ulong told;
            TimeSpan wait = _limits.Beat;
            lock (_lock)
            {
                told = _received;
                ulong untold = _received - _told;
                if (untold != 0)
                {
                    wait = _limits.AcknowledgeAfter - _time.GetElapsedTime(_untoldSince);
                }

                if (isBeat || untold >= (ulong)_limits.AcknowledgeEvery || (untold != 0 && (_hasEnd || _next is not null || wait <= TimeSpan.Zero)))
                {
                    Append(buffer, ref length, MakeAcknowledgement(told));
                }

                if (_position == _acknowledged)
                {
                    _waitingSince = _time.GetTimestamp();
                }

                for (; _next is not null && length + _next.Value.Length <= buffer.Length; _next = _next.Next)
                {
                    Append(buffer, ref length, _next.Value);
                    _position++;
                    _written = Math.Max(_written, _position);
                }
            }

            isBeat = false;
            if (length != 0)
            {
                await stream.WriteAsync(buffer.AsMemory(0, length), cancellationToken).ConfigureAwait(false);
                lock (_lock)
                {
                    _told = told;
                }

                _changed.Set();
                continue;
            }

            try
            {
                await changed.WaitAsync(wait, _time, cancellationToken).ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                isBeat = true;
            }
        }

        static byte[] MakeAcknowledgement(ulong count)
        {
            byte[] contents = new byte[RelayVerb.AcknowledgeLength];
            contents[0] = RelayVerb.Acknowledge;
            BinaryPrimitives.WriteUInt64LittleEndian(contents.AsSpan(1), count);
            return RelayFrame.Make(FrameKind.Relay, contents).Bytes;
        }

        static void Append(byte[] buffer, ref int length, byte[] bytes)
        {
            bytes.CopyTo(buffer, length);
            length += bytes.Length;
        }
    }

    private async Task ReadAsync(Stream stream, CancellationToken cancellationToken)
    {
        var reader = new FrameReader(stream);
        using var silence = new CancellationTokenSource(_limits.Silence, _time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(silence.Token, cancellationToken);
        while (true)
        {
            RelayFrame frame;
            try
            {
                silence.CancelAfter(_limits.Silence);
                frame = await reader.ReadAsync(both.Token).ConfigureAwait(false) ?? throw new EndOfStreamException("the other end has closed it");
                silence.CancelAfter(Timeout.InfiniteTimeSpan);
            }
            catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
            {
                throw new IOException($"nothing has come for {_limits.Silence.TotalSeconds:0} s", e);
            }

            if (frame.Kind == FrameKind.Relay && frame.Verb == RelayVerb.Acknowledge)
            {
                TakeAcknowledgement(frame);
                continue;
            }

            if (frame.Kind == FrameKind.Local)
            {
                throw new InvalidDataException("a frame of kind 3, which is for an SVSM and its own relay");
            }

            // Counted when it is kept, and not before: what this connection leaves here comes again over the next one.
            long before = _time.GetTimestamp();
            await _incoming.Writer.WriteAsync(frame, cancellationToken).ConfigureAwait(false);
            bool isTime;
            lock (_lock)
            {
                // Acknowledgements may be behind this frame: what the own machine takes is not the other end's time.
                _waitingSince += _time.GetTimestamp() - before;
                _received++;
                BytesReceived += frame.Bytes.Length;
                ulong untold = _received - _told;
                if (untold == 1)
                {
                    _untoldSince = _time.GetTimestamp();
                }

                _hasEnd |= frame.Kind == FrameKind.Relay && frame.Verb == RelayVerb.End;
                isTime = untold == 1 || untold >= (ulong)_limits.AcknowledgeEvery || _hasEnd;
            }

            if (isTime)
            {
                _changed.Set();
            }
        }
    }

    private void TakeAcknowledgement(RelayFrame frame)
    {
        ulong count = frame.Contents.Length == RelayVerb.AcknowledgeLength ? BinaryPrimitives.ReadUInt64LittleEndian(frame.Contents[1..]) : ulong.MaxValue;
        lock (_lock)
        {
            if (count < _acknowledged || count > _position)
            {
                throw new InvalidDataException($"an acknowledgement of {count} frames; {_acknowledged} to {_position} are possible");
            }

            if (count == _acknowledged)
            {
                if (_position != _acknowledged && _time.GetElapsedTime(_waitingSince) > _limits.Acknowledged)
                {
                    throw new IOException($"nothing was acknowledged for {_limits.Acknowledged.TotalSeconds:0} s");
                }

                return;
            }

            Drop(count);
            _waitingSince = _time.GetTimestamp();
        }

        _changed.Set();
    }

    private void Drop(ulong acknowledged)
    {
        for (; _acknowledged < acknowledged; _acknowledged++)
        {
            _hasGotOn = true;
            _keptBytes -= _kept.First!.Value.Length;
            _kept.RemoveFirst();
        }
    }
}
