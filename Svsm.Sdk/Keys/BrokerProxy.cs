// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Between an SVSM, which speaks plain bytes, and a broker, which speaks HTTP and JSON. It is the host's: it decides nothing, and nobody believes it. One for each
// connection of an SVSM; it remembers the session's cookie and nonce.

using System;
using System.Buffers.Binary;
using System.Buffers.Text;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Svsm.StoreKeys;

namespace Svsm.Keys;

/// <summary>Translates the requests of an SVSM for a broker.</summary>
public sealed class BrokerProxy
{
    private const int ReportLength = Attestation.AttestationReport.ByteLength;
    private const int HeadLength = 2 * sizeof(uint);

    private readonly HttpClient _client;
    private readonly Uri _broker;
    private readonly string _resource;
    private readonly Action<string> _log;
    private string _cookie = "";
    private string _nonce = "";

    /// <summary>Makes a proxy for one SVSM.</summary>
    /// <param name="client">Sends; without cookies of its own.</param>
    /// <param name="broker">The broker's URL, without the path of the protocol.</param>
    /// <param name="resource">The secret to ask for: <c>repository/type/tag</c>.</param>
    /// <param name="log">Gets a line for what the broker refuses.</param>
    public BrokerProxy(HttpClient client, Uri broker, string resource, Action<string> log)
    {
        _client = client;
        _broker = broker;
        _resource = resource;
        _log = log;
    }

    /// <summary>Answers a request.</summary>
    /// <param name="request">The request.</param>
    /// <param name="cancellationToken">Gives up: the broker is not reached then.</param>
    /// <returns>The answer.</returns>
    public async Task<byte[]> AnswerAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        try
        {
            return request.Length < HeadLength ? Status(BrokerStatus.BadRequest) : (BrokerRequest)BinaryPrimitives.ReadUInt32LittleEndian(request.Span) switch
            {
                BrokerRequest.Hello => await HelloAsync(request, cancellationToken).ConfigureAwait(false),
                BrokerRequest.Attest => await AttestAsync(request, cancellationToken).ConfigureAwait(false),
                BrokerRequest.Anchor => await AnchorAsync(request, cancellationToken).ConfigureAwait(false),
                _ => Status(BrokerStatus.BadRequest),
            };
        }
        catch (Exception e) when (e is HttpRequestException or IOException or JsonException or KeyNotFoundException or InvalidOperationException or FormatException or CryptographicException or OperationCanceledException)
        {
            _log($"the broker at {_broker}: {e.Message}");
            return Status(BrokerStatus.Unreachable);
        }
    }

    private async Task<byte[]> HelloAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        if (request.Length != HeadLength || BinaryPrimitives.ReadUInt32LittleEndian(request.Span[sizeof(uint)..]) != BrokerFormat.Version)
        {
            return Status(BrokerStatus.BadRequest);
        }

        _cookie = "";
        (HttpStatusCode code, byte[] content) = await AskAsync(
            HttpMethod.Post, "kbs/v0/auth", "{\"version\":\"0.4.0\",\"tee\":\"snp\",\"extra-params\":\"\"}"u8.ToArray(), "application/json", cancellationToken).ConfigureAwait(false);
        if (code != HttpStatusCode.OK)
        {
            return Refusal(code, "the beginning");
        }

        using JsonDocument document = JsonDocument.Parse(content);
        _nonce = document.RootElement.GetProperty("nonce").GetString() ?? "";
        byte[] nonce = Encoding.UTF8.GetBytes(_nonce);
        return BrokerFormat.IsNonce(nonce) ? [.. Status(BrokerStatus.Done), .. Number(nonce.Length), .. nonce] : throw new FormatException("a nonce that is none");
    }

    private async Task<byte[]> AttestAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        const int KeyOffset = HeadLength;
        const int ReportOffset = KeyOffset + BrokerFormat.TeeKeyLength;
        const int CertificatesOffset = ReportOffset + ReportLength;
        if (request.Length is < CertificatesOffset or > CertificatesOffset + BrokerFormat.MaxCertificates
            || BinaryPrimitives.ReadUInt32LittleEndian(request.Span[sizeof(uint)..]) != (uint)(request.Length - CertificatesOffset))
        {
            return Status(BrokerStatus.BadRequest);
        }

        if (_cookie.Length == 0)
        {
            return Status(BrokerStatus.NoSession);
        }

        byte[] evidence = TrusteeEvidence.Make(
            _nonce, request.Span.Slice(KeyOffset, BrokerFormat.TeeKeyLength), request.Span.Slice(ReportOffset, ReportLength), request.Span[CertificatesOffset..]);
        (HttpStatusCode code, byte[] content) = await AskAsync(HttpMethod.Post, "kbs/v0/attest", evidence, "application/json", cancellationToken).ConfigureAwait(false);
        if (code != HttpStatusCode.OK)
        {
            return Refusal(code, "the evidence");
        }

        (code, content) = await AskAsync(HttpMethod.Get, $"kbs/v0/resource/{_resource}", null, "", cancellationToken).ConfigureAwait(false);
        if (code != HttpStatusCode.OK)
        {
            return Refusal(code, $"the resource {_resource}");
        }

        byte[] answer = ReadAnswer(content).ToBytes();
        return answer.Length <= BrokerFormat.MaxFrame - sizeof(uint) ? [.. Status(BrokerStatus.Done), .. answer] : throw new FormatException("an answer that is too long");
    }

    private async Task<byte[]> AnchorAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        if (request.Length != sizeof(uint) + AnchorRequest.Length + BrokerFormat.TagLength)
        {
            return Status(BrokerStatus.BadRequest);
        }

        if (_cookie.Length == 0)
        {
            return Status(BrokerStatus.NoSession);
        }

        (HttpStatusCode code, byte[] content) = await AskAsync(
            HttpMethod.Post, "kbs/v0/svsm/anchor", request[sizeof(uint)..].ToArray(), "application/octet-stream", cancellationToken).ConfigureAwait(false);
        if (code != HttpStatusCode.OK)
        {
            Refusal(code, "the session");
            return Status(BrokerStatus.NoSession);
        }

        return [.. Status(BrokerStatus.Done), .. content.AsSpan(0, Math.Min(content.Length, BrokerFormat.MaxFrame - sizeof(uint)))];
    }

    private async Task<(HttpStatusCode Code, byte[] Content)> AskAsync(HttpMethod method, string path, byte[]? content, string type, CancellationToken cancellationToken)
    {
        using var message = new HttpRequestMessage(method, new Uri(_broker, path));
        if (_cookie.Length != 0)
        {
            message.Headers.Add("Cookie", _cookie);
        }

        if (content is not null)
        {
            message.Content = new ByteArrayContent(content);
            message.Content.Headers.ContentType = new(type);
        }

        using HttpResponseMessage response = await _client.SendAsync(message, cancellationToken).ConfigureAwait(false);
        if (response.Headers.TryGetValues("Set-Cookie", out IEnumerable<string>? cookies)
            && cookies.Select(cookie => cookie.Split(';')[0].Trim()).FirstOrDefault(cookie => cookie.StartsWith(KeyBroker.Cookie + "=", StringComparison.Ordinal)) is string own)
        {
            _cookie = own;
        }

        return (response.StatusCode, await response.Content.ReadAsByteArrayAsync(cancellationToken).ConfigureAwait(false));
    }

    private byte[] Refusal(HttpStatusCode code, string what)
    {
        _log($"the broker at {_broker} refuses {what}: HTTP {(int)code}");
        return Status(code == HttpStatusCode.NotFound ? BrokerStatus.NoResource : (int)code is >= 400 and < 500 ? BrokerStatus.Refused : BrokerStatus.Unreachable);
    }

    // A flattened JWE, and what this project's broker adds.
    private static BrokerAnswer ReadAnswer(byte[] content)
    {
        using JsonDocument document = JsonDocument.Parse(content);
        JsonElement root = document.RootElement;
        string header = root.GetProperty("protected").GetString() ?? "";
        using JsonDocument protectedHeader = JsonDocument.Parse(Base64Url.DecodeFromChars(header));
        JsonElement sender = protectedHeader.RootElement.GetProperty("epk");
        byte[] x = Bytes(sender, "x");
        byte[] y = Bytes(sender, "y");
        byte[] iv = Bytes(root, "iv");
        byte[] tag = Bytes(root, "tag");
        byte[] signature = root.TryGetProperty("svsm-signature", out _) ? Bytes(root, "svsm-signature") : [];
        return x.Length == BrokerFormat.TeeNumberLength && y.Length == BrokerFormat.TeeNumberLength && iv.Length == BrokerFormat.IvLength && tag.Length == BrokerFormat.TagLength
            ? new([.. x, .. y], Encoding.ASCII.GetBytes(header), Bytes(root, "encrypted_key"), iv, Bytes(root, "ciphertext"), tag, signature)
            : throw new FormatException("a JWE of another kind");

        static byte[] Bytes(JsonElement element, string name) => Base64Url.DecodeFromChars(element.GetProperty(name).GetString());
    }

    private static byte[] Status(BrokerStatus status) => Number((int)status);

    private static byte[] Number(int value)
    {
        byte[] bytes = new byte[sizeof(uint)];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        return bytes;
    }
}
