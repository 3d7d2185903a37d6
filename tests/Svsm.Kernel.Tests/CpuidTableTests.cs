// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class CpuidTableTests
{
    [Theory]
    [InlineData(0u, true)]
    [InlineData(1u, true)]
    [InlineData(64u, true)]
    [InlineData(65u, false)]
    [InlineData(uint.MaxValue, false)]
    public void TryOpen_EntryCount_IsBounded(uint count, bool expected)
    {
        byte[] page = new byte[4096];
        MemoryMarshal.Write(page, in count);
        Assert.Equal(expected, CpuidTable.TryOpen(page, out CpuidTable table));
        Assert.Equal(expected ? (int)count : 0, table.Count);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(15)]
    [InlineData(16 + 47)]
    public void TryOpen_ShortPage_IsRefused(int length)
    {
        byte[] page = new byte[length];
        if (length > 0)
        {
            page[0] = 1;
        }

        Assert.False(CpuidTable.TryOpen(page, out _));
    }

    [Fact]
    public void Get_FunctionWithoutIndexes_IgnoresTheIndex()
    {
        CpuidTable table = Open(new CpuidEntry { Function = 1, Eax = 5, Ebx = 6, Ecx = 7, Edx = 8 });
        CpuidValues values = table.Get(1, 99);
        Assert.Equal((5u, 6u, 7u, 8u), (values.Eax, values.Ebx, values.Ecx, values.Edx));
    }

    [Fact]
    public void Get_FunctionWithIndexes_WantsTheIndex()
    {
        CpuidTable table = Open(new CpuidEntry { Function = 7, Eax = 1 }, new CpuidEntry { Function = 7, Index = 1, Eax = 2 });
        Assert.Equal(1u, table.Get(7, 0).Eax);
        Assert.Equal(2u, table.Get(7, 1).Eax);
        Assert.Equal(0u, table.Get(7, 2).Eax);
    }

    [Fact]
    public void Get_FunctionThatIsNotThere_IsZero()
    {
        CpuidValues values = Open(new CpuidEntry { Function = 1, Eax = 5 }).Get(0x4000_0000, 0);
        Assert.Equal((0u, 0u, 0u, 0u), (values.Eax, values.Ebx, values.Ecx, values.Edx));
    }

    [Theory]
    [InlineData(32u, 51, 32)]
    [InlineData(48u, 51, 48)]
    [InlineData(48u, 47, 47)]
    [InlineData(52u, 51, 51)]
    [InlineData(0x3030u, 51, 48)]
    public void TryGetPageLimit_AddressSize_IsBelowTheEncryptionBit(uint eax, int encryptionBit, int bits)
    {
        Assert.True(Open(new CpuidEntry { Function = CpuidTable.AddressSizes, Eax = eax }).TryGetPageLimit(encryptionBit, out ulong pageLimit));
        Assert.Equal(1ul << (bits - 12), pageLimit);
    }

    // A shift by a negative number would make the limit larger than any address, and pages with the C-bit in their number RAM.
    [Theory]
    [InlineData(0u)]
    [InlineData(5u)]
    [InlineData(12u)]
    [InlineData(31u)]
    [InlineData(53u)]
    [InlineData(255u)]
    public void TryGetPageLimit_SizeThatNoProcessorHas_IsRefused(uint eax) =>
        Assert.False(Open(new CpuidEntry { Function = CpuidTable.AddressSizes, Eax = eax }).TryGetPageLimit(51, out _));

    [Theory]
    [InlineData(0x8000_0008u, 0x8u, true)]
    [InlineData(0x8000_0008u, 0xFFFF_FFF7u, false)]
    [InlineData(0x8000_0007u, 0x8u, false)]
    public void HasInvlpgb_OneBitOfOneFunction_Tells(uint function, uint ebx, bool expected) =>
        Assert.Equal(expected, Open(new CpuidEntry { Function = function, Ebx = ebx }).HasInvlpgb);

    [Fact]
    public void TryGetPageLimit_TableWithoutAddressSizes_IsRefused() =>
        Assert.False(Open(new CpuidEntry { Function = 1, Eax = 48 }).TryGetPageLimit(51, out _));

    private static CpuidTable Open(params ReadOnlySpan<CpuidEntry> entries)
    {
        byte[] page = new byte[4096];
        MemoryMarshal.Write(page, entries.Length);
        MemoryMarshal.AsBytes(entries).CopyTo(page.AsSpan(CpuidPageHeader.EntriesOffset));
        Assert.True(CpuidTable.TryOpen(page, out CpuidTable table));
        return table;
    }
}
