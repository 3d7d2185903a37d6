// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using CsCheck;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class VcInstructionTests
{
    private const ulong Cpuid = 0x72;
    private const ulong Ioio = 0x7B;
    private const ulong Msr = 0x7C;

    private static readonly byte[] s_bytes = [0x66, 0x48, 0x0F, 0xA2, 0x30, 0x32, 0xE4, 0xEC];

    // Encodings from the AMD64 Architecture Programmer's Manual, volume 3; lengths counted by hand.
    [Theory]
    [InlineData("0FA2", Cpuid, 2)]
    [InlineData("480FA2", Cpuid, 3)]
    [InlineData("0F30", Msr, 2)]
    [InlineData("0F32", Msr, 2)]
    [InlineData("EC", Ioio, 1)]
    [InlineData("ED", Ioio, 1)]
    [InlineData("66ED", Ioio, 2)]
    [InlineData("EE", Ioio, 1)]
    [InlineData("EF", Ioio, 1)]
    [InlineData("66EF", Ioio, 2)]
    [InlineData("E471", Ioio, 2)]
    [InlineData("E571", Ioio, 2)]
    [InlineData("E680", Ioio, 2)]
    [InlineData("E780", Ioio, 2)]
    [InlineData("66E780", Ioio, 3)]
    [InlineData("6640E780", Ioio, 4)]
    public void TryDecode_Instruction_MatchesItsCode(string code, ulong exitCode, int length)
    {
        byte[] bytes = Convert.FromHexString(code + "909090");
        Assert.Equal(VcDecodeResult.Match, VcInstruction.TryDecode(bytes, exitCode, out VcInstruction instruction));
        Assert.Equal(length, instruction.Length);
        Assert.Equal((GhcbExitCode)exitCode, instruction.ExitCode);
        foreach (ulong other in (ulong[])[Cpuid, Ioio, Msr])
        {
            Assert.Equal(other == exitCode, VcInstruction.TryDecode(bytes, other, out _) == VcDecodeResult.Match);
        }

        Assert.Equal(VcDecodeResult.Mismatch, VcInstruction.TryDecode(bytes.AsSpan(0, length - 1), exitCode, out _));
    }

    [Theory]
    [InlineData("EC", true, 1, false)]
    [InlineData("ED", true, 4, false)]
    [InlineData("66ED", true, 2, false)]
    [InlineData("48ED", true, 4, false)]
    [InlineData("6648ED", true, 4, false)]
    [InlineData("EE", false, 1, false)]
    [InlineData("66EE", false, 1, false)]
    [InlineData("66EF", false, 2, false)]
    [InlineData("E471", true, 1, true)]
    [InlineData("E780", false, 4, true)]
    public void TryDecode_Port_HasDirectionAndSize(string code, bool isRead, int size, bool immediate)
    {
        Assert.Equal(VcDecodeResult.Match, VcInstruction.TryDecode(Convert.FromHexString(code), Ioio, out VcInstruction instruction));
        Assert.Equal((isRead, size, immediate), (instruction.IsRead, instruction.OperandSize, instruction.HasImmediatePort));
        Assert.Equal(immediate ? Convert.FromHexString(code)[^1] : 0, instruction.Port);
    }

    [Fact]
    public void TryDecode_Msr_HasDirection()
    {
        VcInstruction.TryDecode([0x0F, 0x32], Msr, out VcInstruction read);
        VcInstruction.TryDecode([0x0F, 0x30], Msr, out VcInstruction write);
        Assert.True(read.IsRead);
        Assert.False(write.IsRead);
    }

    [Theory]
    [InlineData("6C")]
    [InlineData("6D")]
    [InlineData("6E")]
    [InlineData("F36E")]
    [InlineData("F3EC")]
    [InlineData("F2EE")]
    [InlineData("6766EC")]
    [InlineData("4048EC")]
    [InlineData("6666ED")]
    [InlineData("2EEC")]
    [InlineData("E8")]
    [InlineData("E3")]
    [InlineData("F4")]
    [InlineData("66")]
    [InlineData("48")]
    [InlineData("")]
    public void TryDecode_OtherBytesAtAPortExit_Mismatch(string code) =>
        Assert.Equal(VcDecodeResult.Mismatch, VcInstruction.TryDecode(Convert.FromHexString(code), Ioio, out _));

    [Theory]
    [InlineData(0x6Eul)]
    [InlineData(0x87ul)]
    [InlineData(0x78ul)]
    [InlineData(0x81ul)]
    [InlineData(0x400ul)]
    [InlineData(0x404ul)]
    [InlineData(0ul)]
    [InlineData(0x1_0000_0072ul)]
    [InlineData(ulong.MaxValue)]
    public void TryDecode_OtherCode_IsUnsupported(ulong exitCode) =>
        Assert.Equal(VcDecodeResult.Unsupported, VcInstruction.TryDecode([0x0F, 0xA2], exitCode, out _));

    [Fact]
    public void TryDecode_AnyBytes_StaysInsideThem() =>
        Gen.Select(Gen.OneOf(Gen.Byte, Gen.Int[0, s_bytes.Length - 1].Select(i => s_bytes[i])).Array[0, 6], Gen.OneOf(Gen.Const(Cpuid), Gen.Const(Ioio), Gen.Const(Msr))).Sample((code, exitCode) =>
        {
            VcDecodeResult result = VcInstruction.TryDecode(code, exitCode, out VcInstruction instruction);
            Assert.Equal(result == VcDecodeResult.Match, instruction.Length != 0);
            Assert.InRange(instruction.Length, 0, Math.Min(code.Length, 4));
        });

    // A host that answered these in the processor's place could name other features, or other GHCB pages.
    [Theory]
    [InlineData(0xC001_0130u, false)]
    [InlineData(0xC001_0131u, false)]
    [InlineData(0x10u, true)]
    [InlineData(0xC000_0080u, true)]
    public void MayIntercept_Msr_IsNoneBetweenProcessorAndSvsm(uint msr, bool expected) => Assert.Equal(expected, VcInstruction.MayIntercept(msr));
}
