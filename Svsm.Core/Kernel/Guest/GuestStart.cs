// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the guest finds when it starts: its launched ranges, and the pages that the kernel prepares.
//
//   secrets page   a copy; the keys of more privileged VMPLs zero, the SVSM's fields filled in
//   CPUID page     a copy
//   calling area   zeroes
//   memory map     the checked RAM without the SVSM's region; type 0 only, ended by an entry of zero pages

using System;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Protocols;
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
            for (ulong offset = 0; offset < ranges[i].Length; offset += Page.Size)
            {
                PhysicalAddress page = new(ranges[i].Base + offset);
                PageResult result;
                if (ranges[i].Kind == GuestRangeKind.Launched)
                {
                    result = GuestPages.GrantLaunched(table, ref platform, page, configuration.GuestVmpl);
                }
                else
                {
                    if (isShared)
                    {
                        KernelMemory.MakePrivate(page, 1);
                    }

                    result = GuestPages.Validate(table, ref platform, page, PageSize.Small, configuration.GuestVmpl);
                }

                if (result != PageResult.Success)
                {
                    Panic.Stop(
                        result == PageResult.InvalidAddress ? TerminationReason.GuestRange : TerminationReason.Validation,
                        "a page that the image prepares for its guest is not RAM, or the host interferes with it"u8,
                        page.Value);
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
            FillSecrets(ref *(SecretsPage*)mapping.Pointer, in *(SecretsPage*)KernelAddressSpace.Secrets, in configuration);
        }

        using (FrameMapping mapping = MapPrepared(configuration.GuestCpuidPage))
        {
            VcHandler.CpuidPage.CopyTo(new Span<byte>(mapping.Pointer, Page.Size));
        }

        using (FrameMapping mapping = MapPrepared(configuration.GuestMemoryMap))
        {
            FillMemoryMap(new Span<MemoryMapEntry>(mapping.Pointer, MemoryMap.MaxEntries), KernelMemory.GuestRanges);
        }

        PhysicalAddress area = new(configuration.GuestCallingArea);
        if (!area.IsAlignedTo(PageSize.Small) || GuestPages.ClaimCallingArea(KernelMemory.PageStates, area) != PageResult.Success)
        {
            Panic.Stop(TerminationReason.Configuration, "the calling area is not among the guest's pages"u8, area.Value);
        }

        PerCpu.Current.Guest = new GuestContext { CallingArea = area, Vmpl = configuration.GuestVmpl };
    }

    /// <summary>Writes the guest's secrets page.</summary>
    /// <param name="copy">The guest's page.</param>
    /// <param name="own">The SVSM's page.</param>
    /// <param name="configuration">The measured configuration.</param>
    public static void FillSecrets(ref SecretsPage copy, in SecretsPage own, in ImageConfiguration configuration)
    {
        copy = own;

        // Whoever has a key speaks to the security processor as its VMPL: the guest gets its own and those below.
        if (configuration.GuestVmpl > Vmpl.Vmpl0)
        {
            ((Span<byte>)copy.Vmpck0).Clear();
        }

        if (configuration.GuestVmpl > Vmpl.Vmpl1)
        {
            ((Span<byte>)copy.Vmpck1).Clear();
        }

        if (configuration.GuestVmpl > Vmpl.Vmpl2)
        {
            ((Span<byte>)copy.Vmpck2).Clear();
        }

        copy.SvsmBase = configuration.RegionBase;
        copy.SvsmSize = configuration.RegionLength;
        copy.SvsmCallingArea = configuration.GuestCallingArea;
        copy.SvsmMaxVersion = ProtocolTable.CoreVersion;
        copy.SvsmGuestVmpl = (byte)configuration.GuestVmpl;
    }

    /// <summary>Writes the guest's memory map.</summary>
    /// <param name="map">Room for the entries, zero before.</param>
    /// <param name="ram">The guest's RAM; fewer ranges than <paramref name="map"/> has entries.</param>
    public static void FillMemoryMap(Span<MemoryMapEntry> map, ReadOnlySpan<PageRange> ram)
    {
        for (int i = 0; i < ram.Length; i++)
        {
            map[i] = new MemoryMapEntry { StartPage = ram[i].First, PageCount = ram[i].Count };
        }

        map[ram.Length] = default;
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
