// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The network between the relays, as a test wants it: it passes bytes on in pieces, and breaks connections, also in the middle of a frame, after a number of
// bytes that is drawn from a seed. What it has taken and not passed on when it breaks is lost.

using System;
using System.Collections.Concurrent;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;

namespace Svsm.MigrationRelay.Tests;

/// <summary>How a network treats its connections.</summary>
internal enum Fault
{
    /// <summary>Well.</summary>
    None,

    /// <summary>It ends them, both ways.</summary>
    Cut,

    /// <summary>It resets them.</summary>
    Reset,

    /// <summary>It leaves the receiver's side open and calls again, so that there are two connections.</summary>
    Duplicate,

    /// <summary>It passes on bytes one by one, and late.</summary>
    Delay,
}

/// <summary>A network with one address in it.</summary>
internal sealed class BadNetwork : IAsyncDisposable
{
    private readonly Socket _listener = new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
    private readonly CancellationTokenSource _end = new();
    private readonly Random _random;
    private readonly Fault _fault;
    private readonly int _most;
    private readonly ConcurrentBag<Socket> _left = [];
    private readonly Task _running;
    private int _breaks;

    /// <param name="target">Where the receiver is.</param>
    /// <param name="fault">What goes wrong.</param>
    /// <param name="seed">When.</param>
    /// <param name="breaks">How often.</param>
    /// <param name="most">Most bytes of a connection that breaks.</param>
    public BadNetwork(IPEndPoint target, Fault fault, int seed, int breaks, int most)
    {
        (Target, _fault, _random, _breaks, _most) = (target, fault, new Random(seed), breaks, most);
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        _listener.Listen();
        _running = Task.Run(RunAsync);
    }

    public IPEndPoint Target { get; set; }

    public int Port => ((IPEndPoint)_listener.LocalEndPoint!).Port;

    /// <summary>Connections so far.</summary>
    public int Connections { get; private set; }

    /// <summary>Nobody gets through.</summary>
    public bool IsDown { get; set; }

    /// <summary>Breaks the connection that there is.</summary>
    public Action Break { get; private set; } = () => { };

    public async ValueTask DisposeAsync()
    {
        await _end.CancelAsync();
        await _running;
        _listener.Dispose();
        foreach (Socket socket in _left)
        {
            socket.Dispose();
        }

        _end.Dispose();
    }

    private async Task RunAsync()
    {
        try
        {
            while (true)
            {
                using Socket from = await _listener.AcceptAsync(_end.Token);
                if (IsDown)
                {
                    continue;
                }

                Connections++;
                await CarryAsync(from);
            }
        }
        catch (OperationCanceledException)
        {
            // The test is over.
        }
    }

    private async Task CarryAsync(Socket from)
    {
        var to = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        bool isLeft = false;
        using var broken = CancellationTokenSource.CreateLinkedTokenSource(_end.Token);
        try
        {
            await to.ConnectAsync(Target, broken.Token);
            Break = () =>
            {
                try
                {
                    broken.Cancel();
                }
                catch (ObjectDisposedException)
                {
                    // It is broken already.
                }
            };
            bool breaks = _fault != Fault.None && _breaks-- > 0;
            int there = breaks ? _random.Next(_most) : int.MaxValue;
            int back = breaks ? _random.Next(_most) : int.MaxValue;
            Task[] both = [PumpAsync(from, to, there, broken.Token), PumpAsync(to, from, back, broken.Token)];
            await Task.WhenAny(both);
            isLeft = breaks && _fault == Fault.Duplicate;
            if (_fault == Fault.Reset)
            {
                from.LingerState = to.LingerState = new LingerOption(true, 0);
            }

            await broken.CancelAsync();
            await Task.WhenAll(both).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
        catch (SocketException)
        {
            // Nobody is there.
        }
        finally
        {
            if (isLeft)
            {
                _left.Add(to);
            }
            else
            {
                to.Dispose();
            }
        }
    }

    private async Task PumpAsync(Socket from, Socket to, int limit, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[_fault == Fault.Delay ? 700 : 0x4000];
        try
        {
            while (limit > 0)
            {
                int count = await from.ReceiveAsync(buffer.AsMemory(0, Math.Min(buffer.Length, limit)), cancellationToken);
                if (count == 0)
                {
                    return;
                }

                limit -= count;
                for (int at = 0; at < count;)
                {
                    int part = _fault == Fault.Delay ? Math.Min(count - at, 1 + (at % 97)) : count - at;
                    for (int turns = 0; _fault == Fault.Delay && turns < 3; turns++)
                    {
                        await Task.Yield();
                    }

                    at += await to.SendAsync(buffer.AsMemory(at, part), cancellationToken);
                }
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException or IOException or ObjectDisposedException)
        {
            // Broken.
        }
    }
}
