// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Migration.Relay;

/// <summary>What an SVSM says of its state, in the clear: a frame of kind 3, first byte 81.</summary>
/// <param name="State">Its state.</param>
/// <param name="Reason">Why it has aborted.</param>
/// <param name="Pages">Pages sent or taken.</param>
/// <param name="PagesLeft">Pages left.</param>
/// <param name="Round">The round.</param>
internal sealed record Notice(MigrationState State, MigrationReason Reason, ulong Pages, ulong PagesLeft, uint Round)
{
    /// <summary>Nothing was said yet.</summary>
    public static readonly Notice None = new(MigrationState.Idle, MigrationReason.None, 0, 0, 0);

    /// <summary>Bytes of it.</summary>
    public const int Length = 32;

    /// <summary>Its first byte.</summary>
    public const byte Verb = 0x81;

    /// <summary>Reads one.</summary>
    /// <returns>False: it is none.</returns>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out Notice notice)
    {
        notice = None;
        if (bytes.Length != Length || bytes[0] != Verb || bytes[1] > (byte)MigrationState.Aborted || bytes[2] > (byte)MigrationReason.Failed)
        {
            return false;
        }

        notice = new(
            (MigrationState)bytes[1],
            (MigrationReason)bytes[2],
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[0x04..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[0x0C..]),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[0x14..]));
        return true;
    }
}

/// <summary>Makes speeds of what the source says now and then.</summary>
/// <param name="time">The clock.</param>
internal sealed class ProgressMeter(TimeProvider time)
{
    private static readonly TimeSpan s_window = TimeSpan.FromSeconds(3);

    private readonly Queue<(long Time, double Pages, double Left, long Bytes)> _samples = [];

    /// <summary>Takes notice.</summary>
    /// <param name="source">What the source has said last.</param>
    /// <param name="target">State of the target.</param>
    /// <param name="bytes">Bytes that have gone to the target's side.</param>
    public RelayProgress Take(Notice source, MigrationState target, long bytes)
    {
        // Before it copies, nothing is left; behind the rest, nothing goes.
        if (source.State is not (MigrationState.Copying or MigrationState.Rest))
        {
            _samples.Clear();
            return new(source.State, target, source.Pages, source.PagesLeft, source.Round, 0, 0, 0, null);
        }

        long now = time.GetTimestamp();
        _samples.Enqueue((now, source.Pages, source.PagesLeft, bytes));
        while (_samples.Count > 2 && time.GetElapsedTime(_samples.Peek().Time, now) > s_window)
        {
            _samples.Dequeue();
        }

        (long first, double pages, double left, long firstBytes) = _samples.Peek();
        double seconds = time.GetElapsedTime(first, now).TotalSeconds;
        if (seconds <= 0)
        {
            return new(source.State, target, source.Pages, source.PagesLeft, source.Round, 0, 0, 0, null);
        }

        // What has gone, and is left all the same, was written meanwhile.
        double speed = Math.Max(0, (source.Pages - pages) / seconds);
        double dirtied = Math.Max(0, ((source.Pages - pages) + (source.PagesLeft - left)) / seconds);
        double downtime = speed > 0 ? source.PagesLeft / speed : double.PositiveInfinity;
        return new(
            source.State, target, source.Pages, source.PagesLeft, source.Round, speed, dirtied, Math.Max(0, (bytes - firstBytes) / seconds),
            downtime < TimeSpan.MaxValue.TotalSeconds / 2 ? TimeSpan.FromSeconds(downtime) : null);
    }
}
