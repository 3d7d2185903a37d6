// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A machine as a relay sees it: a Unix socket with one end of the protocol behind it, which is driven as MigrationModule drives it, and a hypervisor that has a
// state. One relay at a time; the next one is accepted when the last one has gone.

using System;
using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using Svsm.Migration;
using Svsm.Migration.Tests;
using Xunit;

namespace Svsm.MigrationRelay.Tests;

/// <summary>What a machine does about its state.</summary>
internal enum StateFault
{
    None,

    /// <summary>It says nothing.</summary>
    Silent,

    /// <summary>It goes off.</summary>
    Off,

    /// <summary>It goes off when it has given it.</summary>
    OffBehind,

    /// <summary>Its sum is another one.</summary>
    Wrong,
}

/// <summary>A machine with one end.</summary>
internal sealed class FakeMachine : IAsyncDisposable
{
    private const int HeadLength = 8;

    private readonly Socket _listener;
    private readonly CancellationTokenSource _off = new();
    private readonly Task _running;
    private readonly MigrationEnd _end;
    private readonly SourceModel? _source;
    private readonly Action _begin;
    private List<byte> _state = [];
    private bool _hasBegun;
    private bool _isNoticeDue;
    private MigrationState _noticed;
    private ulong _noticedPages;

    public FakeMachine(string path, MigrationEnd end, SourceModel? source, Action begin)
    {
        (Path, _end, _source, _begin) = (path, end, source, begin);
        _listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen();
        _running = Task.Run(RunAsync);
    }

    public string Path { get; }

    /// <summary>The hypervisor's state, of a source.</summary>
    public byte[] State { get; init; } = [];

    /// <summary>What has come of it, of a target.</summary>
    public byte[]? Taken { get; private set; }

    /// <summary>Why the source's machine gives no state.</summary>
    public string? Unavailable { get; set; }

    /// <summary>What the source's machine does when it is asked for its state, in place of giving it.</summary>
    public StateFault Fault { get; init; }

    /// <summary>Why the target's machine takes no state.</summary>
    public string? Refuses { get; set; }

    /// <summary>What the machine does with a frame of its SVSM before it goes to the relay. False: the machine goes off.</summary>
    public Func<MigrationFrame, bool> Goes { get; init; } = _ => true;

    /// <summary>Notices go before the records that are due with them, as those of the module do.</summary>
    public bool IsNoticeFirst { get; init; }

    /// <summary>What becomes of the bytes that go to the relay.</summary>
    public Func<byte[], byte[]> Change { get; init; } = bytes => bytes;

    /// <summary>Pages that the guest writes between two slices of work.</summary>
    public int Writes { get; init; }

    /// <summary>The SVSM's work ends here until it is let go on: for a target or source that is to be looked at.</summary>
    public Func<bool> Works { get; init; } = () => true;

    /// <summary>Frames of all kinds that came from relays.</summary>
    public ConcurrentQueue<MigrationFrame> Came { get; } = [];

    public int Relays { get; private set; }

    public void SwitchOff() => _off.Cancel();

    public async ValueTask DisposeAsync()
    {
        await _off.CancelAsync();
        await _running;
        _listener.Dispose();
        _off.Dispose();
        File.Delete(Path);
    }

    public static byte[] Bytes(MigrationFrame frame)
    {
        byte[] bytes = new byte[HeadLength + frame.Contents.Length];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, frame.Contents.Length);
        bytes[4] = (byte)frame.Kind;
        frame.Contents.CopyTo(bytes, HeadLength);
        return bytes;
    }

    public static byte[] Bytes(byte kind, params byte[] contents) => Bytes(new MigrationFrame((FrameKind)kind, contents));

    public static async Task<MigrationFrame?> ReadAsync(Stream stream, CancellationToken cancellationToken)
    {
        byte[] head = new byte[HeadLength];
        int count = await stream.ReadAtLeastAsync(head, HeadLength, throwOnEndOfStream: false, cancellationToken);
        if (count == 0)
        {
            return null;
        }

        Assert.Equal(HeadLength, count);
        byte[] contents = new byte[BinaryPrimitives.ReadInt32LittleEndian(head)];
        await stream.ReadExactlyAsync(contents, cancellationToken);
        return new MigrationFrame((FrameKind)head[4], contents);
    }

    private async Task RunAsync()
    {
        try
        {
            while (true)
            {
                using Socket relay = await _listener.AcceptAsync(_off.Token);
                Relays++;
                using var stream = new NetworkStream(relay);
                using var gone = CancellationTokenSource.CreateLinkedTokenSource(_off.Token);
                var incoming = Channel.CreateBounded<MigrationFrame>(16);
                Task reading = FillAsync(stream, incoming.Writer, gone.Token);
                try
                {
                    await DriveAsync(stream, incoming.Reader, gone.Token);
                }
                catch (IOException)
                {
                    // The relay has gone.
                }
                finally
                {
                    await gone.CancelAsync();
                    await reading;
                }
            }
        }
        catch (OperationCanceledException)
        {
            _listener.Close();
        }
    }

    private static async Task FillAsync(NetworkStream stream, ChannelWriter<MigrationFrame> incoming, CancellationToken cancellationToken)
    {
        try
        {
            while (await ReadAsync(stream, cancellationToken) is MigrationFrame frame)
            {
                await incoming.WriteAsync(frame, cancellationToken);
            }
        }
        catch (Exception e) when (e is IOException or OperationCanceledException)
        {
            // The relay has gone, or the machine goes.
        }

        incoming.Complete();
    }

    private async Task DriveAsync(NetworkStream stream, ChannelReader<MigrationFrame> incoming, CancellationToken cancellationToken)
    {
        while (true)
        {
            bool hasWorked = false;
            while (incoming.TryRead(out MigrationFrame frame))
            {
                hasWorked = true;
                await TakeAsync(stream, frame, cancellationToken);
            }

            (_end as MigrationTarget)?.Work();
            hasWorked |= await GiveAsync(stream, cancellationToken);
            if (_end is MigrationSource source && Works())
            {
                _source!.Write(Writes);
                hasWorked |= source.Work();
                hasWorked |= await GiveAsync(stream, cancellationToken);
            }

            if (!hasWorked && !await incoming.WaitToReadAsync(cancellationToken))
            {
                return;
            }
        }
    }

    private async Task<bool> GiveAsync(NetworkStream stream, CancellationToken cancellationToken)
    {
        bool hasGiven = false;
        if (IsNoticeFirst)
        {
            await GiveNoticeAsync(stream, cancellationToken);
        }

        while (_end.TryTake(out MigrationFrame frame))
        {
            hasGiven = true;
            if (!Goes(frame))
            {
                await _off.CancelAsync();
                cancellationToken.ThrowIfCancellationRequested();
            }

            await stream.WriteAsync(Change(Bytes(frame)), cancellationToken);
        }

        await GiveNoticeAsync(stream, cancellationToken);
        return hasGiven;
    }

    private async Task GiveNoticeAsync(NetworkStream stream, CancellationToken cancellationToken)
    {
        ulong pages = (_end as MigrationSource)?.PagesSent ?? 0;
        if (_hasBegun && (_isNoticeDue || _end.State != _noticed || pages >= _noticedPages + 16))
        {
            (_isNoticeDue, _noticed, _noticedPages) = (false, _end.State, pages);
            byte[] notice = new byte[32];
            notice[0] = 0x81;
            notice[1] = (byte)_end.State;
            notice[2] = (byte)_end.Reason;
            BinaryPrimitives.WriteUInt64LittleEndian(notice.AsSpan(0x04), pages);
            BinaryPrimitives.WriteUInt64LittleEndian(notice.AsSpan(0x0C), (_end as MigrationSource)?.PagesLeft ?? 0);
            BinaryPrimitives.WriteUInt32LittleEndian(notice.AsSpan(0x14), (_end as MigrationSource)?.Rounds ?? 0);
            BinaryPrimitives.WriteUInt64LittleEndian(notice.AsSpan(0x18), (_end as MigrationSource)?.PagesOfRest ?? 0);
            await stream.WriteAsync(Bytes(3, notice), cancellationToken);
        }
    }

    private async Task TakeAsync(NetworkStream stream, MigrationFrame frame, CancellationToken cancellationToken)
    {
        Came.Enqueue(frame with { Contents = [.. frame.Contents] });
        switch (frame.Kind)
        {
            case FrameKind.Clear or FrameKind.Record:
                _end.Receive(frame);
                return;
            case FrameKind.Machine:
                await TakeStateAsync(stream, frame.Contents, cancellationToken);
                return;
            case FrameKind.Local:
                _isNoticeDue = true;
                TakeWish(frame.Contents);
                return;
            default:
                Assert.Fail($"a frame of kind {frame.Kind} comes to a machine");
                return;
        }
    }

    private void TakeWish(byte[] wish)
    {
        switch (wish)
        {
            case [1, var role]:
                Assert.Equal(_end is MigrationSource ? 1 : 2, role);
                _hasBegun = true;
                if (_end.IsHandedOver)
                {
                    _end.Repeat();
                }
                else
                {
                    _begin();
                }

                break;
            case [2]:
                _end.TryCancel();
                break;
            default:
                Assert.Fail("a wish that there is not");
                break;
        }
    }

    private async Task TakeStateAsync(NetworkStream stream, byte[] contents, CancellationToken cancellationToken)
    {
        switch (contents[0])
        {
            case 0x01:
                if (Unavailable is string why)
                {
                    await stream.WriteAsync(Bytes(4, [0x85, .. Encoding.UTF8.GetBytes(why)]), cancellationToken);
                    break;
                }

                if (Fault == StateFault.Off)
                {
                    await _off.CancelAsync();
                }

                if (Fault is StateFault.Silent or StateFault.Off)
                {
                    break;
                }

                foreach (byte[] part in State.Chunk(0x1_0000))
                {
                    await stream.WriteAsync(Bytes(4, [0x81, .. part]), cancellationToken);
                }

                byte[] sum = Fault == StateFault.Wrong ? new byte[32] : SHA256.HashData(State);
                await stream.WriteAsync(Bytes(4, [0x82, .. BitConverter.GetBytes((ulong)State.Length), .. sum]), cancellationToken);
                if (Fault == StateFault.OffBehind)
                {
                    await _off.CancelAsync();
                }

                break;
            case 0x81:
                _state.AddRange(contents[1..]);
                break;
            case 0x82:
                byte[] state = [.. _state];
                _state = [];
                Assert.Equal(41, contents.Length);
                Assert.Equal((ulong)state.Length, BitConverter.ToUInt64(contents, 1));
                Assert.Equal(SHA256.HashData(state), contents[9..]);
                Assert.NotEqual(MigrationState.Ended, _end.State);
                if (Fault == StateFault.Silent)
                {
                    break;
                }

                if (Refuses is string reason)
                {
                    await stream.WriteAsync(Bytes(4, [0x84, .. Encoding.UTF8.GetBytes(reason)]), cancellationToken);
                    break;
                }

                Taken = state;
                await stream.WriteAsync(Bytes(4, 0x83), cancellationToken);
                break;
            default:
                Assert.Fail($"a frame of kind 4, 0x{contents[0]:X2}");
                break;
        }
    }
}
