// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// How a further CPU of the SVSM starts: in 64-bit mode, on its own page tables and stack, with the control registers of the first
// CPU. There is no trampoline and no moment with looser rights: the VMSA says it all, and the host cannot change it.
//
// Descriptor tables are empty; the CPU loads its own before it does anything that could fault.
// Source: Vmsa in Svsm.Wire; segment attributes and reset values: AMD64 Architecture Programmer's Manual, volume 2, 14.1 and 15.5.

using Svsm.Kernel.Arch;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Registers of the first CPU that every CPU has.</summary>
internal struct ProcessorState
{
    /// <summary>CR0.</summary>
    public ulong Cr0;

    /// <summary>CR4.</summary>
    public ulong Cr4;

    /// <summary>EFER.</summary>
    public ulong Efer;

    /// <summary>SEV_FEATURES.</summary>
    public SevFeatures Features;

    /// <summary>Address of the entry code.</summary>
    public ulong Entry;
}

/// <summary>Makes the VMSA of a CPU at VMPL0.</summary>
internal static class ProcessorVmsa
{
    private const ulong EferSvme = 1ul << 12;
    private const ushort CodeAttributes = 0xA9B;
    private const ushort DataAttributes = 0xC93;
    private const ushort TaskAttributes = 0x8B;
    private const ushort LocalTableAttributes = 0x82;
    private const ulong RflagsReserved = 2;
    private const ulong Dr6Reset = 0xFFFF_0FF0;
    private const ulong Dr7Reset = 0x400;
    private const ulong PatReset = 0x0007_0406_0007_0406;
    private const uint MxcsrReset = 0x1F80;

    /// <summary>Fills in the start state. The page is zero before.</summary>
    /// <param name="vmsa">The VMSA.</param>
    /// <param name="state">What the CPUs have in common.</param>
    /// <param name="root">CR3 of the CPU.</param>
    public static void Fill(ref Vmsa vmsa, in ProcessorState state, ulong root)
    {
        SegmentRegister data = new() { Selector = KernelLayout.DataSelector, Attributes = DataAttributes, Limit = uint.MaxValue };
        vmsa.Cs = new SegmentRegister { Selector = KernelLayout.CodeSelector, Attributes = CodeAttributes, Limit = uint.MaxValue };
        vmsa.Ds = data;
        vmsa.Es = data;
        vmsa.Ss = data;
        vmsa.Ldtr = new SegmentRegister { Attributes = LocalTableAttributes };
        vmsa.Tr = new SegmentRegister { Attributes = TaskAttributes };
        vmsa.Vmpl = (byte)Vmpl.Vmpl0;
        vmsa.Cr0 = state.Cr0;
        vmsa.Cr3 = root;
        vmsa.Cr4 = state.Cr4;
        vmsa.Efer = state.Efer | EferSvme;
        vmsa.Rflags = RflagsReserved;
        vmsa.Dr6 = Dr6Reset;
        vmsa.Dr7 = Dr7Reset;
        vmsa.Pat = PatReset;
        vmsa.Xcr0 = 1;
        vmsa.Mxcsr = MxcsrReset;
        vmsa.SevFeatures = (ulong)state.Features;
        vmsa.Rip = state.Entry;
        vmsa.Rsp = KernelLayout.StackTop;
    }
}
