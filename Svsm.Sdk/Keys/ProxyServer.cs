// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The SVSMs' end of the proxy: a Unix socket, where the host's device for the SVSM's channel connects. Frames in both directions: u32 bytes, u32 number, and so many
// bytes; an answer has the number of its request, so that one that comes too late is not taken for another. A connection that sends anything else is closed.

using System;
using System.Buffers.Binary;
using System.IO;
using System.Net.Http;
using System.Net.Sockets;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.StoreKeys;

namespace Svsm.Keys;

/// <summary>Serves SVSMs on a Unix socket.</summary>
public static class ProxyServer
{
    // For all that one request of an SVSM needs: the SVSM waits a little longer.
    private static readonly TimeSpan s_brokerTime = TimeSpan.FromSeconds(10);

    /// <summary>Serves until it is told to end.</summary>
    /// <param name="socket">Path of the socket; it must not be there yet.</param>
    /// <param name="broker">The broker's URL.</param>
    /// <param name="resource">The secret to ask for: <c>repository/type/tag</c>.</param>
    /// <param name="log">Gets a line for what goes wrong.</param>
    /// <param name="started">Called when it listens.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>When it has ended.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM7052: it cannot listen there.</exception>
    public static async Task ServeAsync(string socket, Uri broker, string resource, Action<string> log, Action started, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(started);
        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            listener.Bind(new UnixDomainSocketEndPoint(socket));
            listener.Listen();
        }
        catch (Exception e) when (e is SocketException or ArgumentException or UnauthorizedAccessException)
        {
            throw SvsmDiagnostics.BrokerAddressUnusable.Error($"'{socket}': {e.Message.TrimEnd('.')}", "the path of a socket that is not there yet", e);
        }

        try
        {
            using var handler = new SocketsHttpHandler { UseCookies = false, AllowAutoRedirect = false };
            using var client = new HttpClient(handler) { MaxResponseContentBufferSize = KeyBroker.MaxContent };
            started();
            while (!cancellationToken.IsCancellationRequested)
            {
                Socket connection = await listener.AcceptAsync(cancellationToken).ConfigureAwait(false);
                _ = Task.Run(() => ServeOneAsync(connection, new BrokerProxy(client, broker, resource, log), cancellationToken), CancellationToken.None);
            }
        }
        catch (OperationCanceledException)
        {
            // Told to end.
        }
        finally
        {
            File.Delete(socket);
        }
    }

    private static async Task ServeOneAsync(Socket connection, BrokerProxy proxy, CancellationToken cancellationToken)
    {
        try
        {
            using var stream = new NetworkStream(connection, ownsSocket: true);
            byte[] head = new byte[BrokerFormat.FrameHeadLength];
            while (true)
            {
                await stream.ReadExactlyAsync(head, cancellationToken).ConfigureAwait(false);
                uint length = BinaryPrimitives.ReadUInt32LittleEndian(head);
                if (length > BrokerFormat.MaxFrame)
                {
                    return;
                }

                byte[] request = new byte[length];
                await stream.ReadExactlyAsync(request, cancellationToken).ConfigureAwait(false);
                using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
                patience.CancelAfter(s_brokerTime);
                byte[] answer = await proxy.AnswerAsync(request, patience.Token).ConfigureAwait(false);
                byte[] frame = new byte[BrokerFormat.FrameHeadLength + answer.Length];
                head.CopyTo(frame, 0);
                BinaryPrimitives.WriteInt32LittleEndian(frame, answer.Length);
                answer.CopyTo(frame, BrokerFormat.FrameHeadLength);
                await stream.WriteAsync(frame, cancellationToken).ConfigureAwait(false);
            }
        }
        catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
        {
            // The SVSM is gone, or the proxy ends.
        }
    }
}
