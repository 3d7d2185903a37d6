// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What CPUID says to the guest: the level-1 processor's answers, changed where the simulated SNP processor differs.
//
//   hidden    SVM, XSAVE and AVX (state that the hypervisor does not keep, and forms of XSAVE that the emulator lacks), MONITOR; PCID and INVPCID (the
//             account of stale translations knows no PCIDs); and what the policy of the security processor has no place for: TSC deadline and
//             TSC adjust, speculation control of Intel's kind, how caches are indexed
//   shown     function 0x8000_001F: SEV, SEV-ES, SEV-SNP, VMPLs, C-bit position; INVLPGB; x2APIC; KVM's clock
//   per vCPU  APIC id; OSXSAVE is never shown as XSAVE is not

using Svsm.Platform;

namespace Svsm.Hypervisor;

/// <summary>CPUID of the guest.</summary>
internal static class CpuidModel
{
    /// <summary>Function with the encryption capabilities.</summary>
    public const uint EncryptionFunction = 0x8000_001F;

    /// <summary>Highest page count of one INVLPGB, in EDX of function 0x8000_0008.</summary>
    public const uint InvlpgbCountMax = 7;

    // Below the functions of XSAVE, which is hidden: Linux takes one that knows neither XSAVEC nor XSAVES for the host's forgery.
    private const uint HighestStandard = 0xB;
    private const uint HighestExtended = 0x8000_001F;

    private const uint Leaf1EcxHidden = (1u << 3) | (1u << 12) | (1u << 17) | (1u << 24) | (1u << 26) | (1u << 27) | (1u << 28) | (1u << 29);
    private const uint Leaf1EcxShown = (1u << 21) | (1u << 31);
    private const uint Leaf7EbxHidden = (1u << 1) | (1u << 5) | (1u << 10) | (1u << 16) | (1u << 17) | (1u << 21) | (1u << 26) | (1u << 27) | (1u << 28) | (1u << 30) | (1u << 31);
    private const uint Leaf7EdxShown = 1u << 4;
    private const uint CacheEdxShown = 3;
    private const uint Extended1EcxHidden = (1u << 2) | (1u << 11) | (1u << 16);
    private const uint Extended8EbxInvlpgb = 1u << 3;
    private const uint EncryptionEax = (1u << 1) | (1u << 3) | (1u << 4) | (1u << 5);
    private const uint VmplCountShift = 12;
    private const uint PhysicalAddressReductionShift = 6;
    private const uint GuestCount = 509;

    /// <summary>Answers CPUID for a vCPU.</summary>
    /// <param name="processor">The level-1 processor.</param>
    /// <param name="function">EAX.</param>
    /// <param name="index">ECX.</param>
    /// <param name="apicId">APIC id of the vCPU.</param>
    /// <param name="vcpuCount">Number of vCPUs.</param>
    public static CpuidResult Query(HostProcessor processor, uint function, uint index, uint apicId, uint vcpuCount)
    {
        if (function is ParavirtualClock.FirstLeaf or ParavirtualClock.FeatureLeaf)
        {
            uint[] signature = ParavirtualClock.Signature;
            return function == ParavirtualClock.FirstLeaf
                ? new CpuidResult { Eax = ParavirtualClock.FeatureLeaf, Ebx = signature[0], Ecx = signature[1], Edx = signature[2] }
                : new CpuidResult { Eax = ParavirtualClock.Features };
        }

        bool known = function <= HighestStandard || (function >= 0x8000_0000 && function <= HighestExtended);
        if (!known)
        {
            return default;
        }

        if (function == EncryptionFunction)
        {
            return new CpuidResult
            {
                Eax = EncryptionEax,
                Ebx = Amd64.CBitPosition | (1u << (int)PhysicalAddressReductionShift) | (NestedPageTables.VmplCount << (int)VmplCountShift),
                Ecx = GuestCount,
                Edx = 1,
            };
        }

        CpuidResult result = processor.Cpuid(function, index);
        switch (function)
        {
            case 0:
                result.Eax = HighestStandard;
                break;
            case 1:
                result.Ebx = (result.Ebx & 0x0000_FFFF) | (vcpuCount << 16) | (apicId << 24);
                result.Ecx = (result.Ecx & ~Leaf1EcxHidden) | Leaf1EcxShown;
                break;
            case 5:
                // MONITOR and MWAIT are hidden.
                result = default;
                break;
            case 7:
                if (index == 0)
                {
                    result.Ebx &= ~Leaf7EbxHidden;
                    result.Ecx &= ~((1u << 9) | (1u << 10));
                    result.Edx &= Leaf7EdxShown;
                }
                else
                {
                    result = default;
                }

                break;
            case 0xB:
                result.Eax = 0;
                result.Ebx = index == 0 ? 1 : index == 1 ? vcpuCount : 0;
                result.Ecx = index | (index == 0 ? 1u << 8 : index == 1 ? 2u << 8 : 0);
                result.Edx = apicId;
                break;
            case 0x8000_0000:
                result.Eax = HighestExtended;
                break;
            case 0x8000_0001:
                result.Ecx &= ~Extended1EcxHidden;
                break;
            case 0x8000_0008:
                result.Ebx |= Extended8EbxInvlpgb;
                result.Ecx = (result.Ecx & 0xFFFF_0000) | (vcpuCount - 1);
                result.Edx = (result.Edx & 0xFFFF_0000) | InvlpgbCountMax;
                break;
            case 0x8000_000A:
                result = default;
                break;
            case 0x8000_001D:
                result.Edx &= CacheEdxShown;
                break;
            case 0x8000_001E:
                result.Eax = apicId;
                break;
        }

        return result;
    }
}
