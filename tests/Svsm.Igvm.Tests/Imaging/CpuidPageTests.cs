// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Svsm.Igvm.Imaging;
using Xunit;

namespace Svsm.Igvm.Tests.Imaging;

public sealed class CpuidPageTests
{
    [Fact]
    public void Create_DefaultLeaves_HasCountAndInputs()
    {
        byte[] page = CpuidPage.Create(CpuidPage.DefaultLeaves.AsSpan());

        Assert.Equal(4096, page.Length);
        Assert.Equal(36u, BinaryPrimitives.ReadUInt32LittleEndian(page));
        Assert.Equal(0x8000_001Fu, BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(16)));
        Assert.Equal((4u, 1u), (BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(16 + (5 * 48))), BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(16 + (5 * 48) + 4))));
        Assert.Equal(-1, page.AsSpan(16 + (36 * 48)).IndexOfAnyExcept((byte)0));
        Assert.Equal(CpuidPage.DefaultLeaves.Length, CpuidPage.DefaultLeaves.Distinct().Count());
    }

    [Fact]
    public void Create_64Leaves_FitAnd65DoNot()
    {
        Assert.Equal(64u, BinaryPrimitives.ReadUInt32LittleEndian(CpuidPage.Create(new CpuidLeaf[64])));
        Assert.Throws<ArgumentException>(() => CpuidPage.Create(new CpuidLeaf[65]));
    }
}
