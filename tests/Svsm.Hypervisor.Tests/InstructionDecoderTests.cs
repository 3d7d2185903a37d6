// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using CsCheck;
using Iced.Intel;
using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>The instruction decoder, against known encodings and against Iced.</summary>
public sealed class InstructionDecoderTests
{
    [Theory]
    [InlineData("0FA2", 64, 2)]
    [InlineData("F30F01D9", 64, 4)]
    [InlineData("F20F01FF", 64, 4)]
    [InlineData("67F20F01FF", 64, 5)]
    [InlineData("0F30", 32, 2)]
    [InlineData("480F22C0", 64, 4)]
    [InlineData("0F20C0", 64, 3)]
    [InlineData("488B07", 64, 3)]
    [InlineData("488B44F710", 64, 5)]
    [InlineData("8B0578563412", 64, 6)]
    [InlineData("C7050000000078563412", 64, 10)]
    [InlineData("48B8EFCDAB8967452301", 64, 10)]
    [InlineData("A1EFCDAB8967452301", 64, 9)]
    [InlineData("A178563412", 32, 5)]
    [InlineData("F6450801", 64, 4)]
    [InlineData("F7D8", 64, 2)]
    [InlineData("66C7000100", 64, 5)]
    [InlineData("8B4702", 16, 3)]
    [InlineData("8B1E3412", 16, 4)]
    [InlineData("F3A4", 64, 2)]
    public void Decode_KnownEncoding_HasItsLength(string hex, int mode, int length)
    {
        Assert.Equal(length, InstructionDecoder.Decode(Convert.FromHexString(hex + "9090"), mode).Length);
    }

    [Theory]
    [InlineData("")]
    [InlineData("F3")]
    [InlineData("0F")]
    [InlineData("488B")]
    [InlineData("488B84")]
    [InlineData("8B05785634")]
    [InlineData("48B8EFCDAB89674523")]
    public void Decode_EndsTooEarly_HasNoLength(string hex)
    {
        Assert.Equal(0, InstructionDecoder.Decode(Convert.FromHexString(hex), 64).Length);
    }

    [Fact]
    public void Decode_Operand_HasBaseIndexScaleDisplacement()
    {
        // mov rax, [r9 + r10*8 - 0x10]
        Instruction instruction = InstructionDecoder.Decode(Convert.FromHexString("4B8B44D1F0"), 64);
        Assert.True(instruction.HasMemory);
        Assert.Equal(9, instruction.Base);
        Assert.Equal(10, instruction.Index);
        Assert.Equal(3, instruction.Scale);
        Assert.Equal(unchecked((ulong)-0x10), instruction.Displacement);
    }

    [Fact]
    public void Decode_SegmentOverride_IsKept()
    {
        Assert.Equal(5, InstructionDecoder.Decode(Convert.FromHexString("65488B042530000000"), 64).Segment);
    }

    // Whatever Iced decodes in the legacy maps, this decoder gives the same length and the same memory operand.
    [Theory]
    [InlineData(64)]
    [InlineData(32)]
    [InlineData(16)]
    public void Decode_RandomBytes_AgreesWithIced(int mode)
    {
        Gen.Byte.Array[15].Sample(
            code =>
            {
                var reader = new ByteArrayCodeReader(code);
                var decoder = Iced.Intel.Decoder.Create(mode, reader, DecoderOptions.AMD);
                decoder.Decode(out Iced.Intel.Instruction expected);
                if (expected.IsInvalid || expected.Encoding != EncodingKind.Legacy)
                {
                    return;
                }

                // A REX prefix that another prefix follows is ignored by processors; compilers do not write one, and this decoder takes
                // only the last byte before the opcode. Near branches with an operand size prefix differ between vendors.
                if (expected.IsJccShortOrNear || expected.IsJmpShortOrNear || expected.IsCallNear || HasLoneRex(code, mode))
                {
                    return;
                }

                Instruction actual = InstructionDecoder.Decode(code, mode);
                Assert.True(expected.Length == actual.Length, $"{Convert.ToHexString(code)}: {expected} is {expected.Length} bytes, got {actual.Length}");
                for (int i = 0; i < expected.OpCount; i++)
                {
                    if (expected.GetOpKind(i) == OpKind.Memory && expected.MemoryBase is not (Register.RIP or Register.EIP) && actual.HasModRm)
                    {
                        Assert.True(actual.HasMemory, Convert.ToHexString(code));
                        Assert.Equal(expected.MemoryBase == Register.None ? -1 : expected.MemoryBase.GetNumber(), actual.Base);
                        Assert.Equal(expected.MemoryIndex == Register.None ? -1 : expected.MemoryIndex.GetNumber(), actual.Index);
                    }
                }
            },
            iter: 20_000);
    }

    private static bool HasLoneRex(byte[] code, int mode)
    {
        int at = 0;
        while (at < code.Length && code[at] is 0x66 or 0x67 or 0xF2 or 0xF3 or 0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65 or 0xF0)
        {
            at++;
        }

        if (mode != 64 || at + 1 >= code.Length || (code[at] & 0xF0) != 0x40)
        {
            return false;
        }

        byte next = code[at + 1];
        return (next & 0xF0) == 0x40 || next is 0x66 or 0x67 or 0xF2 or 0xF3 or 0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65 or 0xF0;
    }
}
