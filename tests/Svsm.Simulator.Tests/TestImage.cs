// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using System.Runtime.InteropServices;
using Svsm.Igvm;
using Svsm.Wire;

namespace Svsm.Simulator.Tests;

/// <summary>An image with the shape of an SVSM: the chain of vector A of the measurement facts.</summary>
internal static class TestImage
{
    public const uint Snp = 1;
    public const uint Other = 2;
    public const ulong Policy = 0x3_0000;

    /// <summary>Launch digest of <see cref="File"/>; computed by sev-snp-measure and by an independent script.</summary>
    public const string Digest = "2cb208f1b6e507aced6d093e1c45d8e3de89d4a5c1dc6ebd45258cac47e8a046b1e76aff0c305bb03f24d471975d953f";

    /// <summary>Byte i is i mod 256.</summary>
    public static byte[] PatternPage { get; } = [.. Enumerable.Range(0, 4096).Select(i => (byte)i)];

    public static byte[] CpuidPage { get; } = MakeCpuidPage(2);

    public static Vmsa Vmsa { get; } = new()
    {
        Es = Data,
        Cs = new SegmentRegister { Selector = 8, Attributes = 0xC9B, Limit = uint.MaxValue },
        Ss = Data,
        Ds = Data,
        Fs = Data,
        Gs = Data,
        Efer = 0x1800,
        Cr4 = 0x60,
        Cr0 = 0x31,
        Rflags = 2,
        Rip = 0x1_0002,
        Rsp = 0x2_0000,
        Rax = 1,
        Pat = 0x0007_0406_0007_0406,
        SevFeatures = 0x29,
        Xcr0 = 1,
    };

    public static IgvmFile File { get; } = With(
        new IgvmRequiredMemory { Gpa = 0x800_0000, CompatibilityMask = Snp, ByteLength = 0x1_0000 },
        new IgvmParameterArea { ByteLength = 0x1000, Index = 0 },
        new IgvmParameterArea { ByteLength = 0x1000, Index = 1 },
        new IgvmParameterUsage { Kind = IgvmParameterKind.VpCount, AreaIndex = 0 },
        new IgvmParameterUsage { Kind = IgvmParameterKind.EnvironmentInfo, AreaIndex = 0, ByteOffset = 4 },
        new IgvmParameterUsage { Kind = IgvmParameterKind.MemoryMap, AreaIndex = 1 },
        new IgvmParameterInsert { Gpa = 0x800_0000, CompatibilityMask = Snp, AreaIndex = 0 },
        new IgvmParameterInsert { Gpa = 0x800_1000, CompatibilityMask = Snp, AreaIndex = 1 },
        Page(0x1_0000, PatternPage),
        Page(0x1_1000, new byte[4096]),
        new IgvmPageData { Gpa = 0x9_E000, CompatibilityMask = Snp, DataType = IgvmPageDataType.CpuidData, Data = CpuidPage },
        new IgvmPageData { Gpa = 0x9_F000, CompatibilityMask = Snp, DataType = IgvmPageDataType.Secrets },
        Context(Vmsa));

    private static SegmentRegister Data => new() { Selector = 0x10, Attributes = 0xA93, Limit = uint.MaxValue };

    /// <summary>A file of these directives for an SNP platform and another one.</summary>
    public static IgvmFile With(params ImmutableArray<IgvmDirective> directives) => new()
    {
        Platforms =
        [
            new IgvmPlatform { CompatibilityMask = Snp, PlatformType = IgvmPlatformType.SevSnp },
            new IgvmPlatform { CompatibilityMask = Other, PlatformType = IgvmPlatformType.Native },
        ],
        Initializations = [new IgvmGuestPolicy { CompatibilityMask = Snp, Policy = Policy }],
        Directives = directives,
    };

    /// <summary><see cref="File"/> with one more directive at its end.</summary>
    public static IgvmFile Plus(IgvmDirective directive) => File with { Directives = File.Directives.Add(directive) };

    /// <summary><see cref="File"/> with another VMSA.</summary>
    public static IgvmFile WithVmsa(Vmsa vmsa) => File with { Directives = File.Directives.SetItem(File.Directives.Length - 1, Context(vmsa)) };

    public static IgvmPageData Page(ulong gpa, ReadOnlyMemory<byte> data) => new() { Gpa = gpa, CompatibilityMask = Snp, Data = data };

    public static IgvmVpContext Context(Vmsa vmsa, ushort index = 0)
    {
        byte[] page = new byte[4096];
        MemoryMarshal.Write(page, in vmsa);
        return new IgvmVpContext { Gpa = VmsaRules.Gpa, CompatibilityMask = Snp, Data = page, VpIndex = index };
    }

    public static byte[] MakeCpuidPage(uint count)
    {
        byte[] page = new byte[4096];
        MemoryMarshal.Write(page, in count);
        return page;
    }
}
