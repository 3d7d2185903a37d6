// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Linq;
using Xunit;

namespace Svsm.Igvm.Tests;

public sealed class VpContextTests
{
    // Offsets of igvm_defs, IgvmNativeVpContextX64.
    [Fact]
    public void NativeToPage_EveryField_IsAtItsOffset()
    {
        var context = new IgvmNativeVpContext
        {
            GeneralRegisters = [.. Enumerable.Range(0, 16).Select(i => 0x1111_1111_1111_1100ul + (ulong)i)],
            Rip = 0x80,
            RFlags = 0x88,
            IdtrBase = 0x90,
            IdtrLimit = 0x98,
            GdtrLimit = 0x9E,
            GdtrBase = 0xA0,
            Code = new IgvmNativeSegment(0xA8, 0xC09B, 0xAC, 0xB0),
            Data = new IgvmNativeSegment(0xB4, 0xC093, 0xB8, 0xBC),
            GsBase = 0xC0,
            Cr0 = 0xC8,
            Cr3 = 0xD0,
            Cr4 = 0xD8,
            Efer = 0xE0,
        };

        byte[] page = context.ToPage();

        Assert.Equal(4096, page.Length);
        for (int i = 0; i < 16; i++)
        {
            Assert.Equal(0x1111_1111_1111_1100ul + (ulong)i, BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan(i * 8)));
        }

        foreach (int offset in new[] { 0x80, 0x88, 0x90, 0xA0, 0xC0, 0xC8, 0xD0, 0xD8, 0xE0 })
        {
            Assert.Equal((ulong)offset, BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan(offset)));
        }

        foreach (int offset in new[] { 0x98, 0x9E, 0xA8, 0xB4 })
        {
            Assert.Equal(offset, BinaryPrimitives.ReadUInt16LittleEndian(page.AsSpan(offset)));
        }

        foreach (int offset in new[] { 0xAC, 0xB0, 0xB8, 0xBC })
        {
            Assert.Equal((uint)offset, BinaryPrimitives.ReadUInt32LittleEndian(page.AsSpan(offset)));
        }

        Assert.Equal(0xC09B, BinaryPrimitives.ReadUInt16LittleEndian(page.AsSpan(0xAA)));
        Assert.Equal(0xC093, BinaryPrimitives.ReadUInt16LittleEndian(page.AsSpan(0xB6)));
        Assert.Equal(context, IgvmNativeVpContext.Read(page));
        Assert.NotEqual(context, context with { Cr4 = 0 });
    }

    [Fact]
    public void NativeRead_ShortData_Throws() => Assert.Throws<ArgumentException>(() => IgvmNativeVpContext.Read(new byte[0xE7]));

    [Fact]
    public void NativeToPage_OtherNumberOfRegisters_Throws() =>
        Assert.Throws<InvalidOperationException>(() => new IgvmNativeVpContext { GeneralRegisters = [1, 2] }.ToPage());

    [Fact]
    public void VbsWriteList_Registers_AreAtTheirOffsets()
    {
        IgvmVbsRegister[] registers = [new(2, 0x0004_0001, new UInt128(0x1122_3344_5566_7788, 0x99AA_BBCC_DDEE_FF00)), new(2, 0x0002_0010, 5)];

        byte[] data = IgvmVbsRegister.WriteList(registers);

        Assert.Equal("02000000" + "0201000400" + "0000000000000000000000" + "00FFEEDDCCBBAA998877665544332211", Convert.ToHexString(data.AsSpan(0, 36)));
        Assert.Equal(registers, IgvmVbsRegister.ReadList(data));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(3)]
    [InlineData(5)]
    [InlineData(36)]
    public void VbsReadList_OtherLength_Throws(int length) => Assert.Throws<ArgumentException>(() => IgvmVbsRegister.ReadList(new byte[length]));
}
