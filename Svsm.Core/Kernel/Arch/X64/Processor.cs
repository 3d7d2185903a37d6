// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Snp;
using Svsm.Platform;

namespace Svsm.Kernel.Arch;

/// <summary>Control registers of the current CPU.</summary>
internal static class Processor
{
    private const ulong Cr4GlobalPages = 1ul << 7;
    private const ulong Cr4Umip = 1ul << 11;
    private const ulong Cr4Smep = 1ul << 20;
    private const ulong Cr4Smap = 1ul << 21;
    private const uint EbxSmep = 1u << 7;
    private const uint EbxSmap = 1u << 20;
    private const uint EcxUmip = 1u << 2;

    /// <summary>Turns on the protections that the processor has, and global pages.</summary>
    public static void Protect(in CpuidTable cpuid)
    {
        CpuidValues features = cpuid.Get(CpuidTable.ExtendedFeatures, 0);
        ulong cr4 = X64.ReadCr4() | Cr4GlobalPages;
        cr4 |= (features.Ebx & EbxSmep) != 0 ? Cr4Smep : 0;
        cr4 |= (features.Ebx & EbxSmap) != 0 ? Cr4Smap : 0;
        cr4 |= (features.Ecx & EcxUmip) != 0 ? Cr4Umip : 0;
        X64.WriteCr4(cr4);
    }

    /// <summary>Drops all translations of this address space identifier on this CPU, global ones included.</summary>
    public static void FlushTranslations()
    {
        // A change of CR4.PGE does so in either direction.
        ulong cr4 = X64.ReadCr4();
        X64.WriteCr4(cr4 ^ Cr4GlobalPages);
        X64.WriteCr4(cr4);
    }
}
