// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;

namespace Svsm.Migration.Relay;

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
