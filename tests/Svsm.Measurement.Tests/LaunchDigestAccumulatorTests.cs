// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Igvm.Imaging;
using Svsm.Wire;
using Xunit;

namespace Svsm.Measurement.Tests;

// Vectors: computed with sev-snp-measure (class GCTX) and an independent packing of PAGE_INFO.
public sealed class LaunchDigestAccumulatorTests
{
    private const string ZeroPageHash = "c0e59a3e3ffbd3b5c75428fb36432facabc745944296ff515f737c4fef4efc64586809f7a16f56354a1eaecf2aa8d774";

    [Theory]
    [InlineData(SnpPageType.Normal, "e6e4d78904d9d6b33c0cbfd121998fd2d11744dae606b3aee35e2a45d6869b60b35c63928a9232bef72d6be386f48ec6")]
    [InlineData(SnpPageType.Zero, "4bd4147976a1e7554c1c778a781affc1c672f1965a727ba16084989b7e356044a28bbe585a2f75dac9356fa5ab78f061")]
    [InlineData(SnpPageType.Unmeasured, "81475a112c0223cebe1ccb31a0aa2567772871200b33515a3cbbd5ed6a68a8e630902dd83469ea6553554bfb67111fad")]
    [InlineData(SnpPageType.Secrets, "ede71fa5ddc72c3de70c6ff1149b8ecb6ef08b74b1d3a72c2cece10bd140c06a6181343d33def7db6cc0da1ff9ba4805")]
    [InlineData(SnpPageType.Cpuid, "af3c8d305f882f039a48318a961572ddc7ebf40b3d1eae828f4fa6e27a7b3078cf2d84b459e002fb58b4ae83efd7f29c")]
    public void Update_OnePageOfZeroesAt0x1000_GivesTheVector(SnpPageType type, string digest)
    {
        var accumulator = new LaunchDigestAccumulator();

        accumulator.Update(type, 0x1000, new byte[4096]);

        Assert.Equal(digest, accumulator.Digest.ToString());
    }

    [Fact]
    public void Update_PatternPage_GivesTheVector()
    {
        var accumulator = new LaunchDigestAccumulator();

        accumulator.Update(SnpPageType.Normal, 0x10_0000, TestPages.Pattern);

        Assert.Equal("fcd01075a27fb4ad66ad0375d1910f07e220325f9329fb1861839b569b9d15ca877eafd18e0f8023fba22e173c42b4d1", accumulator.Digest.ToString());
    }

    [Fact]
    public void Update_VmsaOfZeroes_GivesTheVector()
    {
        var accumulator = new LaunchDigestAccumulator();

        LaunchDigest contents = accumulator.Update(SnpPageType.Vmsa, 0xFFFF_FFFF_F000, new byte[4096]);

        Assert.Equal(ZeroPageHash, contents.ToString());
        Assert.Equal("f4577da9b848673216afc3909e5ea7aa80150dda441526874cd2b0282894709b46484c13a07221aefbedfff667199259", accumulator.Digest.ToString());
    }

    [Fact]
    public void Update_ChainOfAnSvsm_GivesTheVectorAfterEachStep()
    {
        var accumulator = new LaunchDigestAccumulator();

        accumulator.Update(SnpPageType.Unmeasured, 0x800_0000);
        accumulator.Update(SnpPageType.Unmeasured, 0x800_1000);
        Assert.Equal("62012c6a4492936c3e9fdb8ffba22dae6593cdfab902876a9ded303e2c46112bc6df289aa3890dc8f4ae64c25d008e7a", accumulator.Digest.ToString());

        accumulator.Update(SnpPageType.Normal, 0x1_0000, TestPages.Pattern);
        accumulator.Update(SnpPageType.Normal, 0x1_1000, new byte[4096]);
        Assert.Equal("37c942b881f7821421ab89c15462113a35c544b37bea357d19e4d6e841b0c7ff3e2177b167babab449759871b3446bc8", accumulator.Digest.ToString());

        accumulator.Update(SnpPageType.Cpuid, 0x9_E000);
        Assert.Equal("14462ad8b4c6dc3603eeb7a4f93add3a4963f4ee228d0dbca14662873566a3d1cab929f61344049af5ac7663d6c2a20c", accumulator.Digest.ToString());

        accumulator.Update(SnpPageType.Secrets, 0x9_F000);
        Assert.Equal("64a72c6a60e2f4f97a71bc0905f27aee3c0dc4e3dffa6ff1a7154861ce89de3c9370e72f2fd8902b92ffc08ab7239d13", accumulator.Digest.ToString());

        accumulator.Update(SnpPageType.Vmsa, 0xFFFF_FFFF_F000, VmsaPage.ToArray(TestPages.SvsmVmsa));
        Assert.Equal("2cb208f1b6e507aced6d093e1c45d8e3de89d4a5c1dc6ebd45258cac47e8a046b1e76aff0c305bb03f24d471975d953f", accumulator.Digest.ToString());
    }

    [Theory]
    [InlineData(0)]
    [InlineData(7)]
    public void Update_UnknownType_Throws(byte type) =>
        Assert.Throws<ArgumentException>(() => new LaunchDigestAccumulator().Update((SnpPageType)type, 0));

    [Fact]
    public void Update_MisalignedAddress_Throws() =>
        Assert.Throws<ArgumentException>(() => new LaunchDigestAccumulator().Update(SnpPageType.Zero, 0x1001));

    [Theory]
    [InlineData(4095)]
    [InlineData(4097)]
    [InlineData(0)]
    public void Update_ContentsOfAnotherLength_Throws(int length) =>
        Assert.Throws<ArgumentException>(() => new LaunchDigestAccumulator().Update(SnpPageType.Normal, 0, new byte[length]));
}
