// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Igvm.Imaging;
using Svsm.Wire;
using Xunit;

namespace Svsm.Igvm.Tests.Imaging;

public sealed class LaunchImageWriterTests
{
    public static TheoryData<HostFlavour> Flavours { get; } = [.. Enum.GetValues<HostFlavour>()];

    [Theory]
    [MemberData(nameof(Flavours))]
    public void Write_AnyFlavour_OrdersTheDirectives(HostFlavour flavour)
    {
        LaunchImage image = TestImages.Create();
        image.IdBlock = TestFiles.IdBlock with { CompatibilityMask = 0x80 };

        IgvmFile file = LaunchImageWriter.Write(image, flavour);

        int[] ranks = [.. file.Directives.Select(directive => directive switch
        {
            IgvmRequiredMemory => 0,
            IgvmParameterArea => 1,
            IgvmParameterUsage => 2,
            IgvmParameterInsert => 3,
            IgvmPageData => 4,
            IgvmVpContext => 5,
            IgvmSnpIdBlock => 6,
            _ => throw new InvalidOperationException(),
        })];
        Assert.Equal(ranks.Order(), ranks);
        Assert.Equal(7, ranks.Distinct().Count());
        ulong[] gpas = [.. file.Directives.OfType<IgvmPageData>().Select(page => page.Gpa)];
        Assert.Equal(gpas.Order(), gpas);
        Assert.Equal(IgvmPlatformType.SevSnp, Assert.Single(file.Platforms).PlatformType);
        Assert.Equal(0x3_0000ul, file.FindGuestPolicy(LaunchImageWriter.SnpMask));
        Assert.Equal(LaunchImageWriter.SnpMask, file.Directives.OfType<IgvmSnpIdBlock>().Single().CompatibilityMask);
        Assert.Equal(file, IgvmFile.Parse(file.Write()));
    }

    [Theory]
    [MemberData(nameof(Flavours))]
    public void Write_AnyFlavour_SatisfiesTheValidator(HostFlavour flavour)
    {
        IgvmFile file = LaunchImageWriter.Write(TestImages.Create(), flavour);

        Assert.Empty(IgvmValidator.Validate(file, flavour));
    }

    [Fact]
    public void Write_Pages_HaveTheirTypesAndExplicitZeroes()
    {
        IgvmFile file = LaunchImageWriter.Write(TestImages.Create(), HostFlavour.Qemu);

        Dictionary<ulong, IgvmPageData> pages = file.Directives.OfType<IgvmPageData>().ToDictionary(page => page.Gpa);
        Assert.Equal(10, pages.Count);
        Assert.Equal(IgvmPageDataType.CpuidData, pages[0x1_2000].DataType);
        Assert.Equal(4096, pages[0x1_2000].Data.Length);
        Assert.Equal(IgvmPageDataType.Secrets, pages[0x1_3000].DataType);
        Assert.True(pages[0x1_3000].Data.IsEmpty);
        Assert.Equal(IgvmPageDataFlags.Unmeasured, pages[0x1_4000].Flags);
        Assert.Equal(IgvmPageDataFlags.Unmeasured, pages[0x1_5000].Flags);
        Assert.Equal(TestFiles.Page(3), pages[0x1_5000].Data.ToArray());
        foreach (ulong gpa in new[] { 0x1_4000ul, TestImages.RegionBase + 0x2000, TestImages.RegionBase + 0x3000 })
        {
            Assert.Equal(new byte[4096], pages[gpa].Data.ToArray());
        }
    }

    [Fact]
    public void Write_ParameterPages_AreOnePageEachInAddressOrder()
    {
        IgvmFile file = LaunchImageWriter.Write(TestImages.Create(), HostFlavour.StockQemu);

        Assert.All(file.Directives.OfType<IgvmParameterArea>(), area => Assert.Equal(4096ul, area.ByteLength));
        Assert.Equal([TestImages.RegionBase, TestImages.RegionBase + 0x1000], file.Directives.OfType<IgvmParameterInsert>().Select(insert => insert.Gpa));
        Assert.Equal(
            [
                new IgvmParameterUsage { Kind = IgvmParameterKind.VpCount, AreaIndex = 0 },
                new IgvmParameterUsage { Kind = IgvmParameterKind.EnvironmentInfo, AreaIndex = 0, ByteOffset = 4 },
                new IgvmParameterUsage { Kind = IgvmParameterKind.MemoryMap, AreaIndex = 1 },
            ],
            file.Directives.OfType<IgvmParameterUsage>());
    }

    // The table of hosts in the specification.
    [Theory]
    [InlineData(HostFlavour.Qemu, 0xFFFF_FFFF_F000ul, 0ul, 0x0007_0406_0007_0406ul, 0ul, 0ul, 0x29ul)]
    [InlineData(HostFlavour.StockQemu, 0xFFFF_FFFF_F000ul, 0ul, 0x0007_0406_0007_0406ul, 0ul, 0ul, 0x21ul)]
    [InlineData(HostFlavour.HyperV, 0x8FF_F000ul, 0x4000_0000_0000ul, 0x0007_0406_0007_0406ul, 0ul, 0ul, 0x2Bul)]
    [InlineData(HostFlavour.Vanadium, 0xFFFF_FFFF_F000ul, 0ul, 0x7_0106ul, 0xFFFF_0FF0ul, 0x400ul, 0x29ul)]
    public void Write_Vmsa_HasTheHostsValues(HostFlavour flavour, ulong gpa, ulong virtualTom, ulong pat, ulong dr6, ulong dr7, ulong features)
    {
        IgvmFile file = LaunchImageWriter.Write(TestImages.Create(), flavour);

        IgvmVpContext context = file.Directives.OfType<IgvmVpContext>().Single();
        Vmsa vmsa = VmsaPage.Read(context.Data.Span);
        Assert.Equal(gpa, context.Gpa);
        Assert.Equal(virtualTom, file.Platforms[0].SharedGpaBoundary);
        Assert.Equal((virtualTom, pat, dr6, dr7, features), (vmsa.VirtualTom, vmsa.Pat, vmsa.Dr6, vmsa.Dr7, vmsa.SevFeatures));
        Assert.Equal((0x1_0002ul, 0x2_0000ul, 0x31ul), (vmsa.Rip, vmsa.Rsp, vmsa.Cr0));
        Assert.Equal(VmsaPage.ToArray(LaunchImageWriter.CreateVmsa(TestImages.Create(), flavour)), context.Data.ToArray());
    }

    [Theory]
    [InlineData(true, 2)]
    [InlineData(false, 0)]
    public void Write_HighestVtl_SaysWhetherThereIsAGuest(bool hasGuest, byte vtl)
    {
        LaunchImage image = TestImages.Create();
        image.HasGuest = hasGuest;

        Assert.Equal(vtl, LaunchImageWriter.Write(image, HostFlavour.Qemu).Platforms[0].HighestVtl);
    }

    [Fact]
    public void Write_AlternateInjection_IsDroppedOnStockQemuOnly()
    {
        LaunchImage image = TestImages.Create();
        image.SevFeatures = SevFeatures.SnpActive | SevFeatures.AlternateInjection | SevFeatures.SecureTsc;

        Assert.Equal(0x201ul, LaunchImageWriter.CreateVmsa(image, HostFlavour.StockQemu).SevFeatures);
        Assert.Equal(0x211ul, LaunchImageWriter.CreateVmsa(image, HostFlavour.Qemu).SevFeatures);
    }

    [Theory]
    [InlineData(HostFlavour.Qemu, SevFeatures.None)]
    [InlineData(HostFlavour.Qemu, SevFeatures.SnpActive | SevFeatures.VirtualTom)]
    [InlineData(HostFlavour.Qemu, SevFeatures.SnpActive | SevFeatures.ReflectVc)]
    [InlineData(HostFlavour.StockQemu, SevFeatures.SnpActive | SevFeatures.SmtProtection)]
    [InlineData(HostFlavour.StockQemu, SevFeatures.SnpActive | SevFeatures.VmplSss)]
    [InlineData(HostFlavour.HyperV, SevFeatures.SnpActive | (SevFeatures)(1ul << 40))]
    public void Write_UnsupportedFeatures_Throws(HostFlavour flavour, SevFeatures features)
    {
        LaunchImage image = TestImages.Create();
        image.SevFeatures = features;

        Assert.Equal(LaunchImageError.UnsupportedFeature, Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(image, flavour)).Error);
    }

    public static TheoryData<string, HostFlavour, Action<LaunchImage>> BadRegisters { get; } = new()
    {
        { "EFER", HostFlavour.Qemu, image => image.Vmsa.Efer = 0x800 },
        { "EFER", HostFlavour.HyperV, image => image.Vmsa.Efer = 0x800 },
        { "CR0", HostFlavour.Qemu, image => image.Vmsa.Cr0 = 0x8000_0031 },
        { "CR0", HostFlavour.StockQemu, image => image.Vmsa.Cr0 = 0x11 },
        { "CR4", HostFlavour.Vanadium, image => image.Vmsa.Cr4 = 0x20 },
        { "0xCA", HostFlavour.StockQemu, image => image.Vmsa.Vmpl = (byte)Vmpl.Vmpl1 },
        { "0x140", HostFlavour.Qemu, image => image.Vmsa.Xss = 1 },
        { "0x40C", HostFlavour.Qemu, image => image.Vmsa.X87TagWord = 0x5555 },
        { "0x180", HostFlavour.Qemu, image => image.Vmsa.Dr0 = 1 },
    };

    [Theory]
    [MemberData(nameof(BadRegisters))]
    public void Write_RegistersThatTheHostRefuses_Throws(string named, HostFlavour flavour, Action<LaunchImage> spoil)
    {
        LaunchImage image = TestImages.Create();
        spoil(image);

        LaunchImageException e = Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(image, flavour));
        Assert.Equal(LaunchImageError.BadVmsa, e.Error);
        Assert.Contains(named, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Write_PolicyWithoutItsFixedBit_Throws()
    {
        LaunchImage image = TestImages.Create();
        image.GuestPolicy = 0x1_0000;

        Assert.Equal(LaunchImageError.BadPolicy, Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(image, HostFlavour.Qemu)).Error);
    }

    [Fact]
    public void Write_NoPage_Throws() =>
        Assert.Equal(LaunchImageError.Incomplete, Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(new LaunchImage(), HostFlavour.Qemu)).Error);

    [Theory]
    [InlineData(0ul, 0ul)]
    [InlineData(0x1001ul, 0x1000ul)]
    [InlineData(0x1000ul, 0x1800ul)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul, 0x2000ul)]
    public void Write_HyperVWithoutARegion_Throws(ulong start, ulong length)
    {
        LaunchImage image = TestImages.Create();
        image.RegionBase = start;
        image.RegionLength = length;

        Assert.Equal(LaunchImageError.Incomplete, Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(image, HostFlavour.HyperV)).Error);
        _ = LaunchImageWriter.Write(image, HostFlavour.Qemu);
    }

    [Fact]
    public void Write_PageWhereTheVmsaGoes_Throws()
    {
        LaunchImage hyperV = TestImages.Create();
        hyperV.AddZeroes(TestImages.RegionBase + TestImages.RegionLength - 0x1000, 1);
        LaunchImage qemu = TestImages.Create();
        qemu.AddZeroes(HostProfile.KvmVmsaGpa, 1);
        LaunchImage parameters = TestImages.Create();
        parameters.AddParameterPage(TestImages.RegionBase + TestImages.RegionLength - 0x1000, new LaunchParameter(IgvmParameterKind.Madt));

        Assert.Equal(LaunchImageError.Overlap, Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(hyperV, HostFlavour.HyperV)).Error);
        Assert.Equal(LaunchImageError.Overlap, Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(parameters, HostFlavour.HyperV)).Error);
        Assert.Equal(LaunchImageError.Overlap, Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(qemu, HostFlavour.Qemu)).Error);
    }

    [Theory]
    [InlineData(HostFlavour.StockQemu, IgvmParameterKind.DeviceTree, 0u)]
    [InlineData(HostFlavour.Qemu, IgvmParameterKind.Srat, 0u)]
    [InlineData(HostFlavour.Qemu, IgvmParameterKind.MemoryMap, 4092u)]
    public void Write_ParameterThatTheHostCannotGive_Throws(HostFlavour flavour, IgvmParameterKind kind, uint offset)
    {
        LaunchImage image = TestImages.Create();
        image.AddParameterPage(TestImages.RegionBase + 0x8000, new LaunchParameter(kind, offset));

        LaunchImageException e = Assert.Throws<LaunchImageException>(() => LaunchImageWriter.Write(image, flavour));
        Assert.Equal(LaunchImageError.Refused, e.Error);
        Assert.Contains(kind.ToString(), e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Write_DeviceTreeForQemu_IsTaken()
    {
        LaunchImage image = TestImages.Create();
        image.AddParameterPage(TestImages.RegionBase + 0x8000, new LaunchParameter(IgvmParameterKind.DeviceTree));

        Assert.Contains(LaunchImageWriter.Write(image, HostFlavour.Qemu).Directives, directive => directive is IgvmParameterUsage { Kind: IgvmParameterKind.DeviceTree });
    }

    [Fact]
    public void Write_UnknownFlavour_Throws() =>
        Assert.Throws<ArgumentOutOfRangeException>(() => LaunchImageWriter.Write(TestImages.Create(), (HostFlavour)9));

    [Fact]
    public void Write_SameImage_GivesTheSameBytes()
    {
        foreach (HostFlavour flavour in Enum.GetValues<HostFlavour>())
        {
            Assert.Equal(LaunchImageWriter.Write(TestImages.Create(), flavour).Write(), LaunchImageWriter.Write(TestImages.Create(), flavour).Write());
        }
    }
}
