// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Igvm;
using Svsm.Igvm.Imaging;
using Svsm.Wire;
using Xunit;

namespace Svsm.Measurement.Tests;

public sealed class LaunchMeasurementTests
{
    private const ulong VmsaGpa = 0xFFFF_FFFF_F000;

    private static readonly byte[] s_zeroes = new byte[4096];

    // The chain vector of LaunchDigestAccumulatorTests, as a file.
    [Fact]
    public void Measure_FileOfTheChainVector_GivesTheVector()
    {
        var image = new LaunchImage { SevFeatures = (SevFeatures)0x29 };
        image.Vmsa = TestPages.SvsmVmsa;
        image.AddParameterPage(0x800_0000, new LaunchParameter(IgvmParameterKind.VpCount));
        image.AddParameterPage(0x800_1000, new LaunchParameter(IgvmParameterKind.MemoryMap));
        image.AddSecrets(0x9_F000);
        image.AddCpuid(0x9_E000, CpuidPage.Create([]));
        image.AddZeroes(0x1_1000, 1);
        image.AddData(0x1_0000, TestPages.Pattern);
        image.AddRequiredMemory(0x800_0000, 0x100_0000);

        MeasurementResult result = LaunchMeasurement.Measure(LaunchImageWriter.Write(image, HostFlavour.Qemu), HostFlavour.Qemu);

        Assert.Equal("2cb208f1b6e507aced6d093e1c45d8e3de89d4a5c1dc6ebd45258cac47e8a046b1e76aff0c305bb03f24d471975d953f", result.Digest.ToString());
        Assert.Equal(
            [
                (0x800_0000, SnpPageType.Unmeasured), (0x800_1000, SnpPageType.Unmeasured), (0x1_0000, SnpPageType.Normal), (0x1_1000, SnpPageType.Normal),
                (0x9_E000, SnpPageType.Cpuid), (0x9_F000, SnpPageType.Secrets), (VmsaGpa, SnpPageType.Vmsa),
            ],
            Order(result));
        Assert.Equal("64a72c6a60e2f4f97a71bc0905f27aee3c0dc4e3dffa6ff1a7154861ce89de3c9370e72f2fd8902b92ffc08ab7239d13", result.Pages[5].DigestAfter.ToString());
        Assert.Equal("6497639a9992a865bf54728de4dcaa8aecef8e87567563490852cdcb4440effaaa22dfd22b49565cab1ff8cf0d451e1d", result.Pages[6].Contents.ToString());
        Assert.Equal(result.Digest, result.Pages[^1].DigestAfter);
    }

    [Theory]
    [InlineData(HostFlavour.Qemu)]
    [InlineData(HostFlavour.StockQemu)]
    public void Measure_InsertBehindARunOfPagesOnQemu_ComesBeforeTheRun(HostFlavour flavour)
    {
        IgvmFile file = File(Page(0x1000), Page(0x2000), Area(1), Insert(0x9000, 1), Page(0x3000), Context());

        Assert.Equal(
            [(0x9000, SnpPageType.Unmeasured), (0x1000, SnpPageType.Normal), (0x2000, SnpPageType.Normal), (0x3000, SnpPageType.Normal), (VmsaGpa, SnpPageType.Vmsa)],
            Order(LaunchMeasurement.Measure(file, flavour)));
        Assert.Equal(
            [(0x1000, SnpPageType.Normal), (0x2000, SnpPageType.Normal), (0x9000, SnpPageType.Unmeasured), (0x3000, SnpPageType.Normal), (VmsaGpa, SnpPageType.Vmsa)],
            Order(LaunchMeasurement.Measure(file, HostFlavour.Vanadium)));
    }

    // A page that does not continue the run flushes it; the insert then overtakes only the pages since.
    public static TheoryData<string, IgvmPageData> RunBreakers { get; } = new()
    {
        { "gap", Page(0x3000) },
        { "flags", Page(0x2000) with { Flags = IgvmPageDataFlags.Unmeasured } },
        { "type", Page(0x2000) with { DataType = IgvmPageDataType.Secrets } },
        { "data", Page(0x2000) with { Data = default } },
        { "mask", Page(0x2000) with { CompatibilityMask = 3 } },
    };

    [Theory]
    [MemberData(nameof(RunBreakers))]
    public void Measure_PageThatBreaksTheRun_LetsTheInsertOvertakeItselfOnly(string name, IgvmPageData breaker)
    {
        IgvmFile file = File(Area(1), Page(0x1000), breaker, Insert(0x9000, 1), Context());

        List<ulong> order = [.. Order(LaunchMeasurement.Measure(file, HostFlavour.StockQemu)).Select(page => page.Gpa)];

        Assert.True(order.SequenceEqual(new ulong[] { 0x1000, 0x9000, breaker.Gpa, VmsaGpa }), name);
    }

    [Fact]
    public void Measure_OtherDirectiveBetweenPages_BreaksTheRun()
    {
        IgvmFile file = File(Area(1), Page(0x1000), new IgvmRequiredMemory { Gpa = 0, CompatibilityMask = 1, ByteLength = 0x1000 }, Page(0x2000), Insert(0x9000, 1), Context());

        Assert.Equal([0x1000, 0x9000, 0x2000, VmsaGpa], Order(LaunchMeasurement.Measure(file, HostFlavour.Qemu)).Select(page => page.Gpa));
    }

    [Fact]
    public void Measure_InsertOfSeveralPages_CountsAllOfThem()
    {
        IgvmFile file = File(Area(3), Insert(0x9000, 1), Page(0), Context());

        Assert.Equal([0x9000, 0xA000, 0xB000, 0, VmsaGpa], Order(LaunchMeasurement.Measure(file, HostFlavour.Qemu)).Select(page => page.Gpa));
    }

    [Fact]
    public void Measure_PageWithoutData_IsNormalOrZeroByHost()
    {
        IgvmFile empty = File(Page(0x1000) with { Data = default }, Page(0x8000), Context());
        IgvmFile zeroes = File(Page(0x1000) with { Data = s_zeroes }, Page(0x8000), Context());

        foreach (HostFlavour flavour in new[] { HostFlavour.Qemu, HostFlavour.StockQemu, HostFlavour.HyperV })
        {
            Assert.Equal(LaunchMeasurement.Measure(zeroes, flavour).Digest, LaunchMeasurement.Measure(empty, flavour).Digest);
        }

        Assert.Equal(SnpPageType.Zero, LaunchMeasurement.Measure(empty, HostFlavour.Vanadium).Pages[0].Type);
        Assert.Equal(default, LaunchMeasurement.Measure(empty, HostFlavour.Vanadium).Pages[0].Contents);
        Assert.Equal(SnpPageType.Normal, LaunchMeasurement.Measure(zeroes, HostFlavour.Vanadium).Pages[0].Type);
    }

    [Fact]
    public void Measure_LargePage_Is512PagesWithDataOnTheFirst()
    {
        MeasurementResult result = LaunchMeasurement.Measure(File(Page(0x20_0000) with { Flags = IgvmPageDataFlags.Is2MBPage }, Context()), HostFlavour.Qemu);

        Assert.Equal(513, result.Pages.Length);
        Assert.Equal(LaunchDigestAccumulator.HashContents(SnpPageType.Normal, TestPages.Pattern), result.Pages[0].Contents);
        for (int i = 1; i < 512; i++)
        {
            Assert.Equal(0x20_0000ul + ((ulong)i * 4096), result.Pages[i].Gpa);
            Assert.Equal(LaunchDigestAccumulator.HashContents(SnpPageType.Normal, s_zeroes), result.Pages[i].Contents);
        }
    }

    [Fact]
    public void Measure_LargeUnmeasuredPage_Is512UnmeasuredPages() => Assert.Equal(
        512,
        LaunchMeasurement.Measure(File(Page(0x20_0000) with { Flags = IgvmPageDataFlags.Is2MBPage | IgvmPageDataFlags.Unmeasured }, Context()), HostFlavour.Qemu)
            .Pages.Count(page => page.Type == SnpPageType.Unmeasured));

    [Fact]
    public void Measure_SharedPage_IsMeasuredByQemuOnly()
    {
        IgvmFile file = File(Page(0x1000) with { Flags = IgvmPageDataFlags.Shared }, Page(0x8000), Context());

        Assert.Equal(3, LaunchMeasurement.Measure(file, HostFlavour.Qemu).Pages.Length);
        Assert.Equal(2, LaunchMeasurement.Measure(file, HostFlavour.HyperV).Pages.Length);
    }

    [Fact]
    public void Measure_HeadersOfOtherPlatforms_DoNotCount()
    {
        IgvmFile file = File(Area(1), Page(0x1000), Page(0x5000) with { CompatibilityMask = 2 }, Insert(0x9000, 1) with { CompatibilityMask = 2 }, Context());

        Assert.Equal([0x1000, VmsaGpa], Order(LaunchMeasurement.Measure(file, HostFlavour.HyperV)).Select(page => page.Gpa));
    }

    [Fact]
    public void Measure_VmsaOnHyperV_StandsWhereTheFileHasIt()
    {
        IgvmFile file = File(Page(0x1000), Context() with { Gpa = 0x8FF_F000 }, Page(0x2000));

        Assert.Equal([0x1000, 0x8FF_F000, 0x2000], Order(LaunchMeasurement.Measure(file, HostFlavour.HyperV)).Select(page => page.Gpa));
        Assert.Equal([0x1000, 0x2000, VmsaGpa], Order(LaunchMeasurement.Measure(file, HostFlavour.Qemu)).Select(page => page.Gpa));
    }

    [Fact]
    public void Measure_VcpuCount_ChangesTheDigestOnStockQemuOnly()
    {
        IgvmFile file = File(Page(0x1000), Context());

        Assert.Equal(LaunchMeasurement.Measure(file, HostFlavour.Qemu).Digest, LaunchMeasurement.Measure(file, HostFlavour.Qemu, 4).Digest);
        Assert.Equal(LaunchMeasurement.Measure(file, HostFlavour.Qemu).Digest, LaunchMeasurement.Measure(file, HostFlavour.StockQemu).Digest);
        HashSet<LaunchDigest> digests = [.. Enumerable.Range(1, 4).Select(count => LaunchMeasurement.Measure(file, HostFlavour.StockQemu, count).Digest)];
        Assert.Equal(4, digests.Count);
        Assert.NotEqual(
            LaunchMeasurement.Measure(file, HostFlavour.StockQemu, 2).Digest,
            LaunchMeasurement.Measure(file, HostFlavour.StockQemu, 2, CpuSignature.EpycMilan).Digest);
    }

    [Fact]
    public void Measure_FurtherVcpusOnStockQemu_AreInResetStateWithTheFeaturesOfTheFirst()
    {
        MeasurementResult result = LaunchMeasurement.Measure(File(Page(0x1000), Context()), HostFlavour.StockQemu, 3);

        byte[] reset = VmsaPage.ToArray(KvmResetVmsa.Create(0xFFFF_FFF0, (SevFeatures)0x29, CpuSignature.EpycV4));
        LaunchDigest expected = LaunchDigestAccumulator.HashContents(SnpPageType.Vmsa, reset);
        Assert.Equal(LaunchDigestAccumulator.HashContents(SnpPageType.Vmsa, VmsaPage.ToArray(TestPages.SvsmVmsa)), result.Pages[1].Contents);
        Assert.Equal([expected, expected], result.Pages[2..].Select(page => page.Contents));
        Assert.All(result.Pages[1..], page => Assert.Equal((VmsaGpa, SnpPageType.Vmsa), (page.Gpa, page.Type)));
    }

    [Fact]
    public void Measure_SeveralContexts_AreMeasuredInVcpuOrder()
    {
        Vmsa second = TestPages.SvsmVmsa;
        second.Rip = 0x5000;
        IgvmFile file = File(Page(0x1000), Context() with { VpIndex = 1, Data = VmsaPage.ToArray(in second) }, Context());

        LaunchDigest[] stock = [.. LaunchMeasurement.Measure(file, HostFlavour.StockQemu, 2).Pages[1..].Select(page => page.Contents)];

        Assert.Equal(LaunchDigestAccumulator.HashContents(SnpPageType.Vmsa, VmsaPage.ToArray(TestPages.SvsmVmsa)), stock[0]);
        Assert.Equal(LaunchDigestAccumulator.HashContents(SnpPageType.Vmsa, VmsaPage.ToArray(in second)), stock[1]);
        Assert.Equal(stock, LaunchMeasurement.Measure(file, HostFlavour.Qemu).Pages[1..].Select(page => page.Contents));
    }

    public static TheoryData<MeasurementError, HostFlavour, int, IgvmFile> Refused { get; } = new()
    {
        { MeasurementError.BadVcpuCount, HostFlavour.StockQemu, 0, File(Page(0), Context()) },
        { MeasurementError.BadVcpuCount, HostFlavour.Qemu, -1, File(Page(0), Context()) },
        { MeasurementError.BadVcpuCount, HostFlavour.StockQemu, 65537, File(Page(0), Context()) },
        { MeasurementError.NoSnpPlatform, HostFlavour.Qemu, 1, File(Page(0)) with { Platforms = [new IgvmPlatform { CompatibilityMask = 1, PlatformType = IgvmPlatformType.Tdx }] } },
        { MeasurementError.BadVpContext, HostFlavour.Qemu, 1, File(Page(0)) },
        { MeasurementError.BadVpContext, HostFlavour.StockQemu, 2, File(Page(0), Context() with { VpIndex = 1 }) },
        { MeasurementError.BadVpContext, HostFlavour.StockQemu, 1, File(Page(0), Context(), Context() with { VpIndex = 1 }) },
        { MeasurementError.BadVpContext, HostFlavour.HyperV, 1, File(Page(0), Context(), Context()) },
        { MeasurementError.BadPage, HostFlavour.Qemu, 1, File(new IgvmParameterArea { ByteLength = 0xFFFF_FFFF_FFFF_F000, Index = 1 }, Insert(0, 1), Context()) },
        { MeasurementError.BadPage, HostFlavour.Qemu, 1, File(Area(2), Insert(0xFFFF_FFFF_FFFF_F000, 1), Context()) },
        { MeasurementError.BadPage, HostFlavour.Qemu, 1, File(Insert(0, 1), Context()) },
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void Measure_WhatCannotBeLaunched_Throws(MeasurementError error, HostFlavour flavour, int vcpuCount, IgvmFile file) =>
        Assert.Equal(error, Assert.Throws<MeasurementException>(() => LaunchMeasurement.Measure(file, flavour, vcpuCount)).Error);

    [Fact]
    public void Measure_UnknownFlavour_Throws() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => LaunchMeasurement.Measure(File(Page(0), Context()), (HostFlavour)9));

    [Fact]
    public void Measure_PolicyAndIdBlock_DoNotCount()
    {
        IgvmFile file = File(Page(0x1000), Context());

        Assert.Equal(
            LaunchMeasurement.Measure(file, HostFlavour.Qemu).Digest,
            LaunchMeasurement.Measure(file with { Initializations = [new IgvmGuestPolicy { CompatibilityMask = 1, Policy = 0xB_0000 }] }, HostFlavour.Qemu).Digest);
    }

    private static IgvmFile File(params IgvmDirective[] directives) => new()
    {
        Platforms =
        [
            new IgvmPlatform { CompatibilityMask = 1, PlatformType = IgvmPlatformType.SevSnp },
            new IgvmPlatform { CompatibilityMask = 2, PlatformType = IgvmPlatformType.Tdx },
        ],
        Directives = [.. directives],
    };

    private static IgvmPageData Page(ulong gpa) => new() { Gpa = gpa, CompatibilityMask = 1, Data = TestPages.Pattern };

    private static IgvmParameterArea Area(ulong pages) => new() { ByteLength = pages * 4096, Index = 1 };

    private static IgvmParameterInsert Insert(ulong gpa, uint area) => new() { Gpa = gpa, CompatibilityMask = 1, AreaIndex = area };

    private static IgvmVpContext Context() => new() { Gpa = VmsaGpa, CompatibilityMask = 1, Data = VmsaPage.ToArray(TestPages.SvsmVmsa) };

    private static IEnumerable<(ulong Gpa, SnpPageType Type)> Order(MeasurementResult result) => result.Pages.Select(page => (page.Gpa, page.Type));
}
