// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Wire;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class VmsaRulesTests
{
    private delegate void Change(ref Vmsa vmsa);

    [Theory]
    [InlineData(0x1)]
    [InlineData(0x9)]
    [InlineData(0x29)]
    [InlineData(0x80E9)]
    public void Check_SupportedFeatures_AreTaken(ulong features)
    {
        Vmsa vmsa = TestImage.Vmsa;
        vmsa.SevFeatures = features;

        VmsaRules.Check(TestImage.Context(vmsa));
    }

    // Each byte of the page that QEMU does not read, from the list in its check_vmsa.
    [Fact]
    public void Check_EachByteOfThePage_IsTakenOrRefusedAsByQemu()
    {
        var taken = new HashSet<int>();
        Add(0x00, 0xA0);
        foreach (int field in new[] { 0xD0, 0x148, 0x150, 0x158, 0x160, 0x168, 0x170, 0x178, 0x1D8, 0x1F8, 0x268, 0x308, 0x310, 0x318, 0x328, 0x330, 0x338, 0x3B0, 0x3E8 })
        {
            Add(field, 8);
        }

        Add(0x340, 64);
        Add(0x408, 4);
        Add(0x410, 2);
        byte[] page = TestImage.Context(TestImage.Vmsa).Data.ToArray();
        for (int offset = 0; offset < page.Length; offset++)
        {
            byte[] changed = [.. page];
            changed[offset] ^= 0x80;
            bool fieldRefused = false;
            try
            {
                VmsaRules.Check(TestImage.Context(TestImage.Vmsa) with { Data = changed });
            }
            catch (SvsmDiagnosticException exception)
            {
                fieldRefused = exception.Message.Contains("does not take this field", StringComparison.Ordinal);
            }

            Assert.True(fieldRefused != taken.Contains(offset), $"offset 0x{offset:X}");
        }

        void Add(int offset, int length)
        {
            for (int i = 0; i < length; i++)
            {
                taken.Add(offset + i);
            }
        }
    }

    [Fact]
    public void Check_OtherAddress_IsRefused()
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => VmsaRules.Check(TestImage.Context(TestImage.Vmsa) with { Gpa = 0x8FF_F000 }));

        Assert.Contains("0x8FFF000", error.Message, StringComparison.Ordinal);
        Assert.Contains("0xFFFFFFFFF000", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Check_ShortPage_IsRefused() =>
        Refused(TestImage.Context(TestImage.Vmsa) with { Data = new byte[100] }, "100 bytes");

    [Fact]
    public void Check_NoSnp_IsRefused() => Refused((ref Vmsa vmsa) => vmsa.SevFeatures = 8, "bit 0 (SNP active) set");

    [Fact]
    public void Check_UnsupportedFeature_IsRefused() => Refused((ref Vmsa vmsa) => vmsa.SevFeatures = 0x201, "0x200 is too much");

    [Fact]
    public void Check_NoSvme_IsRefused() => Refused((ref Vmsa vmsa) => vmsa.Efer = 0x800, "EFER 0x800");

    [Fact]
    public void Check_PagingOn_IsRefused() => Refused((ref Vmsa vmsa) => vmsa.Cr0 = 0x8000_0031, "CR0 0x80000031");

    [Fact]
    public void Check_NoMachineCheck_IsRefused() => Refused((ref Vmsa vmsa) => vmsa.Cr4 = 0x20, "CR4 0x20");

    [Fact]
    public void Check_Breakpoints_AreRefused() => Refused((ref Vmsa vmsa) => vmsa.Dr7 = 0x401, "DR7 0x401");

    [Fact]
    public void Check_Vmpl_IsRefusedByOffset() => Refused((ref Vmsa vmsa) => vmsa.Vmpl = 2, "byte 0x02 at offset 0xCA");

    private static void Refused(Change change, string part)
    {
        Vmsa vmsa = TestImage.Vmsa;
        change(ref vmsa);
        Refused(TestImage.Context(vmsa), part);
    }

    private static void Refused(IgvmVpContext context, string part)
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => VmsaRules.Check(context));

        Assert.Same(SvsmDiagnostics.ImageRefused, error.Diagnostic);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }
}
