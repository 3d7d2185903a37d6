// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the guest finds when it starts: its launched ranges, and the pages that the kernel prepares.
// GuestHandover.cs says what is in them.

using System;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Prepares the guest's memory.</summary>
internal static unsafe class GuestStart
{
    /// <summary>Gives the guest its ranges; ends the VM when one is not RAM, or refuses.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="isShared">Memory that was not launched has to be made private first.</param>
    public static void PrepareRanges(in ImageConfiguration configuration, bool isShared)
    {
        ReadOnlySpan<GuestRange> ranges = ((ReadOnlySpan<GuestRange>)configuration.Ranges).Slice(0, (int)configuration.GuestRangeCount);
        SnpPlatform platform = default;
        PageStateTable table = KernelMemory.PageStates;
        for (int i = 0; i < ranges.Length; i++)
        {
            // The host acts on a request whatever the page is: none is made for memory that is not the guest's to be.
            for (ulong offset = 0; offset < ranges[i].Length; offset += Page.Size)
            {
                PhysicalAddress page = new(ranges[i].Base + offset);
                if (table.Get(page.PageNumber) != PageState.Unvalidated)
                {
                    Panic.Stop(TerminationReason.GuestRange, "a page that the image prepares for its guest is not RAM, or is named twice"u8, page.Value);
                }
            }

            if (isShared && ranges[i].Kind == GuestRangeKind.Prevalidate)
            {
                Host.MakePrivate(new PhysicalAddress(ranges[i].Base), ranges[i].Length / Page.Size);
            }

            for (ulong offset = 0; offset < ranges[i].Length; offset += Page.Size)
            {
                PhysicalAddress page = new(ranges[i].Base + offset);
                PageResult result = ranges[i].Kind == GuestRangeKind.Launched
                    ? GuestPages.GrantLaunched(table, ref platform, page, configuration.GuestVmpl)
                    : GuestPages.Validate(table, ref platform, page, PageSize.Small, configuration.GuestVmpl);
                if (result != PageResult.Success)
                {
                    Panic.Stop(TerminationReason.Validation, "the host interferes with a page that the image prepares for its guest"u8, page.Value);
                }
            }
        }
    }

    /// <summary>Writes the four pages and claims the calling area.</summary>
    public static void PreparePages(in ImageConfiguration configuration)
    {
        using (FrameMapping mapping = MapPrepared(configuration.GuestSecretsPage))
        {
            // SAFETY: a mapped page, as large as the structure; the builder maps the secrets page at its address.
            GuestHandover.FillSecrets(ref *(SecretsPage*)mapping.Pointer, in *(SecretsPage*)KernelAddressSpace.Secrets, in configuration);
        }

        using (FrameMapping mapping = MapPrepared(configuration.GuestCpuidPage))
        {
            // SAFETY: a mapped page.
            VcHandler.CpuidPage.CopyTo(new Span<byte>(mapping.Pointer, Page.Size));
        }

        using (FrameMapping mapping = MapPrepared(configuration.GuestMemoryMap))
        {
            // SAFETY: a mapped page; the entries fit into it.
            GuestHandover.FillMemoryMap(new Span<MemoryMapEntry>(mapping.Pointer, MemoryMap.MaxEntries), KernelMemory.GuestRanges);
        }

        PhysicalAddress area = new(configuration.GuestCallingArea);
        if (!area.IsAlignedTo(PageSize.Small) || GuestPages.ClaimCallingArea(KernelMemory.PageStates, area) != PageResult.Success)
        {
            Panic.Stop(TerminationReason.Configuration, "the calling area is not among the guest's pages"u8, area.Value);
        }
    }

    private static FrameMapping MapPrepared(ulong address)
    {
        PhysicalAddress page = new(address);
        if (!page.IsAlignedTo(PageSize.Small) || !GuestPages.IsGuestPage(KernelMemory.PageStates, page))
        {
            Panic.Stop(TerminationReason.Configuration, "a page that the kernel writes for the guest is not among the guest's pages"u8, address);
        }

        return FrameMapping.Map(page);
    }
}
