// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The end that has the guest. Work does a slice at a time: a page, a part of a module, a vCPU; so the guest runs in between. States and the hand-over:
// docs/migration-protocol.md, "Phases".

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Security.Cryptography;
using Svsm.Core;

namespace Svsm.Migration;

/// <summary>What became of the wish for the next page.</summary>
public enum PageKind
{
    /// <summary>There is none left in this round.</summary>
    None,

    /// <summary>A page.</summary>
    Contents,

    /// <summary>A page that holds zeroes.</summary>
    Zeroes,
}

/// <summary>The guest of a source, and what belongs to it.</summary>
public interface ISourceGuest
{
    /// <summary>Pages that are not sent, or were written since.</summary>
    ulong PagesLeft { get; }

    /// <summary>Describes the guest: the text of OFFER.</summary>
    /// <param name="offer">The text.</param>
    /// <returns><see cref="MigrationReason.None"/>, <see cref="MigrationReason.CannotMove"/> or <see cref="MigrationReason.Failed"/>.</returns>
    MigrationReason Describe(out byte[] offer);

    /// <summary>Begins a round over the pages that are left.</summary>
    /// <param name="isPaced">In this round the guest writes no more pages than half of those that are taken.</param>
    void BeginRound(bool isPaced);

    /// <summary>Takes a page of the round: from here on it counts as sent, until the guest writes it again.</summary>
    /// <param name="page">Gets 4096 bytes.</param>
    /// <param name="address">Where it is.</param>
    /// <returns>What it is.</returns>
    PageKind NextPage(Span<byte> page, out ulong address);

    /// <summary>Stops the guest: no vCPU runs, nothing changes any more.</summary>
    /// <returns>False: it does not stop, and goes on.</returns>
    bool TryStop();

    /// <summary>Takes the next part of what goes when all pages are sent: page states, modules, vCPUs.</summary>
    /// <param name="type">STATES, MODULE or VCPU.</param>
    /// <param name="text">The text of the record.</param>
    /// <returns>False: there is no more.</returns>
    bool TryNextPart(out RecordType type, out byte[] text);

    /// <summary>Lets the guest go on, as if nothing had been: not stopped, and not paced.</summary>
    void Resume();

    /// <summary>
    /// Makes sure that what modules keep outside of the SVSM is not used here again. If the migration fails all the same, <see cref="Resume"/> takes it back.
    /// </summary>
    /// <returns>False: one cannot. The guest goes on.</returns>
    bool TryLeave();

    /// <summary>Gives the guest up: it can never run here again. Cannot fail.</summary>
    void GiveUp();
}

/// <summary>The source of a migration.</summary>
public sealed class MigrationSource : MigrationEnd
{
    // The guest is stopped when a 64th of its pages is left: what it writes until it stands, and what the SVSM writes for it, comes on top, and all of it is to be
    // less than 2 %. Rounds that leave more than half of what the one before has left do not come there: the guest is paced from the first of them on, and each
    // round halves what is left. Where what the SVSM writes for the guest is more than that, there is an end all the same.
    private const int EnoughOf = 64;
    private const int MaxRounds = 30;
    private const int RunLength = sizeof(ulong) * 2;
    private const int MaxRuns = MigrationFormat.MaxText / RunLength;

    private readonly ISourceGuest _guest;
    private readonly byte[] _page = new byte[MigrationFormat.PageLength];
    private readonly List<(ulong Address, ulong Pages)> _zeroes = [];
    private ulong _dealtWith;
    private ulong _pages;
    private ulong? _pagesBeforeRest;
    private ulong _enough;
    private ulong _leftBefore;
    private bool _isPaced;
    private bool _isStopWanted;
    private byte[] _digest = [];

    /// <summary>Makes a source. Nothing is said yet.</summary>
    /// <param name="guest">The guest.</param>
    /// <param name="attesting">The module that attests.</param>
    /// <param name="policy">Whom to let have the guest.</param>
    /// <param name="time">The clock of time limits.</param>
    /// <param name="patience">How long the target may be silent.</param>
    public MigrationSource(ISourceGuest guest, AttestingPeer attesting, MigrationPolicy policy, TimeProvider time, TimeSpan patience)
        : base(MigrationRole.Source, attesting, policy, time, patience)
    {
        ArgumentNullException.ThrowIfNull(guest);
        _guest = guest;
    }

    /// <summary>Rounds over the guest's memory.</summary>
    public uint Rounds { get; private set; }

    /// <summary>Pages that were sent, and those that were named as zeroes.</summary>
    public ulong PagesSent => _pages;

    /// <summary>Of them, those while the guest is stopped.</summary>
    public ulong PagesOfRest => _pagesBeforeRest is ulong before ? _pages - before : 0;

    /// <summary>Pages that are left.</summary>
    public ulong PagesLeft => _guest.PagesLeft;

    /// <summary>Begins.</summary>
    public void Begin()
    {
        if (State == MigrationState.Idle)
        {
            State = MigrationState.Greeting;
            Greet();
        }
    }

    /// <summary>Stops the guest after this round, however much is left.</summary>
    public void WantStop() => _isStopWanted = true;

    /// <summary>Does a slice of work.</summary>
    /// <returns>False: there is nothing to do before the target says something.</returns>
    public bool Work()
    {
        if (State is not (MigrationState.Copying or MigrationState.Rest) || _digest.Length != 0 || SentCount - _dealtWith >= MigrationFormat.Window)
        {
            return false;
        }

        switch (_guest.NextPage(_page, out ulong address))
        {
            case PageKind.Contents:
                SendRecord(RecordType.Page, address, _page);
                _pages++;
                return true;
            case PageKind.Zeroes:
                AddZeroes(address);
                return true;
            default:
                SendZeroes();
                return State == MigrationState.Copying ? EndRound() : SendPart();
        }
    }

    private protected override void OnTrusted()
    {
        MigrationReason reason = _guest.Describe(out byte[] offer);
        if (reason != MigrationReason.None)
        {
            Abort(reason, "the guest cannot move");
            return;
        }

        SendRecord(RecordType.Offer, 0, offer);
    }

    private protected override void OnRecord(Record record)
    {
        switch (record.Type, State)
        {
            case (RecordType.Accept, MigrationState.Offer) when record.Text.IsEmpty:
                State = MigrationState.Copying;
                _leftBefore = _guest.PagesLeft;
                _enough = Math.Max(1, _leftBefore / EnoughOf);
                BeginRound();
                break;
            case (RecordType.Progress, MigrationState.Copying or MigrationState.Rest) when record.Text.Length == sizeof(ulong):
                TakeProgress(BinaryPrimitives.ReadUInt64LittleEndian(record.Text));
                break;
            case (RecordType.Held, MigrationState.Rest) when _digest.Length != 0 && CryptographicOperations.FixedTimeEquals(record.Text, _digest):
                GiveUp();
                break;
            case (RecordType.Running, MigrationState.HandedOver) when record.Text.IsEmpty:
                State = MigrationState.Ended;
                break;
            case (RecordType.TargetAbort, _) when !IsHandedOver:
                AbortedByPeer(record.Text);
                break;
            case (_, MigrationState.HandedOver):
                break;
            default:
                Abort(MigrationReason.Malformed, $"a record of type 0x{(byte)record.Type:X2} with {record.Text.Length} bytes is not due");
                break;
        }
    }

    // There is no stopped guest that does not go on.
    private protected override void OnAborted() => _guest.Resume();

    private void GiveUp()
    {
        if (!_guest.TryLeave())
        {
            Abort(MigrationReason.Failed, "a module cannot leave");
            return;
        }

        // In this order: whatever happens in between, nobody runs the guest here, and nobody anywhere without the release.
        State = MigrationState.HandedOver;
        _guest.GiveUp();
        HandOver = SendRecord(RecordType.Release, 0, _digest);
    }

    private void TakeProgress(ulong number)
    {
        // Numbers of records that were sent, ever higher ones.
        if (number >= SentCount || number < _dealtWith)
        {
            Abort(MigrationReason.Malformed, $"progress to record {number} of {SentCount}");
            return;
        }

        _dealtWith = number;
    }

    private void BeginRound()
    {
        Rounds++;
        _guest.BeginRound(_isPaced && State == MigrationState.Copying);
    }

    private bool EndRound()
    {
        ulong left = _guest.PagesLeft;
        if (left > _enough && Rounds < MaxRounds && !_isStopWanted)
        {
            _isPaced |= left > _leftBefore / 2;
            _leftBefore = left;
            BeginRound();
            return true;
        }

        if (!_guest.TryStop())
        {
            Abort(MigrationReason.Failed, "the guest does not stop");
            return false;
        }

        State = MigrationState.Rest;
        _pagesBeforeRest = _pages;
        BeginRound();
        return true;
    }

    private bool SendPart()
    {
        if (_guest.TryNextPart(out RecordType type, out byte[] text))
        {
            SendRecord(type, 0, text);
            return true;
        }

        _digest = SentDigest();
        byte[] finish = new byte[MigrationFormat.FinishLength];
        BinaryPrimitives.WriteUInt64LittleEndian(finish, _pages);
        BinaryPrimitives.WriteUInt64LittleEndian(finish.AsSpan(sizeof(ulong)), Rounds);
        _digest.CopyTo(finish, 2 * sizeof(ulong));
        SendRecord(RecordType.Finish, 0, finish);
        return false;
    }

    private void AddZeroes(ulong address)
    {
        _pages++;
        if (_zeroes.Count != 0 && _zeroes[^1] is var last && last.Address + (last.Pages * MigrationFormat.PageLength) == address)
        {
            _zeroes[^1] = (last.Address, last.Pages + 1);
            return;
        }

        _zeroes.Add((address, 1));
        if (_zeroes.Count == MaxRuns)
        {
            SendZeroes();
        }
    }

    private void SendZeroes()
    {
        if (_zeroes.Count == 0)
        {
            return;
        }

        byte[] text = new byte[_zeroes.Count * RunLength];
        for (int i = 0; i < _zeroes.Count; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan(i * RunLength), _zeroes[i].Address);
            BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan((i * RunLength) + sizeof(ulong)), _zeroes[i].Pages);
        }

        _zeroes.Clear();
        SendRecord(RecordType.Zeroes, 0, text);
    }
}
