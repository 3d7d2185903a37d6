// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Xunit;

namespace Svsm.Measurement.Tests;

public sealed class CpuSignatureTests
{
    [Theory]
    [InlineData(0x17, 0x01, 2, CpuSignature.EpycV4)]
    [InlineData(0x19, 0x01, 1, CpuSignature.EpycMilan)]
    [InlineData(0x19, 0x11, 0, CpuSignature.EpycGenoa)]
    [InlineData(0x1A, 0x00, 0, CpuSignature.EpycTurin)]
    public void Create_KnownModels_GivesTheirSignatures(int family, int model, int stepping, uint signature) =>
        Assert.Equal(signature, CpuSignature.Create(family, model, stepping));

    [Theory]
    [InlineData(14, 0, 0)]
    [InlineData(271, 0, 0)]
    [InlineData(0x19, -1, 0)]
    [InlineData(0x19, 256, 0)]
    [InlineData(0x19, 0, -1)]
    [InlineData(0x19, 0, 16)]
    public void Create_OutOfRange_Throws(int family, int model, int stepping) =>
        Assert.Throws<ArgumentOutOfRangeException>(() => CpuSignature.Create(family, model, stepping));
}
