// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using System.Linq;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

// Sets of page ranges. The ranges lie below 2^63, so that their ends do not overflow.
internal static class RangeSet
{
    // Sorted, disjoint, adjacent ranges joined, empty ones dropped.
    public static IReadOnlyList<LaunchRam> Union(IEnumerable<LaunchRam> ranges)
    {
        var result = new List<LaunchRam>();
        foreach (LaunchRam range in ranges.Where(range => range.Length != 0).OrderBy(range => range.Base))
        {
            if (result.Count != 0 && range.Base <= End(result[^1]))
            {
                LaunchRam last = result[^1];
                if (End(range) > End(last))
                {
                    last.Length = End(range) - last.Base;
                    result[^1] = last;
                }
            }
            else
            {
                result.Add(range);
            }
        }

        return result;
    }

    // What is left of the ranges without the pages at these addresses; sorted, disjoint.
    public static IReadOnlyList<LaunchRam> Subtract(IEnumerable<LaunchRam> ranges, IEnumerable<ulong> pages)
    {
        ulong[] sorted = [.. pages.Order()];
        var result = new List<LaunchRam>();
        int next = 0;
        foreach (LaunchRam range in Union(ranges))
        {
            ulong start = range.Base;
            while (next < sorted.Length && sorted[next] < End(range))
            {
                ulong page = sorted[next++];
                if (page >= start)
                {
                    Add(start, page);
                    start = page + SecurityProcessor.PageSize;
                }
            }

            Add(start, End(range));
        }

        return result;

        void Add(ulong start, ulong end)
        {
            if (start < end)
            {
                result.Add(new LaunchRam { Base = start, Length = end - start });
            }
        }
    }

    public static ulong Length(IEnumerable<LaunchRam> ranges) => ranges.Aggregate(0ul, (sum, range) => sum + range.Length);

    private static ulong End(LaunchRam range) => range.Base + range.Length;
}
