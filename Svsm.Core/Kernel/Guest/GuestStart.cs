// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the guest finds when it starts: its launched ranges, the pages that the kernel prepares, and for Linux all of its RAM.
// GuestHandover.cs and LinuxHandover.cs say what is in them.

using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
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
        ReadOnlySpan<GuestRange> ranges = RangesOf(in configuration);
        SnpPlatform platform = default;
        PageStateTable table = KernelMemory.PageStates;
        for (int i = 0; i < ranges.Length; i++)
        {
            if (ranges[i].Kind == GuestRangeKind.Rom)
            {
                GrantRom(in ranges[i], table, configuration.GuestVmpl);
                continue;
            }

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

    /// <summary>Validates all RAM that <see cref="PrepareRanges"/> left; ends the VM when the host refuses or interferes.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="isShared">Memory that was not launched has to be made private first.</param>
    public static void ValidateRam(in ImageConfiguration configuration, bool isShared)
    {
        SnpPlatform platform = default;
        ulong next = 0;
        while (GuestRam.TryNextGap(KernelMemory.GuestRanges, RangesOf(in configuration), next, out PageRange gap))
        {
            if (isShared)
            {
                Host.MakePrivate(new PhysicalAddress(gap.First << Page.Shift), gap.Count);
            }

            PageResult result = GuestRam.Validate(KernelMemory.PageStates, ref platform, gap, configuration.GuestVmpl, out PhysicalAddress failed);
            if (result != PageResult.Success)
            {
                Panic.Stop(TerminationReason.Validation, "the host interferes with the guest's RAM"u8, failed.Value);
            }

            next = gap.End;
        }
    }

    /// <summary>Completes what is launched for a Linux guest: memory map, table of processors, page tables.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="vcpuCount">Number of vCPUs, checked.</param>
    /// <param name="encryptionMask">The C-bit.</param>
    public static void PrepareLinux(in ImageConfiguration configuration, uint vcpuCount, ulong encryptionMask)
    {
        PageRange region = new(configuration.RegionBase >> Page.Shift, configuration.RegionLength >> Page.Shift);
        using (FrameMapping mapping = MapPrepared(configuration.GuestBootParameters))
        {
            // SAFETY: a mapped page.
            if (!LinuxHandover.TryFillMemoryMap(new Span<byte>(mapping.Pointer, Page.Size), KernelMemory.GuestRanges, region, RangesOf(in configuration)))
            {
                Panic.Stop(TerminationReason.MemoryMap, "the host's memory map has more ranges than Linux takes"u8);
            }
        }

        byte sum = 0;
        ulong tablePage = configuration.GuestInterruptControllers & ~(ulong)(Page.Size - 1);
        for (uint first = 0; first < vcpuCount; first += LinuxHandover.ProcessorsPerPage)
        {
            using FrameMapping mapping = MapPrepared(tablePage + (((first / LinuxHandover.ProcessorsPerPage) + 1) * Page.Size));

            // SAFETY: a mapped page.
            sum += LinuxHandover.WriteProcessors(
                new Span<byte>(mapping.Pointer, Page.Size), first, (int)Math.Min(vcpuCount - first, LinuxHandover.ProcessorsPerPage));
        }

        using (FrameMapping mapping = MapPrepared(tablePage))
        {
            // SAFETY: a mapped page; a head that does not end with the page is refused by the slice.
            Span<byte> page = new(mapping.Pointer, Page.Size);
            LinuxHandover.FinishInterruptControllers(page.Slice((int)(configuration.GuestInterruptControllers - tablePage)), vcpuCount, sum);
        }

        for (ulong i = 0; i < configuration.GuestPageTableCount; i++)
        {
            using FrameMapping mapping = MapPrepared(configuration.GuestPageTables + (i * Page.Size));

            // SAFETY: a mapped page.
            LinuxHandover.Encrypt(new Span<ulong>(mapping.Pointer, Page.Size / sizeof(ulong)), encryptionMask);
        }
    }

    /// <summary>Writes secrets, CPUID and memory map pages, and claims the calling area.</summary>
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

        if (configuration.GuestMemoryMap != 0)
        {
            PrepareParameters(in configuration);
        }

        PhysicalAddress area = new(configuration.GuestCallingArea);
        if (!area.IsAlignedTo(PageSize.Small) || GuestPages.ClaimCallingArea(KernelMemory.PageStates, area) != PageResult.Success)
        {
            Panic.Stop(TerminationReason.Configuration, "the calling area is not among the guest's pages"u8, area.Value);
        }
    }

    private static void PrepareParameters(in ImageConfiguration configuration)
    {
        const ulong InPage = Page.Size - 1;
        using (FrameMapping mapping = MapPrepared(configuration.GuestMemoryMap & ~InPage))
        {
            // SAFETY: a mapped page; what does not lie in it is refused by the slice.
            Span<byte> map = new Span<byte>(mapping.Pointer, Page.Size).Slice(
                (int)(configuration.GuestMemoryMap & InPage), (int)configuration.GuestMemoryMapEntries * Unsafe.SizeOf<MemoryMapEntry>());
            if (!GuestHandover.TryFillMemoryMap(MemoryMarshal.Cast<byte, MemoryMapEntry>(map), KernelMemory.GuestRanges, configuration.GuestKind))
            {
                Panic.Stop(TerminationReason.MemoryMap, "the host's memory map has more ranges than the guest takes"u8);
            }
        }

        if (configuration.GuestVcpuCount != 0)
        {
            using FrameMapping mapping = MapPrepared(configuration.GuestVcpuCount & ~InPage);

            // SAFETY: a mapped page; a number that does not end in it is refused by the slice.
            Span<byte> page = new(mapping.Pointer, Page.Size);
            BinaryPrimitives.WriteUInt32LittleEndian(page.Slice((int)(configuration.GuestVcpuCount & InPage)), (uint)GuestVcpus.All.Length);
        }
    }

    // What is launched where no RAM is has contents that are measured, so nothing has to be zeroed. It gets no state: it is no memory that the
    // guest could rescind or validate. A host that has RAM there would have it twice.
    private static void GrantRom(in GuestRange range, in PageStateTable table, Vmpl guest)
    {
        SnpPlatform platform = default;
        for (ulong offset = 0; offset < range.Length; offset += Page.Size)
        {
            PhysicalAddress page = new(range.Base + offset);
            if (table.Get(page.PageNumber) != PageState.Absent)
            {
                Panic.Stop(TerminationReason.GuestRange, "the host's memory map has RAM where the image has its guest's firmware"u8, page.Value);
            }

            platform.Open(page, PageSize.Small);
            RmpResult result = platform.RmpAdjust(guest, RmpPermissions.All);
            platform.Close();
            if (result != RmpResult.Success)
            {
                Panic.Stop(TerminationReason.Validation, "the host interferes with a page that the image prepares for its guest"u8, page.Value);
            }
        }
    }

    private static ReadOnlySpan<GuestRange> RangesOf(in ImageConfiguration configuration) =>
        ((ReadOnlySpan<GuestRange>)configuration.Ranges).Slice(0, (int)configuration.GuestRangeCount);

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
