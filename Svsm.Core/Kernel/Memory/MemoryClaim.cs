// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the SVSM takes of the VM's RAM because its region is too small: page states of large VMs, and the areas of many CPUs.
//
//   small VM   both from the region: states of 4 GiB and areas of 4 CPUs fit beside everything else in 8 MiB
//   else       whole 2-MiB pages, from the top of the highest range that has them, where the image puts nothing

using System;

namespace Svsm.Kernel.Memory;

/// <summary>Decides what to claim.</summary>
internal static class MemoryClaim
{
    /// <summary>Pages of states that the region has room for: those of 4 GiB, with room for a map in pieces.</summary>
    public const ulong StatesInRegion = 320;

    /// <summary>Pages of CPU areas that the region has room for: eight CPUs'.</summary>
    public const ulong CpusInRegion = 256;

    /// <summary>Frames that one more CPU takes: its area, its VMSA, and what its guest's vCPU needs.</summary>
    public const ulong FramesPerCpu = 32;

    /// <summary>Pages to claim for page states.</summary>
    /// <param name="stateBytes">Bytes of all states.</param>
    /// <returns>0: they go to the region.</returns>
    public static ulong PagesForStates(ulong stateBytes)
    {
        ulong pages = PagesOf(stateBytes);
        return pages <= StatesInRegion ? 0 : ToLarge(pages);
    }

    /// <summary>Pages to claim for the frame allocator.</summary>
    /// <param name="cpuCount">Number of CPUs, 1 to 512.</param>
    /// <returns>0: the region is enough.</returns>
    public static ulong PagesForCpus(int cpuCount)
    {
        ulong pages = (ulong)cpuCount * FramesPerCpu;
        return pages <= CpusInRegion ? 0 : ToLarge(pages);
    }

    /// <summary>4-KiB pages that so many bytes take.</summary>
    public static ulong PagesOf(ulong bytes) => (bytes + Page.Size - 1) / Page.Size;

    /// <summary>Takes consecutive pages out of the RAM.</summary>
    /// <param name="ram">Room for the ranges; ascending, disjoint.</param>
    /// <param name="count">Number of ranges; at most one more afterwards.</param>
    /// <param name="pages">How many, a multiple of 512.</param>
    /// <param name="avoid">What the image uses, in any order.</param>
    /// <param name="claim">The pages, aligned to 2 MiB.</param>
    /// <returns>False: no range has them, or there is no room for another range; nothing was taken.</returns>
    public static bool TryClaim(Span<PageRange> ram, ref int count, ulong pages, ReadOnlySpan<PageRange> avoid, out PageRange claim)
    {
        for (int i = count - 1; i >= 0; i--)
        {
            ulong end = ram[i].End & ~(ulong)(Page.PerLarge - 1);
            while (end >= ram[i].First && end - ram[i].First >= pages)
            {
                claim = new PageRange(end - pages, pages);
                if (!TryFindOverlap(avoid, claim, out PageRange obstacle))
                {
                    return PageRange.TrySubtract(ram, ref count, claim);
                }

                end = obstacle.First & ~(ulong)(Page.PerLarge - 1);
            }
        }

        claim = default;
        return false;
    }

    private static bool TryFindOverlap(ReadOnlySpan<PageRange> ranges, in PageRange wanted, out PageRange found)
    {
        for (int i = 0; i < ranges.Length; i++)
        {
            found = ranges[i];
            if (found.Overlaps(wanted))
            {
                return true;
            }
        }

        found = default;
        return false;
    }

    private static ulong ToLarge(ulong pages) => (pages + Page.PerLarge - 1) & ~(ulong)(Page.PerLarge - 1);
}
