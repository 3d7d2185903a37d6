// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A relay in a test's hands: it carries frames between the channels of two machines, in one process. A script may change, drop, repeat or hold back each of them.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Channels;
using System.Threading.Tasks;
using Svsm.Simulator;

namespace Svsm.Moving.Tests;

/// <summary>A frame of the channel.</summary>
internal readonly record struct Frame(FrameKind Kind, byte[] Contents)
{
    /// <summary>Type of the record, if it is one.</summary>
    public RecordType RecordType => Kind == FrameKind.Record && Contents.Length > 4 ? (RecordType)Contents[4] : RecordType.None;

    /// <summary>It is a HELLO.</summary>
    public bool IsHello => Kind == FrameKind.Clear && Contents.AsSpan().StartsWith("SVSMMIG1"u8);
}

/// <summary>One end: the channel of a machine.</summary>
internal sealed class RelayEnd : IDisposable
{
    private readonly Socket _socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly NetworkStream _stream;
    private readonly SemaphoreSlim _writing = new(1);

    public RelayEnd(string path)
    {
        _socket.Connect(new UnixDomainSocketEndPoint(path));
        _stream = new NetworkStream(_socket, ownsSocket: true);
    }

    public long Carried { get; private set; }

    public async Task SendAsync(Frame frame, CancellationToken cancellationToken)
    {
        byte[] bytes = new byte[8 + frame.Contents.Length];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, frame.Contents.Length);
        bytes[4] = (byte)frame.Kind;
        frame.Contents.CopyTo(bytes, 8);
        await _writing.WaitAsync(cancellationToken);
        try
        {
            await _stream.WriteAsync(bytes, cancellationToken);
            Carried += bytes.Length;
        }
        finally
        {
            _writing.Release();
        }
    }

    /// <summary>Takes the next frame; null at the end.</summary>
    public async Task<Frame?> ReceiveAsync(CancellationToken cancellationToken)
    {
        byte[] head = new byte[8];
        if (await _stream.ReadAtLeastAsync(head, head.Length, throwOnEndOfStream: false, cancellationToken) != head.Length)
        {
            return null;
        }

        byte[] contents = new byte[BinaryPrimitives.ReadInt32LittleEndian(head)];
        await _stream.ReadExactlyAsync(contents, cancellationToken);
        return new Frame((FrameKind)head[4], contents);
    }

    public void Dispose()
    {
        _stream.Dispose();
        _writing.Dispose();
    }
}

/// <summary>The relay.</summary>
internal sealed class TestRelay : IDisposable
{
    private readonly CancellationTokenSource _ended = new();
    private readonly RelayEnd _source;
    private readonly RelayEnd _target;
    private readonly Channel<Notice> _sourceNotices = Channel.CreateUnbounded<Notice>();
    private readonly Channel<Notice> _targetNotices = Channel.CreateUnbounded<Notice>();
    private readonly MovingPair _pair;
    private bool _hasGivenState;

    public TestRelay(MovingPair pair)
    {
        _pair = pair;
        _source = new RelayEnd(pair.SourceSocket);
        _target = new RelayEnd(pair.TargetSocket);
    }

    /// <summary>What becomes of a frame of the source's.</summary>
    public Func<Frame, IEnumerable<Frame>> FromSource { get; init; } = frame => [frame];

    /// <summary>What becomes of a frame of the target's.</summary>
    public Func<Frame, IEnumerable<Frame>> FromTarget { get; init; } = frame => [frame];

    public long BytesToTarget => _target.Carried;

    public Notice SourceNotice { get; private set; } = Notice.None;

    public Notice TargetNotice { get; private set; } = Notice.None;

    /// <summary>Begins, and carries frames until it is disposed of.</summary>
    public async Task BeginAsync()
    {
        _ = CarryAsync(_source, _target, FromSource, isSource: true);
        _ = CarryAsync(_target, _source, FromTarget, isSource: false);
        await BeginAsync(ofSource: false);
        await BeginAsync(ofSource: true);
    }

    /// <summary>Tells an SVSM to begin, or to say again what may be lost.</summary>
    public Task BeginAsync(bool ofSource) => WishAsync(ofSource, 1, ofSource ? (byte)1 : (byte)2);

    /// <summary>Tells an SVSM to cancel.</summary>
    public Task CancelAsync(bool ofSource) => WishAsync(ofSource, 2);

    /// <summary>Tells the source to stop the guest.</summary>
    public Task StopAsync() => WishAsync(ofSource: true, 3);

    /// <summary>Gives the target a frame.</summary>
    public Task SendToTargetAsync(Frame frame) => _target.SendAsync(frame, _ended.Token);

    /// <summary>Waits until an SVSM tells a state, or a later one.</summary>
    public async Task<Notice> WaitForAsync(bool ofSource, MigrationState state, CancellationToken cancellationToken)
    {
        ChannelReader<Notice> notices = (ofSource ? _sourceNotices : _targetNotices).Reader;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, _ended.Token);
        limit.CancelAfter(Polling.Patience);
        try
        {
            while (true)
            {
                Notice notice = await notices.ReadAsync(limit.Token);
                if (notice.State >= state)
                {
                    return notice;
                }
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested && !_ended.IsCancellationRequested)
        {
            MachineResult source = await _pair.Source.StopAsync();
            MachineResult target = await _pair.Target.StopAsync();
            throw new TimeoutException($"The {(ofSource ? "source" : "target")} does not come to state {state}.\nsource: {SourceNotice}\n{source}\ntarget: {TargetNotice}\n{target}");
        }
    }

    public void Dispose()
    {
        _ended.Cancel();
        _source.Dispose();
        _target.Dispose();
        _ended.Dispose();
    }

    private async Task CarryAsync(RelayEnd from, RelayEnd to, Func<Frame, IEnumerable<Frame>> script, bool isSource)
    {
        ChannelWriter<Notice> notices = (isSource ? _sourceNotices : _targetNotices).Writer;
        try
        {
            while (await from.ReceiveAsync(_ended.Token) is Frame frame)
            {
                if (frame.Kind == FrameKind.Local)
                {
                    Note(frame.Contents, isSource);
                    continue;
                }

                if (isSource && frame.RecordType == RecordType.Release)
                {
                    await GiveHostStateAsync();
                }

                foreach (Frame each in script(frame))
                {
                    await TrySendAsync(to, each);
                }
            }
        }
        catch (Exception exception) when (exception is OperationCanceledException or IOException or ObjectDisposedException or SocketException)
        {
        }
        catch (Exception exception)
        {
            notices.TryComplete(exception);
        }

        // Whoever waits for one that has not come waits in vain.
        notices.TryComplete(new EndOfStreamException($"the channel of the {(isSource ? "source" : "target")} has ended"));
    }

    // The other machine may be gone: what this one says still counts.
    private async Task TrySendAsync(RelayEnd to, Frame frame)
    {
        try
        {
            await to.SendAsync(frame, _ended.Token);
        }
        catch (Exception exception) when (exception is IOException or SocketException)
        {
        }
    }

    // Behind the source's end, ahead of the release. It may come again; when the guest runs, nothing more is taken.
    private async Task GiveHostStateAsync()
    {
        try
        {
            await _pair.Target.RestoreHostStateAsync(await _pair.Source.SaveHostStateAsync());
            _hasGivenState = true;
        }
        catch (MachineTestException) when (_hasGivenState)
        {
        }
    }

    private Task WishAsync(bool ofSource, params byte[] wish) => (ofSource ? _source : _target).SendAsync(new Frame(FrameKind.Local, wish), _ended.Token);

    private void Note(byte[] contents, bool isSource)
    {
        if (!Notice.TryRead(contents, out Notice notice))
        {
            return;
        }

        if (Environment.GetEnvironmentVariable("SVSM_TEST_OUTPUT") is not null)
        {
            Console.WriteLine($"{(isSource ? "source" : "target")}: {notice}");
        }

        if (isSource)
        {
            SourceNotice = notice;
        }
        else
        {
            TargetNotice = notice;
        }

        (isSource ? _sourceNotices : _targetNotices).Writer.TryWrite(notice);
    }
}
