// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Validation of all of the guest's RAM before it starts, for a guest that nobody tells which memory it has to accept itself.
//
// What is left is what the memory map has and the image does not bring: the gaps between the image's ranges. 2-MiB pages where they fit;
// a host that has one in 4-KiB entries all the same gets it in 4-KiB steps.

using System;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Validates the rest of the guest's RAM.</summary>
internal static class GuestRam
{
    /// <summary>Finds the next run of RAM that the image does not name.</summary>
    /// <param name="ram">The guest's RAM; ascending, disjoint.</param>
    /// <param name="ranges">The image's ranges; ascending, disjoint, whole pages.</param>
    /// <param name="from">First page to look at.</param>
    /// <param name="gap">The run.</param>
    /// <returns>False: there is none from there on.</returns>
    public static bool TryNextGap(ReadOnlySpan<PageRange> ram, ReadOnlySpan<GuestRange> ranges, ulong from, out PageRange gap)
    {
        for (int i = 0; i < ram.Length; i++)
        {
            ulong first = Math.Max(from, ram[i].First);
            ulong end = ram[i].End;
            for (int j = 0; j < ranges.Length && first < end; j++)
            {
                ulong rangeFirst = ranges[j].Base >> Page.Shift;
                ulong rangeEnd = rangeFirst + (ranges[j].Length >> Page.Shift);
                if (rangeEnd <= first)
                {
                    continue;
                }

                if (rangeFirst > first)
                {
                    end = Math.Min(end, rangeFirst);
                    break;
                }

                first = rangeEnd;
            }

            if (first < end)
            {
                gap = new PageRange(first, end - first);
                return true;
            }
        }

        gap = default;
        return false;
    }

    /// <summary>Validates pages and gives them to the guest.</summary>
    /// <param name="table">The states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="pages">Pages of RAM that are unvalidated.</param>
    /// <param name="guest">VMPL of the guest.</param>
    /// <param name="failed">The page that the result is about, if it is not <see cref="PageResult.Success"/>.</param>
    public static PageResult Validate<TPlatform>(in PageStateTable table, ref TPlatform platform, PageRange pages, Vmpl guest, out PhysicalAddress failed)
        where TPlatform : IGuestPlatform
    {
        failed = default;
        ulong page = pages.First;
        while (page < pages.End)
        {
            failed = new PhysicalAddress(page << Page.Shift);
            PageResult result = PageResult.SizeMismatch;
            if (failed.IsAlignedTo(PageSize.Large) && pages.End - page >= Page.PerLarge)
            {
                result = GuestPages.Validate(table, ref platform, failed, PageSize.Large, guest);
                if (result == PageResult.Success)
                {
                    page += Page.PerLarge;
                    continue;
                }
            }

            if (result == PageResult.SizeMismatch)
            {
                result = GuestPages.Validate(table, ref platform, failed, PageSize.Small, guest);
            }

            if (result != PageResult.Success)
            {
                return result;
            }

            page++;
        }

        return PageResult.Success;
    }
}
