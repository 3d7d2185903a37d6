// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An SVSM, the proxy on its host, and a broker, in one process: the attesting module with the simulated chip, svsm keys proxy, svsm keys serve. A test sees and
// changes what goes over the channel (bytes) and over HTTP (JSON).

extern alias simulator;

using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using simulator::Svsm.Simulator;
using Svsm.Attestation;
using Svsm.Attestation.Tests;
using Svsm.Keys;
using Svsm.Measurement;
using Svsm.Store;
using Xunit;

namespace Svsm.StoreKeys.Tests;

/// <summary>The broker, and the host's side.</summary>
internal sealed class BrokerHarness : IDisposable
{
    public const string Resource = "default/svsm/vm1";

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-broker-");
    private readonly SimulatedChip _chip;

    public BrokerHarness(SimulatedChip chip, bool isMovable = false)
    {
        _chip = chip;
        Key = NewKey();
        SecretFile = Key.MakeSecret(isMovable);
        File.WriteAllBytes(PathOf("default.svsm.vm1.secret"), SecretFile);
        State = BrokerState.Open(_folder.FullName);
        Broker = NewBroker(Key);
    }

    public BrokerKey Key { get; }

    public BrokerState State { get; private set; }

    public KeyBroker Broker { get; set; }

    public byte[] SecretFile { get; }

    public byte[] Secret => SecretFile[0x10..0x30];

    /// <summary>What broker and proxy tell, on threads of the listener, too.</summary>
    public ConcurrentQueue<string> Log { get; } = [];

    public TestTime Time { get; } = new();

    /// <summary>Every question of the proxy, as it was asked, with the answer's content as it was given.</summary>
    public List<(HttpMethod Method, string Path, byte[] Content, byte[] Answer)> Http { get; } = [];

    /// <summary>Changes the content of an HTTP answer: path, content.</summary>
    public Func<string, byte[], byte[]>? OnHttpAnswer { get; set; }

    /// <summary>Changes the content of an HTTP question: path, content.</summary>
    public Func<string, byte[], byte[]>? OnHttpQuestion { get; set; }

    public string PathOf(string file) => Path.Combine(_folder.FullName, file);

    public static BrokerKey NewKey()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        return BrokerKey.Read(Encoding.ASCII.GetBytes(key.ExportPkcs8PrivateKeyPem()), "key");
    }

    public KeyBroker NewBroker(BrokerKey key, params ReferenceValues[] references) => new(
        key, new BrokerPolicy(TrustedRoot.FromCertificate(_chip.Ark.Span), references.Length == 0 ? [Reference()] : references, []), State, Time, Log.Enqueue);

    /// <summary>A broker that believes chips with that TCB at least.</summary>
    public KeyBroker NewBroker(BrokerKey key, Svsm.Attestation.TcbVersion minimumTcb) =>
        new(key, new BrokerPolicy(TrustedRoot.FromCertificate(_chip.Ark.Span), [Reference()], [], minimumTcb), State, Time, Log.Enqueue);

    /// <summary>The same broker, which believes another chip.</summary>
    public KeyBroker NewBrokerFor(SimulatedChip chip) => new(Key, new BrokerPolicy(TrustedRoot.FromCertificate(chip.Ark.Span), [Reference()], []), State, Time, Log.Enqueue);

    public static ReferenceValues Reference(string image = "image", ulong policy = 0x3_0000) =>
        new() { LaunchDigests = [new LaunchDigest(SHA384.HashData(Encoding.ASCII.GetBytes(image)))], Policy = new GuestPolicy(policy) };

    /// <summary>The broker starts anew.</summary>
    public void Restart()
    {
        State.Dispose();
        State = BrokerState.Open(_folder.FullName);
        Broker = NewBroker(Key);
    }

    public BrokerPin Pin(bool isTrustee = false) => BrokerPin.TryRead(Key.MakePin(isTrustee))!;

    public TestLaunch NewLaunch(string image = "image", ulong policy = 0x3_0000, SimulatedChip? chip = null)
    {
        chip ??= _chip;
        var launch = new TestLaunch(chip, image: image, policy: policy);
        launch.Kernel.HostCertificates = TestAuthority.MakeTable(chip.Vcek.ToArray(), chip.Ask.ToArray());
        return launch;
    }

    public TestChannel NewChannel(string resource = Resource) =>
        new(new BrokerProxy(new HttpClient(new Handler(this)), new Uri("http://broker.example/"), resource, Log.Enqueue));

    /// <summary>Opens a session of a new launch, or of the one given.</summary>
    public BrokerResult Open(out BrokerSession? session, TestChannel? channel = null, TestLaunch? launch = null, BrokerPin? pin = null)
    {
        using TestLaunch? own = launch is null ? NewLaunch() : null;
        return BrokerSession.TryOpen(channel ?? NewChannel(), (launch ?? own!).Peer, pin ?? Pin(), out session);
    }

    public BrokerSession MustOpen(TestChannel? channel = null)
    {
        Assert.Equal(BrokerResult.Done, Open(out BrokerSession? session, channel));
        return session!;
    }

    public static StoreVersion Version(ulong generation, char digit = 'a') => new(generation, new string(digit, 64));

    public void Dispose()
    {
        State.Dispose();
        Key.Dispose();
        _folder.Delete(recursive: true);
    }

    private sealed class Handler(BrokerHarness harness) : HttpMessageHandler
    {
        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            string path = request.RequestUri!.AbsolutePath;
            byte[] content = request.Content is null ? [] : await request.Content.ReadAsByteArrayAsync(cancellationToken);
            content = harness.OnHttpQuestion?.Invoke(path, content) ?? content;
            string? session = request.Headers.TryGetValues("Cookie", out IEnumerable<string>? cookies) ? cookies.Single()["kbs-session-id=".Length..] : null;
            BrokerReply reply = harness.Broker.Answer(new(request.Method.Method, path, session, content));
            harness.Http.Add((request.Method, path, content, reply.Content));
            byte[] answer = harness.OnHttpAnswer?.Invoke(path, reply.Content) ?? reply.Content;
            var response = new HttpResponseMessage((HttpStatusCode)reply.Status) { Content = new ByteArrayContent(answer) };
            if (reply.Session is not null)
            {
                response.Headers.Add("Set-Cookie", $"{KeyBroker.Cookie}={reply.Session}; Path=/");
            }

            return response;
        }
    }
}

/// <summary>The channel of an SVSM.</summary>
internal sealed class TestChannel(BrokerProxy proxy) : IBrokerChannel
{
    /// <summary>Requests as the SVSM sent them, and answers as the proxy gave them.</summary>
    public List<(byte[] Request, byte[] Answer)> Seen { get; } = [];

    /// <summary>Changes a request; null: it is lost.</summary>
    public Func<byte[], byte[]?>? OnRequest { get; set; }

    /// <summary>Changes an answer; null: it is lost.</summary>
    public Func<byte[], byte[]?>? OnAnswer { get; set; }

    public bool TryExchange(ReadOnlySpan<byte> request, out byte[] answer)
    {
        byte[] sent = request.ToArray();
        answer = [];
        if ((OnRequest is null ? sent : OnRequest(sent)) is not byte[] arrived)
        {
            return false;
        }

        byte[] given = proxy.AnswerAsync(arrived, CancellationToken.None).GetAwaiter().GetResult();
        Seen.Add((sent, given));
        if ((OnAnswer is null ? given : OnAnswer([.. given])) is not byte[] taken)
        {
            return false;
        }

        answer = taken;
        return true;
    }
}

/// <summary>A clock that a test sets; certificates of the simulated chip are valid.</summary>
internal sealed class TestTime : TimeProvider
{
    public DateTimeOffset Now { get; set; } = new(2026, 1, 1, 0, 0, 0, TimeSpan.Zero);

    public override DateTimeOffset GetUtcNow() => Now;
}
