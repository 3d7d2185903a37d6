// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Memory;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class GuestHandoverTests
{
    private readonly ImageConfiguration _configuration = new()
    {
        RegionBase = 0x800_0000,
        RegionLength = 0x100_0000,
        GuestVmpl = Vmpl.Vmpl2,
        GuestEntry = 0x100_0000,
        GuestSecretsPage = 0x80_D000,
        GuestCpuidPage = 0x80_E000,
        GuestCallingArea = 0x80_F000,
        GuestMemoryMap = 0x81_2000,
    };

    [Theory]
    [InlineData(Vmpl.Vmpl1, 1)]
    [InlineData(Vmpl.Vmpl2, 2)]
    [InlineData(Vmpl.Vmpl3, 3)]
    public void FillSecrets_Keys_OfMorePrivilegedVmplsAreZero(Vmpl guest, int wiped)
    {
        byte[] own = new byte[4096];
        own.AsSpan().Fill(0xAB);
        byte[] copy = new byte[4096];
        ImageConfiguration configuration = _configuration with { GuestVmpl = guest };
        GuestHandover.FillSecrets(ref MemoryMarshal.AsRef<SecretsPage>(copy.AsSpan()), in MemoryMarshal.AsRef<SecretsPage>(own.AsSpan()), in configuration);
        for (int key = 0; key < 4; key++)
        {
            byte[] expected = new byte[32];
            expected.AsSpan().Fill(key < wiped ? (byte)0 : (byte)0xAB);
            Assert.Equal(expected, copy.AsSpan(0x20 + (key * 32), 32).ToArray());
        }

        Assert.Equal((byte)guest, copy[0x15C]);
        Assert.Equal(0xAB, own[0x20]);
    }

    [Fact]
    public void FillSecrets_SvsmFields_AreWhereTheGuestLooks()
    {
        byte[] copy = new byte[4096];
        GuestHandover.FillSecrets(ref MemoryMarshal.AsRef<SecretsPage>(copy.AsSpan()), default, in _configuration);
        Assert.Equal(0x800_0000ul, BitConverter.ToUInt64(copy, 0x140));
        Assert.Equal(0x100_0000ul, BitConverter.ToUInt64(copy, 0x148));
        Assert.Equal(0x80_F000ul, BitConverter.ToUInt64(copy, 0x150));
        Assert.Equal(1u, BitConverter.ToUInt32(copy, 0x158));
    }

    [Fact]
    public void TryFillMemoryMap_Ram_IsTerminated()
    {
        var map = new MemoryMapEntry[MemoryMap.MaxEntries];
        map.AsSpan().Fill(new MemoryMapEntry { PageCount = 5 });
        Assert.True(GuestHandover.TryFillMemoryMap(map, [new PageRange(0, 0xA0), new PageRange(0x100, 0x7F00)], GuestKind.Payload));
        Assert.Equal((0ul, 0xA0ul), (map[0].StartPage, map[0].PageCount));
        Assert.Equal((0x100ul, 0x7F00ul, MemoryMapEntryType.Memory), (map[1].StartPage, map[1].PageCount, map[1].Type));
        Assert.Equal(0ul, map[2].PageCount);
    }

    [Fact]
    public void TryFillMemoryMap_AsManyRangesAsFit_HasItsTerminator()
    {
        var map = new MemoryMapEntry[8];
        map.AsSpan().Fill(new MemoryMapEntry { PageCount = 5 });
        Assert.True(GuestHandover.TryFillMemoryMap(map, new PageRange[7], GuestKind.Payload));
        Assert.Equal(0ul, map[^1].PageCount);
    }

    [Theory]
    [InlineData(8)]
    [InlineData(9)]
    public void TryFillMemoryMap_MoreRangesThanFit_IsRefused(int count) =>
        Assert.False(GuestHandover.TryFillMemoryMap(new MemoryMapEntry[8], new PageRange[count], GuestKind.Payload));

    // A firmware takes the end of the first range for the end of its RAM, and knows what is below 1 MiB.
    [Fact]
    public void TryFillMemoryMap_Firmware_FindsNoHoleBelowOneMegabyte()
    {
        var map = new MemoryMapEntry[4];
        Assert.True(GuestHandover.TryFillMemoryMap(map, [new(0, 0xA0), new(0x100, 0x7F00), new(0x8800, 0x100), new(0x10_0000, 1)], GuestKind.Firmware));
        Assert.Equal([(0ul, 0x8000ul), (0x8800, 0x100), (0x10_0000, 1), (0, 0)], map.Select(entry => (entry.StartPage, entry.PageCount)));
    }

    [Fact]
    public void TryFillMemoryMap_FirmwareWithOtherHoles_FindsThem()
    {
        var map = new MemoryMapEntry[4];
        Assert.True(GuestHandover.TryFillMemoryMap(map, [new(0, 0x9F), new(0x100, 0x7F00), new(0x8800, 0x100)], GuestKind.Firmware));
        Assert.Equal([(0ul, 0x9Ful), (0x100, 0x7F00), (0x8800, 0x100), (0, 0)], map.Select(entry => (entry.StartPage, entry.PageCount)));
    }

    [Fact]
    public void FillVmsa_Payload_StartsIn32BitProtectedMode()
    {
        Vmsa vmsa = default;
        GuestHandover.FillVmsa(ref vmsa, in _configuration, SevFeatures.SnpActive, 1ul << 51);
        Assert.Equal((0x100_0000ul, 0x80_E000ul, 0x80_D000ul, 0x81_2000ul), (vmsa.Rip, vmsa.Rdi, vmsa.Rsi, vmsa.Rdx));
        Assert.Equal((0x31ul, 0ul, 0ul, 2ul), (vmsa.Cr0, vmsa.Cr3, vmsa.Cr4, vmsa.Rflags));
        Assert.Equal(((ushort)0xC9B, uint.MaxValue, 0ul), (vmsa.Cs.Attributes, vmsa.Cs.Limit, vmsa.Cs.Base));
        Assert.Equal((2, (byte)0, 1ul), (vmsa.Vmpl, vmsa.Cpl, vmsa.SevFeatures));

        // Not runnable until the request loop says so.
        Assert.Equal(0ul, vmsa.Efer);
    }

    [Fact]
    public void FillVmsa_Linux_StartsIn64BitModeOnItsPageTables()
    {
        ImageConfiguration configuration = _configuration with
        {
            GuestKind = GuestKind.Linux,
            GuestEntry = 0x100_0200,
            GuestBootParameters = 0x80_0000,
            GuestPageTables = 0x80_3000,
            GuestDescriptorTable = 0x80_2000,
            GuestDescriptorTableLength = 32,
        };
        Vmsa vmsa = default;
        GuestHandover.FillVmsa(ref vmsa, in configuration, SevFeatures.SnpActive, 1ul << 51);

        // 64-bit boot protocol: paging on, identity-mapped, CS = 0x10 and data = 0x18 of a descriptor table that has them, RSI = boot parameters.
        Assert.Equal((0x100_0200ul, 0x80_0000ul, 0ul, 0ul), (vmsa.Rip, vmsa.Rsi, vmsa.Rdi, vmsa.Rdx));
        Assert.Equal((0x8000_0031ul, 0x8_0000_0080_3000ul, 0x20ul, 2ul), (vmsa.Cr0, vmsa.Cr3, vmsa.Cr4, vmsa.Rflags));
        Assert.Equal((0x10, 0xA9B, uint.MaxValue, 0ul), (vmsa.Cs.Selector, vmsa.Cs.Attributes, vmsa.Cs.Limit, vmsa.Cs.Base));
        Assert.Equal((0x18, 0x18, 0xC93), (vmsa.Ds.Selector, vmsa.Ss.Selector, vmsa.Ss.Attributes));
        Assert.Equal((0x80_2000ul, 31u), (vmsa.Gdtr.Base, vmsa.Gdtr.Limit));

        // Long mode active; not runnable until the request loop says so.
        Assert.Equal(0x500ul, vmsa.Efer);
    }

    [Fact]
    public void FillVmsa_Firmware_StartsAsAProcessorComesOutOfReset()
    {
        ImageConfiguration configuration = _configuration with { GuestKind = GuestKind.Firmware, GuestEntry = 0xFFFF_FFF0 };
        Vmsa vmsa = default;
        GuestHandover.FillVmsa(ref vmsa, in configuration, SevFeatures.SnpActive, 1ul << 51);

        // AMD64 Architecture Programmer's Manual, volume 2, table 14-1, but for what is the processor's own (RDX).
        Assert.Equal((0xFFF0ul, 0x6000_0010ul, 0ul, 0ul, 2ul), (vmsa.Rip, vmsa.Cr0, vmsa.Cr3, vmsa.Cr4, vmsa.Rflags));
        Assert.Equal((0xF000, 0x9B, 0xFFFFu, 0xFFFF_0000ul), (vmsa.Cs.Selector, vmsa.Cs.Attributes, vmsa.Cs.Limit, vmsa.Cs.Base));
        foreach (SegmentRegister data in (SegmentRegister[])[vmsa.Ds, vmsa.Es, vmsa.Fs, vmsa.Gs, vmsa.Ss])
        {
            Assert.Equal((0, 0x93, 0xFFFFu, 0ul), (data.Selector, data.Attributes, data.Limit, data.Base));
        }

        Assert.Equal((0xFFFFu, 0xFFFFu, 0x82, 0x8B), (vmsa.Gdtr.Limit, vmsa.Idtr.Limit, vmsa.Ldtr.Attributes, vmsa.Tr.Attributes));
        Assert.Equal((0xFFFF_0FF0ul, 0x400ul, 0x0007_0406_0007_0406ul, 1ul), (vmsa.Dr6, vmsa.Dr7, vmsa.Pat, vmsa.Xcr0));
        Assert.Equal((2, (byte)0, 1ul, 0ul), (vmsa.Vmpl, vmsa.Cpl, vmsa.SevFeatures, vmsa.Rsi));
        Assert.Equal(0ul, vmsa.Efer);
    }

    [Theory]
    [InlineData(SevFeatures.SnpActive | SevFeatures.RestrictedInjection | SevFeatures.DebugSwap, SevFeatures.SnpActive)]
    [InlineData(SevFeatures.SnpActive | SevFeatures.SecureTsc, SevFeatures.SnpActive | SevFeatures.SecureTsc)]
    public void FeaturesFor_Own_LosesInjectionAndDebugSwap(SevFeatures own, SevFeatures expected) => Assert.Equal(expected, GuestHandover.FeaturesFor(own));
}
