// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Igvm;
using Xunit;

namespace Svsm.Measurement.Tests;

public sealed class IdBlockTests
{
    // Vectors: the tests of sev-snp-measure and of the Rust crate sev.
    [Fact]
    public void ToArray_SevSnpMeasure_GivesTheVector()
    {
        const string Digest = "B28FLQi9p6cAqipgjFyqawDrrSl7bWioWkWx5mmlWLZ+G5HShKMB/mPE+gdQRn7t";
        var block = new IdBlock { LaunchDigest = new LaunchDigest(Convert.FromBase64String(Digest)), Policy = 0x3_0000 };

        Assert.Equal(Digest + "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAwAAAAAA", Convert.ToBase64String(block.ToArray()));
    }

    [Fact]
    public void ToArray_RustCrateSev_GivesTheVector()
    {
        var block = new IdBlock
        {
            LaunchDigest = LaunchDigest.Parse("a14d638341e5674628fe1e02fbedebe5e5ab4faf1dd72d8966068e615bb99efd13d214b35c231715b38e263dc6059745"),
            Policy = 0x3_0000,
        };

        Assert.Equal(
            "oU1jg0HlZ0Yo/h4C++3r5eWrT68d1y2JZgaOYVu5nv0T0hSzXCMXFbOOJj3GBZdFAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAwAAAAAA",
            Convert.ToBase64String(block.ToArray()));
    }

    [Fact]
    public void Parse_WhatToArrayGave_IsEqual()
    {
        IdBlock block = Create();

        byte[] bytes = block.ToArray();

        Assert.Equal(IdBlock.ByteLength, bytes.Length);
        Assert.Equal(block, IdBlock.Parse(bytes));
        Assert.Equal(7, bytes[0x54]);
        Assert.Equal(block.FamilyId.ToArray(), bytes[0x30..0x40]);
        Assert.Equal(block.ImageId.ToArray(), bytes[0x40..0x50]);
        Assert.NotEqual(block, block with { GuestSvn = 8 });
        Assert.NotEqual(block, block with { Policy = 0x2_0000 });
        Assert.NotEqual(block, block with { ImageId = block.FamilyId });
    }

    [Theory]
    [InlineData(0)]
    [InlineData(95)]
    [InlineData(97)]
    public void Parse_OtherLength_Throws(int length) =>
        Assert.Equal(MeasurementError.BadIdBlock, Assert.Throws<MeasurementException>(() => IdBlock.Parse(new byte[length])).Error);

    [Fact]
    public void Parse_OtherVersion_Throws()
    {
        byte[] bytes = Create().ToArray();
        bytes[0x50] = 2;

        Assert.Equal(MeasurementError.BadIdBlock, Assert.Throws<MeasurementException>(() => IdBlock.Parse(bytes)).Error);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(15)]
    [InlineData(17)]
    public void Ids_OtherLength_Throw(int length)
    {
        Assert.Throws<ArgumentException>(() => Create() with { FamilyId = new byte[length] });
        Assert.Throws<ArgumentException>(() => Create() with { ImageId = new byte[length] });
    }

    internal static IdBlock Create() => new()
    {
        LaunchDigest = new LaunchDigest(SHA384.HashData("x"u8)),
        FamilyId = Enumerable.Range(0, 16).Select(i => (byte)i).ToArray(),
        ImageId = Enumerable.Range(100, 16).Select(i => (byte)i).ToArray(),
        GuestSvn = 7,
        Policy = 0x3_0000,
    };
}
