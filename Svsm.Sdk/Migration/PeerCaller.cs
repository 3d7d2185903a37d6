// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The sending relay's side of the connections: it calls the other one, again and again for a time if a connection breaks.

using System;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Migration.Relay;

/// <summary>Calls the receiving relay.</summary>
/// <param name="options">Whom, and for how long.</param>
/// <param name="id">The session's number.</param>
/// <param name="session">The session.</param>
/// <param name="log">Gets a line for what goes wrong, and right again.</param>
internal sealed class PeerCaller(SendOptions options, byte[] id, PeerSession session, Action<string> log)
{
    private readonly TaskCompletionSource _connected = new(TaskCreationOptions.RunContinuationsAsynchronously);

    /// <summary>Completes with the first connection.</summary>
    public Task Connected => _connected.Task;

    private string Peer => $"{options.Host}:{options.Port}";

    /// <summary>Keeps the session connected. Never returns.</summary>
    /// <exception cref="SvsmDiagnosticException">
    /// SVSM7104: nobody is there, for too long. SVSM7105: it is no relay. SVSM7109: it has another sender.
    /// </exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        long since = options.Time.GetTimestamp();
        bool isTold = false;
        while (true)
        {
            string why;
            try
            {
                (NetworkStream stream, ulong received) = await ConnectAsync(cancellationToken).ConfigureAwait(false);
                using (stream)
                {
                    if (isTold)
                    {
                        log($"{Peer} is connected");
                    }

                    isTold = false;
                    if (_connected.TrySetResult())
                    {
                        since = options.Time.GetTimestamp();
                    }

                    try
                    {
                        await session.RunAsync(stream, received, cancellationToken).ConfigureAwait(false);
                    }
                    finally
                    {
                        if (session.HasGotOn)
                        {
                            since = options.Time.GetTimestamp();
                        }
                    }

                    throw new IOException("it has ended");
                }
            }
            catch (InvalidDataException e)
            {
                throw SvsmDiagnostics.MigrationPeerMalformed.Error($"{Peer}: {e.Message}", "what docs/migration-relays.md says", e);
            }
            catch (Exception e) when (e is IOException or SocketException)
            {
                why = e.Message;
            }

            if (options.Time.GetElapsedTime(since) >= options.Retry)
            {
                throw SvsmDiagnostics.MigrationPeerUnreachable.Error(
                    $"{Peer}: {why.TrimEnd('.')}, for {options.Retry.TotalSeconds:0} s", "'svsm migrate receive' that listens there");
            }

            if (!isTold)
            {
                log($"{Peer}: {why.TrimEnd('.')}; trying again for {options.Retry.TotalSeconds:0} s");
                isTold = true;
            }

            await Task.Delay(options.Limits.Pause, options.Time, cancellationToken).ConfigureAwait(false);
        }
    }

    private async Task<(NetworkStream Stream, ulong Received)> ConnectAsync(CancellationToken cancellationToken)
    {
        using var patience = new CancellationTokenSource(options.Limits.Handshake, options.Time);
        using var both = CancellationTokenSource.CreateLinkedTokenSource(patience.Token, cancellationToken);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(options.Host, options.Port, both.Token).ConfigureAwait(false);
            var stream = new NetworkStream(socket, ownsSocket: true);
            await stream.WriteAsync(Preamble.Make(id, session.Received), both.Token).ConfigureAwait(false);
            byte[] answer = new byte[Preamble.Length];
            await stream.ReadExactlyAsync(answer, both.Token).ConfigureAwait(false);
            if (!Preamble.TryRead(answer, out byte[] answered, out ulong received))
            {
                throw new InvalidDataException("a beginning that is not that of a relay");
            }

            if (!answered.Any(value => value != 0))
            {
                throw SvsmDiagnostics.MigrationSessionRefused.Error(
                    $"{Peer} has refused session {Convert.ToHexStringLower(id)}", "a relay that waits for a sender, or for this one");
            }

            return answered.AsSpan().SequenceEqual(id) && session.CanResume(received)
                ? (stream, received)
                : throw new InvalidDataException($"session {Convert.ToHexStringLower(answered)} with {received} frames, which is not the one of here");
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            socket.Dispose();
            throw new IOException($"no answer for {options.Limits.Handshake.TotalSeconds:0} s", e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }
}
