// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Kernel.Arch;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class ProcessorVmsaTests
{
    // What VMRUN of SEV-SNP and the entry code want of it.
    [Fact]
    public void Fill_StateOfTheFirstCpu_StartsInLongModeOnItsOwnTables()
    {
        ProcessorState state = new()
        {
            Cr0 = 0x8001_0033,
            Cr4 = 0x30_0EA0,
            Efer = 0xD00,
            Features = SevFeatures.SnpActive | SevFeatures.RestrictedInjection,
            Entry = 0xFFFF_FF80_0020_1230,
        };
        Vmsa vmsa = default;

        ProcessorVmsa.Fill(ref vmsa, in state, 0x8000_0812_3000);

        Assert.Equal((0x8001_0033ul, 0x30_0EA0ul, 0x8000_0812_3000ul), (vmsa.Cr0, vmsa.Cr4, vmsa.Cr3));
        Assert.Equal(0x1D00ul, vmsa.Efer);
        Assert.Equal(0, vmsa.Vmpl);
        Assert.Equal(0, vmsa.Cpl);
        Assert.Equal((ulong)(SevFeatures.SnpActive | SevFeatures.RestrictedInjection), vmsa.SevFeatures);
        Assert.Equal(state.Entry, vmsa.Rip);
        Assert.Equal(KernelLayout.StackTop, vmsa.Rsp);
        Assert.Equal(0ul, vmsa.Rsp % 16);
        Assert.Equal(2ul, vmsa.Rflags);
        Assert.Equal(0x1F80u, vmsa.Mxcsr);
        Assert.Equal((KernelLayout.CodeSelector, (ushort)0xA9B), (vmsa.Cs.Selector, vmsa.Cs.Attributes));
        Assert.Equal((KernelLayout.DataSelector, (ushort)0xC93), (vmsa.Ss.Selector, vmsa.Ss.Attributes));
        Assert.Equal(0u, vmsa.Idtr.Limit);
        Assert.Equal(1ul, vmsa.Xcr0);
    }
}
