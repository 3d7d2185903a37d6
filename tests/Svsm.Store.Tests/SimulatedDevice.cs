// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;

namespace Svsm.Store.Tests;

/// <summary>
/// A device with a volatile cache. A power cut keeps any subset of the sectors written since the last flush, in any order, each whole, torn or garbage.
/// It can fail from a given call on, and swallow flushes.
/// </summary>
internal sealed class SimulatedDevice : IBlockDevice
{
    private readonly List<(long Sector, byte[] Bytes)> _unflushed = [];
    private byte[] _durable;
    private byte[] _visible;

    public SimulatedDevice(int length, int sectorSize = 512)
    {
        SectorSize = sectorSize;
        _durable = new byte[length];
        _visible = new byte[length];
    }

    public int SectorSize { get; set; }

    public long SectorCount => _visible.Length / SectorSize;

    /// <summary>Writes and flushes until power is gone.</summary>
    public int StepsLeft { get; set; } = int.MaxValue;

    public bool ReadsFail { get; set; }

    /// <summary>Changes what is read: block bytes, first sector.</summary>
    public Action<long, Span<byte>>? OnRead { get; set; }

    public int Writes { get; set; }

    public int Flushes { get; set; }

    public int Reads { get; set; }

    /// <summary>What is visible; changing it changes the device.</summary>
    public Span<byte> Bytes => _visible;

    public bool TryRead(long sector, Span<byte> destination)
    {
        Reads++;
        if (ReadsFail || sector < 0 || destination.Length % SectorSize != 0 || (sector * SectorSize) + destination.Length > _visible.Length)
        {
            return false;
        }

        _visible.AsSpan((int)(sector * SectorSize), destination.Length).CopyTo(destination);
        OnRead?.Invoke(sector, destination);
        return true;
    }

    public bool TryWrite(long sector, ReadOnlySpan<byte> source)
    {
        Writes++;
        if (sector < 0 || source.Length % SectorSize != 0 || (sector * SectorSize) + source.Length > _visible.Length)
        {
            return false;
        }

        for (int i = 0; i < source.Length; i += SectorSize)
        {
            _unflushed.Add((sector + (i / SectorSize), source.Slice(i, SectorSize).ToArray()));
        }

        if (StepsLeft == 0)
        {
            return false;
        }

        StepsLeft--;
        source.CopyTo(_visible.AsSpan((int)(sector * SectorSize)));
        return true;
    }

    public bool TryFlush()
    {
        Flushes++;
        if (StepsLeft == 0)
        {
            return false;
        }

        StepsLeft--;
        _unflushed.Clear();
        _visible.CopyTo(_durable, 0);
        return true;
    }

    /// <summary>Power goes and comes back.</summary>
    public void CutPower(Random random)
    {
        (long Sector, byte[] Bytes)[] writes = [.. _unflushed];
        _unflushed.Clear();
        random.Shuffle(writes);

        // From nothing to everything: with a fixed share, many sectors would never all be there.
        int share = random.Next(0, 101);
        foreach ((long sector, byte[] bytes) in writes)
        {
            Span<byte> place = _durable.AsSpan((int)(sector * SectorSize), SectorSize);
            if (random.Next(100) >= share)
            {
                continue;
            }

            switch (random.Next(12))
            {
                case 0:
                    random.NextBytes(place);
                    break;
                case 1:
                    bytes.AsSpan(0, 8 * random.Next(SectorSize / 8)).CopyTo(place);
                    break;
                case 2:
                    int from = 8 * random.Next(SectorSize / 8);
                    bytes.AsSpan(from).CopyTo(place[from..]);
                    break;
                default:
                    bytes.CopyTo(place);
                    break;
            }
        }

        _durable.CopyTo(_visible, 0);
        StepsLeft = int.MaxValue;
    }

    public byte[] Save() => [.. _visible];

    public void Restore(byte[] bytes)
    {
        _durable = [.. bytes];
        _visible = [.. bytes];
        _unflushed.Clear();
        StepsLeft = int.MaxValue;
    }

    public void Resize(int length)
    {
        Array.Resize(ref _durable, length);
        Array.Resize(ref _visible, length);
    }
}
