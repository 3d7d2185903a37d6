// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest of a source: which of its pages go, and when; and what goes when it is stopped. Which pages were written the kernel tells (Wire/MoveChannel.cs).
//
//   a round     the pages that are dirty when it begins. Some are taken at a time, that is, no longer writable for the guest; then copied
//   hot pages   dirty in three rounds one after the other: they are left for the rest, unless the guest is paced, which makes them fewer
//   the rest    all that is dirty when the guest is stopped; then states of pages, of modules, vCPUs
//
// A page that is not private cannot be copied, and has no contents that are the guest's: what it is the page states tell.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Threading;
using Svsm.Core;
using Svsm.Migration;
using Svsm.Wire;

namespace Svsm.Modules.Migration;

/// <summary>The guest of a source.</summary>
/// <param name="move">The guest.</param>
/// <param name="log">The module's log.</param>
internal sealed class SourceGuest(GuestMove move, ModuleLog log) : ISourceGuest
{
    /// <summary>Rounds in which a page is written, one after the other, until it is left for the rest.</summary>
    public const int HotRounds = 3;

    // Pages that are taken at a time, and read at a time.
    private const int MaxTaken = 128;
    private const int MaxRead = 16;
    private const int StateLength = 16;
    private const int MaxStates = 4096;
    private const int ModuleHeadLength = 0x18;
    private const int StopMilliseconds = 5000;

    private readonly ModuleStates _states = new(move, log);
    private readonly ulong[] _taken = new ulong[MaxTaken];
    private readonly byte[] _pages = new byte[MaxRead * GuestMove.PageLength];
    private GuestOffer? _offer;

    // Dirty when this round began, and the two before it; the oldest is free when a round ends.
    private PageSet[] _dirty = [];
    private int _takenAt;
    private int _takenEnd;
    private int _readAt;
    private int _readEnd;
    private ulong _next;
    private uint _rounds;
    private bool _isPaced;
    private bool _isStopped;
    private IEnumerator<(RecordType Type, byte[] Text)>? _parts;

    /// <inheritdoc/>
    public ulong PagesLeft { get; private set; }

    /// <inheritdoc/>
    public MigrationReason Describe(out byte[] offer)
    {
        offer = [];
        if (!_states.TryDescribe(out OfferedModule[] modules))
        {
            return MigrationReason.CannotMove;
        }

        if (move.Control(MoveControl.Track) != MoveControlResult.Done)
        {
            log.Error("writes of the guest cannot be noticed: memory is lacking, or the host has no restricted injection");
            return MigrationReason.CannotMove;
        }

        _offer = new GuestOffer { Information = move.ReadInformation(), Ranges = move.ReadRanges(), Modules = modules };
        _dirty = [new(_offer.Ranges), new(_offer.Ranges), new(_offer.Ranges)];
        _rounds = 0;
        PagesLeft = _offer.Pages;
        offer = _offer.ToText();
        return MigrationReason.None;
    }

    /// <inheritdoc/>
    public void BeginRound(bool isPaced)
    {
        // Before the dirty pages are read: what is given back from here on was taken in this round.
        _isPaced = isPaced;
        if (isPaced)
        {
            move.Control(MoveControl.Pace);
        }

        (_dirty[0], _dirty[1], _dirty[2]) = (_dirty[2], _dirty[0], _dirty[1]);
        PagesLeft = CountDirty(_dirty[0]);
        (_next, _takenAt, _takenEnd, _readAt, _readEnd) = (0, 0, 0, 0, 0);
        _rounds++;
    }

    /// <inheritdoc/>
    public PageKind NextPage(Span<byte> page, out ulong address)
    {
        while (true)
        {
            if (_readAt < _readEnd)
            {
                address = _taken[_takenAt - (_readEnd - _readAt)] * GuestMove.PageLength;
                Span<byte> contents = _pages.AsSpan(_readAt * GuestMove.PageLength, GuestMove.PageLength);
                _readAt++;
                PagesLeft -= PagesLeft != 0 ? 1u : 0;
                contents.CopyTo(page);
                return page.ContainsAnyExcept((byte)0) ? PageKind.Contents : PageKind.Zeroes;
            }

            if (_takenAt < _takenEnd)
            {
                ReadSome();
                continue;
            }

            if (!TakeSome())
            {
                address = 0;
                CryptographicOperations.ZeroMemory(_pages);
                PagesLeft = _isStopped ? 0 : CountDirty(_dirty[^1]);
                return PageKind.None;
            }
        }
    }

    /// <inheritdoc/>
    public bool TryStop()
    {
        for (int i = 0; i < StopMilliseconds; i++)
        {
            switch (move.Control(MoveControl.Stop))
            {
                case MoveControlResult.Done:
                    _isStopped = true;
                    _parts = Parts().GetEnumerator();
                    return true;
                case MoveControlResult.Again:
                    Thread.Sleep(1);
                    break;
                default:
                    return false;
            }
        }

        move.Control(MoveControl.Run);
        return false;
    }

    /// <inheritdoc/>
    public bool TryNextPart(out RecordType type, out byte[] text)
    {
        bool isThere = _parts is not null && _parts.MoveNext();
        (type, text) = isThere ? _parts!.Current : (RecordType.None, []);
        return isThere;
    }

    /// <inheritdoc/>
    public void Resume()
    {
        if (_isStopped)
        {
            _states.Arrive();
        }

        if (_isStopped || _isPaced)
        {
            move.Control(MoveControl.Run);
        }

        (_isStopped, _isPaced) = (false, false);
        CryptographicOperations.ZeroMemory(_pages);
        _parts = null;
    }

    /// <inheritdoc/>
    public bool TryLeave() => _states.TryLeave();

    /// <inheritdoc/>
    public void GiveUp()
    {
        MoveControlResult result;
        while ((result = move.Control(MoveControl.GiveUp)) == MoveControlResult.Again)
        {
            Thread.Sleep(1);
        }

        if (result != MoveControlResult.Done)
        {
            // It is stopped: nothing else was asked of the kernel. Without this, there is no release.
            throw new InvalidOperationException("the kernel does not give the guest up");
        }
    }

    private ulong CountDirty(PageSet dirty)
    {
        dirty.ReadDirty(move);
        return dirty.Count;
    }

    // Before the first round all pages are dirty, whether they were written or not.
    private bool IsHot(ulong page) => !_isStopped && !_isPaced && _rounds > HotRounds && _dirty[1].Contains(page) && _dirty[2].Contains(page);

    private bool TakeSome()
    {
        _takenEnd = 0;
        while (_takenEnd < MaxTaken && _dirty[0].TryNext(_next, out ulong page))
        {
            _next = page + 1;
            if (!IsHot(page))
            {
                _taken[_takenEnd++] = page;
            }
        }

        _takenAt = 0;
        if (_takenEnd == 0)
        {
            return false;
        }

        move.Take(_taken.AsSpan(0, _takenEnd));
        return true;
    }

    // Pages that follow each other, as many as there are; where one of them cannot be read, one at a time.
    private void ReadSome()
    {
        int count = 1;
        while (count < MaxRead && _takenAt + count < _takenEnd && _taken[_takenAt + count] == _taken[_takenAt] + (ulong)count)
        {
            count++;
        }

        ulong address = _taken[_takenAt] * GuestMove.PageLength;
        if (count > 1 && !move.TryReadPages(address, _pages.AsSpan(0, count * GuestMove.PageLength)))
        {
            count = 1;
        }

        bool isRead = count > 1 || move.TryReadPages(address, _pages.AsSpan(0, GuestMove.PageLength));
        _takenAt += count;
        (_readAt, _readEnd) = (0, isRead ? count : 0);
    }

    private IEnumerable<(RecordType Type, byte[] Text)> Parts()
    {
        foreach (byte[] text in StateTexts())
        {
            yield return (RecordType.States, text);
        }

        foreach (OfferedModule module in _offer!.Modules)
        {
            ulong offset = 0;
            ulong total;
            do
            {
                if (!_states.TrySave(module.Protocol, offset, out uint version, out total, out byte[] part))
                {
                    throw new IOException($"the module of protocol 0x{module.Protocol:X} does not give its state");
                }

                byte[] text = new byte[ModuleHeadLength + part.Length];
                BinaryPrimitives.WriteUInt32LittleEndian(text, module.Protocol);
                BinaryPrimitives.WriteUInt32LittleEndian(text.AsSpan(4), version);
                BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan(8), offset);
                BinaryPrimitives.WriteUInt64LittleEndian(text.AsSpan(16), total);
                part.CopyTo(text, ModuleHeadLength);
                CryptographicOperations.ZeroMemory(part);
                offset += (ulong)part.Length;
                yield return (RecordType.Module, text);
                CryptographicOperations.ZeroMemory(text);
            }
            while (offset < total);
        }

        for (int i = 0; i < (int)_offer.Information.Vcpus; i++)
        {
            byte[] text = new byte[MoveVcpu.Length + GuestMove.PageLength];
            MoveVcpu vcpu = move.ReadVcpu(i, text.AsSpan(MoveVcpu.Length));
            MemoryMarshal.Write(text, in vcpu);
            yield return (RecordType.Vcpu, vcpu.State == MoveVcpuState.Runs ? text : text[..MoveVcpu.Length]);
            CryptographicOperations.ZeroMemory(text);
        }
    }

    private IEnumerable<byte[]> StateTexts()
    {
        var runs = new List<(ulong First, uint Count, byte State)>();
        byte[] states = new byte[GuestMove.PageLength];
        foreach (MoveRange range in _offer!.Ranges)
        {
            ulong end = (range.Address + range.Bytes) / GuestMove.PageLength;
            for (ulong page = range.Address / GuestMove.PageLength; page < end; page += (ulong)states.Length)
            {
                int count = (int)Math.Min((ulong)states.Length, end - page);
                move.ReadStates(page, states.AsSpan(0, count));
                for (int i = 0; i < count; i++)
                {
                    if (runs.Count != 0 && runs[^1] is var last && last.State == states[i] && last.First + last.Count == page + (ulong)i)
                    {
                        runs[^1] = last with { Count = last.Count + 1 };
                    }
                    else
                    {
                        runs.Add((page + (ulong)i, 1, states[i]));
                    }

                    if (runs.Count > MaxStates)
                    {
                        yield return ToText(runs[..MaxStates]);
                        runs.RemoveRange(0, MaxStates);
                    }
                }
            }
        }

        yield return ToText(runs);
    }

    private static byte[] ToText(List<(ulong First, uint Count, byte State)> runs)
    {
        byte[] text = new byte[runs.Count * StateLength];
        for (int i = 0; i < runs.Count; i++)
        {
            Span<byte> at = text.AsSpan(i * StateLength);
            BinaryPrimitives.WriteUInt64LittleEndian(at, runs[i].First * GuestMove.PageLength);
            BinaryPrimitives.WriteUInt32LittleEndian(at[8..], runs[i].Count);
            BinaryPrimitives.WriteUInt32LittleEndian(at[12..], runs[i].State);
        }

        return text;
    }
}
