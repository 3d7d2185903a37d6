// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using Svsm.Wire;
using Xunit;

namespace Svsm.Simulator.Tests;

/// <summary>What the security processor lets a host say in a CPUID page.</summary>
public sealed class CpuidPolicyTests
{
    // Rows: function, index, XCR0, XSS, register, what the host says, what is allowed.
    [Theory]

    // Features: bits.
    [InlineData(1u, 0u, 0ul, 0ul, "ecx", 0x0100_0000u, 0u)] // TSC deadline
    [InlineData(1u, 0u, 0ul, 0ul, "ecx", 0x8020_2000u, 0x8020_2000u)] // hypervisor, x2APIC, CMPXCHG16B
    [InlineData(1u, 0u, 0ul, 0ul, "edx", 0x1000_0400u, 0x1000_0000u)]
    [InlineData(7u, 0u, 0ul, 0ul, "ebx", 0x0000_0002u, 0u)] // TSC adjust
    [InlineData(7u, 0u, 0ul, 0ul, "edx", 0xFC00_0010u, 0x1000_0010u)] // speculation control of Intel's kind
    [InlineData(0x8000_0008u, 0u, 0ul, 0ul, "ebx", 0x0200_0008u, 8u)] // virtual SSBD; INVLPGB
    [InlineData(0x8000_001Fu, 0u, 0ul, 0ul, "eax", 0x1000_003Au, 0x3Au)] // an SVSM is nothing that a host can promise

    // Sizes: at most.
    [InlineData(0u, 0u, 0ul, 0ul, "eax", 0xDu, 0xDu)]
    [InlineData(0u, 0u, 0ul, 0ul, "eax", 0x11u, 0x10u)]
    [InlineData(7u, 0u, 0ul, 0ul, "eax", 2u, 1u)]
    [InlineData(0x8000_0000u, 0u, 0ul, 0ul, "eax", 0x8000_0029u, 0x8000_0028u)]
    [InlineData(0x8000_0008u, 0u, 0ul, 0ul, "eax", 0x0030_3030u, 0x0030_3030u)]
    [InlineData(0x8000_0008u, 0u, 0ul, 0ul, "eax", 0x0130_3A35u, 0x0030_3934u)]
    [InlineData(0x8000_0008u, 0u, 0ul, 0ul, "edx", 0x0102_0008u, 0x0001_0007u)]
    [InlineData(0x8000_0022u, 0u, 0ul, 0ul, "ebx", 0x1Fu + 0x200u, 0x106u)]

    // Exact values.
    [InlineData(1u, 0u, 0ul, 0ul, "ebx", 0x0302_1000u, 0x0302_0800u)]
    [InlineData(6u, 0u, 0ul, 0ul, "ebx", 1u, 0u)]
    [InlineData(0xDu, 2u, 0ul, 0ul, "eax", 0x40u, 0x100u)]
    [InlineData(0x8000_001Fu, 0u, 0ul, 0ul, "ebx", 0x406Fu, 0x406Fu)]
    [InlineData(0x8000_001Fu, 0u, 0ul, 0ul, "ebx", 0x1_5073u, 0x406Fu)] // C-bit, VMPLs and what is reserved

    // Family, model, stepping: 17h, 1, 2 or older. The parts count one by one, and extended model before stepping.
    [InlineData(1u, 0u, 0ul, 0ul, "eax", 0x0080_0F12u, 0x0080_0F12u)]
    [InlineData(1u, 0u, 0ul, 0ul, "eax", 0x0080_0F11u, 0x0080_0F11u)]
    [InlineData(1u, 0u, 0ul, 0ul, "eax", 0x0080_0F13u, 0x0080_0F12u)]
    [InlineData(1u, 0u, 0ul, 0ul, "eax", 0x0081_0F10u, 0x0080_0F12u)]
    [InlineData(1u, 0u, 0ul, 0ul, "eax", 0x00A1_0F00u, 0x0080_0F12u)]
    [InlineData(1u, 0u, 0ul, 0ul, "eax", 0x007F_0FFFu, 0x007F_0FFFu)]
    [InlineData(1u, 0u, 0ul, 0ul, "eax", 0x1080_1F12u, 0x0080_0F12u)]
    [InlineData(0x8000_0001u, 0u, 0ul, 0ul, "eax", 0x00A0_0F11u, 0x0080_0F12u)]

    // XSAVE areas, by what the entry's XCR0 and XSS enable: the end of the last one, or all together.
    [InlineData(0xDu, 0u, 1ul, 0ul, "ebx", 0x240u, 0x240u)]
    [InlineData(0xDu, 0u, 7ul, 0ul, "ebx", 0x240u, 0x340u)]
    [InlineData(0xDu, 0u, 0x27ul, 0ul, "ebx", 0u, 0x380u)]
    [InlineData(0xDu, 0u, 0x67ul, 0ul, "ebx", 0u, 0x580u)]
    [InlineData(0xDu, 0u, 0xE7ul, 0ul, "ebx", 0u, 0x980u)]
    [InlineData(0xDu, 0u, 0x207ul, 0ul, "ebx", 0u, 0x988u)]
    [InlineData(0xDu, 1u, 1ul, 0ul, "ebx", 0x240u, 0x240u)]
    [InlineData(0xDu, 1u, 7ul, 0x800ul, "ebx", 0u, 0x350u)]
    [InlineData(0xDu, 1u, 0x2E7ul, 0x1800ul, "ebx", 0u, 0x9B0u)]
    [InlineData(0xDu, 0u, 1ul, 0ul, "eax", 0x1Cu, 7u)]

    // What the table does not know says nothing; what is not the processor's is nobody's business.
    [InlineData(3u, 0u, 0ul, 0ul, "eax", 5u, 0u)]
    [InlineData(4u, 1u, 0ul, 0ul, "eax", 5u, 0u)]
    [InlineData(0xFFFFu, 0u, 0ul, 0ul, "ecx", 5u, 0u)]
    [InlineData(0x8000_FFFFu, 0u, 0ul, 0ul, "ecx", 5u, 0u)]
    [InlineData(0x1_0000u, 0u, 0ul, 0ul, "ecx", 5u, 5u)]
    [InlineData(0x4000_0000u, 0u, 0ul, 0ul, "ebx", 5u, 5u)]
    [InlineData(0x8001_0000u, 0u, 0ul, 0ul, "edx", 5u, 5u)]
    public void Check_Register_IsAllowedOrCorrected(uint function, uint index, ulong xcr0, ulong xss, string register, uint given, uint allowed)
    {
        CpuidEntry entry = Allowed(function, index, xcr0, xss);
        Assert.True(CpuidPolicy.Check(ref entry));
        Register(ref entry, register) = given;

        Assert.Equal(given == allowed, CpuidPolicy.Check(ref entry));

        Assert.Equal(allowed, Register(ref entry, register));
        Assert.True(CpuidPolicy.Check(ref entry));
    }

    [Fact]
    public void CheckPage_OneFunctionWrong_TellsWhichAndCorrectsIt()
    {
        byte[] page = TestImage.MakeCpuidPage(2);
        Span<CpuidEntry> entries = CpuidPolicy.Entries(page, 2);
        entries[0] = Allowed(1, 0, 0, 0);
        entries[1] = Allowed(7, 1, 0, 0) with { Ebx = 3 };
        var corrections = new List<(CpuidEntry Given, CpuidEntry Allowed)>();

        Assert.Equal(FirmwareStatus.InvalidParameter, CpuidPolicy.CheckPage(page, corrections));

        (CpuidEntry given, CpuidEntry allowed) = Assert.Single(corrections);
        Assert.Equal((7u, 1u, 3u, 0u), (given.Function, given.Index, given.Ebx, allowed.Ebx));
        corrections.Clear();
        Assert.Equal((FirmwareStatus.Success, 0), (CpuidPolicy.CheckPage(page, corrections), corrections.Count));
    }

    [Theory]
    [InlineData(0, 65)]
    [InlineData(3, 1)]
    [InlineData(4, 1)]
    [InlineData(15, 1)]
    [InlineData(16 + 47, 1)]
    public void CheckPage_HeaderOrReservedBytes_AreChecked(int offset, byte value)
    {
        byte[] page = TestImage.MakeCpuidPage(1);
        CpuidPolicy.Entries(page, 1)[0] = Allowed(1, 0, 0, 0);
        page[offset] = value;

        Assert.Equal(FirmwareStatus.InvalidParameter, CpuidPolicy.CheckPage(page, []));
    }

    [Fact]
    public void CheckPage_SixtyFourFunctions_AreTaken()
    {
        byte[] page = new byte[4096];
        page[0] = 64;

        Assert.Equal(FirmwareStatus.Success, CpuidPolicy.CheckPage(page, []));
        Assert.Equal(64 * 48, MemoryMarshal.AsBytes(CpuidPolicy.Entries(page, 64)).Length);
    }

    // Nothing, corrected: what the function says at least.
    private static CpuidEntry Allowed(uint function, uint index, ulong xcr0, ulong xss)
    {
        var entry = new CpuidEntry { Function = function, Index = index, Xcr0 = xcr0, Xss = xss };
        CpuidPolicy.Check(ref entry);
        return entry;
    }

    private static ref uint Register(ref CpuidEntry entry, string name)
    {
        switch (name)
        {
            case "eax":
                return ref entry.Eax;
            case "ebx":
                return ref entry.Ebx;
            case "ecx":
                return ref entry.Ecx;
            default:
                return ref entry.Edx;
        }
    }
}
