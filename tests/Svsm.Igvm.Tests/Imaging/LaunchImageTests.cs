// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Svsm.Igvm.Imaging;
using Xunit;

namespace Svsm.Igvm.Tests.Imaging;

public sealed class LaunchImageTests
{
    [Fact]
    public void AddData_OddLength_IsFilledUpWithZeroes()
    {
        var image = new LaunchImage();
        byte[] data = TestFiles.Bytes(0x1001, 1);

        image.AddData(0x1000, data);

        LaunchPage[] pages = [.. image.Pages];
        Assert.Equal([0x1000ul, 0x2000ul], pages.Select(page => page.Gpa));
        Assert.Equal(data[..0x1000], pages[0].Data.ToArray());
        Assert.Equal(4096, pages[1].Data.Length);
        Assert.Equal(data[0x1000], pages[1].Data.Span[0]);
        Assert.Equal(-1, pages[1].Data.Span[1..].IndexOfAnyExcept((byte)0));
    }

    [Fact]
    public void AddData_Nothing_AddsNoPage()
    {
        var image = new LaunchImage();

        image.AddData(0x1000, default);

        Assert.Empty(image.Pages);
    }

    [Theory]
    [InlineData(0x1001ul)]
    [InlineData(0xFFFF_FFFF_F000ul + 0x1000)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul)]
    public void Add_BadAddress_Throws(ulong gpa)
    {
        var image = new LaunchImage();

        AssertRefused(LaunchImageError.Misaligned, () => image.AddData(gpa, new byte[1]));
        AssertRefused(LaunchImageError.Misaligned, () => image.AddZeroes(gpa, 1));
        AssertRefused(LaunchImageError.Misaligned, () => image.AddSecrets(gpa));
        AssertRefused(LaunchImageError.Misaligned, () => image.AddParameterPage(gpa));
    }

    [Fact]
    public void AddData_BeyondTheAddressSpace_Throws() =>
        AssertRefused(LaunchImageError.Misaligned, () => new LaunchImage().AddData(0xFFFF_FFFF_E000, new byte[0x3000]));

    [Fact]
    public void Add_SameAddressTwice_Throws()
    {
        var image = new LaunchImage();
        image.AddData(0x1000, new byte[0x2000]);
        image.AddParameterPage(0x5000);

        AssertRefused(LaunchImageError.Overlap, () => image.AddZeroes(0, 2));
        AssertRefused(LaunchImageError.Overlap, () => image.AddSecrets(0x2000));
        AssertRefused(LaunchImageError.Overlap, () => image.AddParameterPage(0x2000));
        AssertRefused(LaunchImageError.Overlap, () => image.AddUnmeasured(0x5000));
        AssertRefused(LaunchImageError.Overlap, () => image.AddParameterPage(0x5000));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4095)]
    [InlineData(4097)]
    public void AddCpuid_OtherLength_Throws(int length) =>
        AssertRefused(LaunchImageError.Misaligned, () => new LaunchImage().AddCpuid(0, new byte[length]));

    [Fact]
    public void AddUnmeasured_OtherLength_Throws() =>
        AssertRefused(LaunchImageError.Misaligned, () => new LaunchImage().AddUnmeasured(0, new byte[1]));

    [Fact]
    public void AddParameterPage_OffsetOutsideThePage_Throws() =>
        AssertRefused(LaunchImageError.BadParameter, () => new LaunchImage().AddParameterPage(0, new LaunchParameter(IgvmParameterKind.VpCount, 4093)));

    [Theory]
    [InlineData(1ul, 0x1000u)]
    [InlineData(0ul, 0x1001u)]
    [InlineData(0ul, 0u)]
    [InlineData(0xFFFF_FFFF_FFFF_F000ul, 0x2000u)]
    public void AddRequiredMemory_BadRange_Throws(ulong gpa, uint length) =>
        AssertRefused(LaunchImageError.Misaligned, () => new LaunchImage().AddRequiredMemory(gpa, length));

    [Fact]
    public void AddZeroes_NegativeCount_Throws() => Assert.Throws<ArgumentOutOfRangeException>(() => new LaunchImage().AddZeroes(0, -1));

    private static void AssertRefused(LaunchImageError error, Action action) => Assert.Equal(error, Assert.Throws<LaunchImageException>(action).Error);
}
