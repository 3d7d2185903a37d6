// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using CsCheck;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>VMSA to VMCB and back.</summary>
public sealed unsafe class VmsaTransferTests
{
    [Fact]
    public void LoadStore_AnyContents_ComeBack()
    {
        Gen.Byte.Array[0x670].Sample(
            bytes =>
            {
                using var machine = new TestMachine();
                byte* page = machine.Private(0x5_0000);
                TestMachine.Clear(page);
                bytes.CopyTo(new Span<byte>(page, bytes.Length));
                var vmsa = (Vmsa*)page;

                // Reserved bits of MXCSR do not survive, nor does the distinction between kinds of non-empty x87 registers.
                vmsa->Mxcsr &= 0xFFFF;
                vmsa->X87TagWord = 0xFFFF;
                vmsa->EventInjection = 0;
                Vmsa before = *vmsa;
                VmsaTransfer.Load(machine.Cpu, vmsa);
                VmsaTransfer.Store(machine.Cpu, vmsa, 0x403);
                before.ExitCode = 0x403;
                before.ExitInfo1 = 0;
                before.ExitInfo2 = 0;
                before.ExitIntInfo = 0;
                before.NextRip = before.Rip;
                Assert.Equal(
                    MemoryMarshal.AsBytes(new ReadOnlySpan<Vmsa>(in before)).ToArray(),
                    new ReadOnlySpan<byte>(page, 4096).ToArray());
            },
            iter: 100);
    }

    [Theory]
    [InlineData(0xFFFF)]
    [InlineData(0x5555)]
    [InlineData(0x0000)]
    [InlineData(0xFFFC)]
    public void LoadStore_TagWord_KeepsWhatIsEmpty(ushort tagWord)
    {
        using var machine = new TestMachine();
        var vmsa = (Vmsa*)machine.Private(0x5_0000);
        TestMachine.Clear((byte*)vmsa);
        vmsa->X87TagWord = tagWord;
        VmsaTransfer.Load(machine.Cpu, vmsa);
        VmsaTransfer.Store(machine.Cpu, vmsa, 0);
        for (int i = 0; i < 8; i++)
        {
            Assert.Equal(((tagWord >> (i * 2)) & 3) == 3, ((vmsa->X87TagWord >> (i * 2)) & 3) == 3);
        }
    }

    [Fact]
    public void IsValid_SoundVmsa_IsTaken()
    {
        Vmsa vmsa = Sound();
        Assert.True(VmsaTransfer.IsValid(&vmsa, 2));
    }

    [Fact]
    public void IsValid_UnsoundVmsa_IsRefused()
    {
        Func<Vmsa, Vmsa>[] mistakes =
        [
            v => v with { Efer = v.Efer & ~Amd64.EferSvme },
            v => v with { Efer = v.Efer | (1ul << 16) },
            v => v with { Vmpl = 1 },
            v => v with { SevFeatures = 0 },
            v => v with { SevFeatures = v.SevFeatures | (ulong)SevFeatures.AlternateInjection },
            v => v with { SevFeatures = v.SevFeatures | (1ul << 40) },
            v => v with { Cr0 = v.Cr0 | (1ul << 32) },
            v => v with { Cr0 = v.Cr0 | Amd64.Cr0NotWriteThrough },
            v => v with { Cr0 = v.Cr0 & ~Amd64.Cr0ProtectedMode },
            v => v with { Cr3 = 1ul << 50 },
            v => v with { Cr4 = v.Cr4 & ~Amd64.Cr4Pae },
            v => v with { Cr4 = v.Cr4 | (1ul << 40) },
            v => v with { Dr6 = 1ul << 32 },
            v => v with { Dr7 = 1ul << 32 },
            v => v with { Cs = new SegmentRegister { Attributes = 0xE9B } },
        ];
        for (int i = 0; i < mistakes.Length; i++)
        {
            Vmsa vmsa = mistakes[i](Sound());
            Assert.False(VmsaTransfer.IsValid(&vmsa, 2), $"mistake {i}");
        }
    }

    private static Vmsa Sound()
    {
        return new Vmsa
        {
            Vmpl = 2,
            SevFeatures = (ulong)SevFeatures.SnpActive,
            Efer = 0x1D01,
            Cr0 = 0x8000_0033,
            Cr3 = 0x1000 | Amd64.CBit,
            Cr4 = 0x620,
            Cs = new SegmentRegister { Attributes = 0xA9B },
            Dr6 = 0xFFFF_0FF0,
            Dr7 = 0x400,
        };
    }
}
