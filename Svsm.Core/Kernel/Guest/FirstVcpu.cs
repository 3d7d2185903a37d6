// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's boot vCPU: its VMSA, in a frame of the SVSM. Not runnable as it is made: VmsaGate.cs.

using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Makes the guest's VMSA.</summary>
internal static unsafe class FirstVcpu
{
    /// <summary>Its VMSA, which stays one for good.</summary>
    public static PhysicalAddress Frame { get; private set; }

    /// <summary>Makes the VMSA page of the boot vCPU and tells the host about it.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="encryptionMask">The C-bit.</param>
    /// <remarks>Ends the VM when it cannot be made. The calling area is claimed already.</remarks>
    public static void Create(in ImageConfiguration configuration, ulong encryptionMask)
    {
        if (!VmsaFrame.TryAllocate(out PhysicalAddress frame))
        {
            Panic.Stop(TerminationReason.OutOfMemory, "no frame for the guest's VMSA"u8);
        }

        SevFeatures features = GuestHandover.FeaturesFor(configuration.SevFeatures);
        using (FrameMapping mapping = FrameMapping.Map(frame))
        {
            // SAFETY: a mapped frame, as large as the structure.
            GuestHandover.FillVmsa(ref *(Vmsa*)mapping.Pointer, in configuration, features, encryptionMask);
        }

        // The page becomes a VMSA of the guest's VMPL, which may read what is its own state.
        SnpPlatform platform = default;
        platform.Open(frame, PageSize.Small);
        RmpResult result = platform.RmpAdjust(configuration.GuestVmpl, RmpPermissions.GuestVmsa);
        platform.Close();
        if (result != RmpResult.Success)
        {
            Panic.Stop(TerminationReason.RmpAdjust, "the guest's VMSA could not be made"u8, (ulong)result);
        }

        // The boot vCPU has APIC id 0 on every host that an image is written for.
        if (!Host.TryCreateVcpu(0, configuration.GuestVmpl, frame, features))
        {
            Panic.Stop(TerminationReason.GuestCreation, "the host refused to create the guest's vCPU"u8);
        }

        ref GuestVcpu vcpu = ref GuestVcpus.All[0];
        vcpu.Vmsa = Frame = frame;
        vcpu.CallingArea = new PhysicalAddress(configuration.GuestCallingArea);
        vcpu.Features = features;
        vcpu.IsFirst = true;
        vcpu.Exists = true;
    }
}
