// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A machine, or another relay, that a test writes byte by byte: it accepts one connection, says what it is told, and notes what comes.

using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Migration;
using Xunit;

namespace Svsm.MigrationRelay.Tests;

/// <summary>Whoever a relay talks to, as hostile as a test likes.</summary>
internal sealed class RawEnd : IAsyncDisposable
{
    private readonly Socket _listener;
    private readonly string? _path;
    private readonly CancellationTokenSource _end = new();
    private readonly Task _running;

    /// <param name="path">The Unix socket to listen on; or null for a TCP port.</param>
    /// <param name="talk">What it does with each connection, which ends with it.</param>
    public RawEnd(string? path, Func<NetworkStream, CancellationToken, Task> talk)
    {
        _path = path;
        _listener = path is null
            ? new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)
            : new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        _listener.Bind(path is null ? new IPEndPoint(IPAddress.Loopback, 0) : new UnixDomainSocketEndPoint(path));
        _listener.Listen();
        _running = Task.Run(() => RunAsync(talk));
    }

    public int Port => ((IPEndPoint)_listener.LocalEndPoint!).Port;

    public static byte[] Notice(MigrationState state, MigrationReason reason = MigrationReason.None)
    {
        byte[] notice = new byte[32];
        (notice[0], notice[1], notice[2]) = (0x81, (byte)state, (byte)reason);
        return FakeMachine.Bytes(3, notice);
    }

    public static byte[] Preamble(ReadOnlySpan<byte> id, ulong count) => [.. "SVSMRLY1"u8, .. id, .. BitConverter.GetBytes(count)];

    public static async Task<byte[]> ReadAsync(NetworkStream stream, int length, CancellationToken cancellationToken)
    {
        byte[] bytes = new byte[length];
        await stream.ReadExactlyAsync(bytes, cancellationToken);
        return bytes;
    }

    /// <summary>Reads until the relay has gone.</summary>
    public static async Task DrainAsync(NetworkStream stream, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[0x4000];
        while (await stream.ReadAsync(buffer, cancellationToken) != 0)
        {
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        await _running;
        _listener.Dispose();
        _end.Dispose();
        if (_path is not null)
        {
            File.Delete(_path);
        }
    }

    private async Task RunAsync(Func<NetworkStream, CancellationToken, Task> talk)
    {
        try
        {
            while (true)
            {
                using Socket connection = await _listener.AcceptAsync(_end.Token);
                using var stream = new NetworkStream(connection);
                try
                {
                    await talk(stream, _end.Token);
                }
                catch (IOException)
                {
                    // The relay has gone.
                }
            }
        }
        catch (OperationCanceledException)
        {
            // The test is over.
        }
    }
}
