// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class ExtendedStatePlanTests
{
    private const uint Xsave = 1u << 26;
    private const uint Avx = 1u << 28;

    [Theory]
    [InlineData(0u, 7u, 832u, 256u, 576u, 0ul, 512ul)]                      // hidden
    [InlineData(Avx, 7u, 832u, 256u, 576u, 0ul, 512ul)]
    [InlineData(Xsave, 1u, 832u, 256u, 576u, 0ul, 512ul)]                   // XSAVE without SSE cannot be
    [InlineData(Xsave, 3u, 575u, 0u, 0u, 0ul, 512ul)]                       // nor with less room than it has
    [InlineData(Xsave, 3u, 576u, 0u, 0u, 3ul, 576ul)]
    [InlineData(Xsave | Avx, 7u, 832u, 256u, 576u, 7ul, 832ul)]
    [InlineData(Xsave | Avx, 0x2E7u, 2696u, 256u, 576u, 7ul, 832ul)]        // AVX-512 and keys stay off
    [InlineData(Xsave, 7u, 832u, 256u, 576u, 3ul, 576ul)]                   // AVX state without AVX
    [InlineData(Xsave | Avx, 3u, 832u, 256u, 576u, 3ul, 576ul)]             // AVX without its state
    [InlineData(Xsave | Avx, 7u, 832u, 0xFFFF_FF00u, 576u, 3ul, 576ul)]     // sizes and offsets that cannot be
    [InlineData(Xsave | Avx, 7u, 832u, 256u, 0u, 3ul, 576ul)]
    [InlineData(Xsave | Avx, 7u, 832u, 256u, 0xFFFF_FFFFu, 3ul, 576ul)]
    [InlineData(Xsave | Avx, 7u, 831u, 256u, 576u, 3ul, 576ul)]
    public void Choose_WhatThePageSays_IsUsedAsFarAsItCanBe(uint features, uint states, uint largest, uint avxLength, uint avxOffset, ulong mask, ulong length)
    {
        byte[] page = new byte[4096];
        Add(page, 0, new CpuidEntry { Function = 1, Ecx = features });
        Add(page, 1, new CpuidEntry { Function = 0xD, Index = 0, Eax = states, Ecx = largest });
        Add(page, 2, new CpuidEntry { Function = 0xD, Index = 2, Eax = avxLength, Ebx = avxOffset });
        Assert.True(CpuidTable.TryOpen(page, out CpuidTable table));
        ExtendedStatePlan plan = ExtendedStatePlan.Choose(in table);
        Assert.Equal((mask, length), (plan.Mask, plan.Length));
    }

    [Fact]
    public void Choose_EmptyPage_IsFxsave()
    {
        Assert.True(CpuidTable.TryOpen(new byte[4096], out CpuidTable table));
        ExtendedStatePlan plan = ExtendedStatePlan.Choose(in table);
        Assert.Equal((0ul, 512ul), (plan.Mask, plan.Length));
    }

    private static void Add(byte[] page, int index, CpuidEntry entry)
    {
        page[0] = (byte)(index + 1);
        MemoryMarshal.Write(page.AsSpan(CpuidPageHeader.EntriesOffset + (index * Marshal.SizeOf<CpuidEntry>())), in entry);
    }
}
