// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The VM's memory as the kernel knows it after booting: RAM of the guest, the SVSM's region, and a state for each page.

using System;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Snp;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Memory;

/// <summary>Sets up and holds the kernel's view of memory.</summary>
internal static unsafe class KernelMemory
{
    // The guest's RAM, the region, and what was claimed.
    private const int MaxRanges = MemoryMap.MaxEntries + 2;

    [InlineArray(MaxRanges)]
    private struct Ranges
    {
        private PageRange _element0;
    }

    [InlineArray(MaxRanges + 1)]
    private struct Runs
    {
        private ChunkRun _element0;
    }

    private static Ranges s_ranges;
    private static Runs s_runs;
    private static int s_guestRangeCount;
    private static int s_runCount;
    private static PageRange s_region;
    private static PageRange s_claim;

    /// <summary>RAM of the guest: the host's map without the SVSM's region and the legacy area.</summary>
    public static ReadOnlySpan<PageRange> GuestRanges => ((ReadOnlySpan<PageRange>)s_ranges).Slice(0, s_guestRangeCount);

    /// <summary>The SVSM's region.</summary>
    public static PageRange Region => s_region;

    /// <summary>RAM that was claimed; may be empty.</summary>
    public static PageRange Claim => s_claim;

    /// <summary>The page states. Available after <see cref="CreatePageStates"/>.</summary>
    // SAFETY: as many bytes as the runs need are mapped there.
    public static PageStateTable PageStates => new(((ReadOnlySpan<ChunkRun>)s_runs).Slice(0, s_runCount), (void*)KernelLayout.PageStates);

    /// <summary>Copies and checks the host's memory map; ends the VM when it is wrong.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="pageLimit">First page number that cannot exist.</param>
    public static void ReadMap(in ImageConfiguration configuration, ulong pageLimit)
    {
        // SAFETY: the builder maps one page there.
        Span<MemoryMapEntry> copy = stackalloc MemoryMapEntry[MemoryMap.MaxEntries];
        new ReadOnlySpan<MemoryMapEntry>((void*)KernelAddressSpace.MemoryMap, MemoryMap.MaxEntries).CopyTo(copy);

        Span<PageRange> ranges = s_ranges;
        Span<PageRange> ram = ranges.Slice(0, MemoryMap.MaxEntries);
        MemoryMapError error = MemoryMap.Check(copy, pageLimit, ram, out int count);
        if (error != MemoryMapError.None)
        {
            Panic.Stop(TerminationReason.MemoryMap, Describe(error));
        }

        PageRange vmsa = new(configuration.LaunchVmsa >> Page.Shift, 1);
        PageRange region = new(configuration.RegionBase >> Page.Shift, configuration.RegionLength >> Page.Shift);
        for (int i = 0; i < count; i++)
        {
            // A VMSA inside of the region is the SVSM's memory already.
            if (!region.Contains(vmsa.First) && ram[i].Overlaps(vmsa))
            {
                Panic.Stop(TerminationReason.MemoryMap, "the host's memory map has the launch VMSA as RAM"u8, configuration.LaunchVmsa);
            }
        }

        // The guest's copy needs room for the entry that ends the list.
        if (!PageRange.TrySubtract(ram, ref count, region) || count > MemoryMap.MaxEntries - 1)
        {
            Panic.Stop(TerminationReason.MemoryMap, Describe(MemoryMapError.TooManyRanges));
        }

        if (count == 0)
        {
            Panic.Stop(TerminationReason.MemoryMap, Describe(MemoryMapError.NoMemory));
        }

        s_guestRangeCount = count;
        ranges[count] = region;
        s_region = region;
    }

    /// <summary>Validates the part of the region that was not launched, and gives it to the frame allocator; ends the VM on any surprise.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="isShared">Memory that was not launched is shared with the host and has to be made private first.</param>
    public static void ValidateHeap(in ImageConfiguration configuration, bool isShared)
    {
        ulong end = configuration.RegionBase + configuration.RegionLength;
        if (configuration.LaunchVmsa >= configuration.HeapBase && configuration.LaunchVmsa < end)
        {
            end = configuration.LaunchVmsa;
        }

        if (isShared)
        {
            Host.MakePrivate(new PhysicalAddress(configuration.HeapBase), (end - configuration.HeapBase) / Page.Size);
        }

        Validate(configuration.HeapBase, end);
        if (!FrameAllocator.TryAddArea(new PhysicalAddress(configuration.HeapBase), (int)((end - configuration.HeapBase) / Page.Size)))
        {
            Panic.Stop(TerminationReason.Configuration, "the image configuration is not one of this kernel's"u8);
        }
    }

    /// <summary>
    /// Makes the table of page states: all of the guest's RAM unvalidated, the rest the SVSM's. What the region has no room for is claimed from
    /// the guest's RAM, as are the frames for many CPUs; ends the VM when there is not enough.
    /// </summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="cpuCount">Number of CPUs.</param>
    /// <param name="isShared">Memory that was not launched is shared with the host and has to be made private first.</param>
    public static void CreatePageStates(in ImageConfiguration configuration, int cpuCount, bool isShared)
    {
        Span<PageRange> ranges = s_ranges;
        bool isPossible = PageStateTable.TryMakeRuns(ranges.Slice(0, s_guestRangeCount + 1), s_runs, out s_runCount);
        ulong bytes = PageStateTable.BytesFor(((ReadOnlySpan<ChunkRun>)s_runs).Slice(0, s_runCount));
        ulong statePages = MemoryClaim.PagesForStates(bytes);
        ulong cpuPages = MemoryClaim.PagesForCpus(cpuCount);
        PageRange claim = default;
        if (isPossible && statePages + cpuPages > 0)
        {
            isPossible = TryClaim(in configuration, statePages + cpuPages, isShared, out claim);
        }

        isPossible = isPossible && bytes <= KernelLayout.PageStatesLength && TryMapPageStates(bytes, new PageRange(claim.First, statePages));
        if (isPossible && cpuPages > 0)
        {
            isPossible = FrameAllocator.TryAddArea(PhysicalAddress.OfPage(claim.First + statePages), (int)cpuPages);
        }

        if (!isPossible)
        {
            Panic.Stop(TerminationReason.PageStates, "no room for the states of all pages of this VM and its CPUs; bytes needed:"u8, bytes + (cpuPages * Page.Size));
        }

        s_claim = claim;
        PageStateTable table = PageStates;
        table.Clear();
        for (int i = 0; i < s_guestRangeCount; i++)
        {
            isPossible &= table.TrySet(ranges[i], PageState.Unvalidated);
        }

        isPossible &= table.TrySet(s_region, PageState.Svsm) && (claim.Count == 0 || table.TrySet(claim, PageState.Svsm));
        if (!isPossible)
        {
            Panic.Stop(TerminationReason.Internal, "a range of memory has no states"u8);
        }
    }

    /// <summary>Rescinds the launched low area: the boot stub has done its work, and the guest finds ordinary RAM there.</summary>
    public static void RescindLowArea(in ImageConfiguration configuration)
    {
        SnpPlatform platform = default;
        for (ulong offset = 0; offset < configuration.LowAreaLength; offset += Page.Size)
        {
            platform.Open(new PhysicalAddress(configuration.LowAreaBase + offset), PageSize.Small);
            RmpResult result = platform.PValidate(false, out bool unchanged);
            platform.Close();
            if (result != RmpResult.Success || unchanged)
            {
                Panic.Stop(TerminationReason.Validation, "a page of the low area could not be rescinded"u8, configuration.LowAreaBase + offset);
            }
        }
    }

    // Takes pages from the guest's RAM, where neither the image has anything nor the boot stub was.
    private static bool TryClaim(in ImageConfiguration configuration, ulong pages, bool isShared, out PageRange claim)
    {
        Span<PageRange> avoid = stackalloc PageRange[ImageConfiguration.MaxGuestRanges + 1];
        avoid[0] = new PageRange(configuration.LowAreaBase >> Page.Shift, configuration.LowAreaLength >> Page.Shift);
        for (int i = 0; i < (int)configuration.GuestRangeCount; i++)
        {
            avoid[i + 1] = new PageRange(configuration.Ranges[i].Base >> Page.Shift, configuration.Ranges[i].Length >> Page.Shift);
        }

        // The guest's copy of the map keeps room for the entry that ends the list.
        Span<PageRange> ram = ((Span<PageRange>)s_ranges).Slice(0, MemoryMap.MaxEntries - 1);
        if (!MemoryClaim.TryClaim(ram, ref s_guestRangeCount, pages, avoid.Slice(0, (int)configuration.GuestRangeCount + 1), out claim))
        {
            return false;
        }

        PhysicalAddress first = PhysicalAddress.OfPage(claim.First);
        if (isShared)
        {
            Host.MakePrivate(first, claim.Count);
        }

        Validate(first.Value, first.Value + (claim.Count * Page.Size));
        Log.Text("svsm: claimed RAM "u8);
        Log.Hex(first.Value);
        Log.Text("-"u8);
        Log.Hex(first.Value + (claim.Count * Page.Size) - 1);
        Log.End(default);
        return true;
    }

    // On 2-MiB pages that were claimed, or on frames.
    private static bool TryMapPageStates(ulong bytes, PageRange claim)
    {
        MemoryError error = MemoryError.None;
        for (ulong i = 0; i < claim.Count && error == MemoryError.None; i += Page.PerLarge)
        {
            error = AddressSpace.MapShared(KernelLayout.PageStates + (i * Page.Size), PhysicalAddress.OfPage(claim.First + i), PageSize.Large);
        }

        for (ulong i = 0; i < MemoryClaim.PagesOf(bytes) && claim.Count == 0 && error == MemoryError.None; i++)
        {
            error = FrameAllocator.TryAllocate(out PhysicalAddress frame)
                ? AddressSpace.MapShared(KernelLayout.PageStates + (i * Page.Size), frame, PageSize.Small)
                : MemoryError.NoFrames;
        }

        return error == MemoryError.None;
    }

    // Validates pages of the SVSM.
    private static void Validate(ulong address, ulong end)
    {
        while (address < end)
        {
            PhysicalAddress page = new(address);
            bool large = page.IsAlignedTo(PageSize.Large) && end - address >= Page.LargeSize;
            if (!large || !TryValidateLarge(page))
            {
                for (int i = 0; i < (large ? Page.PerLarge : 1); i++)
                {
                    ValidateSmall(new PhysicalAddress(address + ((ulong)i * Page.Size)));
                }
            }

            address += large ? Page.LargeSize : Page.Size;
        }
    }

    private static bool TryValidateLarge(PhysicalAddress page)
    {
        SnpPlatform platform = default;
        platform.Open(page, PageSize.Large);
        RmpResult result = platform.PValidate(true, out bool unchanged);
        platform.Close();
        if (result == RmpResult.FailSizeMismatch)
        {
            return false;
        }

        CheckValidation(page, result, unchanged);
        return true;
    }

    private static void ValidateSmall(PhysicalAddress page)
    {
        SnpPlatform platform = default;
        platform.Open(page, PageSize.Small);
        RmpResult result = platform.PValidate(true, out bool unchanged);
        platform.Close();
        CheckValidation(page, result, unchanged);
    }

    private static void CheckValidation(PhysicalAddress page, RmpResult result, bool unchanged)
    {
        if (result != RmpResult.Success || unchanged)
        {
            Panic.Stop(TerminationReason.Validation, "a page for the SVSM could not be validated, or was valid already"u8, page.Value);
        }
    }

    private static ReadOnlySpan<byte> Describe(MemoryMapError error) => error switch
    {
        MemoryMapError.NotTerminated => "the host's memory map has no end"u8,
        MemoryMapError.ReservedFieldSet => "the host's memory map has flags or reserved fields set"u8,
        MemoryMapError.UnknownType => "the host's memory map has an entry of unknown type"u8,
        MemoryMapError.BeyondLimit => "the host's memory map reaches beyond the physical-address limit"u8,
        MemoryMapError.NotAscending => "the host's memory map is not sorted, or overlaps itself"u8,
        MemoryMapError.TooManyRanges => "the host's memory map has too many ranges"u8,
        _ => "the host's memory map has no RAM for the guest"u8,
    };
}
