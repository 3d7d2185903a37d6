// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What is to become the guest of a target. The VM was launched with an image of its own, whose guest is held: its memory is there, and is overwritten with what
// comes. The source is an SVSM that the policy trusts; that everything is there, and fits this VM, is checked here all the same.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Core;
using Svsm.Migration;
using Svsm.Wire;

namespace Svsm.Modules.Migration;

/// <summary>The guest of a target.</summary>
/// <param name="move">The guest.</param>
/// <param name="log">The module's log.</param>
internal sealed class TargetGuest(GuestMove move, ModuleLog log) : ITargetGuest
{
    private const int RunLength = 16;
    private const int ModuleHeadLength = 0x18;
    private const int MaxStates = 4096;
    private const int ZeroPages = 16;

    private static readonly byte[] s_zeroes = new byte[ZeroPages * GuestMove.PageLength];

    private readonly ModuleStates _states = new(move, log);
    private readonly Dictionary<uint, ulong> _moduleBytes = [];
    private readonly HashSet<uint> _restored = [];
    private readonly HashSet<uint> _vcpus = [];
    private GuestOffer? _offer;

    // Pages whose contents are still to come, or to be told that there are none; and pages of which is told what they are. Contents come before that.
    private PageSet _wanted = new([]);
    private PageSet _stated = new([]);
    private ulong _earliest;

    /// <summary>The VM is of no use any more: the migration has failed.</summary>
    public bool IsCleared { get; private set; }

    /// <summary>Pages that have come.</summary>
    public ulong Pages { get; private set; }

    /// <inheritdoc/>
    public MigrationReason Prepare(ReadOnlySpan<byte> offer)
    {
        if (GuestOffer.TryRead(offer) is not GuestOffer wanted)
        {
            return MigrationReason.Malformed;
        }

        MoveInformation own = move.ReadInformation();
        MoveRange[] ranges = move.ReadRanges();
        bool isSame = Compare("vCPUs", wanted.Information.Vcpus, own.Vcpus) & Compare("SEV features", wanted.Information.Features, own.Features)
            & Compare("the C-bit", wanted.Information.EncryptionBit, own.EncryptionBit) & Compare("ranges of memory", (ulong)wanted.Ranges.Length, (ulong)ranges.Length);
        if (isSame && !wanted.Ranges.Select(range => (range.Address, range.Bytes)).SequenceEqual(ranges.Select(range => (range.Address, range.Bytes))))
        {
            log.Error("the guest's memory is in other places than this VM's");
            isSame = false;
        }

        if (!isSame || !_states.CanTake(wanted.Modules))
        {
            log.Error($"the guest does not fit; its modules are {string.Join(", ", wanted.Modules.Select(module => $"0x{module.Protocol:X} with state {module.Version}"))}");
            return MigrationReason.NotSuitable;
        }

        (_offer, _wanted, _stated) = (wanted, new PageSet(ranges, isFull: true), new PageSet(ranges));
        return MigrationReason.None;
    }

    /// <inheritdoc/>
    public MigrationReason Take(RecordType type, ulong address, ReadOnlySpan<byte> text) => type switch
    {
        RecordType.Page => TakePage(address, text),
        RecordType.Zeroes => TakeZeroes(text),
        RecordType.States => TakeStates(text),
        RecordType.Module => TakeModule(text),
        RecordType.Vcpu => TakeVcpu(text),
        _ => MigrationReason.Malformed,
    };

    /// <inheritdoc/>
    public bool IsComplete()
    {
        if (_offer is null || _stated.Count != _offer.Pages || _vcpus.Count != (int)_offer.Information.Vcpus || _offer.Modules.Any(module => !_restored.Contains(module.Protocol)))
        {
            log.Error($"states of {_stated.Count} pages, {_vcpus.Count} vCPUs and {_restored.Count} modules have come");
            return false;
        }

        if (_wanted.TryNext(0, out ulong page))
        {
            log.Error($"the contents of {_wanted.Count} pages have not come, the first of them 0x{page:X}");
            return false;
        }

        return true;
    }

    /// <inheritdoc/>
    public bool TryRun()
    {
        if (move.ReadInformation().TimeStampCounter < _earliest)
        {
            return false;
        }

        _states.Arrive();
        return move.Control(MoveControl.Run) == MoveControlResult.Done;
    }

    /// <inheritdoc/>
    public void Clear() => IsCleared = true;

    private bool Compare(string what, ulong wanted, ulong own)
    {
        if (wanted != own)
        {
            log.Error($"{what}: 0x{wanted:X} at the source, 0x{own:X} here");
        }

        return wanted == own;
    }

    private MigrationReason TakePage(ulong address, ReadOnlySpan<byte> text)
    {
        if (text.Length != GuestMove.PageLength || address % GuestMove.PageLength != 0 || !TryExpect(address / GuestMove.PageLength))
        {
            return MigrationReason.Malformed;
        }

        Pages++;
        return TryPut(address, text) ? MigrationReason.None : MigrationReason.Failed;
    }

    // Memory that was offered, any number of times, as long as nobody has told what it is.
    private bool TryExpect(ulong page)
    {
        if (!_wanted.IsMemory(page) || _stated.Contains(page))
        {
            return false;
        }

        _wanted.Remove(page);
        return true;
    }

    // A page that is not private yet has to become so first.
    private bool TryPut(ulong address, ReadOnlySpan<byte> pages)
    {
        if (move.TryWritePages(address, pages))
        {
            return true;
        }

        byte[] states = new byte[pages.Length / GuestMove.PageLength];
        Array.Fill(states, (byte)MovePageState.Private);
        return move.TryWriteStates(address / GuestMove.PageLength, states) && move.TryWritePages(address, pages);
    }

    private MigrationReason TakeZeroes(ReadOnlySpan<byte> text)
    {
        for (; text.Length >= RunLength; text = text[RunLength..])
        {
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(text);
            ulong count = BinaryPrimitives.ReadUInt64LittleEndian(text[8..]);
            if (address % GuestMove.PageLength != 0 || count > _offer!.Pages)
            {
                return MigrationReason.Malformed;
            }

            for (ulong i = 0; i < count; i += ZeroPages)
            {
                int some = (int)Math.Min(ZeroPages, count - i);
                ulong first = address + (i * GuestMove.PageLength);
                for (int j = 0; j < some; j++)
                {
                    if (!TryExpect((first / GuestMove.PageLength) + (ulong)j))
                    {
                        return MigrationReason.Malformed;
                    }
                }

                if (!TryPut(first, s_zeroes.AsSpan(0, some * GuestMove.PageLength)))
                {
                    return MigrationReason.Failed;
                }

                Pages += (ulong)some;
            }
        }

        return text.IsEmpty ? MigrationReason.None : MigrationReason.Malformed;
    }

    private MigrationReason TakeStates(ReadOnlySpan<byte> text)
    {
        byte[] states = new byte[MaxStates];
        for (; text.Length >= RunLength; text = text[RunLength..])
        {
            ulong address = BinaryPrimitives.ReadUInt64LittleEndian(text);
            uint count = BinaryPrimitives.ReadUInt32LittleEndian(text[8..]);
            uint state = BinaryPrimitives.ReadUInt32LittleEndian(text[12..]);
            bool hasContents = state is (uint)MovePageState.Private or (uint)MovePageState.Vmsa;
            if (address % GuestMove.PageLength != 0 || !(hasContents || state is (uint)MovePageState.NotValidated or (uint)MovePageState.Deposited or (uint)MovePageState.Lost))
            {
                return MigrationReason.Malformed;
            }

            // All of them, before the kernel hears of any.
            ulong page = address / GuestMove.PageLength;
            for (ulong i = 0; i < count; i++)
            {
                if (!_stated.Add(page + i))
                {
                    return MigrationReason.Malformed;
                }

                if (!hasContents)
                {
                    _wanted.Remove(page + i);
                }
            }

            Array.Fill(states, (byte)state);
            for (uint i = 0; i < count; i += MaxStates)
            {
                int some = (int)Math.Min(MaxStates, count - i);
                if (!move.TryWriteStates(page + i, states.AsSpan(0, some)))
                {
                    log.Error($"pages from 0x{page + i:X} cannot become {(MovePageState)state}");
                    return MigrationReason.Failed;
                }
            }
        }

        return text.IsEmpty ? MigrationReason.None : MigrationReason.Malformed;
    }

    private MigrationReason TakeModule(ReadOnlySpan<byte> text)
    {
        if (text.Length < ModuleHeadLength)
        {
            return MigrationReason.Malformed;
        }

        uint protocol = BinaryPrimitives.ReadUInt32LittleEndian(text);
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(text[4..]);
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(text[8..]);
        ulong total = BinaryPrimitives.ReadUInt64LittleEndian(text[16..]);
        ReadOnlySpan<byte> part = text[ModuleHeadLength..];
        ulong came = _moduleBytes.GetValueOrDefault(protocol);
        if (offset != came || (ulong)part.Length > total - came || _restored.Contains(protocol) || !_offer!.Modules.Contains(new(protocol, version)))
        {
            return MigrationReason.Malformed;
        }

        // From here on modules keep what is of the guest that comes: without it, of no use to anybody.
        if (_moduleBytes.Count == 0 && !_states.TryLeave())
        {
            return MigrationReason.Failed;
        }

        if (!_states.TryRestore(protocol, version, offset, total, part))
        {
            log.Error($"the module of protocol 0x{protocol:X} does not take its state of version {version}, {total} bytes");
            return MigrationReason.NotSuitable;
        }

        _moduleBytes[protocol] = came + (ulong)part.Length;
        if (_moduleBytes[protocol] == total)
        {
            _restored.Add(protocol);
        }

        return MigrationReason.None;
    }

    private MigrationReason TakeVcpu(ReadOnlySpan<byte> text)
    {
        if (text.Length < MoveVcpu.Length)
        {
            return MigrationReason.Malformed;
        }

        MoveVcpu vcpu = MemoryMarshal.Read<MoveVcpu>(text);
        ReadOnlySpan<byte> vmsa = text[MoveVcpu.Length..];
        if (vmsa.Length != (vcpu.State == MoveVcpuState.Runs ? GuestMove.PageLength : 0) || vcpu.Number >= _offer!.Information.Vcpus || !_vcpus.Add(vcpu.Number))
        {
            return MigrationReason.Malformed;
        }

        if (!move.TryWriteVcpu(in vcpu, vmsa))
        {
            log.Error($"vCPU {vcpu.Number} does not fit this VM");
            return MigrationReason.NotSuitable;
        }

        if (vcpu.State == MoveVcpuState.Runs && vcpu.Vmsa != 0)
        {
            // The page of its VMSA has come with it.
            _wanted.Remove(vcpu.Vmsa / GuestMove.PageLength);
        }

        _earliest = Math.Max(_earliest, vcpu.TimeStampCounter);
        return MigrationReason.None;
    }
}
