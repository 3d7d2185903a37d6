// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What lies where in guest-physical memory when a file is launched: for the map in its two forms.

using System;
using System.Collections.Generic;
using Svsm.Builder;
using Svsm.Igvm;
using Svsm.Wire;

namespace Svsm.Tool;

internal enum LayoutKind
{
    Data,
    Zero,
    Unmeasured,
    Parameter,
    Secrets,
    Cpuid,
    Vmsa,
    Required,
}

/// <summary>Pages of one kind next to each other. Rights are null where no page table of the image says anything.</summary>
internal sealed record LayoutRange(ulong Gpa, ulong Length, LayoutKind Kind, PageRights? Rights, string Name)
{
    /// <summary>Contents are part of the launch digest.</summary>
    public bool IsMeasured => Kind is LayoutKind.Data or LayoutKind.Zero or LayoutKind.Vmsa;

    /// <summary>Type and address are part of the launch digest.</summary>
    public bool IsLaunched => Kind != LayoutKind.Required;

    public string KindName => Kind.ToString().ToLowerInvariant();

    public string RightsText => Rights is not PageRights rights ? "" : new string(
        ['r', rights.HasFlag(PageRights.Write) ? 'w' : '-', rights.HasFlag(PageRights.Execute) ? 'x' : '-']);
}

internal static class LaunchLayout
{
    private const ulong PageSize = 4096;

    // 4 GiB of launched memory; a parameter area can claim any length.
    private const ulong MaxAreaLength = 1ul << 32;

    /// <summary>The ranges, sorted by address.</summary>
    public static List<LayoutRange> Create(ImageFile image)
    {
        IgvmPlatform? platform = image.File.FindPlatform(IgvmPlatformType.SevSnp);
        uint mask = platform?.CompatibilityMask ?? (image.File.Platforms.Length == 0 ? 0 : image.File.Platforms[0].CompatibilityMask);
        var pages = new List<LayoutRange>();
        var required = new List<(ulong Gpa, ulong Length)>();
        var areas = new Dictionary<uint, ulong>();
        foreach (IgvmDirective directive in image.File.Directives)
        {
            switch (directive)
            {
                case IgvmParameterArea area:
                    areas[area.Index] = Math.Min(area.ByteLength, MaxAreaLength);
                    break;
                case IgvmParameterInsert insert when (insert.CompatibilityMask & mask) != 0:
                    pages.Add(New(image, insert.Gpa, areas.GetValueOrDefault(insert.AreaIndex), LayoutKind.Parameter));
                    break;
                case IgvmPageData page when (page.CompatibilityMask & mask) != 0:
                    pages.Add(New(image, page.Gpa, page.Flags.HasFlag(IgvmPageDataFlags.Is2MBPage) ? 0x20_0000 : PageSize, Kind(page)));
                    break;
                case IgvmVpContext context when (context.CompatibilityMask & mask) != 0 && platform is not null:
                    pages.Add(New(image, context.Gpa, PageSize, LayoutKind.Vmsa));
                    break;
                case IgvmRequiredMemory memory when (memory.CompatibilityMask & mask) != 0:
                    required.Add((memory.Gpa, memory.ByteLength));
                    break;
                default:
                    break;
            }
        }

        pages.Sort((a, b) => a.Gpa.CompareTo(b.Gpa));
        AddRequired(image, pages, required);
        return Merge(pages);
    }

    private static LayoutKind Kind(IgvmPageData page) => page.DataType switch
    {
        IgvmPageDataType.Secrets => LayoutKind.Secrets,
        IgvmPageDataType.CpuidData or IgvmPageDataType.CpuidXf => LayoutKind.Cpuid,
        _ when (page.Flags & (IgvmPageDataFlags.Unmeasured | IgvmPageDataFlags.Shared)) != 0 => LayoutKind.Unmeasured,
        _ => page.Data.Span.ContainsAnyExcept((byte)0) ? LayoutKind.Data : LayoutKind.Zero,
    };

    // Required memory is what is left of it between launched pages.
    private static void AddRequired(ImageFile image, List<LayoutRange> pages, List<(ulong Gpa, ulong Length)> required)
    {
        required.Sort();
        int launched = pages.Count;
        ulong done = 0;
        int next = 0;
        foreach ((ulong gpa, ulong length) in required)
        {
            ulong at = Math.Max(gpa, done);
            ulong end = length > ulong.MaxValue - gpa ? ulong.MaxValue : gpa + length;
            while (next < launched && pages[next].Gpa + pages[next].Length <= at)
            {
                next++;
            }

            for (; next < launched && pages[next].Gpa < end; next++)
            {
                AddFree(at, pages[next].Gpa);
                at = Math.Max(at, pages[next].Gpa + pages[next].Length);
            }

            AddFree(at, end);
            done = Math.Max(done, end);
            next = Math.Max(next - 1, 0);
        }

        pages.Sort((a, b) => a.Gpa.CompareTo(b.Gpa));

        void AddFree(ulong from, ulong to)
        {
            foreach (ulong border in Borders(image.Facts))
            {
                if (border > from && border < to)
                {
                    pages.Add(New(image, from, border - from, LayoutKind.Required));
                    from = border;
                }
            }

            if (from < to)
            {
                pages.Add(New(image, from, to - from, LayoutKind.Required));
            }
        }
    }

    // Where the purpose of memory that is not launched changes.
    private static List<ulong> Borders(SvsmFacts? facts)
    {
        var borders = new List<ulong>();
        if (facts is not null)
        {
            ImageConfiguration configuration = facts.Configuration;
            foreach (ulong page in (ReadOnlySpan<ulong>)[configuration.GuestSecretsPage, configuration.GuestCpuidPage, configuration.GuestCallingArea, configuration.GuestMemoryMap])
            {
                borders.Add(page);
                borders.Add(page + PageSize);
            }

            borders.Sort();
        }

        return borders;
    }

    private static List<LayoutRange> Merge(List<LayoutRange> pages)
    {
        var merged = new List<LayoutRange>();
        foreach (LayoutRange page in pages)
        {
            if (page.Length == 0)
            {
                continue;
            }

            if (merged.Count != 0 && merged[^1] is LayoutRange last && last.Gpa + last.Length == page.Gpa && last with { Gpa = page.Gpa, Length = page.Length } == page)
            {
                merged[^1] = last with { Length = last.Length + page.Length };
            }
            else
            {
                merged.Add(page);
            }
        }

        return merged;
    }

    private static LayoutRange New(ImageFile image, ulong gpa, ulong length, LayoutKind kind)
    {
        PageRights? rights = image.Facts?.Rights(gpa) is PageRights known and not PageRights.None ? known : null;
        return new LayoutRange(gpa, length, kind, rights, image.Facts is null ? ForeignName(kind) : Name(image.Facts, gpa, kind, rights ?? PageRights.None));
    }

    private static string ForeignName(LayoutKind kind) => kind switch
    {
        LayoutKind.Data => "contents",
        LayoutKind.Zero => "zeroes",
        LayoutKind.Unmeasured => "unmeasured contents",
        LayoutKind.Parameter => "parameters",
        LayoutKind.Secrets => "secrets page",
        LayoutKind.Cpuid => "CPUID page",
        LayoutKind.Vmsa => "launch VMSA",
        _ => "required memory",
    };

    private static string Name(SvsmFacts facts, ulong gpa, LayoutKind kind, PageRights rights)
    {
        ImageConfiguration configuration = facts.Configuration;
        BootParameters boot = facts.Boot;
        if (kind is LayoutKind.Vmsa or LayoutKind.Secrets or LayoutKind.Cpuid)
        {
            return ForeignName(kind);
        }

        if (gpa >= configuration.LowAreaBase && gpa - configuration.LowAreaBase < configuration.LowAreaLength)
        {
            return gpa < boot.BootRoot ? rights == PageRights.Read && gpa + PageSize == boot.BootRoot ? "boot parameters" : "boot stub" : "boot page tables";
        }

        if (gpa >= configuration.RegionBase && gpa - configuration.RegionBase < configuration.RegionLength)
        {
            return kind == LayoutKind.Required || gpa >= configuration.HeapBase ? "kernel heap"
                : gpa >= configuration.KernelRoot ? "kernel page tables"
                : gpa - configuration.ArchiveBase < configuration.ArchiveLength ? "modules"
                : gpa == facts.Translate(KernelAddressSpace.Configuration) ? "configuration"
                : gpa == facts.Translate(KernelAddressSpace.GeneralParameters) ? "general parameters"
                : gpa == facts.Translate(KernelAddressSpace.MemoryMap) ? "memory map"
                : rights.HasFlag(PageRights.Execute) ? "kernel text"
                : !rights.HasFlag(PageRights.Write) ? "kernel read-only data"
                : kind == LayoutKind.Zero ? "kernel zero data" : "kernel data";
        }

        return gpa == configuration.GuestSecretsPage ? "guest secrets page"
            : gpa == configuration.GuestCpuidPage ? "guest CPUID page"
            : gpa == configuration.GuestCallingArea ? "guest calling area"
            : gpa == configuration.GuestMemoryMap ? "guest memory map"
            : kind == LayoutKind.Required ? "guest zero data" : "guest payload";
    }
}
