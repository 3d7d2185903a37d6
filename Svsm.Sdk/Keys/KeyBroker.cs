// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A broker: gives secrets to images that it believes, and keeps the last version of each store. The protocol is KBS's, as far as it goes (docs/keys.md); HTTP is
// BrokerServer's.
//
//   POST /kbs/v0/auth              a session: its nonce, and its name as a cookie
//   POST /kbs/v0/attest            evidence, about the nonce and a fresh key of the SVSM
//   GET  /kbs/v0/resource/A/B/C    the secret, encrypted for that key; signed, and the signature binds it to the report
//   POST /kbs/v0/svsm/anchor       a sealed request about the last version of the secret's store
//
// A session goes through these in order, each step once, anchors as often as it likes. Everything else ends it. Whoever asks is a stranger until his evidence is good.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Threading;
using Svsm.Attestation;
using Svsm.Diagnostics;
using Svsm.StoreKeys;

namespace Svsm.Keys;

/// <summary>What a broker answers.</summary>
/// <param name="Status">The HTTP status.</param>
/// <param name="Content">The content.</param>
/// <param name="Session">A new session's name, for a cookie; null: none begins.</param>
public readonly record struct BrokerReply(int Status, byte[] Content, string? Session = null);

/// <summary>What a broker is asked.</summary>
/// <param name="Method">GET or POST.</param>
/// <param name="Path">The path, with the slash in front.</param>
/// <param name="Session">The session's name, from a cookie; null: there is none.</param>
/// <param name="Content">The content.</param>
public readonly record struct BrokerQuestion(string Method, string Path, string? Session, ReadOnlyMemory<byte> Content);

/// <summary>Whom a broker believes.</summary>
/// <param name="Root">The root of the chips' certificates.</param>
/// <param name="References">What images may run, at least one.</param>
/// <param name="Certificates">Certificates of chips, DER, besides those that come with reports.</param>
/// <param name="MinimumTcb">Each part of a chip's TCB must be at least that of this one; zero: any is believed, also one whose secrets are known by a hole.</param>
public sealed record BrokerPolicy(TrustedRoot Root, IReadOnlyList<ReferenceValues> References, IReadOnlyList<byte[]> Certificates, TcbVersion MinimumTcb = default);

/// <summary>A broker. Several threads may ask at once.</summary>
public sealed class KeyBroker
{
    /// <summary>Name of the cookie.</summary>
    public const string Cookie = "kbs-session-id";

    /// <summary>Most bytes of a question: far more than evidence has.</summary>
    public const int MaxContent = 0x2_0000;

    /// <summary>Most sessions at a time. Those without good evidence make room first.</summary>
    public const int MaxSessions = 4096;

    private const string Prefix = "/kbs/v0/";
    private const string ResourcePrefix = Prefix + "resource/";
    private const string ProtocolVersion = "0.4.0";
    private const int NonceLength = 32;
    private const int PaddedReportData = 16;

    // How long evidence may take, and how long a VM may be silent before it has to give it anew.
    private static readonly TimeSpan s_attestTime = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan s_idleTime = TimeSpan.FromDays(7);

    private readonly BrokerKey _key;
    private readonly BrokerPolicy _policy;
    private readonly BrokerState _state;
    private readonly TimeProvider _time;
    private readonly Action<string> _log;
    private readonly Dictionary<string, Session> _sessions = [];
    private readonly Lock _lock = new();

    /// <summary>Makes a broker.</summary>
    /// <param name="key">Its key.</param>
    /// <param name="policy">Whom it believes.</param>
    /// <param name="state">Its secrets.</param>
    /// <param name="time">The clock: of certificates, and of sessions.</param>
    /// <param name="log">Gets a line for what happens.</param>
    public KeyBroker(BrokerKey key, BrokerPolicy policy, BrokerState state, TimeProvider time, Action<string> log)
    {
        _key = key;
        _policy = policy;
        _state = state;
        _time = time;
        _log = log;
    }

    /// <summary>Answers.</summary>
    /// <param name="question">The question. Untrusted.</param>
    /// <returns>The answer.</returns>
    public BrokerReply Answer(BrokerQuestion question)
    {
        if (question.Content.Length > MaxContent)
        {
            return Error(413, "too much");
        }

        switch (question.Method, question.Path)
        {
            case ("POST", Prefix + "auth"):
                return Begin(question.Content);
            case ("POST", Prefix + "attest"):
                return InSession(question, session => Attest(session, question.Content));
            case ("GET", _) when question.Path.StartsWith(ResourcePrefix, StringComparison.Ordinal):
                return InSession(question, session => GetResource(session, question.Path[ResourcePrefix.Length..]));
            case ("POST", Prefix + "svsm/anchor"):
                return InSession(question, session => AnswerAnchor(session, question.Content.Span));
            default:
                return Error(404, "no such path");
        }
    }

    private BrokerReply Begin(ReadOnlyMemory<byte> content)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(content);
            string? version = document.RootElement.GetProperty("version").GetString();
            string? tee = document.RootElement.GetProperty("tee").GetString();
            if (version != ProtocolVersion || tee != "snp")
            {
                return Error(401, $"protocol {ProtocolVersion} and TEE snp are served");
            }
        }
        catch (Exception e) when (IsBadJson(e))
        {
            return Error(400, "no request");
        }

        string name = BrokerFormat.ToBase64Url(RandomNumberGenerator.GetBytes(NonceLength));
        string nonce = Convert.ToBase64String(RandomNumberGenerator.GetBytes(NonceLength));
        lock (_lock)
        {
            MakeRoom();
            _sessions.Add(name, new Session(nonce, _time.GetUtcNow()));
        }

        return new(200, Json(writer =>
        {
            writer.WriteString("nonce", nonce);
            writer.WriteString("extra-params", "");
        }), name);
    }

    // The oldest ones go, first among those without good evidence: strangers cannot push out those that have it, unless these are all there are.
    private void MakeRoom()
    {
        DateTimeOffset now = _time.GetUtcNow();
        foreach ((string name, Session session) in _sessions.Where(pair => now - pair.Value.LastUse > (pair.Value.Report is null ? s_attestTime : s_idleTime)).ToArray())
        {
            End(name, session);
        }

        if (_sessions.Count >= MaxSessions)
        {
            (string name, Session session) = _sessions.OrderBy(pair => pair.Value.Report is not null).ThenBy(pair => pair.Value.LastUse).First();
            End(name, session);
        }
    }

    private void End(string name, Session session)
    {
        // Its keys may be in use.
        session.IsOver = true;
        _sessions.Remove(name);
    }

    // One question of a session at a time; a step that fails ends it.
    private BrokerReply InSession(BrokerQuestion question, Func<Session, BrokerReply> step)
    {
        Session? session;
        lock (_lock)
        {
            DateTimeOffset now = _time.GetUtcNow();
            if (question.Session is null || !_sessions.TryGetValue(question.Session, out session) || now - session.LastUse > (session.Report is null ? s_attestTime : s_idleTime))
            {
                return Error(401, "no such session");
            }

            session.LastUse = now;
        }

        lock (session)
        {
            BrokerReply reply = session.IsOver ? Error(401, "no such session") : Try(session, step);
            if (reply.Status != 200)
            {
                CryptographicOperations.ZeroMemory(session.Keys);
                lock (_lock)
                {
                    End(question.Session!, session);
                }
            }

            return reply;
        }
    }

    // What the operating system's cryptography does not take, whoever sent it.
    private BrokerReply Try(Session session, Func<Session, BrokerReply> step)
    {
        try
        {
            return step(session);
        }
        catch (CryptographicException e)
        {
            _log($"refused: {e.Message}");
            return Error(500, "cryptography failed");
        }
    }

    private BrokerReply Attest(Session session, ReadOnlyMemory<byte> content)
    {
        if (session.Report is not null)
        {
            return Error(400, "there is evidence already");
        }

        byte[] teeKey;
        AttestationReport report;
        byte[] reportBytes;
        IReadOnlyList<byte[]> certificates;
        try
        {
            using JsonDocument document = JsonDocument.Parse(content);
            JsonElement runtime = document.RootElement.GetProperty("runtime-data");
            JsonElement key = runtime.GetProperty("tee-pubkey");
            JsonElement evidence = document.RootElement.GetProperty("tee-evidence").GetProperty("primary_evidence");
            teeKey = [.. Number(key, "x"), .. Number(key, "y")];
            if (runtime.GetProperty("nonce").GetString() != session.Nonce || key.GetProperty("kty").GetString() != "EC" || key.GetProperty("crv").GetString() != "P-521"
                || key.GetProperty("alg").GetString() != "ECDH-ES+A256KW" || teeKey.Length != BrokerFormat.TeeKeyLength)
            {
                return Error(401, "another nonce, or a key of another kind");
            }

            reportBytes = evidence.GetProperty("svsm-report").GetBytesFromBase64();
            byte[] table = evidence.GetProperty("svsm-certificates").GetBytesFromBase64();
            report = AttestationReport.Parse(reportBytes, "report");
            certificates = [.. table.Length is > 0 and <= BrokerFormat.MaxCertificates ? CertificateFile.Read(table, "certificates") : [], .. _policy.Certificates];
        }
        catch (Exception e) when (IsBadJson(e) || e is SvsmDiagnosticException)
        {
            return Error(401, "no evidence");
        }

        byte[] reportData = [.. SHA384.HashData(BrokerFormat.RuntimeData(session.Nonce, teeKey)), .. new byte[PaddedReportData]];
        if (!report.ReportData.Span.SequenceEqual(reportData))
        {
            _log("refused: the report is about another key");
            return Error(401, "the report is about another key");
        }

        if (!IsBelieved(report, certificates))
        {
            return Error(401, "the evidence is not good");
        }

        session.TeeKey = teeKey;
        session.Report = reportBytes;
        return new(200, Json(writer => writer.WriteString("token", "")));
    }

    private bool IsBelieved(AttestationReport report, IReadOnlyList<byte[]> certificates)
    {
        const int TcbParts = sizeof(ulong);
        for (int part = 0; part < TcbParts; part++)
        {
            if (report.ReportedTcb.Part(part) < _policy.MinimumTcb.Part(part))
            {
                _log($"refused: TCB {report.ReportedTcb}; wanted is at least {_policy.MinimumTcb} in each byte");
                return false;
            }
        }

        var evidence = new AttestationEvidence { Report = report, Certificates = certificates };
        ImmutableArray<AttestationCheck> closest = [];
        foreach (ReferenceValues reference in _policy.References)
        {
            ImmutableArray<AttestationCheck> checks = AttestationVerifier.Verify(evidence, _policy.Root, reference, _time.GetUtcNow());
            ImmutableArray<AttestationCheck> failed = [.. checks.Where(check => check.Outcome == AttestationOutcome.Fail)];
            if (failed.IsEmpty)
            {
                _log($"believed: {report.LaunchDigest}, TCB {report.ReportedTcb}");
                return true;
            }

            closest = closest.IsEmpty || failed.Length < closest.Length ? failed : closest;
        }

        foreach (AttestationCheck check in closest)
        {
            _log($"refused: {check.Name}: {check.Text} ({check.Diagnostic!.Code})");
        }

        return false;
    }

    private BrokerReply GetResource(Session session, string resource)
    {
        if (session.Report is null || session.Resource is not null)
        {
            return Error(401, session.Report is null ? "no evidence yet" : "a session has one resource");
        }

        if (!BrokerState.IsResource(resource) || _state.ReadSecret(resource) is not byte[] secret)
        {
            return Error(404, "no such resource");
        }

        byte[]? agreed = null;
        try
        {
            // The SVSM would not take it.
            if (!_key.HasSigned(secret))
            {
                _log($"the secret of {resource} is damaged, or another key has signed it");
                return Error(404, "no such resource");
            }

            BrokerAnswer answer = BrokerCrypto.Encrypt(secret, session.TeeKey, out agreed);
            byte[] signed = answer.Signed(session.Report);
            session.Keys = BrokerCrypto.SessionKeys(agreed, signed);
            session.Resource = resource;
            _log($"given: {resource}");
            return new(200, Json(writer =>
            {
                writer.WriteString("protected", answer.Protected);
                writer.WriteString("encrypted_key", BrokerFormat.ToBase64Url(answer.EncryptedKey));
                writer.WriteString("iv", BrokerFormat.ToBase64Url(answer.Iv));
                writer.WriteString("ciphertext", BrokerFormat.ToBase64Url(answer.Ciphertext));
                writer.WriteString("tag", BrokerFormat.ToBase64Url(answer.Tag));
                writer.WriteString("svsm-signature", BrokerFormat.ToBase64Url(_key.Sign(signed)));
            }));
        }
        catch (CryptographicException)
        {
            return Error(401, "no point on the curve");
        }
        finally
        {
            CryptographicOperations.ZeroMemory(secret);
            CryptographicOperations.ZeroMemory(agreed);
        }
    }

    private BrokerReply AnswerAnchor(Session session, ReadOnlySpan<byte> message)
    {
        if (session.Keys is null
            || BrokerCrypto.TryOpen(session.Keys.AsSpan(0, BrokerFormat.SessionKeyLength), session.Number, message) is not byte[] opened || !AnchorRequest.TryRead(opened, out AnchorRequest request))
        {
            return Error(401, "not the message that is due");
        }

        AnchorAnswer answer = _state.Answer(session.Resource!, request);
        if (answer.Status != AnchorStatus.Done)
        {
            _log($"{session.Resource}: {(answer.Status == AnchorStatus.OtherVersion ? "another version is the last one" : "the last version was not written")}");
        }

        return new(200, BrokerCrypto.Seal(session.Keys.AsSpan(BrokerFormat.SessionKeyLength), session.Number++, answer.ToBytes()));
    }

    private static byte[] Number(JsonElement key, string name)
    {
        string text = key.GetProperty(name).GetString() ?? "";
        byte[] number = new byte[BrokerFormat.TeeNumberLength];
        return System.Buffers.Text.Base64Url.TryDecodeFromChars(text, number, out int written) && written == number.Length ? number : throw new FormatException("not a number of the curve");
    }

    private static bool IsBadJson(Exception e) => e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException;

    private static BrokerReply Error(int status, string detail) => new(status, Json(writer =>
    {
        writer.WriteString("type", "svsm");
        writer.WriteString("detail", detail);
    }));

    private static byte[] Json(Action<Utf8JsonWriter> write)
    {
        var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream))
        {
            writer.WriteStartObject();
            write(writer);
            writer.WriteEndObject();
        }

        return stream.ToArray();
    }

    private sealed class Session(string nonce, DateTimeOffset now)
    {
        public string Nonce { get; } = nonce;

        public DateTimeOffset LastUse { get; set; } = now;

        public volatile bool IsOver;

        public byte[] TeeKey { get; set; } = [];

        // Good evidence, from here on.
        public byte[]? Report { get; set; }

        public string? Resource { get; set; }

        public byte[]? Keys { get; set; }

        public ulong Number { get; set; }
    }
}
