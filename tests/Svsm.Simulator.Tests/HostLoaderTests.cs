// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.InteropServices;
using CsCheck;
using Svsm.Diagnostics;
using Svsm.Igvm;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class HostLoaderTests
{
    private const ulong MiB = 1 << 20;
    private const ulong GiB = 1 << 30;

    [Fact]
    public void Load_SvsmShapedImage_HasVectorDigest()
    {
        LaunchPlan plan = Load(TestImage.File);

        Assert.Equal(TestImage.Digest, Convert.ToHexStringLower(plan.Digest.Span));
        Assert.Equal(TestImage.Policy, plan.Policy);
    }

    [Fact]
    public void Load_SvsmShapedImage_LaunchesInOrderWithVmsaLast()
    {
        LaunchPlan plan = Load(TestImage.File);

        Assert.Equal(
            [
                (LaunchPageType.Unmeasured, 0x800_0000), (LaunchPageType.Unmeasured, 0x800_1000),
                (LaunchPageType.Normal, 0x1_0000), (LaunchPageType.Normal, 0x1_1000),
                (LaunchPageType.Cpuid, 0x9_E000), (LaunchPageType.Secrets, 0x9_F000), (LaunchPageType.Vmsa, VmsaRules.Gpa),
            ],
            plan.Updates.Select(update => (update.Type, update.Gpa)));
        Assert.Equal(TestImage.PatternPage, plan.Updates[2].Contents.ToArray());
        Assert.Equal(TestImage.CpuidPage, plan.Updates[4].Contents.ToArray());
    }

    [Fact]
    public void Load_Parameters_AreFilled()
    {
        LaunchPlan plan = HostLoader.Load(TestImage.File, new GuestRam(4 * GiB), 3);

        GeneralParameters general = MemoryMarshal.Read<GeneralParameters>(plan.Updates[0].Contents.Span);
        Assert.Equal(3u, general.VcpuCount);
        Assert.Equal(GeneralParameters.MemoryIsShared, general.EnvironmentInfo);
        MemoryMapEntry[] map = MemoryMarshal.Cast<byte, MemoryMapEntry>(plan.Updates[1].Contents.Span[..72]).ToArray();
        Assert.Equal([(0, 0x8_0000), (0x10_0000, 0x8_0000), (0, 0)], map.Select(entry => (entry.StartPage, entry.PageCount)));
        Assert.All(map, entry => Assert.Equal(MemoryMapEntryType.Memory, entry.Type));
        Assert.False(plan.Updates[1].Contents.Span[72..].ContainsAnyExcept((byte)0));
    }

    [Fact]
    public void Load_SecretsPage_IsFilledBySecurityProcessor()
    {
        ReadOnlyMemory<byte> first = Load(TestImage.File).Updates[5].Contents;
        ReadOnlyMemory<byte> second = Load(TestImage.File).Updates[5].Contents;

        Assert.NotEqual(first.ToArray(), second.ToArray());
    }

    [Fact]
    public void Load_RequiredMemory_IsWhatIsNotLaunched()
    {
        LaunchPlan plan = Load(TestImage.Plus(new IgvmRequiredMemory { Gpa = 0x1_0000, CompatibilityMask = TestImage.Snp, ByteLength = 0x3000 }));

        Assert.Equal([(0x1_2000, 0x1000), (0x800_2000, 0xE000)], plan.Required.Select(range => (range.Base, range.Length)));
    }

    [Fact]
    public void Load_PageOutsideRam_AddsMemoryThatTheMapDoesNotList()
    {
        LaunchPlan plan = Load(TestImage.Plus(TestImage.Page(0xFFFF_F000, TestImage.PatternPage)));

        Assert.Equal([(0, 256 * MiB), (0xFFFF_F000, 0x1000)], plan.Ram.Select(range => (range.Base, range.Length)));
        MemoryMapEntry[] map = MemoryMarshal.Cast<byte, MemoryMapEntry>(plan.Updates[1].Contents.Span[..48]).ToArray();
        Assert.Equal([(0, 256 * MiB / 4096), (0, 0)], map.Select(entry => (entry.StartPage, entry.PageCount)));
    }

    [Fact]
    public void Load_OtherPlatformsDirectives_AreSkipped()
    {
        IgvmFile file = TestImage.Plus(TestImage.Page(0x5000, TestImage.PatternPage) with { CompatibilityMask = TestImage.Other });

        Assert.Equal(TestImage.Digest, Convert.ToHexStringLower(Load(file).Digest.Span));
    }

    [Fact]
    public void Load_InsertAfterRun_ComesBeforeTheRunAsInQemu()
    {
        IgvmFile file = TestImage.With(
            new IgvmParameterArea { ByteLength = 0x2000, Index = 5 },
            TestImage.Page(0x1000, TestImage.PatternPage),
            TestImage.Page(0x5000, TestImage.PatternPage),
            TestImage.Page(0x6000, TestImage.PatternPage),
            new IgvmParameterInsert { Gpa = 0x8000, CompatibilityMask = TestImage.Snp, AreaIndex = 5 },
            TestImage.Page(0x7000, TestImage.PatternPage),
            TestImage.Context(TestImage.Vmsa));

        Assert.Equal([0x1000, 0x8000, 0x9000, 0x5000, 0x6000, 0x7000, VmsaRules.Gpa], Load(file).Updates.Select(update => update.Gpa));
    }

    [Fact]
    public void Load_PageKinds_HaveTheirTypes()
    {
        IgvmFile file = TestImage.With(
            TestImage.Page(0x1000, default),
            TestImage.Page(0x2000, TestImage.PatternPage) with { Flags = IgvmPageDataFlags.Unmeasured },
            new IgvmPageData { Gpa = 0x3000, CompatibilityMask = TestImage.Snp, DataType = IgvmPageDataType.CpuidXf, Data = TestImage.CpuidPage },
            TestImage.Context(TestImage.Vmsa));

        LaunchPlan plan = Load(file);

        Assert.Equal([LaunchPageType.Normal, LaunchPageType.Unmeasured, LaunchPageType.Cpuid, LaunchPageType.Vmsa], plan.Updates.Select(update => update.Type));
        Assert.True(plan.Updates[0].Contents.IsEmpty);
    }

    [Fact]
    public void Load_SeveralVmsas_AreLaunchedInOrderOfVcpus()
    {
        Vmsa second = TestImage.Vmsa;
        second.Rip = 0x2_0000;
        IgvmFile file = TestImage.With(TestImage.Page(0x1000, default), TestImage.Context(second, 1), TestImage.Context(TestImage.Vmsa));

        LaunchPlan plan = HostLoader.Load(file, new GuestRam(256 * MiB), 2);

        Assert.Equal([0u, 1u], plan.Updates.Skip(1).Select(update => update.Index));
        Assert.Equal(0x2_0000ul, MemoryMarshal.Read<Vmsa>(plan.Updates[2].Contents.Span).Rip);
    }

    [Fact]
    public void Load_NoPolicy_IsQemusDefault()
    {
        LaunchPlan plan = Load(TestImage.File with { Initializations = [] });

        Assert.Equal(0x3_0000ul, plan.Policy);
    }

    [Fact]
    public void Load_ParameterUsedTwice_LastOneStays()
    {
        IgvmFile file = TestImage.With(
            new IgvmParameterArea { ByteLength = 0x1000, Index = 0 },
            new IgvmParameterUsage { Kind = IgvmParameterKind.EnvironmentInfo, AreaIndex = 0, ByteOffset = 0xFFC },
            new IgvmParameterUsage { Kind = IgvmParameterKind.VpCount, AreaIndex = 0, ByteOffset = 0xFFC },
            new IgvmParameterInsert { Gpa = 0x1000, CompatibilityMask = TestImage.Snp, AreaIndex = 0 },
            TestImage.Page(0x5000, TestImage.PatternPage),
            TestImage.Context(TestImage.Vmsa));

        LaunchPlan plan = HostLoader.Load(file, new GuestRam(256 * MiB), 7);

        Assert.Equal(7u, MemoryMarshal.Read<uint>(plan.Updates[0].Contents.Span[0xFFC..]));
    }

    [Fact]
    public void Load_ParsedFile_IsTheSame()
    {
        LaunchPlan plan = HostLoader.Load(TestImage.File.Write(), new GuestRam(256 * MiB), 1);

        Assert.Equal(TestImage.Digest, Convert.ToHexStringLower(plan.Digest.Span));
    }

    [Fact]
    public void Load_NoIgvmFile_IsRefused()
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => HostLoader.Load(new byte[100], new GuestRam(256 * MiB), 1));

        Assert.Same(SvsmDiagnostics.ImageRefused, error.Diagnostic);
        Assert.IsType<IgvmFormatException>(error.InnerException);
    }

    public static TheoryData<string, IgvmFile, string> Refusals()
    {
        IgvmSnpIdBlock idBlock = TestIdBlock.Sign(TestImage.Digest, TestImage.Policy);
        return new()
        {
            { "no SNP platform", TestImage.File with { Platforms = [TestImage.File.Platforms[1]] }, "Native" },
            { "2-MiB page", TestImage.Plus(TestImage.Page(0x20_0000, TestImage.PatternPage) with { Flags = IgvmPageDataFlags.Is2MBPage }), "2-MiB page at GPA 0x200000" },
            { "shared page", TestImage.Plus(TestImage.Page(0x5000, TestImage.PatternPage) with { Flags = IgvmPageDataFlags.Shared }), "shared page at GPA 0x5000" },
            { "page above the C-bit", TestImage.Plus(TestImage.Page(1ul << 47, TestImage.PatternPage)), "GPA 0x800000000000" },
            { "empty CPUID page", TestImage.Plus(new IgvmPageData { Gpa = 0x5000, CompatibilityMask = 1, DataType = IgvmPageDataType.CpuidData }), "with 0 functions" },
            {
                "too many CPUID functions",
                TestImage.Plus(new IgvmPageData { Gpa = 0x5000, CompatibilityMask = 1, DataType = IgvmPageDataType.CpuidData, Data = TestImage.MakeCpuidPage(65) }),
                "with 65 functions"
            },
            { "initial contents", TestImage.Plus(new IgvmParameterArea { ByteLength = 0x1000, Index = 9, InitialData = TestImage.PatternPage }), "parameter area 9" },
            { "huge area", TestImage.Plus(new IgvmParameterArea { ByteLength = 1ul << 40, Index = 9 }), "parameter area 9 of 1099511627776 bytes" },
            {
                "parameter past the end",
                TestImage.With(
                    new IgvmParameterArea { ByteLength = 0x1000, Index = 9 },
                    new IgvmParameterUsage { Kind = IgvmParameterKind.VpCount, AreaIndex = 9, ByteOffset = 0xFFD }),
                "offset 0xFFD"
            },
            {
                "parameter far past the end",
                TestImage.With(
                    new IgvmParameterArea { ByteLength = 0x1000, Index = 9 },
                    new IgvmParameterUsage { Kind = IgvmParameterKind.EnvironmentInfo, AreaIndex = 9, ByteOffset = uint.MaxValue }),
                "offset 0xFFFFFFFF"
            },
            {
                "no room for the memory map",
                TestImage.With(
                    new IgvmParameterArea { ByteLength = 0x1000, Index = 9 },
                    new IgvmParameterUsage { Kind = IgvmParameterKind.MemoryMap, AreaIndex = 9, ByteOffset = 0xFE0 }),
                "room for 48 bytes"
            },
            { "huge required memory", TestImage.Plus(new IgvmRequiredMemory { Gpa = 1ul << 40, CompatibilityMask = 1, ByteLength = 0xFFFF_F000 }), "" },
            {
                "too much memory outside the RAM",
                TestImage.With(
                    new IgvmRequiredMemory { Gpa = 1ul << 40, CompatibilityMask = 1, ByteLength = 0xFFFF_F000 },
                    new IgvmRequiredMemory { Gpa = 1ul << 41, CompatibilityMask = 1, ByteLength = 0x2000 },
                    TestImage.Context(TestImage.Vmsa)),
                "4096 MiB outside the RAM"
            },
            {
                "too many ranges",
                TestImage.With([.. Enumerable.Range(0, 32).Select(i => TestImage.Page(GiB + ((ulong)i * 0x2000), default)), TestImage.Context(TestImage.Vmsa)]),
                "33 separate ranges"
            },
            { "VMSA for a vCPU too many", TestImage.Plus(TestImage.Context(TestImage.Vmsa, 1)), "vCPU 1 on a machine with 1" },
            { "second VMSA", TestImage.Plus(TestImage.Context(TestImage.Vmsa)), "second VMSA for vCPU 0" },
            { "no VMSA", TestImage.With(TestImage.Page(0x1000, TestImage.PatternPage)), "no VMSA for vCPU 0" },
            { "second ID block", TestImage.File with { Directives = TestImage.File.Directives.Add(idBlock).Add(idBlock) }, "second ID block" },
            { "error range", TestImage.Plus(new IgvmErrorRange { Gpa = 0x5000, CompatibilityMask = 1, ByteLength = 0x1000 }), "0x30D" },
            { "error range for another platform", TestImage.Plus(new IgvmErrorRange { Gpa = 0x5000, CompatibilityMask = 2, ByteLength = 0x1000 }), "0x30D" },
            {
                "relocation",
                TestImage.File with
                {
                    Initializations = TestImage.File.Initializations.Add(new IgvmPageTableRelocation { CompatibilityMask = 2, Gpa = 0, ByteLength = 0x1000, UsedByteLength = 0x1000 }),
                },
                "0x103"
            },
            { "MADT", Usage(IgvmParameterKind.Madt), "0x309" },
            { "SRAT", Usage(IgvmParameterKind.Srat), "0x308" },
            { "SLIT", Usage(IgvmParameterKind.Slit), "0x30F" },
            { "PPTT", Usage(IgvmParameterKind.Pptt), "0x310" },
            { "MMIO ranges", Usage(IgvmParameterKind.MmioRanges), "0x30A" },
            { "command line", Usage(IgvmParameterKind.CommandLine), "0x30E" },
            { "device tree", Usage(IgvmParameterKind.DeviceTree), "0x312" },
        };
    }

    [Theory]
    [MemberData(nameof(Refusals), DisableDiscoveryEnumeration = true)]
    public void Load_WhatQemuRefuses_IsRefused(string name, IgvmFile file, string part)
    {
        if (part.Length == 0)
        {
            // The boundary: just what is allowed.
            Assert.NotEmpty(Load(file).Required);
            return;
        }

        var error = Assert.Throws<SvsmDiagnosticException>(() => Load(file));

        Assert.True(error.Diagnostic == SvsmDiagnostics.ImageRefused, name);
        Assert.Contains(part, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_DifferentFeatures_AreRefused()
    {
        Vmsa other = TestImage.Vmsa;
        other.SevFeatures = 1;
        IgvmFile file = TestImage.Plus(TestImage.Context(other, 1));

        var error = Assert.Throws<SvsmDiagnosticException>(() => HostLoader.Load(file, new GuestRam(256 * MiB), 2));

        Assert.Contains("SEV_FEATURES 0x1 in the VMSA of vCPU 1", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Load_PageLaunchedTwice_IsRefusedBySecurityProcessor()
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => Load(TestImage.Plus(TestImage.Page(0x800_1000, TestImage.PatternPage))));

        Assert.Same(SvsmDiagnostics.LaunchRefused, error.Diagnostic);
    }

    [Fact]
    public void Load_ValidIdBlock_IsTaken()
    {
        LaunchPlan plan = Load(TestImage.Plus(TestIdBlock.Sign(TestImage.Digest, TestImage.Policy)));

        Assert.Equal(TestImage.Digest, Convert.ToHexStringLower(plan.Digest.Span));
    }

    [Fact]
    public void Load_IdBlockForOtherPolicy_IsRefused()
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => Load(TestImage.Plus(TestIdBlock.Sign(TestImage.Digest, 0xB_0000))));

        Assert.Same(SvsmDiagnostics.LaunchRefused, error.Diagnostic);
    }

    [Fact]
    public void Load_BitFlips_LoadOrAreRefusedAndNothingElse()
    {
        byte[] image = TestImage.File.Write();
        HashSet<string> refusals = ["SVSM6003", "SVSM6005"];

        Gen.Select(Gen.Int[0, image.Length - 1], Gen.Byte[1, 255]).Sample(
            (position, flip) =>
            {
                byte[] broken = [.. image];
                broken[position] ^= flip;

                // Repair the checksum, or nothing behind it is ever reached.
                System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(broken.AsSpan(0x14), 0);
                int headers = (int)Math.Min(0x18 + (long)MemoryMarshal.Read<uint>(broken.AsSpan(0x0C)), broken.Length);
                System.Buffers.Binary.BinaryPrimitives.WriteUInt32LittleEndian(broken.AsSpan(0x14), System.IO.Hashing.Crc32.HashToUInt32(broken.AsSpan(0, headers)));
                try
                {
                    HostLoader.Load(broken, new GuestRam(256 * MiB), 1);
                    return true;
                }
                catch (SvsmDiagnosticException exception)
                {
                    return refusals.Contains(exception.Diagnostic.Code);
                }
            },
            iter: 3000);
    }

    private static LaunchPlan Load(IgvmFile file) => HostLoader.Load(file, new GuestRam(256 * MiB), 1);

    private static IgvmFile Usage(IgvmParameterKind kind) => TestImage.With(
        new IgvmParameterArea { ByteLength = 0x1000, Index = 0 }, new IgvmParameterUsage { Kind = kind, AreaIndex = 0 });
}
