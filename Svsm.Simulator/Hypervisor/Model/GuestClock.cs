// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// How fast time-stamp counters count. Under -icount shift=0 a tick is an instruction and a nanosecond; otherwise the outer processor's
// frequency is measured against its APIC timer, which counts nanoseconds.

namespace Svsm.Hypervisor;

/// <summary>Converts time-stamp ticks and nanoseconds.</summary>
internal sealed class GuestClock
{
    private const int FractionBits = 20;

    // 2^40 ns are 18 minutes; a factor of up to 2^3 ticks per ns leaves the products below 2^63.
    private const ulong Longest = 1ul << 40;

    private readonly ulong _ticksPerNanosecond;
    private readonly ulong _nanosecondsPerTick;

    /// <summary>Makes a clock.</summary>
    /// <param name="ticks">So many ticks, not 0, below 2^40 ...</param>
    /// <param name="nanoseconds">... are so many nanoseconds, not 0, below 2^40.</param>
    public GuestClock(ulong ticks, ulong nanoseconds)
    {
        _ticksPerNanosecond = System.Math.Max(1, (ticks << FractionBits) / nanoseconds);
        _nanosecondsPerTick = System.Math.Max(1, (nanoseconds << FractionBits) / ticks);
        Frequency = (ulong)((_ticksPerNanosecond * 1_000_000_000) >> FractionBits);
    }

    /// <summary>Ticks per second.</summary>
    public ulong Frequency { get; }

    /// <summary>Ticks of a duration; of 18 minutes, if it is longer.</summary>
    public ulong ToTicks(ulong nanoseconds) => (System.Math.Min(nanoseconds, Longest) * _ticksPerNanosecond) >> FractionBits;

    /// <summary>Nanoseconds of a duration in ticks; of 2^40 ticks, if it is longer.</summary>
    public ulong ToNanoseconds(ulong ticks) => (System.Math.Min(ticks, Longest) * _nanosecondsPerTick) >> FractionBits;
}
