// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Igvm.Imaging;
using Svsm.Wire;

namespace Svsm.Igvm.Tests.Imaging;

internal static class TestImages
{
    public const ulong RegionBase = 0x800_0000;
    public const ulong RegionLength = 0x100_0000;

    /// <summary>An image of the shape of an SVSM: pages out of order, every page type, two parameter pages.</summary>
    public static LaunchImage Create()
    {
        var image = new LaunchImage
        {
            RegionBase = RegionBase,
            RegionLength = RegionLength,
            HasGuest = true,
            SevFeatures = SevFeatures.SnpActive | SevFeatures.RestrictedInjection | SevFeatures.DebugSwap,
        };
        SetRegisters(ref image.Vmsa);
        image.AddRequiredMemory(RegionBase, (uint)RegionLength);
        image.AddData(RegionBase + 0x4000, TestFiles.Bytes(0x1800, 1));
        image.AddSecrets(0x1_3000);
        image.AddCpuid(0x1_2000, CpuidPage.Create(CpuidPage.DefaultLeaves.AsSpan()));
        image.AddZeroes(RegionBase + 0x2000, 2);
        image.AddUnmeasured(0x1_4000);
        image.AddUnmeasured(0x1_5000, TestFiles.Page(3));
        image.AddData(0x1_0000, TestFiles.Bytes(0x1001, 2));
        image.AddParameterPage(RegionBase + 0x1000, new LaunchParameter(IgvmParameterKind.MemoryMap));
        image.AddParameterPage(RegionBase, new LaunchParameter(IgvmParameterKind.VpCount), new LaunchParameter(IgvmParameterKind.EnvironmentInfo, 4));
        return image;
    }

    public static void SetRegisters(ref Vmsa vmsa)
    {
        var data = new SegmentRegister { Selector = 0x10, Attributes = 0xA93, Limit = uint.MaxValue };
        vmsa.Es = vmsa.Ss = vmsa.Ds = vmsa.Fs = vmsa.Gs = data;
        vmsa.Cs = new SegmentRegister { Selector = 8, Attributes = 0xC9B, Limit = uint.MaxValue };
        vmsa.Efer = 0x1800;
        vmsa.Cr0 = 0x31;
        vmsa.Cr4 = 0x60;
        vmsa.Rflags = 2;
        vmsa.Rip = 0x1_0002;
        vmsa.Rsp = 0x2_0000;
        vmsa.Rax = 1;
        vmsa.Xcr0 = 1;
    }
}
