// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;

namespace Svsm.Kernel.Snp;

/// <summary>From counts of the time-stamp counter to nanoseconds.</summary>
internal readonly struct TimeScale
{
    private const int FractionBits = 30;
    private const ulong Gigahertz = 1_000_000_000;

    // Nanoseconds of a count, in units of 2^-30.
    private readonly ulong _perCount;

    private TimeScale(ulong perCount) => _perCount = perCount;

    /// <summary>Makes a scale.</summary>
    /// <param name="frequency">Counts a second, at least 0.5 GHz.</param>
    public static TimeScale OfFrequency(ulong frequency) => new((Gigahertz << FractionBits) / frequency);

    /// <summary>Converts. Grows with the counts, and never turns round in the life of a machine.</summary>
    public ulong ToNanoseconds(ulong counts) => ((counts >> FractionBits) * _perCount) + (((counts & ((1ul << FractionBits) - 1)) * _perCount) >> FractionBits);

    /// <summary>Converts back, roughly.</summary>
    /// <param name="nanoseconds">Below 2^33; what is beyond counts as that.</param>
    public ulong ToCounts(ulong nanoseconds) => (Math.Min(nanoseconds, (1ul << 33) - 1) << FractionBits) / _perCount;
}
