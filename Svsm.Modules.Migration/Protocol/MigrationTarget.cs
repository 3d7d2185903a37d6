// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The end that gets the guest. It puts every record where it belongs when it comes, and nothing of it runs before the release.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Core;

namespace Svsm.Migration;

/// <summary>What is to become the guest of a target.</summary>
public interface ITargetGuest
{
    /// <summary>Makes room.</summary>
    /// <param name="offer">The text of OFFER. The source is trusted, but may be of another version.</param>
    /// <returns><see cref="MigrationReason.None"/>, <see cref="MigrationReason.NotSuitable"/>, <see cref="MigrationReason.Malformed"/> or <see cref="MigrationReason.Failed"/>.</returns>
    MigrationReason Prepare(ReadOnlySpan<byte> offer);

    /// <summary>Takes a record to its place.</summary>
    /// <param name="type">PAGE, ZEROES, STATES, MODULE or VCPU.</param>
    /// <param name="address">Of a page: where it goes.</param>
    /// <param name="text">The text.</param>
    /// <returns><see cref="MigrationReason.None"/>, <see cref="MigrationReason.Malformed"/>, <see cref="MigrationReason.NotSuitable"/> or <see cref="MigrationReason.Failed"/>.</returns>
    MigrationReason Take(RecordType type, ulong address, ReadOnlySpan<byte> text);

    /// <summary>Whether everything is there, and every module has taken its state: the guest could run.</summary>
    bool IsComplete();

    /// <summary>Runs the guest.</summary>
    /// <returns>False: not yet, because the host has not set the clock; to be asked again.</returns>
    bool TryRun();

    /// <summary>Clears everything: it will not run.</summary>
    void Clear();
}

/// <summary>The target of a migration.</summary>
public sealed class MigrationTarget : MigrationEnd
{
    private readonly ITargetGuest _guest;
    private byte[] _digest = [];
    private bool _isReleased;
    private ulong _told;

    /// <summary>Makes a target, which waits for a source.</summary>
    /// <param name="guest">The guest to be.</param>
    /// <param name="attesting">The module that attests.</param>
    /// <param name="policy">From whom to take a guest.</param>
    /// <param name="time">The clock of time limits.</param>
    /// <param name="patience">How long the source may be silent.</param>
    public MigrationTarget(ITargetGuest guest, AttestingPeer attesting, MigrationPolicy policy, TimeProvider time, TimeSpan patience)
        : base(MigrationRole.Target, attesting, policy, time, patience)
    {
        ArgumentNullException.ThrowIfNull(guest);
        _guest = guest;
        State = MigrationState.Greeting;
    }

    /// <summary>Runs the guest, if it is released and can run now.</summary>
    public void Work()
    {
        if (_isReleased && State == MigrationState.HandedOver && _guest.TryRun())
        {
            State = MigrationState.Ended;
            HandOver = SendRecord(RecordType.Running, 0, []);
        }
    }

    private protected override void OnTrusted()
    {
    }

    private protected override void OnRecord(Record record)
    {
        switch (record.Type, State)
        {
            case (RecordType.Offer, MigrationState.Offer):
                TakeOffer(record.Text);
                break;
            case (RecordType.Page or RecordType.Zeroes or RecordType.States or RecordType.Module or RecordType.Vcpu, MigrationState.Copying):
                TakePart(record);
                break;
            case (RecordType.Finish, MigrationState.Copying) when record.Text.Length == MigrationFormat.FinishLength:
                TakeFinish(record.Text);
                break;
            case (RecordType.Release, MigrationState.HandedOver) when CryptographicOperations.FixedTimeEquals(record.Text, _digest):
                _isReleased = true;
                Work();
                break;
            case (RecordType.SourceAbort, not MigrationState.Ended):
                AbortedByPeer(record.Text);
                break;
            case (_, MigrationState.HandedOver):
                break;
            default:
                Abort(MigrationReason.Malformed, $"a record of type 0x{(byte)record.Type:X2} with {record.Text.Length} bytes is not due");
                break;
        }
    }

    private protected override void OnAborted() => _guest.Clear();

    private void TakeOffer(ReadOnlySpan<byte> offer)
    {
        MigrationReason reason = _guest.Prepare(offer);
        if (reason != MigrationReason.None)
        {
            Abort(reason, "the offer is none, or not for this VM");
            return;
        }

        State = MigrationState.Copying;
        SendRecord(RecordType.Accept, 0, []);
    }

    private void TakePart(Record record)
    {
        MigrationReason reason = _guest.Take(record.Type, record.Address, record.Text);
        if (reason != MigrationReason.None)
        {
            Abort(reason, $"record {ReceivedCount - 1} of type 0x{(byte)record.Type:X2} has no place");
            return;
        }

        // A source that hears nothing from a target which gets little would take it for dead.
        if (ReceivedCount - _told > MigrationFormat.ProgressEvery || IsQuiet)
        {
            _told = ReceivedCount - 1;
            byte[] text = new byte[sizeof(ulong)];
            BinaryPrimitives.WriteUInt64LittleEndian(text, _told);
            SendRecord(RecordType.Progress, 0, text);
        }
    }

    private void TakeFinish(ReadOnlySpan<byte> text)
    {
        ReadOnlySpan<byte> digest = text[(2 * sizeof(ulong))..];
        if (!CryptographicOperations.FixedTimeEquals(digest, DigestBeforeFinish) || !_guest.IsComplete())
        {
            Abort(MigrationReason.Incomplete, "something is missing");
            return;
        }

        _digest = digest.ToArray();
        State = MigrationState.HandedOver;
        HandOver = SendRecord(RecordType.Held, 0, _digest);
    }
}
