// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// An end that a test writes, message by message: made from docs/migration-protocol.md with the class library's cryptography, so what the ends of the module say is held against another
// implementation; and an SVSM that is trusted, and says what it should not.

using System;
using System.Buffers.Binary;
using System.Linq;
using System.Security.Cryptography;
using Svsm.StoreKeys.Tests;
using Xunit;

namespace Svsm.Migration.Tests;

internal sealed class ScriptedEnd : IDisposable
{
    private readonly TestLaunch _launch;
    private readonly bool _isSource;
    private readonly ECDiffieHellman _key = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP384);
    private byte[] _peerHello = [];
    private byte[] _evidence = [];
    private OtherCipher? _sender;
    private OtherCipher? _receiver;

    public ScriptedEnd(TestLaunch launch, bool isSource, uint version = 1)
    {
        (_launch, _isSource) = (launch, isSource);
        ECPoint point = _key.ExportParameters(includePrivateParameters: false).Q;
        Hello = [.. "SVSMMIG1"u8, isSource ? (byte)1 : (byte)2, 0, 0, 0, .. BitConverter.GetBytes(version), .. RandomNumberGenerator.GetBytes(32), .. point.X!, .. point.Y!];
    }

    public byte[] Hello { get; }

    public static byte[] Number(uint number) => BitConverter.GetBytes(number);

    public static byte[] Number64(ulong number) => BitConverter.GetBytes(number);

    /// <summary>What it proves, when it has the other's HELLO.</summary>
    public byte[] Evidence(byte[] peerHello)
    {
        _peerHello = peerHello;
        byte[] label = [.. _isSource ? "svsm migration 1 source report"u8 : "svsm migration 1 target report"u8, 0];
        Assert.Equal(Core.AttestingResult.Done, _launch.Peer.GetReport(SHA384.HashData([.. label, .. SHA384.HashData(Both(Hello, peerHello))]), out byte[] report, out byte[] certificates));
        _evidence = [.. Number((uint)certificates.Length), 0, 0, 0, 0, .. report, .. certificates];
        return _evidence;
    }

    /// <summary>Makes the keys, when it has the other's EVIDENCE.</summary>
    public void MakeKeys(byte[] peerEvidence)
    {
        byte[] proof = SHA384.HashData([.. Both(Hello, _peerHello), .. Both(_evidence, peerEvidence)]);
        using var peer = ECDiffieHellman.Create(new ECParameters { Curve = ECCurve.NamedCurves.nistP384, Q = new ECPoint { X = _peerHello[0x30..0x60], Y = _peerHello[0x60..0x90] } });
        byte[] shared = _key.DeriveRawSecretAgreement(peer.PublicKey);
        byte[] secrets = HKDF.DeriveKey(HashAlgorithmName.SHA384, shared, 96, proof, "svsm migration 1 secrets"u8.ToArray());
        _sender = new OtherCipher(_isSource ? secrets[..48] : secrets[48..]);
        _receiver = new OtherCipher(_isSource ? secrets[48..] : secrets[..48]);
    }

    public MigrationFrame Seal(RecordType type, byte[] text, ulong address = 0) => new(FrameKind.Record, _sender!.Seal(type, address, text));

    public (RecordType Type, byte[] Text) Open(MigrationFrame frame)
    {
        Assert.Equal(FrameKind.Record, frame.Kind);
        return _receiver!.Open(frame.Contents);
    }

    /// <summary>Digest of what it has sent, and of what has come.</summary>
    public byte[] SentDigest() => _sender!.Digest();

    public byte[] ReceivedDigest() => _receiver!.Digest();

    /// <summary>Gets through the proof with a source.</summary>
    /// <returns>The text of OFFER.</returns>
    public byte[] Meet(MigrationSource source)
    {
        source.Begin();
        byte[] hello = Take(source).Contents;
        byte[] own = Evidence(hello);
        source.Receive(new(FrameKind.Clear, Hello));
        byte[] evidence = Take(source).Contents;
        source.Receive(new(FrameKind.Clear, own));
        MakeKeys(evidence);
        (RecordType type, byte[] offer) = Open(Take(source));
        Assert.Equal(RecordType.Offer, type);
        return offer;
    }

    /// <summary>Gets through the proof with a target.</summary>
    public void Meet(MigrationTarget target)
    {
        target.Receive(new(FrameKind.Clear, Hello));
        byte[] own = Evidence(Take(target).Contents);
        target.Receive(new(FrameKind.Clear, own));
        MakeKeys(Take(target).Contents);
        Assert.Equal(MigrationState.Offer, target.State);
    }

    public static MigrationFrame Take(MigrationEnd end)
    {
        Assert.True(end.TryTake(out MigrationFrame frame), $"{end.Role} {end.State} {end.Reason} {end.Detail}");
        return frame;
    }

    public void Dispose() => _key.Dispose();

    private byte[] Both(byte[] own, byte[] peer) => _isSource ? [.. own, .. peer] : [.. peer, .. own];
}
