// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's boot vCPU: its VMSA, in a frame of the SVSM. Not runnable as it is made: VmsaGate.cs.

using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Makes the guest's VMSA.</summary>
internal static unsafe class GuestVcpu
{
    /// <summary>Makes the VMSA page of the boot vCPU and tells the host about it.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="table">The page states.</param>
    /// <returns>The VMSA page. Ends the VM when it cannot be made.</returns>
    public static PhysicalAddress Create(in ImageConfiguration configuration, in PageStateTable table)
    {
        PhysicalAddress frame = AllocateFrame();
        SevFeatures features = GuestHandover.FeaturesFor(configuration.SevFeatures);
        using (FrameMapping mapping = FrameMapping.Map(frame))
        {
            // SAFETY: a mapped frame, as large as the structure.
            GuestHandover.FillVmsa(ref *(Vmsa*)mapping.Pointer, in configuration, features);
        }

        // The page becomes a VMSA of the guest's VMPL, without any right for it to look inside.
        SnpPlatform platform = default;
        platform.Open(frame, PageSize.Small);
        RmpResult result = platform.RmpAdjust(configuration.GuestVmpl, RmpPermissions.VmsaPage);
        platform.Close();
        if (result != RmpResult.Success || !table.TrySet(frame.PageNumber, 1, PageState.Vmsa))
        {
            Panic.Stop(TerminationReason.RmpAdjust, "the guest's VMSA could not be made"u8, (ulong)result);
        }

        // The boot vCPU has APIC id 0 on every host that an image is written for.
        Host.CreateVcpu(0, configuration.GuestVmpl, frame, features);
        return frame;
    }

    // Some processors mishandle a VMSA at a 2-MiB boundary: such a frame is not used.
    private static PhysicalAddress AllocateFrame()
    {
        bool isAllocated = FrameAllocator.TryAllocate(out PhysicalAddress frame);
        if (isAllocated && frame.IsAlignedTo(PageSize.Large))
        {
            PhysicalAddress unsuitable = frame;
            isAllocated = FrameAllocator.TryAllocate(out frame);
            FrameAllocator.Free(unsuitable);
        }

        if (!isAllocated)
        {
            Panic.Stop(TerminationReason.OutOfMemory, "no frame for the guest's VMSA"u8);
        }

        return frame;
    }
}
