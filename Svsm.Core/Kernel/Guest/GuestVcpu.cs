// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's boot vCPU: its VMSA, in a frame of the SVSM.
//
// State of a payload (docs/image-layout.md): 32-bit protected mode, flat segments, paging off, EIP = entry, EDI = CPUID page,
// ESI = secrets page, EDX = memory map. The rest is the reset state. EFER.SVME makes a VMSA runnable; it is clear while the
// SVSM reads or writes the page, and set for RunVmpl alone.

using System.Threading;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Makes the guest's VMSA.</summary>
internal static unsafe class GuestVcpu
{
    /// <summary>EFER.SVME: the VMSA may be run.</summary>
    public const ulong EferSvme = 1ul << 12;

    private const ushort CodeAttributes = 0xC9B;
    private const ushort DataAttributes = 0xC93;
    private const ushort TaskAttributes = 0x8B;
    private const ushort LocalTableAttributes = 0x82;
    private const ulong Cr0ProtectedMode = 0x31;
    private const ulong RflagsReserved = 2;
    private const ulong Dr6Reset = 0xFFFF_0FF0;
    private const ulong Dr7Reset = 0x400;
    private const ulong PatReset = 0x0007_0406_0007_0406;
    private const uint MxcsrReset = 0x1F80;
    private const ushort TagWordReset = 0x5555;
    private const ushort ControlWordReset = 0x40;

    /// <summary>SEV_FEATURES of the guest: the SVSM's own without those that change how interrupts and debug registers reach it.</summary>
    public static SevFeatures FeaturesFor(SevFeatures own) => own & ~(SevFeatures.RestrictedInjection | SevFeatures.DebugSwap);

    /// <summary>Makes the VMSA page of the boot vCPU and tells the host about it.</summary>
    /// <param name="configuration">The measured configuration.</param>
    /// <param name="table">The page states.</param>
    /// <returns>The VMSA page. Ends the VM when it cannot be made.</returns>
    public static PhysicalAddress Create(in ImageConfiguration configuration, in PageStateTable table)
    {
        PhysicalAddress frame = AllocateFrame();
        SevFeatures features = FeaturesFor(configuration.SevFeatures);
        using (FrameMapping mapping = FrameMapping.Map(frame))
        {
            // SAFETY: a mapped frame, as large as the structure.
            Fill(ref *(Vmsa*)mapping.Pointer, in configuration, features);
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

    /// <summary>Fills in the start state of a payload. The page is zero before.</summary>
    public static void Fill(ref Vmsa vmsa, in ImageConfiguration configuration, SevFeatures features)
    {
        SegmentRegister data = new() { Selector = 0x10, Attributes = DataAttributes, Limit = uint.MaxValue };
        vmsa.Cs = new SegmentRegister { Selector = 0x08, Attributes = CodeAttributes, Limit = uint.MaxValue };
        vmsa.Ds = data;
        vmsa.Es = data;
        vmsa.Fs = data;
        vmsa.Gs = data;
        vmsa.Ss = data;
        vmsa.Gdtr.Limit = 0xFFFF;
        vmsa.Idtr.Limit = 0xFFFF;
        vmsa.Ldtr = new SegmentRegister { Attributes = LocalTableAttributes, Limit = 0xFFFF };
        vmsa.Tr = new SegmentRegister { Attributes = TaskAttributes, Limit = 0xFFFF };
        vmsa.Vmpl = (byte)configuration.GuestVmpl;
        vmsa.Cr0 = Cr0ProtectedMode;
        vmsa.Rflags = RflagsReserved;
        vmsa.Dr6 = Dr6Reset;
        vmsa.Dr7 = Dr7Reset;
        vmsa.Pat = PatReset;
        vmsa.Xcr0 = 1;
        vmsa.Mxcsr = MxcsrReset;
        vmsa.X87TagWord = TagWordReset;
        vmsa.X87ControlWord = ControlWordReset;
        vmsa.SevFeatures = (ulong)features;
        vmsa.Rip = configuration.GuestEntry;
        vmsa.Rdi = configuration.GuestCpuidPage;
        vmsa.Rsi = configuration.GuestSecretsPage;
        vmsa.Rdx = configuration.GuestMemoryMap;
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
