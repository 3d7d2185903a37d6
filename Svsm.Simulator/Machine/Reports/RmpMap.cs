// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The reverse map (RMP) of a machine at one moment: who owns each page of guest memory, and who may do what to it.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>The RMP entry of a page.</summary>
/// <param name="Value">The entry, as in <see cref="StopReport.RmpEntry"/>.</param>
public readonly record struct RmpEntry(uint Value)
{
    /// <summary>The page belongs to the guest (private); if not, to the host (shared).</summary>
    public bool IsAssigned => (Value & 1) != 0;

    /// <summary>The guest has accepted the page with PVALIDATE.</summary>
    public bool IsValidated => (Value & 2) != 0;

    /// <summary>The page is a VMSA.</summary>
    public bool IsVmsa => (Value & 4) != 0;

    /// <summary>The page is part of a 2-MiB entry.</summary>
    public bool IsLarge => (Value & 8) != 0;

    /// <summary>What a VMPL may do to the page, as four letters of <c>rwus</c> (read, write, execute as user, execute as supervisor), or hyphens.</summary>
    /// <param name="vmpl">VMPL, 0 to 3. VMPL0 may do everything.</param>
    /// <returns>For example <c>rw--</c>.</returns>
    /// <exception cref="ArgumentOutOfRangeException">Not 0 to 3.</exception>
    public string Rights(int vmpl)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(vmpl);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(vmpl, 3);
        uint bits = vmpl == 0 ? 0xF : (Value >> (4 + (4 * vmpl))) & 0xF;
        return string.Create(4, bits, static (span, value) =>
        {
            const string Letters = "rwus";
            for (int i = 0; i < span.Length; i++)
            {
                span[i] = (value & (1u << i)) != 0 ? Letters[i] : '-';
            }
        });
    }

    /// <summary>The entry in words.</summary>
    /// <returns>For example <c>assigned, validated; VMPL1 ----; VMPL2 rwus; VMPL3 ----</c>.</returns>
    public override string ToString()
    {
        if (!IsAssigned)
        {
            return "not assigned (shared)";
        }

        string text = (IsValidated ? "assigned, validated" : "assigned, not validated") + (IsVmsa ? ", VMSA" : "") + (IsLarge ? ", 2 MiB" : "");
        for (int vmpl = 1; vmpl <= 3; vmpl++)
        {
            text += string.Create(CultureInfo.InvariantCulture, $"; VMPL{vmpl} {Rights(vmpl)}");
        }

        return text;
    }
}

/// <summary>The RMP of a machine at one moment.</summary>
public sealed class RmpMap
{
    private const ulong PageSize = SecurityProcessor.PageSize;

    internal RmpMap(IEnumerable<RmpRange> ranges) => Ranges = [.. ranges];

    /// <summary>An RMP without memory.</summary>
    public static RmpMap Empty { get; } = new([]);

    /// <summary>Ranges of pages in the same state, in ascending order; where there is no range there is no memory.</summary>
    public ImmutableArray<RmpRange> Ranges { get; }

    /// <summary>The entry of a page.</summary>
    /// <param name="gpa">Any address in the page; guest-physical, without C-bit.</param>
    /// <exception cref="ArgumentOutOfRangeException">There is no memory.</exception>
    public RmpEntry this[ulong gpa]
    {
        get
        {
            int low = 0;
            int high = Ranges.Length - 1;
            while (low <= high)
            {
                int middle = (low + high) / 2;
                RmpRange range = Ranges[middle];
                if (gpa < range.Gpa)
                {
                    high = middle - 1;
                }
                else if (gpa - range.Gpa >= range.PageCount * PageSize)
                {
                    low = middle + 1;
                }
                else
                {
                    return new RmpEntry(range.Entry);
                }
            }

            throw new ArgumentOutOfRangeException(nameof(gpa), string.Create(CultureInfo.InvariantCulture, $"The machine has no memory at 0x{gpa:X}."));
        }
    }

    /// <summary>Counts pages.</summary>
    /// <param name="predicate">Which.</param>
    /// <returns>Their number.</returns>
    public long Count(Func<RmpEntry, bool> predicate)
    {
        ArgumentNullException.ThrowIfNull(predicate);
        return Ranges.Where(range => predicate(new RmpEntry(range.Entry))).Sum(range => (long)range.PageCount);
    }
}
