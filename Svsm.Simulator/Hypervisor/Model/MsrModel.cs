// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Model-specific registers that the host answers in GHCB requests; those in the VMSA never get here.
// There is no interrupt controller in this version of the machine: of the x2APIC only what identifies the vCPU.

namespace Svsm.Hypervisor;

/// <summary>MSRs of the host.</summary>
internal static class MsrModel
{
    private const uint TimeStampCounter = 0x10;
    private const uint ApicBase = 0x1B;
    private const uint X2ApicId = 0x802;
    private const uint X2ApicVersion = 0x803;

    private const ulong ApicAddress = 0xFEE0_0000;
    private const ulong ApicEnabled = 1ul << 11;
    private const ulong ApicX2Mode = 1ul << 10;
    private const ulong ApicBootProcessor = 1ul << 8;
    private const ulong VersionIntegratedSixEntries = 0x0005_0014;

    /// <summary>Reads an MSR.</summary>
    /// <returns>False when there is none: the guest gets #GP.</returns>
    public static bool TryRead(VirtualCpu cpu, HostProcessor processor, uint msr, out ulong value)
    {
        switch (msr)
        {
            case TimeStampCounter:
                value = processor.ReadTimeStampCounter() + cpu.TimeStampOffset;
                return true;
            case ApicBase:
                value = ApicAddress | ApicEnabled | ApicX2Mode | (cpu.Id == 0 ? ApicBootProcessor : 0);
                return true;
            case X2ApicId:
                value = (ulong)cpu.Id;
                return true;
            case X2ApicVersion:
                value = VersionIntegratedSixEntries;
                return true;
            default:
                value = 0;
                return false;
        }
    }

    /// <summary>Writes an MSR.</summary>
    /// <returns>False when there is none, or not to be written: the guest gets #GP.</returns>
    public static bool TryWrite(uint msr, ulong value)
    {
        // The APIC is in x2APIC mode for good; writing what is there is fine.
        return msr == ApicBase && (value & ~ApicBootProcessor) == (ApicAddress | ApicEnabled | ApicX2Mode);
    }
}
