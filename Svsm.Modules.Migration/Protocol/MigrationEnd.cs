// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What both ends of a migration have in common: frames in and out, greeting, proof, keys, time limits, and the abort. MigrationSource and MigrationTarget say what
// comes between. Neither has a thread or a device: whoever has them gives frames to Receive, takes frames from TryTake, and calls CheckTime now and then.
//
//   relay's frames --> Receive --> OnClear    HELLO, EVIDENCE
//                              --> OnRecord   everything else, opened
//   Send, SendRecord --> queue --> TryTake --> relay
//
// Everything that comes is untrusted. An end that has aborted, or ended, takes notice of nothing any more; one that has handed over, of what is authentic alone.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Numerics;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto.Digests;
using Org.BouncyCastle.Crypto.Generators;
using Org.BouncyCastle.Crypto.Parameters;
using Svsm.Core;
using Svsm.Cryptography;

namespace Svsm.Migration;

/// <summary>An end of a migration. Not for use by two threads at once.</summary>
public abstract class MigrationEnd : IDisposable
{
    private readonly AttestingPeer _attesting;
    private readonly MigrationPolicy _policy;
    private readonly TimeProvider _time;
    private readonly TimeSpan _patience;
    private readonly Queue<MigrationFrame> _frames = [];
    private readonly NistCurve _curve = NistCurve.P384();
    private readonly byte[] _ownHello = new byte[MigrationFormat.HelloLength];
    private BigInteger _privateKey;
    private byte[] _peerHello = [];
    private CurvePoint _peerKey;
    private byte[] _ownReport = [];
    private byte[] _ownEvidence = [];
    private RecordSender? _sender;
    private RecordReceiver? _receiver;
    private long _lastReceived;
    private long _lastSent;
    private bool _isDisposed;

    /// <summary>Makes an end.</summary>
    /// <param name="role">Which one.</param>
    /// <param name="attesting">The module that attests.</param>
    /// <param name="policy">Whom to let be the other end.</param>
    /// <param name="time">The clock of time limits.</param>
    /// <param name="patience">How long the other end may be silent, as long as nothing is handed over.</param>
    private protected MigrationEnd(MigrationRole role, AttestingPeer attesting, MigrationPolicy policy, TimeProvider time, TimeSpan patience)
    {
        ArgumentNullException.ThrowIfNull(attesting);
        ArgumentNullException.ThrowIfNull(policy);
        ArgumentNullException.ThrowIfNull(time);
        (Role, _attesting, _policy, _time, _patience) = (role, attesting, policy, time, patience);
        _lastReceived = time.GetTimestamp();
    }

    /// <summary>Which end it is.</summary>
    public MigrationRole Role { get; }

    /// <summary>How far it is.</summary>
    public MigrationState State { get; private protected set; }

    /// <summary>Why it was aborted.</summary>
    public MigrationReason Reason { get; private set; }

    /// <summary>More about it, for the log.</summary>
    public string Detail { get; private set; } = "";

    /// <summary>There is no way back: the source has given up, or the target holds everything.</summary>
    public bool IsHandedOver => State is MigrationState.HandedOver or MigrationState.Ended;

    /// <summary>Nothing happens any more: the guest runs at the target, or it was aborted.</summary>
    public bool IsOver => State is MigrationState.Ended or MigrationState.Aborted;

    /// <summary>There are frames for the relay.</summary>
    public bool HasFrames => _frames.Count != 0;

    /// <summary>Takes a frame for the relay.</summary>
    /// <param name="frame">The frame.</param>
    /// <returns>False: there is none.</returns>
    public bool TryTake(out MigrationFrame frame) => _frames.TryDequeue(out frame);

    /// <summary>Takes notice of a frame of the other end's.</summary>
    /// <param name="frame">The frame. Untrusted.</param>
    public void Receive(MigrationFrame frame)
    {
        if (_isDisposed || IsOver)
        {
            return;
        }

        ArgumentNullException.ThrowIfNull(frame.Contents);
        switch (frame.Kind)
        {
            case FrameKind.Record when _receiver is not null:
                if (_receiver.TryOpen(frame.Contents, out Record record))
                {
                    _lastReceived = _time.GetTimestamp();
                    OnRecord(record);
                }
                else if (!IsHandedOver)
                {
                    Abort(MigrationReason.NotAuthentic, $"the record is not number {_receiver.Count} of the other end");
                }

                break;
            case FrameKind.Clear when _receiver is null:
                _lastReceived = _time.GetTimestamp();
                OnClear(frame.Contents);
                break;
            default:
                if (!IsHandedOver)
                {
                    Abort(MigrationReason.Malformed, $"a frame of kind {(byte)frame.Kind} is not due");
                }

                break;
        }
    }

    /// <summary>Nothing is due: a source was not told to begin, or no source has called a target yet.</summary>
    public bool IsIdle => State == MigrationState.Idle || (Role == MigrationRole.Target && State == MigrationState.Greeting);

    /// <summary>Aborts if the other end has been silent for too long. Nothing that is handed over has a time limit, and a target waits for its source.</summary>
    public void CheckTime()
    {
        if (!IsIdle && State != MigrationState.Aborted && !IsHandedOver && _time.GetElapsedTime(_lastReceived) > _patience)
        {
            Abort(MigrationReason.Silence, $"no message for {_patience.TotalSeconds} s");
        }
    }

    /// <summary>Aborts because the relay asks for it.</summary>
    /// <returns>False: it is too late.</returns>
    public bool TryCancel()
    {
        if (IsHandedOver || State == MigrationState.Aborted)
        {
            return false;
        }

        Abort(MigrationReason.Cancelled, "the relay has asked for it");
        return true;
    }

    /// <summary>Aborts because whoever works for this end has failed. Nothing happens after the hand-over.</summary>
    /// <param name="detail">What has failed, for the log.</param>
    public void Fail(string detail)
    {
        if (!IsHandedOver && State != MigrationState.Aborted)
        {
            Abort(MigrationReason.Failed, detail);
        }
    }

    /// <summary>Gives the last frame of the hand-over to the relay once more: the same bytes. Nothing happens before the hand-over.</summary>
    public void Repeat()
    {
        if (IsHandedOver && HandOver is byte[] record)
        {
            _frames.Enqueue(new(FrameKind.Record, record));
        }
    }

    /// <summary>Ends it, and clears what is secret. What was not handed over is aborted; a target that holds its guest never runs it.</summary>
    public void Dispose()
    {
        if (!IsHandedOver && State != MigrationState.Aborted)
        {
            Abort(MigrationReason.Cancelled, "it is not wanted any more");
        }

        _isDisposed = true;
        ClearKeys();
        GC.SuppressFinalize(this);
    }

    /// <summary>The record that the other end waits for: HELD of a target, then RUNNING; RELEASE of a source.</summary>
    private protected byte[]? HandOver { get; set; }

    /// <summary>Takes a record of the other end.</summary>
    private protected abstract void OnRecord(Record record);

    /// <summary>The keys are there.</summary>
    private protected abstract void OnTrusted();

    /// <summary>It was aborted: nothing was handed over.</summary>
    private protected abstract void OnAborted();

    /// <summary>Begins to greet: a source by itself, a target when it was greeted. The time limit begins with it.</summary>
    private protected void Greet()
    {
        _lastReceived = _time.GetTimestamp();
        try
        {
            _privateKey = _curve.NewPrivateKey();
            RandomNumberGenerator.Fill(_ownHello.AsSpan(MigrationFormat.RandomOffset, MigrationFormat.RandomLength));
        }
        catch (CryptographicException)
        {
            Abort(MigrationReason.Failed, "there are no random bytes");
            return;
        }

        MigrationFormat.HelloMagic.CopyTo(_ownHello);
        BinaryPrimitives.WriteUInt32LittleEndian(_ownHello.AsSpan(MigrationFormat.RoleOffset), (uint)Role);
        BinaryPrimitives.WriteUInt32LittleEndian(_ownHello.AsSpan(MigrationFormat.VersionOffset), MigrationFormat.Version);
        _curve.ToBytes(_curve.Multiply(_curve.Generator, _privateKey)).CopyTo(_ownHello, MigrationFormat.KeyOffset);
        _frames.Enqueue(new(FrameKind.Clear, [.. _ownHello]));
    }

    /// <summary>Sends a record.</summary>
    /// <returns>Its bytes.</returns>
    private protected byte[] SendRecord(RecordType type, ulong address, ReadOnlySpan<byte> text)
    {
        byte[] record = _sender!.Seal(type, address, text);
        _frames.Enqueue(new(FrameKind.Record, record));
        _lastSent = _time.GetTimestamp();
        return record;
    }

    /// <summary>This end has said nothing for so long that the other one should hear of it.</summary>
    private protected bool IsQuiet => _time.GetElapsedTime(_lastSent) > _patience / 4;

    /// <summary>Records that were sent.</summary>
    private protected ulong SentCount => _sender!.Count;

    /// <summary>Records that have come.</summary>
    private protected ulong ReceivedCount => _receiver!.Count;

    /// <summary>Digest of all records that were sent.</summary>
    private protected byte[] SentDigest() => _sender!.Digest();

    /// <summary>Digest of all records that had come before FINISH.</summary>
    private protected byte[] DigestBeforeFinish => _receiver!.DigestBeforeFinish;

    /// <summary>Aborts, and tells the other end if there is a key.</summary>
    private protected void Abort(MigrationReason reason, string detail)
    {
        if (_sender is not null)
        {
            byte[] text = new byte[sizeof(uint)];
            BinaryPrimitives.WriteUInt32LittleEndian(text, (uint)reason);
            SendRecord(Role == MigrationRole.Source ? RecordType.SourceAbort : RecordType.TargetAbort, 0, text);
        }

        End(reason, detail);
    }

    /// <summary>The other end has aborted.</summary>
    private protected void AbortedByPeer(ReadOnlySpan<byte> text)
    {
        uint reason = text.Length == sizeof(uint) ? BinaryPrimitives.ReadUInt32LittleEndian(text) : 0;
        bool isKnown = reason is > (uint)MigrationReason.None and <= (uint)MigrationReason.Failed;
        End(isKnown ? (MigrationReason)reason : MigrationReason.Malformed, "the other end has aborted");
    }

    private void End(MigrationReason reason, string detail)
    {
        (State, Reason, Detail) = (MigrationState.Aborted, reason, detail);
        ClearKeys();
        OnAborted();
    }

    private void ClearKeys()
    {
        _sender?.Dispose();
        _receiver?.Dispose();
        _privateKey = default;
    }

    private void OnClear(byte[] contents)
    {
        switch (State)
        {
            case MigrationState.Greeting:
                TakeHello(contents);
                break;
            case MigrationState.Proof:
                TakeEvidence(contents);
                break;
            default:
                Abort(MigrationReason.Malformed, "a message in the clear is not due");
                break;
        }
    }

    private void TakeHello(byte[] hello)
    {
        MigrationRole other = Role == MigrationRole.Source ? MigrationRole.Target : MigrationRole.Source;
        if (hello.Length != MigrationFormat.HelloLength || !hello.AsSpan().StartsWith(MigrationFormat.HelloMagic)
            || BinaryPrimitives.ReadUInt32LittleEndian(hello.AsSpan(MigrationFormat.RoleOffset)) != (uint)other
            || _curve.TryReadPoint(hello.AsSpan(MigrationFormat.KeyOffset)) is not CurvePoint key)
        {
            Abort(MigrationReason.Malformed, "a HELLO that is none");
            return;
        }

        // The target says which version is spoken. There is one so far, which a source of any version speaks.
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(hello.AsSpan(MigrationFormat.VersionOffset));
        if (Role == MigrationRole.Source ? version != MigrationFormat.Version : version < MigrationFormat.Version)
        {
            Abort(MigrationReason.VersionUnknown, $"version {version}; wanted is {MigrationFormat.Version}");
            return;
        }

        (_peerHello, _peerKey) = (hello, key);
        State = MigrationState.Proof;
        if (Role == MigrationRole.Target)
        {
            Greet();
        }
        else
        {
            Prove();
        }
    }

    private void Prove()
    {
        AttestingResult result = _attesting.GetReport(ReportData(Role), out _ownReport, out byte[] certificates);
        if (result != AttestingResult.Done)
        {
            Abort(MigrationReason.Failed, $"there is no report: {result}");
            return;
        }

        byte[] head = new byte[MigrationFormat.ReportOffset];
        certificates = certificates.Length > MigrationFormat.MaxCertificates ? [] : certificates;
        BinaryPrimitives.WriteInt32LittleEndian(head, certificates.Length);
        _ownEvidence = [.. head, .. _ownReport, .. certificates];
        _frames.Enqueue(new(FrameKind.Clear, _ownEvidence));
    }

    private void TakeEvidence(byte[] evidence)
    {
        if (evidence.Length is < MigrationFormat.CertificatesOffset or > MigrationFormat.CertificatesOffset + MigrationFormat.MaxCertificates
            || BinaryPrimitives.ReadUInt64LittleEndian(evidence) != (ulong)(evidence.Length - MigrationFormat.CertificatesOffset))
        {
            Abort(MigrationReason.Malformed, "an EVIDENCE that is none");
            return;
        }

        // A target shows nothing of itself before it has looked; what it looks for is in its own report, too.
        if (Role == MigrationRole.Target && !TryGetOwnReport())
        {
            return;
        }

        MigrationRole other = Role == MigrationRole.Source ? MigrationRole.Target : MigrationRole.Source;
        MigrationReason reason = PeerReport.Check(
            evidence.AsSpan(MigrationFormat.ReportOffset, MigrationFormat.ReportLength), evidence.AsSpan(MigrationFormat.CertificatesOffset), _ownReport, _policy, ReportData(other), out string why);
        if (reason != MigrationReason.None)
        {
            Abort(reason, why);
            return;
        }

        if (Role == MigrationRole.Target)
        {
            _frames.Enqueue(new(FrameKind.Clear, _ownEvidence));
        }

        MakeKeys(evidence);
    }

    private bool TryGetOwnReport()
    {
        Prove();
        if (State == MigrationState.Aborted)
        {
            return false;
        }

        _frames.Clear();
        return true;
    }

    private byte[] ReportData(MigrationRole role)
    {
        byte[] label = (role == MigrationRole.Source ? MigrationFormat.SourceReportLabel : MigrationFormat.TargetReportLabel).ToArray();
        return PeerReport.Sha384(label, PeerReport.Sha384(Both(_ownHello, _peerHello)));
    }

    private void MakeKeys(byte[] peerEvidence)
    {
        byte[] proof = PeerReport.Sha384([.. Both(_ownHello, _peerHello), .. Both(_ownEvidence, peerEvidence)]);
        byte[] shared = _curve.XOf(_curve.Multiply(_peerKey, _privateKey));
        _privateKey = default;
        var hkdf = new HkdfBytesGenerator(new Sha384Digest());
        hkdf.Init(new HkdfParameters(shared, proof, MigrationFormat.SecretsLabel.ToArray()));
        byte[] source = new byte[MigrationFormat.SecretLength];
        byte[] target = new byte[MigrationFormat.SecretLength];
        hkdf.GenerateBytes(source, 0, source.Length);
        hkdf.GenerateBytes(target, 0, target.Length);
        CryptographicOperations.ZeroMemory(shared);
        Trust(source, target);
    }

    /// <summary>Goes on behind the proof.</summary>
    /// <param name="source">Secret of the source's direction, of epoch 0; this end's from here on.</param>
    /// <param name="target">That of the target's direction.</param>
    internal void Trust(byte[] source, byte[] target)
    {
        _sender = new RecordSender(Role == MigrationRole.Source ? source : target);
        _receiver = new RecordReceiver(Role == MigrationRole.Source ? target : source);
        State = MigrationState.Offer;
        OnTrusted();
    }

    // Source's first.
    private byte[] Both(byte[] own, byte[] peer) => Role == MigrationRole.Source ? [.. own, .. peer] : [.. peer, .. own];
}
