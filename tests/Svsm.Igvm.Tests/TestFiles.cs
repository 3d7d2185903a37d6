// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;

namespace Svsm.Igvm.Tests;

/// <summary>Files that the tests start from. Between them they contain every structure of the format.</summary>
internal static class TestFiles
{
    public const uint Snp = 1;
    public const uint Native = 2;
    public const uint Vsm = 4;
    public const uint Tdx = 8;

    public static byte[] Page(int seed)
    {
        byte[] page = new byte[4096];
        for (int i = 0; i < page.Length; i++)
        {
            page[i] = (byte)(i * 7 + seed);
        }

        return page;
    }

    public static byte[] Bytes(int length, int seed)
    {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++)
        {
            bytes[i] = (byte)(i + seed);
        }

        return bytes;
    }

    public static IgvmPlatform SnpPlatform { get; } = new() { CompatibilityMask = Snp, PlatformType = IgvmPlatformType.SevSnp, HighestVtl = 2 };

    /// <summary>The smallest file that hosts accept: one page.</summary>
    public static IgvmFile Minimal { get; } = new()
    {
        Platforms = [SnpPlatform],
        Directives = [new IgvmPageData { Gpa = 0x1000, CompatibilityMask = Snp, Data = Page(1) }],
    };

    public static IgvmSnpIdBlock IdBlock { get; } = new()
    {
        CompatibilityMask = Snp,
        AuthorKeyEnabled = 1,
        LaunchDigest = Bytes(48, 1),
        FamilyId = Bytes(16, 2),
        ImageId = Bytes(16, 3),
        GuestSvn = 4,
        IdKeySignature = new IgvmSnpSignature(Bytes(72, 5), Bytes(72, 6)),
        IdPublicKey = new IgvmSnpPublicKey(IgvmSnpPublicKey.P384, Bytes(72, 7), Bytes(72, 8)),
        AuthorKeySignature = new IgvmSnpSignature(Bytes(72, 9), Bytes(72, 10)),
        AuthorPublicKey = new IgvmSnpPublicKey(IgvmSnpPublicKey.P384, Bytes(72, 11), Bytes(72, 12)),
    };

    /// <summary>Every x64 structure.</summary>
    public static IgvmFile Everything { get; } = new()
    {
        FormatVersion = IgvmFormatVersion.V2,
        Platforms =
        [
            SnpPlatform,
            new IgvmPlatform { CompatibilityMask = Native, PlatformType = IgvmPlatformType.Native },
            new IgvmPlatform { CompatibilityMask = Vsm, PlatformType = IgvmPlatformType.VsmIsolation, HighestVtl = 2 },
            new IgvmPlatform { CompatibilityMask = Tdx, PlatformType = IgvmPlatformType.Tdx, SharedGpaBoundary = 1ul << 47 },
        ],
        Initializations =
        [
            new IgvmGuestPolicy { CompatibilityMask = Snp, Policy = 0x3_0000 },
            new IgvmRelocatableRegion
            {
                CompatibilityMask = Vsm,
                Vtl = 2,
                Flags = IgvmRelocationFlags.IsVtl2 | IgvmRelocationFlags.ApplyRip | IgvmRelocationFlags.ApplyGdtr,
                Alignment = 0x20_0000,
                Gpa = 0x100_0000,
                ByteLength = 0x10_0000,
                MinimumGpa = 0,
                MaximumGpa = 0x8000_0000,
            },
            new IgvmPageTableRelocation { CompatibilityMask = Vsm, Vtl = 2, Gpa = 0x200_0000, ByteLength = 0x1_0000, UsedByteLength = 0x4000 },
            new IgvmCorimDocument { CompatibilityMask = Snp, Data = Bytes(77, 1) },
            new IgvmCorimSignature { CompatibilityMask = Snp, Data = Bytes(33, 2) },
        ],
        Directives =
        [
            new IgvmRequiredMemory { Gpa = 0x800_0000, CompatibilityMask = Snp | Native, ByteLength = 0x100_0000, Flags = IgvmRequiredMemoryFlags.Vtl2Protectable },
            new IgvmParameterArea { ByteLength = 0x1000, Index = 0 },
            new IgvmParameterArea { ByteLength = 0x2000, Index = 7, InitialData = Bytes(0x2000, 3) },
            new IgvmParameterUsage { Kind = IgvmParameterKind.VpCount, AreaIndex = 0 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.EnvironmentInfo, AreaIndex = 0, ByteOffset = 4 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.Srat, AreaIndex = 7 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.Madt, AreaIndex = 7, ByteOffset = 0x100 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.MmioRanges, AreaIndex = 7, ByteOffset = 0x200 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.MemoryMap, AreaIndex = 7, ByteOffset = 0x300 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.CommandLine, AreaIndex = 7, ByteOffset = 0x600 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.Slit, AreaIndex = 7, ByteOffset = 0x800 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.Pptt, AreaIndex = 7, ByteOffset = 0xA00 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.DeviceTree, AreaIndex = 7, ByteOffset = 0xC00 },
            new IgvmParameterInsert { Gpa = 0x800_0000, CompatibilityMask = Snp, AreaIndex = 0 },
            new IgvmParameterInsert { Gpa = 0x800_1000, CompatibilityMask = Snp | Native, AreaIndex = 7 },
            new IgvmErrorRange { Gpa = 0x7000, CompatibilityMask = Snp, ByteLength = 0x1000 },
            new IgvmPageData { Gpa = 0x1_0000, CompatibilityMask = Snp | Native, Data = Page(1) },
            new IgvmPageData { Gpa = 0x1_1000, CompatibilityMask = Snp, Data = Page(1) },
            new IgvmPageData { Gpa = 0x1_2000, CompatibilityMask = Snp },
            new IgvmPageData { Gpa = 0x1_3000, CompatibilityMask = Snp, Flags = IgvmPageDataFlags.Unmeasured, Data = Page(2) },
            new IgvmPageData { Gpa = 0x1_4000, CompatibilityMask = Snp, Flags = IgvmPageDataFlags.Shared, Data = Page(3) },
            new IgvmPageData { Gpa = 0x20_0000, CompatibilityMask = Snp, Flags = IgvmPageDataFlags.Is2MBPage, Data = Page(4) },
            new IgvmPageData { Gpa = 0x1_5000, CompatibilityMask = Snp, DataType = IgvmPageDataType.Secrets },
            new IgvmPageData { Gpa = 0x1_6000, CompatibilityMask = Snp, DataType = IgvmPageDataType.CpuidData, Data = Page(5) },
            new IgvmPageData { Gpa = 0x1_7000, CompatibilityMask = Snp, DataType = IgvmPageDataType.CpuidXf, Data = Page(6) },
            new IgvmVpContext { Gpa = 0, CompatibilityMask = Native, Data = new IgvmNativeVpContext { Rip = 0x1_0000, Cr0 = 0x31 }.ToPage() },
            new IgvmVpContext { Gpa = 0, CompatibilityMask = Vsm, Data = IgvmVbsRegister.WriteList([new(2, 0x0002_0010, 0x1_0000), new(2, 0x0004_0001, UInt128.MaxValue)]) },
            new IgvmVbsMeasurement
            {
                CompatibilityMask = Vsm,
                Version = 1,
                ProductId = 2,
                ModuleId = 3,
                SecurityVersion = 4,
                PolicyFlags = 5,
                BootDigestAlgorithm = 1,
                SigningAlgorithm = 1,
                BootDigest = Bytes(64, 1),
                Signature = Bytes(256, 2),
                PublicKey = Bytes(512, 3),
            },
            new IgvmVpContext { Gpa = 0xFFFF_FFFF_F000, CompatibilityMask = Snp, Data = Page(9), VpIndex = 0 },
            IdBlock,
        ],
    };

    /// <summary>The structures of AArch64.</summary>
    public static IgvmFile Arm { get; } = new()
    {
        FormatVersion = IgvmFormatVersion.V2,
        Architecture = IgvmArchitecture.AArch64,
        Platforms = [new IgvmPlatform { CompatibilityMask = 1, PlatformType = IgvmPlatformType.Cca }],
        Initializations = [new IgvmCcaPolicy { CompatibilityMask = 1, RequiredZeroes = 0xF0, RequiredOnes = 0x0F, HashAlgorithm = 2, LfaPolicy = 1 }],
        Directives = [new IgvmPageData { Gpa = 0x4000_0000, CompatibilityMask = 1, Data = Page(1) }],
    };

    public static ImmutableArray<IgvmFile> All { get; } = [Minimal, Everything, Arm];
}
