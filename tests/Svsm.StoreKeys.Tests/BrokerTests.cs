// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Net.Http;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Svsm.Attestation;
using Svsm.Diagnostics;
using Svsm.Keys;
using Svsm.Modules.Attestation.Tests;
using Svsm.Store;
using Xunit;

namespace Svsm.StoreKeys.Tests;

/// <summary>Secrets and anchors from a broker, with a host between that does what it likes.</summary>
[Collection(ChipGroup.Name)]
public sealed class BrokerTests(ChipFixture fixture)
{
    private BrokerHarness NewHarness(bool isMovable = false) => new(fixture.Chip, isMovable);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Open_GivesTheSecret(bool isMovable)
    {
        using BrokerHarness harness = NewHarness(isMovable);
        using BrokerSession session = harness.MustOpen();
        Assert.Equal(harness.Secret, session.Secret.ToArray());
        Assert.Equal(isMovable, session.IsMovable);
        Assert.True(session.HasAnchor);
        Assert.Contains(harness.Log, line => line.StartsWith("believed: ", StringComparison.Ordinal));

        session.Dispose();
        Assert.Equal(new byte[32], session.Secret.ToArray());
        Assert.Equal(BrokerResult.Unreachable, session.GetAnchor(out _));
    }

    // What Trustee has: the owner's signature is in the secret, and nothing else is ours.
    [Fact]
    public void Trustee_GivesTheSecretWithoutAnchors()
    {
        using BrokerHarness harness = NewHarness();
        harness.OnHttpAnswer = WithoutSignature;
        Assert.Equal(BrokerResult.Done, harness.Open(out BrokerSession? session, pin: harness.Pin(isTrustee: true)));
        Assert.Equal(harness.Secret, session!.Secret.ToArray());
        Assert.False(session.HasAnchor);
        Assert.Equal(BrokerResult.NoAnchors, session.GetAnchor(out _));
        Assert.Equal(BrokerResult.NoAnchors, session.MoveAnchor(null, BrokerHarness.Version(1), out _));
    }

    // By hand, from the protocol's description: keys in order, no spaces, SHA-384, zeroes behind it.
    [Fact]
    public void Messages_AreThoseOfTheProtocol()
    {
        using BrokerHarness harness = NewHarness();
        harness.MustOpen().Dispose();

        Assert.Equal([(HttpMethod.Post, "/kbs/v0/auth"), (HttpMethod.Post, "/kbs/v0/attest"), (HttpMethod.Get, "/kbs/v0/resource/default/svsm/vm1")], harness.Http.Select(each => (each.Method, each.Path)));
        Assert.Equal("""{"version":"0.4.0","tee":"snp","extra-params":""}""", Encoding.UTF8.GetString(harness.Http[0].Content));
        JsonNode attestation = JsonNode.Parse(harness.Http[1].Content)!;
        JsonNode key = attestation["runtime-data"]!["tee-pubkey"]!;
        string canonical = "{\"additional-evidence\":\"\",\"nonce\":\"" + (string)attestation["runtime-data"]!["nonce"]! + "\",\"tee-pubkey\":{\"alg\":\"ECDH-ES+A256KW\",\"crv\":\"P-521\",\"kty\":\"EC\",\"x\":\""
            + (string)key["x"]! + "\",\"y\":\"" + (string)key["y"]! + "\"}}";
        JsonNode report = attestation["tee-evidence"]!["primary_evidence"]!["attestation_report"]!;
        byte[] reportData = [.. report["report_data"]!.AsArray().Select(value => (byte)value!)];
        Assert.Equal([.. SHA384.HashData(Encoding.ASCII.GetBytes(canonical)), .. new byte[16]], reportData);
        Assert.Equal("", (string)attestation["tee-evidence"]!["additional_evidence"]!);

        // The numbers of the report's JSON are those of its bytes.
        byte[] bytes = Convert.FromBase64String((string)attestation["tee-evidence"]!["primary_evidence"]!["svsm-report"]!);
        Assert.Equal(bytes[0x90..0xC0], report["measurement"]!.AsArray().Select(value => (byte)value!));
        Assert.Equal(bytes[0x1A0..0x1E0], report["chip_id"]!.AsArray().Select(value => (byte)value!));
        Assert.Equal(bytes[0x2A0..0x2E8], report["signature"]!["r"]!.AsArray().Select(value => (byte)value!));
        Assert.Equal(196608, (long)report["policy"]!);
        Assert.Equal((bytes[0x180], bytes[0x181], bytes[0x186], bytes[0x187]), ((byte)report["reported_tcb"]!["bootloader"]!, (byte)report["reported_tcb"]!["tee"]!, (byte)report["reported_tcb"]!["snp"]!, (byte)report["reported_tcb"]!["microcode"]!));
        JsonNode chain = attestation["tee-evidence"]!["primary_evidence"]!["cert_chain"]![0]!;
        Assert.Equal("VCEK", (string)chain["cert_type"]!);
        Assert.Equal(fixture.Chip.Vcek.ToArray(), chain["data"]!.AsArray().Select(value => (byte)value!));

        // RFC 7516: an ephemeral key in the header, 256 bits wrapped, no more than the secret encrypted.
        JsonNode jwe = JsonNode.Parse(harness.Http[2].Answer)!;
        JsonNode header = JsonNode.Parse(System.Buffers.Text.Base64Url.DecodeFromChars((string)jwe["protected"]!))!;
        Assert.Equal(("ECDH-ES+A256KW", "A256GCM", "P-521"), ((string)header["alg"]!, (string)header["enc"]!, (string)header["epk"]!["crv"]!));
        Assert.Equal(40, System.Buffers.Text.Base64Url.DecodeFromChars((string)jwe["encrypted_key"]!).Length);
    }

    // The gap that others have: whoever is between answers himself.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void HostIsTheBroker_ItsSecretIsNotTaken(bool isTrustee)
    {
        using BrokerHarness harness = NewHarness();
        using BrokerKey own = BrokerHarness.NewKey();
        BrokerPin pin = harness.Pin(isTrustee);
        File.WriteAllBytes(harness.PathOf("default.svsm.vm1.secret"), own.MakeSecret(isMovable: true));
        harness.Broker = harness.NewBroker(own);
        Assert.Equal(BrokerResult.NotTheBroker, harness.Open(out BrokerSession? session, pin: pin));
        Assert.Null(session);
        Assert.Contains("given: default/svsm/vm1", harness.Log);
    }

    // A secret that the owner has signed, for the SVSM's key, by the host: it would have to know one. Even so, no anchors of its own.
    [Fact]
    public void HostHasASecretOfTheOwner_AnswerIsNotTakenWithoutTheBrokersSignature()
    {
        using BrokerHarness harness = NewHarness();
        harness.OnHttpAnswer = WithoutSignature;
        Assert.Equal(BrokerResult.NotTheBroker, harness.Open(out _));
    }

    [Fact]
    public void SecretOfAnotherKey_IsNotGiven()
    {
        using BrokerHarness harness = NewHarness();
        using BrokerKey other = BrokerHarness.NewKey();
        File.WriteAllBytes(harness.PathOf("default.svsm.vm1.secret"), other.MakeSecret(isMovable: false));
        Assert.Equal(BrokerResult.Refused, harness.Open(out _));
        Assert.Contains(harness.Log, line => line.Contains("another key has signed it", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("another", 0x3_0000ul)]
    [InlineData("image", 0xB_0000ul)]
    [InlineData("image", 0x2_0000ul)]
    public void AnotherImageOrPolicy_GetsNothing(string image, ulong policy)
    {
        using BrokerHarness harness = NewHarness();
        using TestLaunch launch = harness.NewLaunch(image, policy);
        Assert.Equal(BrokerResult.Refused, harness.Open(out BrokerSession? session, launch: launch));
        Assert.Null(session);
        Assert.DoesNotContain(harness.Log, line => line.StartsWith("given", StringComparison.Ordinal));
        Assert.Contains(harness.Log, line => line.Contains("SVSM31", StringComparison.Ordinal));
    }

    [Fact]
    public void OneOfSeveralReferences_IsEnough()
    {
        using BrokerHarness harness = NewHarness();
        harness.Broker = harness.NewBroker(harness.Key, BrokerHarness.Reference("another"), BrokerHarness.Reference());
        harness.MustOpen().Dispose();
    }

    [Fact]
    public void AnotherChipsRoot_GetsNothing()
    {
        using BrokerHarness harness = NewHarness();
        using var other = new BrokerHarness(fixture.Other);
        harness.Broker = other.NewBroker(harness.Key);
        Assert.Equal(BrokerResult.Refused, harness.Open(out _));
        Assert.Contains(other.Log, line => line.Contains("SVSM3104", StringComparison.Ordinal) || line.Contains("SVSM3103", StringComparison.Ordinal));
    }

    // The SVSM's report, and somebody else's key with it.
    [Fact]
    public void AnotherKeyWithTheReport_GetsNothing()
    {
        using BrokerHarness harness = NewHarness();
        using ECDiffieHellman own = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP521);
        ECParameters key = own.ExportParameters(includePrivateParameters: false);
        TestChannel channel = harness.NewChannel();
        channel.OnRequest = request =>
        {
            if (request[0] == 2)
            {
                key.Q.X!.CopyTo(request, 8);
                key.Q.Y!.CopyTo(request, 8 + 66);
            }

            return request;
        };
        Assert.Equal(BrokerResult.Refused, harness.Open(out _, channel));
        Assert.Contains("refused: the report is about another key", harness.Log);
    }

    // An answer of an earlier session of the very same VM.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void EarlierAnswer_IsNotTaken(bool isTrustee)
    {
        using BrokerHarness harness = NewHarness();
        using TestLaunch launch = harness.NewLaunch();
        TestChannel first = harness.NewChannel();
        Assert.Equal(BrokerResult.Done, harness.Open(out _, first, launch, harness.Pin(isTrustee)));
        byte[] earlier = first.Seen[1].Answer;

        TestChannel second = harness.NewChannel();
        second.OnAnswer = answer => answer.Length > 1000 || second.Seen.Count == 2 ? earlier : answer;
        Assert.Equal(BrokerResult.NotTheBroker, harness.Open(out _, second, launch, harness.Pin(isTrustee)));
    }

    [Fact]
    public void UnknownResource_IsRefused()
    {
        using BrokerHarness harness = NewHarness();
        foreach (string resource in (string[])["default/svsm/vm2", "default/svsm", "default/svsm/vm1/x", "../svsm/vm1", "default/svsm/%2e%2e"])
        {
            Assert.Equal(BrokerResult.Refused, harness.Open(out _, harness.NewChannel(resource)));
        }
    }

    [Fact]
    public void HostIsBusyOrRefusesReports_IsReported()
    {
        using BrokerHarness harness = NewHarness();
        using TestLaunch launch = harness.NewLaunch();
        launch.Kernel.SetBusy(100);
        Assert.Equal(BrokerResult.Busy, harness.Open(out _, launch: launch));
        launch.Kernel.SetBusy(0);
        Assert.Equal(BrokerResult.Done, harness.Open(out _, launch: launch));
        launch.Kernel.Host.Enqueue(HostDeed.Refuse);
        Assert.Equal(BrokerResult.NoReport, harness.Open(out _, launch: launch));
    }

    [Fact]
    public void HostIsBusyForLong_OneSessionIsEnough()
    {
        using BrokerHarness harness = NewHarness();
        using TestLaunch launch = harness.NewLaunch();
        launch.Kernel.SetBusy(200);
        TestChannel channel = harness.NewChannel();
        Assert.Equal(BrokerResult.Done, BrokerSession.TryOpen(channel, launch.PatientPeer, harness.Pin(), out BrokerSession? session));
        Assert.Equal(2, channel.Seen.Count);
        session!.Dispose();
    }

    // A chip of which each part is new enough; one part that is not, however high the others are.
    [Theory]
    [InlineData(0ul, true)]
    [InlineData(1ul, false)]
    [InlineData(1ul << 56, false)]
    public void ChipBelowTheMinimumTcb_GetsNothing(ulong more, bool isBelieved)
    {
        using BrokerHarness harness = NewHarness();
        harness.MustOpen().Dispose();
        string believed = harness.Log.Single(line => line.StartsWith("believed: ", StringComparison.Ordinal));
        ulong tcb = Convert.ToUInt64(believed[^16..], 16);
        harness.Broker = harness.NewBroker(harness.Key, new TcbVersion(tcb + more));
        Assert.Equal(isBelieved ? BrokerResult.Done : BrokerResult.Refused, harness.Open(out BrokerSession? session));
        Assert.Equal(isBelieved, session is not null);
        Assert.Equal(!isBelieved, harness.Log.Any(line => line.StartsWith("refused: TCB 0x", StringComparison.Ordinal)));
        session?.Dispose();
    }

    [Fact]
    public void Nonce_WithMoreThanBase64_IsNotTaken()
    {
        using BrokerHarness harness = NewHarness();
        foreach (string nonce in (string[])["", "a\"b", "a\\b", "a b", "\u00e4", new string('a', 129)])
        {
            TestChannel channel = harness.NewChannel();
            byte[] bytes = Encoding.UTF8.GetBytes(nonce);
            channel.OnAnswer = answer => [0, 0, 0, 0, (byte)bytes.Length, 0, 0, 0, .. bytes];
            Assert.Equal(BrokerResult.Unreachable, harness.Open(out _, channel));
            Assert.Single(channel.Seen);
        }
    }

    [Fact]
    public void Anchor_GoesFromVersionToVersion_AndSurvivesTheBroker()
    {
        using BrokerHarness harness = NewHarness();
        StoreVersion one = BrokerHarness.Version(1);
        StoreVersion two = BrokerHarness.Version(2, 'b');
        using (BrokerSession session = harness.MustOpen())
        {
            Assert.Equal((BrokerResult.Done, null), (session.GetAnchor(out StoreVersion? version), version));
            Assert.Equal((BrokerResult.Done, one), (session.MoveAnchor(null, one, out version), version!.Value));
            Assert.Equal((BrokerResult.Done, one), (session.GetAnchor(out version), version!.Value));
            Assert.Equal((BrokerResult.Done, two), (session.MoveAnchor(one, two, out version), version!.Value));
        }

        harness.Restart();
        Assert.Equal("2 " + new string('b', 64) + "\n", File.ReadAllText(harness.PathOf("default.svsm.vm1.anchor")));
        using (BrokerSession session = harness.MustOpen())
        {
            Assert.Equal((BrokerResult.Done, two), (session.GetAnchor(out StoreVersion? version), version!.Value));
        }
    }

    [Fact]
    public void Anchor_FromAnotherVersion_IsNotMoved()
    {
        using BrokerHarness harness = NewHarness();
        using BrokerSession session = harness.MustOpen();
        StoreVersion five = BrokerHarness.Version(5);
        Assert.Equal(BrokerResult.OtherVersion, session.MoveAnchor(BrokerHarness.Version(4), five, out StoreVersion? current));
        Assert.Null(current);
        Assert.Equal(BrokerResult.Done, session.MoveAnchor(null, five, out _));
        foreach (StoreVersion? from in (StoreVersion?[])[null, BrokerHarness.Version(4), BrokerHarness.Version(6), BrokerHarness.Version(5, 'b')])
        {
            Assert.Equal((BrokerResult.OtherVersion, five), (session.MoveAnchor(from, BrokerHarness.Version(7), out current), current!.Value));
        }

        // Back, or in the same place with another root: never.
        Assert.Equal((BrokerResult.NotWritten, five), (session.MoveAnchor(five, BrokerHarness.Version(4), out current), current!.Value));
        Assert.Equal((BrokerResult.NotWritten, five), (session.MoveAnchor(five, BrokerHarness.Version(5, 'b'), out current), current!.Value));
        Assert.Equal(BrokerResult.Done, session.MoveAnchor(five, BrokerHarness.Version(ulong.MaxValue), out _));
    }

    // Two VMs from copies of one device: the second one to commit is told.
    [Fact]
    public void TwoMachines_OnlyOneMovesTheAnchor()
    {
        using BrokerHarness harness = NewHarness();
        using BrokerSession first = harness.MustOpen();
        using BrokerSession second = harness.MustOpen();
        StoreVersion start = BrokerHarness.Version(1);
        Assert.Equal(BrokerResult.Done, first.MoveAnchor(null, start, out _));
        Assert.Equal((BrokerResult.Done, start), (second.GetAnchor(out StoreVersion? seen), seen!.Value));
        Assert.Equal(BrokerResult.Done, second.MoveAnchor(start, BrokerHarness.Version(2, 'b'), out _));
        Assert.Equal((BrokerResult.OtherVersion, BrokerHarness.Version(2, 'b')), (first.MoveAnchor(start, BrokerHarness.Version(2, 'c'), out seen), seen!.Value));
    }

    [Fact]
    public void AnchorMessage_LostRepeatedOrChanged_EndsTheSession()
    {
        using BrokerHarness harness = NewHarness();
        foreach (Action<TestChannel> deed in (Action<TestChannel>[])
            [
                channel => channel.OnRequest = _ => null,
                channel => channel.OnAnswer = _ => null,
                channel => channel.OnRequest = request => [.. request[..4], .. channel.Seen[^1].Request[4..]],
                channel => channel.OnAnswer = _ => channel.Seen[^2].Answer,
                channel => channel.OnRequest = request => Flip(request, 20),
                channel => channel.OnAnswer = answer => Flip(answer, 20),
                channel => channel.OnAnswer = answer => answer[..^1],
                channel => channel.OnAnswer = answer => [.. answer, 0],
                channel => channel.OnAnswer = answer => [0, 0, 0, 0],
                channel => channel.OnAnswer = answer => [],
            ])
        {
            TestChannel channel = harness.NewChannel();
            using BrokerSession session = harness.MustOpen(channel);
            Assert.Equal(BrokerResult.Done, session.GetAnchor(out _));
            deed(channel);
            Assert.True(session.GetAnchor(out StoreVersion? version) is BrokerResult.Unreachable or BrokerResult.NotTheBroker);
            Assert.Null(version);
            channel.OnRequest = null;
            channel.OnAnswer = null;
            int seen = channel.Seen.Count;
            Assert.Equal(BrokerResult.Unreachable, session.GetAnchor(out _));
            Assert.Equal(seen, channel.Seen.Count);
        }
    }

    // A request of another session, and its answer: keys are of one session.
    [Fact]
    public void AnchorMessageOfAnotherSession_IsNotTaken()
    {
        using BrokerHarness harness = NewHarness();
        TestChannel first = harness.NewChannel();
        TestChannel second = harness.NewChannel();
        using BrokerSession one = harness.MustOpen(first);
        using BrokerSession two = harness.MustOpen(second);
        Assert.Equal(BrokerResult.Done, one.MoveAnchor(null, BrokerHarness.Version(1), out _));
        second.OnRequest = _ => first.Seen[^1].Request;
        Assert.Equal(BrokerResult.Unreachable, two.GetAnchor(out _));
        Assert.Equal(BrokerResult.Done, one.GetAnchor(out _));
    }

    [Fact]
    public void AnchorFile_Damaged_IsNotTakenForNone()
    {
        using BrokerHarness harness = NewHarness();
        foreach (string text in (string[])["", "1", "x " + new string('a', 64), "-1 " + new string('a', 64), "1 " + new string('a', 63), "1 " + new string('g', 64), "1 " + new string('a', 64) + " 2"])
        {
            File.WriteAllText(harness.PathOf("default.svsm.vm1.anchor"), text);
            using BrokerSession session = harness.MustOpen();
            Assert.Equal(BrokerResult.NotWritten, session.GetAnchor(out StoreVersion? version));
            Assert.Equal(BrokerResult.NotWritten, session.MoveAnchor(null, BrokerHarness.Version(1), out version));
            Assert.Null(version);
            Assert.Equal(text, File.ReadAllText(harness.PathOf("default.svsm.vm1.anchor")));
        }
    }

    [Fact]
    public void Session_HasItsOrderAndItsTime()
    {
        using BrokerHarness harness = NewHarness();
        BrokerReply Ask(string method, string path, string? session, string content = "") => harness.Broker.Answer(new(method, path, session, Encoding.ASCII.GetBytes(content)));
        const string Hello = """{"version":"0.4.0","tee":"snp","extra-params":""}""";

        Assert.Equal(401, Ask("GET", "/kbs/v0/resource/default/svsm/vm1", null).Status);
        Assert.Equal(401, Ask("GET", "/kbs/v0/resource/default/svsm/vm1", "x").Status);
        Assert.Equal(401, Ask("GET", "/kbs/v0/resource/default/svsm/vm1", Ask("POST", "/kbs/v0/auth", null, Hello).Session).Status);
        Assert.Equal(401, Ask("POST", "/kbs/v0/svsm/anchor", Ask("POST", "/kbs/v0/auth", null, Hello).Session, new string('x', 104)).Status);
        Assert.Equal(401, Ask("POST", "/kbs/v0/auth", null, Hello.Replace("0.4.0", "0.3.0", StringComparison.Ordinal)).Status);
        Assert.Equal(401, Ask("POST", "/kbs/v0/auth", null, Hello.Replace("snp", "tdx", StringComparison.Ordinal)).Status);
        Assert.Equal(400, Ask("POST", "/kbs/v0/auth", null, "{").Status);
        Assert.Equal(400, Ask("POST", "/kbs/v0/auth", null, "[]").Status);
        Assert.Equal(404, Ask("GET", "/kbs/v0/auth", null).Status);
        Assert.Equal(404, Ask("POST", "/", null).Status);
        Assert.Equal(413, Ask("POST", "/kbs/v0/auth", null, new string(' ', KeyBroker.MaxContent + 1)).Status);

        // Evidence has five minutes; a VM with good evidence may be silent for days.
        TestChannel channel = harness.NewChannel();
        channel.OnRequest = request =>
        {
            harness.Time.Now += request[0] == 2 ? TimeSpan.FromMinutes(6) : TimeSpan.Zero;
            return request;
        };
        Assert.Equal(BrokerResult.Refused, harness.Open(out _, channel));
        using BrokerSession session = harness.MustOpen();
        harness.Time.Now += TimeSpan.FromDays(6);
        Assert.Equal(BrokerResult.Done, session.GetAnchor(out _));
        harness.Time.Now += TimeSpan.FromDays(8);
        Assert.Equal(BrokerResult.Unreachable, session.GetAnchor(out _));
    }

    // Strangers fill the broker with sessions: those with good evidence stay.
    [Fact]
    public void ManySessions_GoodOnesStay()
    {
        using BrokerHarness harness = NewHarness();
        using BrokerSession session = harness.MustOpen();
        harness.Time.Now += TimeSpan.FromMinutes(1);
        for (int i = 0; i < KeyBroker.MaxSessions + 10; i++)
        {
            Assert.Equal(200, harness.Broker.Answer(new("POST", "/kbs/v0/auth", null, """{"version":"0.4.0","tee":"snp"}"""u8.ToArray())).Status);
        }

        Assert.Equal(BrokerResult.Done, session.GetAnchor(out _));
        harness.MustOpen().Dispose();
    }

    [Theory]
    [InlineData("")]
    [InlineData("no key")]
    [InlineData("P-256")]
    [InlineData("public")]
    [InlineData("RSA")]
    public void KeyThatIsNone_IsRefused(string what)
    {
        using var small = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        using var good = ECDsa.Create(ECCurve.NamedCurves.nistP384);
        using var rsa = RSA.Create(2048);
        string pem = what switch
        {
            "P-256" => small.ExportPkcs8PrivateKeyPem(),
            "public" => good.ExportSubjectPublicKeyInfoPem(),
            "RSA" => rsa.ExportPkcs8PrivateKeyPem(),
            _ => what,
        };
        Assert.Equal("SVSM7050", Assert.Throws<SvsmDiagnosticException>(() => BrokerKey.Read(Encoding.ASCII.GetBytes(pem), "key")).Diagnostic.Code);
    }

    [Fact]
    public void State_IsOneBrokersAtATime()
    {
        using BrokerHarness harness = NewHarness();
        Assert.Equal("SVSM7051", Assert.Throws<SvsmDiagnosticException>(() => BrokerState.Open(harness.PathOf(""))).Diagnostic.Code);
        Assert.Equal("SVSM7051", Assert.Throws<SvsmDiagnosticException>(() => BrokerState.Open(harness.PathOf("nowhere"))).Diagnostic.Code);
    }

    [Fact]
    public void Pin_ThatIsNone_IsNull()
    {
        using BrokerKey key = BrokerHarness.NewKey();
        byte[] pin = key.MakePin(isTrustee: false);
        Assert.Equal(BrokerKind.Svsm, BrokerPin.TryRead(pin)!.Kind);
        Assert.Equal(BrokerKind.Trustee, BrokerPin.TryRead(key.MakePin(isTrustee: true))!.Kind);
        Assert.Null(BrokerPin.TryRead(pin.AsSpan(1)));
        Assert.Null(BrokerPin.TryRead(pin.AsSpan(0, pin.Length - 1)));
        Assert.Null(BrokerPin.TryRead([.. pin, 0]));
        foreach (int offset in (int[])[0, 7, 8, 9, 12, 15, 0x10, 0x3F, 0x40, 0x6F])
        {
            byte[] changed = [.. pin];
            changed[offset] ^= 0x40;
            Assert.Null(BrokerPin.TryRead(changed));
        }

        Assert.Null(BrokerPin.TryRead([.. pin[..0x10], .. new byte[96]]));
    }

    [Fact]
    public void Messages_ChangedAnywhere_NeverGiveAnotherSecret() => Fuzz(1, 60);

    [Fact]
    [Trait("Run", "all")]
    public void Messages_ChangedManyTimes_NeverGiveAnotherSecret() => Fuzz(2, 4_000);

    // One message of one exchange is changed, cut, lengthened, or replaced by another one: on the channel, or inside HTTP. Whatever comes of it, a session that
    // opens has the right secret, and an anchor is what somebody has asked for.
    private void Fuzz(int seed, int rounds)
    {
        var random = new Random(seed);
        using BrokerHarness harness = NewHarness();
        using TestLaunch launch = harness.NewLaunch();
        byte[][] recorded = [[]];
        int opened = 0;
        int untouched = 0;
        ulong generation = 0;
        for (int round = 0; round < rounds; round++)
        {
            // Every tenth round is left alone: the positive control.
            bool isControl = round % 10 == 0;
            int target = isControl ? -1 : random.Next(14);
            int message = 0;
            byte[] Change(byte[] bytes)
            {
                if (message++ != target)
                {
                    return bytes;
                }

                switch (random.Next(5))
                {
                    case 0 when bytes.Length != 0:
                        bytes = [.. bytes];
                        bytes[random.Next(bytes.Length)] ^= (byte)(1 << random.Next(8));
                        return bytes;
                    case 1:
                        return bytes.AsSpan(0, random.Next(bytes.Length + 1)).ToArray();
                    case 2:
                        return [.. bytes, .. new byte[random.Next(1, 64)]];
                    case 3:
                        return recorded[random.Next(recorded.Length)];
                    default:
                        bytes = [.. bytes];
                        random.NextBytes(bytes.AsSpan(Math.Min(bytes.Length, random.Next(bytes.Length + 1))));
                        return bytes;
                }
            }

            TestChannel channel = harness.NewChannel();
            channel.OnRequest = Change;
            channel.OnAnswer = Change;
            harness.OnHttpQuestion = (_, content) => Change(content);
            harness.OnHttpAnswer = (_, content) => Change(content);
            BrokerResult result = harness.Open(out BrokerSession? session, channel, launch);
            Assert.Equal(result == BrokerResult.Done, session is not null);
            if (session is not null)
            {
                opened++;
                Assert.Equal(harness.Secret, session.Secret.ToArray());
                StoreVersion? from = generation == 0 ? null : BrokerHarness.Version(generation);
                BrokerResult moved = session.MoveAnchor(from, BrokerHarness.Version(generation + 1), out StoreVersion? current);
                Assert.NotEqual(BrokerResult.OtherVersion, moved);
                Assert.True(moved != BrokerResult.Done || current == BrokerHarness.Version(generation + 1));

                // Where it is not known whether it moved, a new session says.
                harness.OnHttpQuestion = null;
                harness.OnHttpAnswer = null;
                if (moved != BrokerResult.Done)
                {
                    Assert.Equal(BrokerResult.Done, harness.Open(out BrokerSession? next, launch: launch));
                    Assert.Equal(BrokerResult.Done, next!.GetAnchor(out current));
                    next.Dispose();
                }

                Assert.True(current == BrokerHarness.Version(generation + 1) || current == from);
                generation = current?.Generation ?? 0;
                session.Dispose();
            }

            if (isControl)
            {
                Assert.Equal(BrokerResult.Done, result);
                untouched++;
            }

            recorded = [.. channel.Seen.SelectMany(pair => (byte[][])[pair.Request, pair.Answer]), .. harness.Http.TakeLast(4).SelectMany(each => (byte[][])[each.Content, each.Answer])];
            harness.Http.Clear();
        }

        Assert.True(untouched >= rounds / 10 && opened < rounds, $"{opened} of {rounds}");
    }

    private static byte[] Flip(byte[] bytes, int offset)
    {
        byte[] changed = [.. bytes];
        changed[offset] ^= 1;
        return changed;
    }

    private static byte[] WithoutSignature(string path, byte[] content)
    {
        if (!path.Contains("/resource/", StringComparison.Ordinal))
        {
            return content;
        }

        JsonObject json = JsonNode.Parse(content)!.AsObject();
        Assert.True(json.Remove("svsm-signature"));
        return JsonSerializer.SerializeToUtf8Bytes(json);
    }
}
