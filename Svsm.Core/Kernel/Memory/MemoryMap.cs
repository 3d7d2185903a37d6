// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The check of the host's memory map. Nothing of the map is measured, so nothing of it is believed: the caller hands over
// a private copy, every entry is checked, and what comes out is a list of RAM ranges in ascending order that neither
// overlap nor touch.
//
// Order of the checks of an entry: reserved fields, type, address limit, order. The first failure decides.
// Source of the shape: IGVM_VHS_MEMORY_MAP_ENTRY, see Svsm.Wire.MemoryMapEntry. The limit and the order are this project's rules
// (a map that is not strictly ascending is refused rather than repaired).

using System;
using Svsm.Wire;

namespace Svsm.Kernel.Memory;

/// <summary>What is wrong with a memory map.</summary>
internal enum MemoryMapError : byte
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>No entry of zero pages ends the list.</summary>
    NotTerminated,

    /// <summary>Flags or the reserved field of an entry are set.</summary>
    ReservedFieldSet,

    /// <summary>The type of an entry is unknown.</summary>
    UnknownType,

    /// <summary>An entry reaches beyond the physical-address limit.</summary>
    BeyondLimit,

    /// <summary>An entry starts before the one ahead of it ends.</summary>
    NotAscending,

    /// <summary>There is no RAM.</summary>
    NoMemory,

    /// <summary>There are more RAM ranges than there is room for.</summary>
    TooManyRanges,
}

/// <summary>Reads memory maps.</summary>
internal static class MemoryMap
{
    /// <summary>Entries in one page, the terminator included.</summary>
    public const int MaxEntries = Page.Size / 24;

    /// <summary>First page of the legacy video and ROM area below 1 MiB: hosts may map it read-only, so it never is RAM.</summary>
    public const ulong LegacyFirstPage = 0xA0;

    /// <summary>Number of pages of the legacy area.</summary>
    public const ulong LegacyPageCount = 0x60;

    /// <summary>Checks a map and lists its RAM.</summary>
    /// <param name="untrustedMap">A private copy of the host's entries.</param>
    /// <param name="pageLimit">First page number that cannot exist: 2 to the number of physical-address bits, in pages.</param>
    /// <param name="ram">Takes the RAM ranges, ascending, disjoint, neighbours joined, without the legacy area.</param>
    /// <param name="count">Number of RAM ranges; 0 unless the result is <see cref="MemoryMapError.None"/>.</param>
    /// <returns>What is wrong, or <see cref="MemoryMapError.None"/>.</returns>
    public static MemoryMapError Check(ReadOnlySpan<MemoryMapEntry> untrustedMap, ulong pageLimit, Span<PageRange> ram, out int count)
    {
        count = 0;
        int found = 0;
        ulong end = 0;
        for (int i = 0; i < untrustedMap.Length; i++)
        {
            MemoryMapEntry entry = untrustedMap[i];
            if (entry.PageCount == 0)
            {
                PageRange legacy = new(LegacyFirstPage, LegacyPageCount);
                if (!PageRange.TrySubtract(ram, ref found, legacy))
                {
                    return MemoryMapError.TooManyRanges;
                }

                count = found;
                return found == 0 ? MemoryMapError.NoMemory : MemoryMapError.None;
            }

            if (entry.Flags != 0 || entry.Reserved != 0)
            {
                return MemoryMapError.ReservedFieldSet;
            }

            if (entry.Type > MemoryMapEntryType.Hidden)
            {
                return MemoryMapError.UnknownType;
            }

            if (entry.StartPage >= pageLimit || entry.PageCount > pageLimit - entry.StartPage)
            {
                return MemoryMapError.BeyondLimit;
            }

            if (entry.StartPage < end)
            {
                return MemoryMapError.NotAscending;
            }

            end = entry.StartPage + entry.PageCount;
            if (entry.Type != MemoryMapEntryType.Memory)
            {
                continue;
            }

            if (found > 0 && ram[found - 1].End == entry.StartPage)
            {
                ram[found - 1].Count += entry.PageCount;
            }
            else if (found == ram.Length)
            {
                return MemoryMapError.TooManyRanges;
            }
            else
            {
                ram[found++] = new PageRange(entry.StartPage, entry.PageCount);
            }
        }

        return MemoryMapError.NotTerminated;
    }
}
