// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The VMSA that KVM makes of a vCPU in QEMU's reset state. KVM measures one for each vCPU at the end of the launch.
//
// Source: QEMU target/i386/cpu.c (x86_cpu_reset_hold) and KVM arch/x86/kvm/svm/sev.c (sev_es_sync_vmsa); values checked against
// sev-snp-measure, whose digests are test vectors here.

using Svsm.Igvm.Imaging;
using Svsm.Wire;

namespace Svsm.Measurement;

/// <summary>Save areas of vCPUs that start at a reset vector on QEMU/KVM.</summary>
public static class KvmResetVmsa
{
    /// <summary>Where a processor starts when nobody says otherwise.</summary>
    public const uint ResetVector = 0xFFFF_FFF0;

    /// <summary>The save area of a vCPU after reset.</summary>
    /// <param name="startAddress">CS base in bits 31:16, instruction pointer in bits 15:0.</param>
    /// <param name="features">SEV_FEATURES of the guest.</param>
    /// <param name="cpuSignature">CPUID leaf 1 EAX of the processor model (see <see cref="CpuSignature"/>).</param>
    /// <returns>The save area.</returns>
    public static Vmsa Create(uint startAddress, SevFeatures features, uint cpuSignature)
    {
        var data = new SegmentRegister { Attributes = 0x93, Limit = 0xFFFF };
        return new Vmsa
        {
            Es = data,
            Cs = new SegmentRegister { Selector = 0xF000, Attributes = 0x9B, Limit = 0xFFFF, Base = startAddress & 0xFFFF_0000 },
            Ss = data,
            Ds = data,
            Fs = data,
            Gs = data,
            Gdtr = new SegmentRegister { Limit = 0xFFFF },
            Ldtr = new SegmentRegister { Attributes = 0x82, Limit = 0xFFFF },
            Idtr = new SegmentRegister { Limit = 0xFFFF },
            Tr = new SegmentRegister { Attributes = 0x8B, Limit = 0xFFFF },
            Efer = 0x1000,
            Cr4 = 0x40,
            Cr0 = 0x10,
            Dr7 = 0x400,
            Dr6 = 0xFFFF_0FF0,
            Rflags = 2,
            Rip = startAddress & 0xFFFF,
            Pat = HostProfile.ResetPat,
            Rdx = cpuSignature,
            SevFeatures = (ulong)features,
            Xcr0 = 1,
            Mxcsr = 0x1F80,
            X87ControlWord = 0x37F,
        };
    }
}
