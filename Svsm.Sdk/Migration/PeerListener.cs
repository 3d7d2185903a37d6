// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The receiving relay's side of the connections: it listens. The first sender's session is the only one. Its next connection takes the place of the one before,
// which may be broken without anybody having noticed. Whoever says something else is turned away, and changes nothing.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>Listens for the sending relay.</summary>
internal sealed class PeerListener : IDisposable
{
    // Of connections that have said nothing yet.
    private const int MaxGreetings = 16;

    private readonly RelayOptions _options;
    private readonly PeerSession _session;
    private readonly Action<string> _log;
    private readonly Socket _listener;
    private readonly IPEndPoint _address;
    private readonly SemaphoreSlim _taking = new(1);
    private readonly TaskCompletionSource _failed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly Signal _changed = new();
    private byte[]? _id;
    private long _brokenSince;
    private Task _serving = Task.CompletedTask;
    private CancellationTokenSource? _leaving;
    private volatile bool _isServing;

    /// <summary>Listens.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM7106: it cannot.</exception>
    public PeerListener(IPEndPoint address, RelayOptions options, PeerSession session, Action<string> log)
    {
        (_options, _session, _log) = (options, session, log);
        _listener = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            if (address.Address.Equals(IPAddress.IPv6Any))
            {
                _listener.DualMode = true;
            }

            _listener.Bind(address);
            _listener.Listen();
            _address = (IPEndPoint)_listener.LocalEndPoint!;
        }
        catch (SocketException e)
        {
            _listener.Dispose();
            throw SvsmDiagnostics.MigrationAddressUnusable.Error($"{address}: {e.Message}", "an address of this host, with a TCP port that is free", e);
        }
    }

    /// <summary>Where it listens.</summary>
    public IPEndPoint Address => _address;

    /// <summary>Keeps the session connected. Never returns.</summary>
    /// <exception cref="SvsmDiagnosticException">SVSM7104: the sender has gone, for too long. SVSM7105: it is no relay. SVSM7106: it cannot listen any more.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var end = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        Task accepting = AcceptAsync(end.Token);
        try
        {
            await WatchAsync(accepting, end.Token).ConfigureAwait(false);
        }
        finally
        {
            await end.CancelAsync().ConfigureAwait(false);
            await accepting.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await LeaveAsync().ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _listener.Dispose();
        _taking.Dispose();
    }

    private async Task WatchAsync(Task accepting, CancellationToken cancellationToken)
    {
        while (true)
        {
            Task changed = _changed.Changed;
            bool isBroken = _id is not null && !_isServing;
            TimeSpan left = isBroken ? _options.Retry - _options.Time.GetElapsedTime(Interlocked.Read(ref _brokenSince)) : Timeout.InfiniteTimeSpan;
            if (isBroken && left <= TimeSpan.Zero)
            {
                throw SvsmDiagnostics.MigrationPeerUnreachable.Error(
                    $"the sender has not come back for {_options.Retry.TotalSeconds:0} s", "'svsm migrate send' that connects again");
            }

            try
            {
                Task first = await Task.WhenAny(changed, _failed.Task, accepting).WaitAsync(left, _options.Time, cancellationToken).ConfigureAwait(false);
                await first.ConfigureAwait(false);
            }
            catch (TimeoutException)
            {
                // Looked at above.
            }
        }
    }

    private async Task AcceptAsync(CancellationToken cancellationToken)
    {
        List<Task> greetings = [];
        try
        {
            while (true)
            {
                Socket socket = await _listener.AcceptAsync(cancellationToken).ConfigureAwait(false);
                greetings.RemoveAll(greeting => greeting.IsCompleted);
                if (greetings.Count >= MaxGreetings)
                {
                    socket.Dispose();
                    continue;
                }

                greetings.Add(GreetAsync(socket, cancellationToken));
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            throw SvsmDiagnostics.MigrationAddressUnusable.Error($"{_address}: {e.Message}", "an address on which connections can be taken until the end", e);
        }
        finally
        {
            await Task.WhenAll(greetings).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task GreetAsync(Socket socket, CancellationToken cancellationToken)
    {
        var stream = new NetworkStream(socket, ownsSocket: true);
        bool isTaken = false;
        try
        {
            socket.NoDelay = true;
            using var patience = new CancellationTokenSource(_options.Limits.Handshake, _options.Time);
            using var both = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, cancellationToken);
            byte[] preamble = new byte[Preamble.Length];
            await stream.ReadExactlyAsync(preamble, both.Token).ConfigureAwait(false);
            if (!Preamble.TryRead(preamble, out byte[] id, out ulong received) || id.All(value => value == 0))
            {
                _log($"turned away {socket.RemoteEndPoint}: it is no relay");
                return;
            }

            await _taking.WaitAsync(both.Token).ConfigureAwait(false);
            try
            {
                isTaken = await TakeAsync(stream, socket, id, received, cancellationToken).ConfigureAwait(false);
            }
            finally
            {
                _taking.Release();
            }
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // It has gone, or said nothing. A sender comes again.
        }
        finally
        {
            if (!isTaken)
            {
                await stream.DisposeAsync().ConfigureAwait(false);
            }
        }
    }

    private async Task<bool> TakeAsync(NetworkStream stream, Socket socket, byte[] id, ulong received, CancellationToken cancellationToken)
    {
        if ((_id is not null && !_id.AsSpan().SequenceEqual(id)) || !_session.CanResume(received))
        {
            _log($"turned away {socket.RemoteEndPoint}: session {Convert.ToHexStringLower(id)} with {received} frames is not the one of here");
            await stream.WriteAsync(Preamble.Make(new byte[Preamble.IdLength], 0), cancellationToken).ConfigureAwait(false);
            return false;
        }

        await LeaveAsync().ConfigureAwait(false);
        if (_id is not null)
        {
            _log($"{socket.RemoteEndPoint} is connected again");
        }
        else
        {
            Interlocked.Exchange(ref _brokenSince, _options.Time.GetTimestamp());
        }

        _isServing = true;
        _id = id;
        _leaving = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        _serving = ServeAsync(stream, received, _leaving.Token);
        return true;
    }

    private async Task ServeAsync(NetworkStream stream, ulong received, CancellationToken cancellationToken)
    {
        // Not in the time of the greeting.
        await Task.Yield();
        try
        {
            await using (stream.ConfigureAwait(false))
            {
                await stream.WriteAsync(Preamble.Make(_id, _session.Received), cancellationToken).ConfigureAwait(false);
                await _session.RunAsync(stream, received, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (InvalidDataException e)
        {
            _failed.TrySetException(SvsmDiagnostics.MigrationPeerMalformed.Error($"the sender: {e.Message}", "what docs/migration-relays.md says", e));
        }
        catch (IOException e)
        {
            _log($"the connection is broken: {e.Message.TrimEnd('.')}; waiting for the sender for {_options.Retry.TotalSeconds:0} s");
        }
        catch (OperationCanceledException)
        {
            // Another connection takes its place, or the relay ends.
        }
        catch (Exception e)
        {
            // Whatever it is, it does not stay here.
            _failed.TrySetException(e);
        }
        finally
        {
            if (_session.HasGotOn)
            {
                Interlocked.Exchange(ref _brokenSince, _options.Time.GetTimestamp());
            }

            _isServing = false;
            _changed.Set();
        }
    }

    private async Task LeaveAsync()
    {
        if (_leaving is not null)
        {
            await _leaving.CancelAsync().ConfigureAwait(false);
            await _serving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            _leaving.Dispose();
            _leaving = null;
        }
    }
}
