// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A server for the clients of TPM simulators (tpm2-tss and others). Numbers are big-endian.
//
//   data       either of, told apart by the first bytes of each message:
//                raw            a TPM command; the answer is the TPM's response                                     (swtpm)
//                framed         UINT32 8, locality, UINT32 size, command; UINT32 size, response, UINT32 0           (mssim)
//                others         UINT32 code and what belongs to it; UINT32 0 at the end of the answer               (mssim)
//   platform   UINT32 code: power, physical presence, reset ...; answer UINT32 0                                    (mssim)
//   control    UINT32 code and what belongs to it; answer UINT32 result and what belongs to it                      (swtpm)
//
// Every answer is one write: two small ones in a row cost the client the 40 ms of Nagle's algorithm and delayed acknowledgements.
//
// Source: "TCG TPM 2.0 Library, Part 4", TpmTcpProtocol; swtpm's "Control Channel Specification".

using System;
using System.Collections.Generic;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Threading;

namespace Svsm.Modules.Vtpm.Desk;

/// <summary>A TPM behind sockets.</summary>
public sealed class TpmServer : IDisposable
{
    // More clients than anybody has on a desk; the next one waits in the socket's queue.
    private const int MaxConnections = 64;

    private readonly TpmDevice _device;
    private readonly CancellationTokenSource _stop = new();
    private readonly SemaphoreSlim _slots = new(MaxConnections);
    private readonly List<Socket> _sockets = [];
    private readonly List<string> _socketFiles = [];

    /// <summary>Makes a server that listens nowhere yet.</summary>
    /// <param name="tpm">The TPM; the server's alone from now on.</param>
    /// <param name="trace">Where commands and responses are written, if anywhere.</param>
    public TpmServer(Tpm tpm, TpmTrace? trace)
    {
        ArgumentNullException.ThrowIfNull(tpm);
        _device = new TpmDevice(tpm, trace);
    }

    /// <summary>Is cancelled when a client has asked the server to stop, or it is disposed.</summary>
    public CancellationToken Stopped => _stop.Token;

    /// <summary>Serves commands, raw or framed.</summary>
    /// <returns>The end point, with the port that was chosen if it was 0.</returns>
    /// <exception cref="SocketException">Nobody can listen there.</exception>
    public EndPoint ListenForData(EndPoint endPoint) => Listen(endPoint, DataConnection.TryServe);

    /// <summary>Serves the platform signals of the mssim protocol.</summary>
    /// <inheritdoc cref="ListenForData"/>
    public EndPoint ListenForPlatform(EndPoint endPoint) => Listen(endPoint, PlatformConnection.TryServe);

    /// <summary>Serves the control channel of swtpm.</summary>
    /// <inheritdoc cref="ListenForData"/>
    public EndPoint ListenForControl(EndPoint endPoint) => Listen(endPoint, ControlConnection.TryServe);

    /// <summary>Ends all connections. A command that is being done is finished.</summary>
    public void Dispose()
    {
        _stop.Cancel();
        lock (_sockets)
        {
            foreach (Socket socket in _sockets)
            {
                socket.Dispose();
            }

            foreach (string file in _socketFiles)
            {
                File.Delete(file);
            }
        }
    }

    private EndPoint Listen(EndPoint endPoint, ServeMessage serve)
    {
        var listener = new Socket(endPoint.AddressFamily, SocketType.Stream, endPoint is UnixDomainSocketEndPoint ? ProtocolType.Unspecified : ProtocolType.Tcp);
        listener.Bind(endPoint);
        listener.Listen();
        lock (_sockets)
        {
            _sockets.Add(listener);
            if (endPoint is UnixDomainSocketEndPoint)
            {
                _socketFiles.Add(endPoint.ToString()!);
            }
        }

        Start(() =>
        {
            while (true)
            {
                _slots.Wait(_stop.Token);
                Socket client = listener.Accept();
                Start(() => Serve(client, serve));
            }
        });
        return listener.LocalEndPoint!;
    }

    private void Serve(Socket client, ServeMessage serve)
    {
        lock (_sockets)
        {
            _sockets.Add(client);
        }

        try
        {
            if (client.ProtocolType == ProtocolType.Tcp)
            {
                client.NoDelay = true;
            }

            var connection = new Connection(client, _device, _stop);
            while (serve(connection))
            {
            }
        }
        finally
        {
            lock (_sockets)
            {
                _sockets.Remove(client);
            }

            client.Dispose();
            _slots.Release();
        }
    }

    // A thread each, with blocking calls: the shortest way from a command to its response.
    private static void Start(Action action)
    {
        var thread = new Thread(() =>
        {
            try
            {
                action();
            }
            catch (Exception exception) when (exception is SocketException or ObjectDisposedException or OperationCanceledException)
            {
                // The client or the server has ended the connection.
            }
        })
        { IsBackground = true };
        thread.Start();
    }

    /// <summary>Serves one message.</summary>
    /// <returns>Whether another one may follow.</returns>
    private delegate bool ServeMessage(Connection connection);
}
