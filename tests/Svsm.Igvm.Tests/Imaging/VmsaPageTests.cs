// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Igvm.Imaging;
using Svsm.Wire;
using Xunit;

namespace Svsm.Igvm.Tests.Imaging;

public sealed class VmsaPageTests
{
    // Vector: computed by sev-snp-measure's VMSA class and an independent packing.
    [Fact]
    public void ToArray_LaunchVmsaOfAnSvsm_HasTheKnownHash()
    {
        Vmsa vmsa = default;
        TestImages.SetRegisters(ref vmsa);
        vmsa.Pat = HostProfile.ResetPat;
        vmsa.SevFeatures = 0x29;

        byte[] page = VmsaPage.ToArray(in vmsa);

        Assert.Equal(4096, page.Length);
        Assert.Equal("722219e29f32db6ce5bf43de1e35005e3794851a6fdac4c4a0241a31a5a403f5", Convert.ToHexStringLower(SHA256.HashData(page)));
        Assert.Equal(
            "6497639a9992a865bf54728de4dcaa8aecef8e87567563490852cdcb4440effaaa22dfd22b49565cab1ff8cf0d451e1d",
            Convert.ToHexStringLower(SHA384.HashData(page)));
    }

    [Fact]
    public void Read_AnyPage_KeepsEveryByte()
    {
        byte[] page = [.. Enumerable.Range(0, 4096).Select(i => (byte)(i * 31))];

        Assert.Equal(page, VmsaPage.ToArray(VmsaPage.Read(page)));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(4095)]
    [InlineData(4097)]
    public void Read_OtherLength_Throws(int length) => Assert.Throws<ArgumentException>(() => VmsaPage.Read(new byte[length]));
}
