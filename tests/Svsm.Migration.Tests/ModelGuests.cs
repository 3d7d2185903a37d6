// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A guest of some pages, vCPUs and modules, at the source and at the target. The texts of the records are those of docs/migration-protocol.md.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;

namespace Svsm.Migration.Tests;

/// <summary>Everything that a guest is.</summary>
internal sealed class GuestModel
{
    public const int PageLength = 4096;
    public const ulong First = 0x10_0000;

    public required byte[]?[] Pages { get; init; }

    public List<byte[]> Modules { get; init; } = [];

    public List<byte[]> Vcpus { get; init; } = [];

    public byte[] States { get; set; } = [];

    public static ulong AddressOf(int page) => First + ((ulong)page * PageLength);

    public byte[] Digest()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (byte[]? page in Pages)
        {
            hash.AppendData(page ?? [0]);
        }

        foreach (byte[] part in (IEnumerable<byte[]>)[.. Modules, [1], .. Vcpus, [2], States])
        {
            hash.AppendData(BitConverter.GetBytes(part.Length));
            hash.AppendData(part);
        }

        return hash.GetHashAndReset();
    }
}

/// <summary>A guest that runs, and writes while it does.</summary>
internal sealed class SourceModel : ISourceGuest
{
    private const int PartLength = 3000;

    private readonly Random _random;
    private readonly SortedSet<int> _left = [];
    private readonly Queue<int> _round = new();
    private readonly Queue<(RecordType Type, byte[] Text)> _parts = new();
    private int _credit;
    private bool _isPaced;

    public SourceModel(int pages, int seed = 1, int vcpus = 2)
    {
        _random = new Random(seed);
        var model = new GuestModel { Pages = new byte[pages][] };
        for (int i = 0; i < pages; i++)
        {
            model.Pages[i] = new byte[GuestModel.PageLength];
            if (i % 5 != 3 && i % 7 > 1)
            {
                _random.NextBytes(model.Pages[i]!);
            }
        }

        foreach (int length in (int[])[0, 1, 5000, 9000])
        {
            byte[] module = new byte[length];
            _random.NextBytes(module);
            model.Modules.Add(module);
        }

        for (int i = 0; i < vcpus; i++)
        {
            byte[] vcpu = new byte[0x18 + GuestModel.PageLength];
            _random.NextBytes(vcpu);
            BinaryPrimitives.WriteInt32LittleEndian(vcpu, i);
            BinaryPrimitives.WriteInt32LittleEndian(vcpu.AsSpan(4), i == 0 ? 1 : 2);
            model.Vcpus.Add(vcpu);
        }

        model.States = new byte[16];
        BinaryPrimitives.WriteUInt64LittleEndian(model.States, GuestModel.First);
        BinaryPrimitives.WriteInt32LittleEndian(model.States.AsSpan(8), pages);
        BinaryPrimitives.WriteInt32LittleEndian(model.States.AsSpan(12), 1);
        Model = model;
    }

    public GuestModel Model { get; }

    public bool IsStopped { get; private set; }

    public bool HasGivenUp { get; private set; }

    /// <summary>What the guest was when it was given up.</summary>
    public byte[] DigestAtStop { get; private set; } = [];

    public int Stops { get; private set; }

    public int Resumes { get; private set; }

    public MigrationReason DescribeResult { get; set; }

    public bool RefusesToStop { get; set; }

    public bool RefusesToLeave { get; set; }

    public int Leaves { get; private set; }

    /// <summary>The guest was paced in some round since it runs.</summary>
    public bool WasPaced { get; private set; }

    /// <summary>What is written is written by the SVSM.</summary>
    public bool IgnoresPacing { get; set; }

    public bool SendsNoVcpus { get; set; }

    public Action? OnGiveUp { get; set; }

    public ulong PagesLeft => (ulong)_left.Count;

    /// <summary>The guest runs for a moment, if it can.</summary>
    public void Write(int pages)
    {
        if (IsStopped || HasGivenUp)
        {
            return;
        }

        for (int i = 0; i < pages; i++)
        {
            int page = _random.Next(Model.Pages.Length);
            bool isGivenBack = !_left.Contains(page);
            if (_isPaced && !IgnoresPacing && isGivenBack && _credit < 2)
            {
                continue;
            }

            _credit -= isGivenBack ? 2 : 0;
            if (_random.Next(4) == 0)
            {
                Model.Pages[page].AsSpan().Clear();
            }
            else
            {
                Model.Pages[page]![_random.Next(GuestModel.PageLength)] = (byte)_random.Next(1, 256);
            }

            _left.Add(page);
        }

        _random.NextBytes(Model.Modules[2]);
        _random.NextBytes(Model.Vcpus[0].AsSpan(8));
    }

    public MigrationReason Describe(out byte[] offer)
    {
        _left.UnionWith(Enumerable.Range(0, Model.Pages.Length));
        _parts.Clear();
        offer = new byte[0x20 + 16 + (8 * Model.Modules.Count)];
        BinaryPrimitives.WriteInt32LittleEndian(offer, Model.Vcpus.Count);
        BinaryPrimitives.WriteUInt64LittleEndian(offer.AsSpan(0x08), 1);
        BinaryPrimitives.WriteInt32LittleEndian(offer.AsSpan(0x10), 51);
        BinaryPrimitives.WriteInt32LittleEndian(offer.AsSpan(0x14), 1);
        BinaryPrimitives.WriteInt32LittleEndian(offer.AsSpan(0x18), Model.Modules.Count);
        BinaryPrimitives.WriteUInt64LittleEndian(offer.AsSpan(0x20), GuestModel.First);
        BinaryPrimitives.WriteUInt64LittleEndian(offer.AsSpan(0x28), (ulong)Model.Pages.Length * GuestModel.PageLength);
        for (int i = 0; i < Model.Modules.Count; i++)
        {
            BinaryPrimitives.WriteInt32LittleEndian(offer.AsSpan(0x30 + (8 * i)), i);
            BinaryPrimitives.WriteInt32LittleEndian(offer.AsSpan(0x34 + (8 * i)), 1);
        }

        return DescribeResult;
    }

    public void BeginRound(bool isPaced)
    {
        (_isPaced, _credit) = (isPaced, 0);
        WasPaced |= isPaced;
        _round.Clear();
        foreach (int page in _left)
        {
            _round.Enqueue(page);
        }
    }

    public PageKind NextPage(Span<byte> page, out ulong address)
    {
        address = 0;
        if (!_round.TryDequeue(out int number))
        {
            return PageKind.None;
        }

        _left.Remove(number);
        _credit++;
        address = GuestModel.AddressOf(number);
        Model.Pages[number].CopyTo(page);
        return page.ContainsAnyExcept((byte)0) ? PageKind.Contents : PageKind.Zeroes;
    }

    public bool TryStop()
    {
        Stops++;
        if (RefusesToStop)
        {
            return false;
        }

        IsStopped = true;
        DigestAtStop = Model.Digest();
        _parts.Enqueue((RecordType.States, Model.States));
        for (int i = 0; i < Model.Modules.Count; i++)
        {
            byte[] module = Model.Modules[i];
            int at = 0;
            do
            {
                int length = Math.Min(PartLength, module.Length - at);
                byte[] text = new byte[0x18 + length];
                BinaryPrimitives.WriteInt32LittleEndian(text, i);
                BinaryPrimitives.WriteInt32LittleEndian(text.AsSpan(4), 1);
                BinaryPrimitives.WriteInt64LittleEndian(text.AsSpan(8), at);
                BinaryPrimitives.WriteInt64LittleEndian(text.AsSpan(16), module.Length);
                module.AsSpan(at, length).CopyTo(text.AsSpan(0x18));
                _parts.Enqueue((RecordType.Module, text));
                at += length;
            }
            while (at < module.Length);
        }

        foreach (byte[] vcpu in SendsNoVcpus ? [] : Model.Vcpus)
        {
            _parts.Enqueue((RecordType.Vcpu, [.. vcpu]));
        }

        return true;
    }

    public bool TryNextPart(out RecordType type, out byte[] text)
    {
        bool isThere = _parts.TryDequeue(out (RecordType Type, byte[] Text) part);
        (type, text) = isThere ? part : (RecordType.None, []);
        return isThere;
    }

    public void Resume()
    {
        if (HasGivenUp)
        {
            throw new InvalidOperationException("a guest that was given up goes on");
        }

        Resumes++;
        (IsStopped, _isPaced, WasPaced) = (false, false, false);
    }

    public bool TryLeave()
    {
        Leaves++;
        return !RefusesToLeave;
    }

    public void GiveUp()
    {
        if (!IsStopped || HasGivenUp)
        {
            throw new InvalidOperationException("a guest that runs, or is gone, is given up");
        }

        HasGivenUp = true;
        OnGiveUp?.Invoke();
    }
}

/// <summary>What becomes of the guest at a target.</summary>
internal sealed class TargetModel : ITargetGuest
{
    private readonly Dictionary<int, long> _moduleBytes = [];
    private int _vcpus;

    public GuestModel? Model { get; private set; }

    public bool IsRunning { get; private set; }

    public bool IsCleared { get; private set; }

    /// <summary>Power is gone.</summary>
    public bool IsLost { get; set; }

    public int Taken { get; private set; }

    public int Pages { get; init; } = -1;

    /// <summary>Takes no record after so many.</summary>
    public int TakesAtMost { get; set; } = int.MaxValue;

    public Dictionary<RecordType, int> Types { get; } = [];

    public Action? OnRun { get; set; }

    /// <summary>The host has not set the clock yet.</summary>
    public bool HasEarlyClock { get; set; }

    public MigrationReason Prepare(ReadOnlySpan<byte> offer)
    {
        if (offer.Length < 0x30 || BinaryPrimitives.ReadInt32LittleEndian(offer[0x14..]) != 1)
        {
            return MigrationReason.Malformed;
        }

        int pages = (int)(BinaryPrimitives.ReadUInt64LittleEndian(offer[0x28..]) / GuestModel.PageLength);
        if (Pages >= 0 && Pages != pages)
        {
            return MigrationReason.NotSuitable;
        }

        Model = new GuestModel { Pages = new byte[pages][] };
        for (int i = 0; i < BinaryPrimitives.ReadInt32LittleEndian(offer[0x18..]); i++)
        {
            Model.Modules.Add([]);
            _moduleBytes[i] = -1;
        }

        _vcpus = BinaryPrimitives.ReadInt32LittleEndian(offer);
        return MigrationReason.None;
    }

    public MigrationReason Take(RecordType type, ulong address, ReadOnlySpan<byte> text)
    {
        if (Taken == TakesAtMost)
        {
            return MigrationReason.Failed;
        }

        Taken++;
        Types[type] = Types.GetValueOrDefault(type) + 1;
        switch (type)
        {
            case RecordType.Page:
                return Put(address, text);
            case RecordType.Zeroes:
                for (int at = 0; at + 16 <= text.Length; at += 16)
                {
                    ulong first = BinaryPrimitives.ReadUInt64LittleEndian(text[at..]);
                    for (ulong i = 0; i < BinaryPrimitives.ReadUInt64LittleEndian(text[(at + 8)..]); i++)
                    {
                        if (Put(first + (i * GuestModel.PageLength), new byte[GuestModel.PageLength]) != MigrationReason.None)
                        {
                            return MigrationReason.Malformed;
                        }
                    }
                }

                return MigrationReason.None;
            case RecordType.States:
                Model!.States = text.ToArray();
                return MigrationReason.None;
            case RecordType.Module:
                int number = BinaryPrimitives.ReadInt32LittleEndian(text);
                Model!.Modules[number] = [.. Model.Modules[number], .. text[0x18..]];
                _moduleBytes[number] = BinaryPrimitives.ReadInt64LittleEndian(text[16..]);
                return MigrationReason.None;
            default:
                Model!.Vcpus.Add(text.ToArray());
                return MigrationReason.None;
        }
    }

    public bool IsComplete() => Model is not null && Model.Pages.All(page => page is not null) && Model.Vcpus.Count == _vcpus && Model.States.Length != 0
        && Enumerable.Range(0, Model.Modules.Count).All(i => _moduleBytes[i] == Model.Modules[i].Length);

    public bool TryRun()
    {
        if (HasEarlyClock)
        {
            return false;
        }

        if (IsRunning || IsCleared)
        {
            throw new InvalidOperationException("it runs twice, or after it was cleared");
        }

        IsRunning = true;
        OnRun?.Invoke();
        return true;
    }

    public void Clear()
    {
        if (IsRunning)
        {
            throw new InvalidOperationException("a guest that runs is cleared");
        }

        Model = null;
        IsCleared = true;
    }

    private MigrationReason Put(ulong address, ReadOnlySpan<byte> page)
    {
        ulong number = (address - GuestModel.First) / GuestModel.PageLength;
        if (address < GuestModel.First || address % GuestModel.PageLength != 0 || number >= (ulong)Model!.Pages.Length || page.Length != GuestModel.PageLength)
        {
            return MigrationReason.Malformed;
        }

        Model.Pages[number] = page.ToArray();
        return MigrationReason.None;
    }
}
