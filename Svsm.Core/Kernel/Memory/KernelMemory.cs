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
    // The guest's RAM, and one more for the region.
    private const int MaxRanges = MemoryMap.MaxEntries + 1;

    [InlineArray(MaxRanges)]
    private struct Ranges
    {
        private PageRange _element0;
    }

    private static Ranges s_ranges;
    private static int s_guestRangeCount;
    private static int s_stateCount;

    /// <summary>RAM of the guest: the host's map without the SVSM's region and the legacy area.</summary>
    public static ReadOnlySpan<PageRange> GuestRanges => ((ReadOnlySpan<PageRange>)s_ranges).Slice(0, s_guestRangeCount);

    /// <summary>The page states. Available after <see cref="CreatePageStates"/>.</summary>
    // SAFETY: as many bytes are mapped there.
    public static PageStateTable PageStates =>
        new(((ReadOnlySpan<PageRange>)s_ranges).Slice(0, s_guestRangeCount + 1), new Span<byte>((void*)KernelLayout.PageStates, s_stateCount));

    /// <summary>Copies and checks the host's memory map; ends the VM when it is wrong.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="pageLimit">First page number that cannot exist.</param>
    public static void ReadMap(in ImageConfiguration configuration, ulong pageLimit)
    {
        // SAFETY: the builder maps one page there.
        Span<MemoryMapEntry> copy = stackalloc MemoryMapEntry[MemoryMap.MaxEntries];
        new ReadOnlySpan<MemoryMapEntry>((void*)KernelAddressSpace.MemoryMap, MemoryMap.MaxEntries).CopyTo(copy);

        Span<PageRange> ranges = s_ranges;
        Span<PageRange> ram = ranges.Slice(0, MaxRanges - 1);
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

        ulong address = configuration.HeapBase;
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

        if (!FrameAllocator.TryAddArea(new PhysicalAddress(configuration.HeapBase), (int)((end - configuration.HeapBase) / Page.Size)))
        {
            Panic.Stop(TerminationReason.Configuration, "the image configuration is not one of this kernel's"u8);
        }
    }

    /// <summary>Makes the table of page states: all of the guest's RAM unvalidated, the region the SVSM's.</summary>
    public static void CreatePageStates()
    {
        ReadOnlySpan<PageRange> ranges = ((ReadOnlySpan<PageRange>)s_ranges).Slice(0, s_guestRangeCount + 1);
        ulong bytes = PageStateTable.BytesFor(ranges);
        ulong pages = bytes == ulong.MaxValue ? bytes : (bytes + Page.Size - 1) / Page.Size;
        if (pages > (ulong)FrameAllocator.Count || !TryMapPageStates(pages))
        {
            Panic.Stop(TerminationReason.PageStates, "the states of all pages of this VM do not fit into the SVSM's region; bytes needed:"u8, bytes);
        }

        s_stateCount = (int)bytes;
        PageRange region = ranges[s_guestRangeCount];
        PageStates.TrySet(region.First, (int)region.Count, PageState.Svsm);
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

    private static bool TryMapPageStates(ulong pageCount)
    {
        for (ulong i = 0; i < pageCount; i++)
        {
            if (!FrameAllocator.TryAllocate(out PhysicalAddress frame) ||
                AddressSpace.MapShared(KernelLayout.PageStates + (i * Page.Size), frame, PageSize.Small) != MemoryError.None)
            {
                return false;
            }
        }

        return true;
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
            Panic.Stop(TerminationReason.Validation, "a page of the SVSM's region could not be validated, or was valid already"u8, page.Value);
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
