// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A broker on HTTP, with the class library's listener: four paths and small contents need no framework, and the tool stays without ASP.NET. No TLS: see docs/keys.md.

using System;
using System.IO;
using System.Net;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Keys;

/// <summary>Serves a broker.</summary>
public static class BrokerServer
{
    // How many questions are answered at once, and how long a client may take to ask one.
    private const int MaxQuestions = 64;
    private static readonly TimeSpan s_patience = TimeSpan.FromSeconds(30);

    /// <summary>Serves until it is told to end.</summary>
    /// <param name="broker">The broker.</param>
    /// <param name="address">The URL to listen on, http only; the listener takes nothing below it.</param>
    /// <param name="started">Called when it listens.</param>
    /// <param name="cancellationToken">Ends it.</param>
    /// <returns>When it has ended.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM7052: it cannot listen there.</exception>
    public static Task ServeAsync(KeyBroker broker, string address, Action started, CancellationToken cancellationToken) =>
        ServeAsync(broker, address, started, s_patience, cancellationToken);

    internal static async Task ServeAsync(KeyBroker broker, string address, Action started, TimeSpan patience, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(broker);
        ArgumentNullException.ThrowIfNull(started);
        using var listener = new HttpListener();
        try
        {
            // The listener would take https, too, and serve it without TLS.
            if (address is null || !address.StartsWith("http://", StringComparison.OrdinalIgnoreCase))
            {
                throw new ArgumentException("not a URL with http");
            }

            listener.Prefixes.Add(address);
            listener.Start();
        }
        catch (Exception e) when (e is HttpListenerException or ArgumentException or PlatformNotSupportedException)
        {
            throw SvsmDiagnostics.BrokerAddressUnusable.Error($"'{address}': {e.Message.TrimEnd('.')}", "a URL such as http://127.0.0.1:8080/", e);
        }

        started();
        using var questions = new SemaphoreSlim(MaxQuestions);
        using CancellationTokenRegistration end = cancellationToken.Register(listener.Stop);
        while (!cancellationToken.IsCancellationRequested)
        {
            HttpListenerContext context;
            try
            {
                await questions.WaitAsync(cancellationToken).ConfigureAwait(false);
                context = await listener.GetContextAsync().ConfigureAwait(false);
            }
            catch (Exception e) when (e is HttpListenerException or ObjectDisposedException or OperationCanceledException or InvalidOperationException)
            {
                break;
            }

            _ = Task.Run(
                async () =>
                {
                    try
                    {
                        await AnswerAsync(broker, context, patience).ConfigureAwait(false);
                    }
                    finally
                    {
                        questions.Release();
                    }
                },
                CancellationToken.None);
        }
    }

    private static async Task AnswerAsync(KeyBroker broker, HttpListenerContext context, TimeSpan patience)
    {
        try
        {
            BrokerReply reply;
            try
            {
                // The listener's streams take no notice of tokens.
                byte[]? content = await ReadAsync(context.Request).WaitAsync(patience).ConfigureAwait(false);
                reply = content is null
                    ? new BrokerReply(413, [])
                    : broker.Answer(new(context.Request.HttpMethod, context.Request.Url?.AbsolutePath ?? "", context.Request.Cookies[KeyBroker.Cookie]?.Value, content));
            }
            catch (TimeoutException)
            {
                reply = new BrokerReply(408, []);
                context.Response.KeepAlive = false;
            }

            context.Response.StatusCode = reply.Status;
            context.Response.ContentType = "application/json";
            if (reply.Session is string session)
            {
                context.Response.Headers.Add("Set-Cookie", $"{KeyBroker.Cookie}={session}; Path=/kbs");
            }

            context.Response.ContentLength64 = reply.Content.Length;
            await context.Response.OutputStream.WriteAsync(reply.Content).AsTask().WaitAsync(patience).ConfigureAwait(false);
            context.Response.Close();
        }
        catch (Exception e) when (e is HttpListenerException or IOException or ObjectDisposedException or InvalidOperationException or TimeoutException)
        {
            // The client is gone, or too slow.
            context.Response.Abort();
        }
    }

    // Null: it is too long.
    private static async Task<byte[]?> ReadAsync(HttpListenerRequest request)
    {
        byte[] buffer = new byte[KeyBroker.MaxContent + 1];
        int length = 0;
        while (length < buffer.Length)
        {
            int count = await request.InputStream.ReadAsync(buffer.AsMemory(length)).ConfigureAwait(false);
            if (count == 0)
            {
                return buffer[..length];
            }

            length += count;
        }

        return null;
    }
}
