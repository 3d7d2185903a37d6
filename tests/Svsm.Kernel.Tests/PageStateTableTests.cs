// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class PageStateTableTests
{
    private readonly PageRange[] _ranges = [new(0x10, 4), new(0x14, 2), new(0x100, 8)];
    private readonly byte[] _states = new byte[14];

    private PageStateTable Table => new(_ranges, _states);

    [Theory]
    [InlineData(0x10, 1, true)]
    [InlineData(0x10, 4, true)]
    [InlineData(0x13, 1, true)]
    [InlineData(0x13, 2, false)]
    [InlineData(0x14, 2, true)]
    [InlineData(0x15, 2, false)]
    [InlineData(0xF, 1, false)]
    [InlineData(0x16, 1, false)]
    [InlineData(0xFF, 2, false)]
    [InlineData(0x107, 1, true)]
    [InlineData(0x108, 1, false)]
    [InlineData(0x100, 9, false)]
    public void TryFind_Pages_AreFoundInOneRangeOnly(int first, int count, bool expected)
    {
        Assert.Equal(expected, Table.TryFind((ulong)first, count, out Span<byte> states));
        Assert.Equal(expected ? count : 0, states.Length);
    }

    [Theory]
    [InlineData(ulong.MaxValue)]
    [InlineData(1ul << 52)]
    [InlineData((1ul << 63) | 0x10)]
    [InlineData((1ul << 35) | 0x10)]
    public void TryFind_HugePageNumber_IsNotFound(ulong page) => Assert.False(Table.TryFind(page, 1, out _));

    [Fact]
    public void TrySet_Page_ChangesThatPageOnly()
    {
        Assert.True(Table.TrySet(0x14, 1, PageState.Guest));
        Assert.Equal([0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], _states);
        Assert.True(Table.TrySet(0x107, 1, PageState.Svsm));
        Assert.Equal((byte)PageState.Svsm, _states[13]);
        Assert.True(Table.TryGet(0x14, out PageState state));
        Assert.Equal(PageState.Guest, state);
    }

    [Fact]
    public void TrySet_PageThatDoesNotExist_ChangesNothing()
    {
        Assert.False(Table.TrySet(0x107, 2, PageState.Guest));
        Assert.Equal(new byte[14], _states);
        Assert.False(Table.TryGet(0x108, out _));
    }

    [Fact]
    public void BytesFor_Ranges_IsTheirSum() => Assert.Equal(14ul, PageStateTable.BytesFor(_ranges));

    [Fact]
    public void BytesFor_MoreThanASpanHolds_IsAllOnes()
    {
        Assert.Equal((ulong)int.MaxValue, PageStateTable.BytesFor([new(0, int.MaxValue)]));
        Assert.Equal(ulong.MaxValue, PageStateTable.BytesFor([new(0, int.MaxValue), new(1ul << 40, 1)]));
        Assert.Equal(ulong.MaxValue, PageStateTable.BytesFor([new(0, 1ul << 51)]));
    }
}
