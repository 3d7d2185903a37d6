// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Time for modules: nanoseconds of the time-stamp counter, which the host cannot turn back. How fast it counts nobody trustworthy says without
// Secure TSC: it is measured once, against ticks of the timer, which the host plays. So a host can make a module's time run too fast or too slowly,
// as it can by stopping the VM; not by more than processors with SEV-SNP differ, for what is outside of that is not taken.

using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>The clock of modules.</summary>
internal static class KernelClock
{
    private const ulong Gigahertz = 1_000_000_000;

    // From a simulated machine that counts instructions, to above the fastest processor.
    private const ulong LowestFrequency = Gigahertz * 9 / 10;
    private const ulong HighestFrequency = 6 * Gigahertz;
    private const ulong UsualFrequency = 3 * Gigahertz;

    private const int TicksOfMeasurement = 4;
    private const ulong TicksPerSecond = 1000;

    // A tenth of a second of the fastest processor.
    private const ulong LongestWait = HighestFrequency / 10;

    private static TimeScale s_scale;

    /// <summary>Nanoseconds since some moment.</summary>
    public static ulong Now => s_scale.ToNanoseconds(X64.ReadTimeStampCounter());

    /// <summary>How far the time-stamp counter counts in a time.</summary>
    /// <param name="nanoseconds">The time, below 2^33.</param>
    public static ulong CountsOf(ulong nanoseconds) => s_scale.ToCounts(nanoseconds);

    /// <summary>Measures how fast the counter counts. While booting, on a CPU with a doorbell page if it has one.</summary>
    public static void Measure()
    {
        ulong frequency = 0;
        CpuTimer.Tick(on: true);
        if (TryAwaitTicks(1, out ulong first) && TryAwaitTicks(TicksOfMeasurement, out ulong last))
        {
            frequency = (last - first) * (TicksPerSecond / TicksOfMeasurement);
        }

        CpuTimer.Tick(on: false);
        if (frequency is < LowestFrequency or > HighestFrequency)
        {
            Log.Text("svsm: the time-stamp counter and the host's timer do not fit: "u8);
            Log.Decimal(frequency);
            Log.End(" counts a second, taken for 3 GHz"u8, LogLevel.Warning);
            frequency = UsualFrequency;
        }

        s_scale = TimeScale.OfFrequency(frequency);
    }

    private static bool TryAwaitTicks(int count, out ulong time)
    {
        time = X64.ReadTimeStampCounter();
        ulong start = time;
        while (count > 0)
        {
            if (time - start > LongestWait)
            {
                return false;
            }

            X64.Pause();
            time = X64.ReadTimeStampCounter();
            count -= Volatile.Read(ref PerCpu.Current.Turn.HasEvents) && Doorbell.Attend() ? 1 : 0;
        }

        return true;
    }
}
