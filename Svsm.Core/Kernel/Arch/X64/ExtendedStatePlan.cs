// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// How the FPU state of a task is kept when it is preempted: decided once, from the CPUID page.
//
//   XSAVE    x87 and SSE, and AVX if function 0xD describes it as every processor has it: 256 bytes at 576, behind header and legacy area
//   FXSAVE   x87 and SSE: the page hides XSAVE, or what it says of it cannot be
//
// Other state (AVX-512, protection keys, AMX) stays off in XCR0: no code of the SVSM has it, and what is off needs no room. The room is computed
// from offsets and sizes of the parts, not taken from the sizes in function 0xD, 0, which are those of whatever XCR0 the host had in mind.
// XCR0 rules: bit 0 is always set; bit 2 needs bit 1. Source: AMD64 Architecture Programmer's Manual, volume 2, 11.5; volume 3, CPUID 0xD.

using Svsm.Kernel.Snp;

namespace Svsm.Kernel.Arch;

/// <summary>How FPU state is kept.</summary>
internal readonly struct ExtendedStatePlan
{
    /// <summary>x87.</summary>
    public const ulong X87 = 1 << 0;

    /// <summary>SSE.</summary>
    public const ulong Sse = 1 << 1;

    /// <summary>AVX.</summary>
    public const ulong Avx = 1 << 2;

    private const uint StateFunction = 0xD;
    private const uint AvxIndex = 2;
    private const uint EcxXsave = 1u << 26;
    private const uint EcxAvx = 1u << 28;
    private const ulong LegacyLength = 512;
    private const ulong HeaderLength = 64;
    private const uint AvxLength = 256;

    /// <summary>Makes a plan.</summary>
    public ExtendedStatePlan(ulong mask, ulong length)
    {
        Mask = mask;
        Length = length;
    }

    /// <summary>Value of XCR0, and what XSAVE keeps; 0: FXSAVE.</summary>
    public ulong Mask { get; }

    /// <summary>Bytes of an area.</summary>
    public ulong Length { get; }

    /// <summary>Decides.</summary>
    public static ExtendedStatePlan Choose(in CpuidTable cpuid)
    {
        uint features = cpuid.Get(CpuidTable.Features, 0).Ecx;
        CpuidValues state = cpuid.Get(StateFunction, 0);
        if ((features & EcxXsave) == 0 || (state.Eax & (X87 | Sse)) != (X87 | Sse) || state.Ecx < LegacyLength + HeaderLength)
        {
            return new ExtendedStatePlan(0, LegacyLength);
        }

        CpuidValues avx = cpuid.Get(StateFunction, AvxIndex);
        bool hasAvx = (features & EcxAvx) != 0 && (state.Eax & Avx) != 0
            && avx.Eax == AvxLength && avx.Ebx == LegacyLength + HeaderLength && state.Ecx >= avx.Ebx + avx.Eax;
        return hasAvx
            ? new ExtendedStatePlan(X87 | Sse | Avx, LegacyLength + HeaderLength + AvxLength)
            : new ExtendedStatePlan(X87 | Sse, LegacyLength + HeaderLength);
    }
}
