// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Decodes the instruction at the guest's RIP as far as the hypervisor needs it.
//
// The emulator tells neither where the next instruction starts nor which linear address faulted: lengths are needed to go on behind what
// was emulated, and memory operands to put the faulting address into CR2. VEX and EVEX are not decoded; CPUID does not offer them.
// Source: opcode maps of the AMD64 Architecture Programmer's Manual, volume 3, appendix A.

using System;

namespace Svsm.Hypervisor;

/// <summary>A decoded instruction.</summary>
internal struct Instruction
{
    /// <summary>Length in bytes; 0 when it could not be decoded.</summary>
    public int Length;

    /// <summary>Opcode map: 0 one byte, 1 = 0F, 2 = 0F 38, 3 = 0F 3A.</summary>
    public int Map;

    /// <summary>Opcode within the map.</summary>
    public byte Opcode;

    /// <summary>Whether there is a ModRM byte.</summary>
    public bool HasModRm;

    /// <summary>ModRM, or 0.</summary>
    public byte ModRm;

    /// <summary>REX prefix, or 0.</summary>
    public byte Rex;

    /// <summary>Last of the prefixes F2 and F3, or 0.</summary>
    public byte Repeat;

    /// <summary>Number of the overriding segment (0 ES, 1 CS, 2 SS, 3 DS, 4 FS, 5 GS), or -1.</summary>
    public int Segment;

    /// <summary>Bits of an address: 16, 32 or 64.</summary>
    public int AddressSize;

    /// <summary>Whether the ModRM byte names memory.</summary>
    public bool HasMemory;

    /// <summary>Register number of the base, -1 for none, <see cref="InstructionDecoder.NextInstruction"/> for RIP.</summary>
    public int Base;

    /// <summary>Register number of the index, or -1.</summary>
    public int Index;

    /// <summary>Shift of the index.</summary>
    public int Scale;

    /// <summary>Displacement, or the whole address of a MOV with a direct address.</summary>
    public ulong Displacement;

    /// <summary>Register number of ModRM's reg field, REX included.</summary>
    public readonly int Reg => ((ModRm >> 3) & 7) | ((Rex & 4) << 1);

    /// <summary>Register number of ModRM's rm field, REX included.</summary>
    public readonly int Rm => (ModRm & 7) | ((Rex & 1) << 3);
}

/// <summary>The decoder.</summary>
internal static class InstructionDecoder
{
    /// <summary>Longest instruction in bytes.</summary>
    public const int MaxLength = 15;

    /// <summary>Value of <see cref="Instruction.Base"/> for an address relative to the next instruction.</summary>
    public const int NextInstruction = 16;

    /// <summary>Decodes an instruction.</summary>
    /// <param name="code">Bytes at RIP, as many as could be read, up to <see cref="MaxLength"/>.</param>
    /// <param name="mode">Bits of the code segment: 16, 32 or 64.</param>
    /// <returns>The instruction; its length is 0 when the bytes end too early or are not decoded.</returns>
    public static Instruction Decode(ReadOnlySpan<byte> code, int mode)
    {
        var result = new Instruction { Segment = -1, Base = -1, Index = -1, AddressSize = mode };
        bool operandSizePrefix = false;
        int at = 0;
        for (; ; at++)
        {
            if (at >= code.Length)
            {
                return default;
            }

            byte prefix = code[at];
            if (prefix == 0x0F)
            {
                // What exits begins with it, more often than not.
                break;
            }

            if (prefix == 0x66)
            {
                operandSizePrefix = true;
            }
            else if (prefix == 0x67)
            {
                result.AddressSize = mode == 32 ? 16 : 32;
            }
            else if (prefix is 0xF2 or 0xF3)
            {
                result.Repeat = prefix;
            }
            else if (prefix is 0x26 or 0x2E or 0x36 or 0x3E)
            {
                result.Segment = (prefix >> 3) & 3;
            }
            else if (prefix is 0x64 or 0x65)
            {
                result.Segment = prefix - 0x60;
            }
            else if (prefix != 0xF0)
            {
                break;
            }
        }

        if (mode == 64 && (code[at] & 0xF0) == 0x40)
        {
            result.Rex = code[at++];
        }

        if (!TryNext(code, ref at, out byte opcode))
        {
            return default;
        }

        if (opcode == 0x0F)
        {
            result.Map = 1;
            if (!TryNext(code, ref at, out opcode))
            {
                return default;
            }

            if (opcode is 0x38 or 0x3A)
            {
                result.Map = opcode == 0x38 ? 2 : 3;
                if (!TryNext(code, ref at, out opcode))
                {
                    return default;
                }
            }
        }

        result.Opcode = opcode;
        int operandSize = (result.Rex & 8) != 0 ? 64 : (mode == 16) != operandSizePrefix ? 16 : 32;
        result.HasModRm = result.Map >= 2 || (result.Map == 1 ? HasModRm0F(opcode) : HasModRm(opcode, mode));
        if (result.HasModRm)
        {
            if (!TryNext(code, ref at, out result.ModRm) || !TryMemoryOperand(code, mode, ref at, ref result))
            {
                return default;
            }
        }

        int immediate = ImmediateLength(in result, operandSize);
        if (result.Map == 0 && opcode is >= 0xA0 and <= 0xA3)
        {
            // MOV with a direct address of the address size.
            immediate = result.AddressSize / 8;
            if (immediate > code.Length - at)
            {
                return default;
            }

            result.HasMemory = true;
            result.Displacement = ReadNumber(code.Slice(at, immediate));
        }

        if (immediate > code.Length - at)
        {
            return default;
        }

        result.Length = at + immediate;
        return result;
    }

    /// <summary>Decodes what exits most: RDMSR, WRMSR, VMGEXIT, PVALIDATE and RMPADJUST without other prefixes.</summary>
    /// <param name="code">The first four bytes, the first one lowest.</param>
    /// <param name="mode">Bits of the code segment.</param>
    /// <param name="instruction">What <see cref="Decode"/> would return.</param>
    /// <returns>False for everything else.</returns>
    public static bool TryDecodeUsual(uint code, int mode, out Instruction instruction)
    {
        const ushort ReadMsr = 0x320F;
        const ushort WriteMsr = 0x300F;
        const uint VmgExit = 0xD901_0FF3;
        const uint PValidate = 0xFF01_0FF2;
        const uint RmpAdjust = 0xFE01_0FF3;
        instruction = new Instruction { Segment = -1, Base = -1, Index = -1, AddressSize = mode, Map = 1 };
        if ((ushort)code is ReadMsr or WriteMsr)
        {
            instruction.Opcode = (byte)(code >> 8);
            instruction.Length = 2;
            return true;
        }

        if (code is VmgExit or PValidate or RmpAdjust)
        {
            instruction.Repeat = (byte)code;
            instruction.Opcode = (byte)(code >> 16);
            instruction.HasModRm = true;
            instruction.ModRm = (byte)(code >> 24);
            instruction.Length = 4;
            return true;
        }

        return false;
    }

    private static bool TryMemoryOperand(ReadOnlySpan<byte> code, int mode, ref int at, ref Instruction result)
    {
        int mod = result.ModRm >> 6;
        int rm = result.ModRm & 7;

        // MOV to and from control and debug registers: always registers.
        bool registersOnly = result.Map == 1 && result.Opcode is >= 0x20 and <= 0x23;
        if (mod == 3 || registersOnly)
        {
            return true;
        }

        result.HasMemory = true;
        int displacement = mod == 1 ? 1 : mod == 2 ? (result.AddressSize == 16 ? 2 : 4) : 0;
        if (result.AddressSize == 16)
        {
            // Base: BX, BX, BP, BP, SI, DI, BP, BX; index: SI, DI, SI, DI.
            ReadOnlySpan<byte> bases = [3, 3, 5, 5, 6, 7, 5, 3];
            result.Base = bases[rm];
            result.Index = rm < 4 ? 6 + (rm & 1) : -1;
            if (mod == 0 && rm == 6)
            {
                result.Base = -1;
                displacement = 2;
            }
        }
        else
        {
            result.Base = result.Rm;
            if (rm == 4)
            {
                if (!TryNext(code, ref at, out byte sib))
                {
                    return false;
                }

                int index = ((sib >> 3) & 7) | ((result.Rex & 2) << 2);
                result.Index = index == 4 ? -1 : index;
                result.Scale = sib >> 6;
                result.Base = (sib & 7) | ((result.Rex & 1) << 3);
                if ((sib & 7) == 5 && mod == 0)
                {
                    result.Base = -1;
                    displacement = 4;
                }
            }
            else if (rm == 5 && mod == 0)
            {
                result.Base = mode == 64 ? NextInstruction : -1;
                displacement = 4;
            }
        }

        if (displacement > code.Length - at)
        {
            return false;
        }

        if (displacement != 0)
        {
            ulong value = ReadNumber(code.Slice(at, displacement));
            int unused = 64 - (displacement * 8);
            result.Displacement = (ulong)((long)(value << unused) >> unused);
            at += displacement;
        }

        return true;
    }

    private static bool HasModRm(byte opcode, int mode)
    {
        return opcode switch
        {
            < 0x40 => (opcode & 7) < 4,
            0x62 => mode != 64,
            0x63 or 0x69 or 0x6B => true,
            >= 0x80 and <= 0x8F => true,
            0xC0 or 0xC1 or 0xC6 or 0xC7 => true,
            0xC4 or 0xC5 => mode != 64,
            >= 0xD0 and <= 0xD3 => true,
            >= 0xD8 and <= 0xDF => true,
            0xF6 or 0xF7 or 0xFE or 0xFF => true,
            _ => false,
        };
    }

    private static bool HasModRm0F(byte opcode)
    {
        return opcode switch
        {
            >= 0x04 and <= 0x0C => false,
            0x0E => false,
            >= 0x30 and <= 0x37 => false,
            0x77 => false,
            >= 0x80 and <= 0x8F => false,
            >= 0xA0 and <= 0xA2 => false,
            >= 0xA8 and <= 0xAA => false,
            >= 0xC8 and <= 0xCF => false,
            0xFF => false,
            _ => true,
        };
    }

    private static int ImmediateLength(in Instruction instruction, int operandSize)
    {
        int full = operandSize == 16 ? 2 : 4;
        byte opcode = instruction.Opcode;
        if (instruction.Map == 0)
        {
            return opcode switch
            {
                < 0x40 => (opcode & 7) == 4 ? 1 : (opcode & 7) == 5 ? full : 0,
                0x68 or 0x69 or 0x81 or 0xA9 or 0xC7 or 0xE8 or 0xE9 => full,
                0x6A or 0x6B => 1,
                >= 0x70 and <= 0x7F => 1,
                0x80 or 0x82 or 0x83 or 0xA8 => 1,
                0x9A or 0xEA => full + 2,
                >= 0xB0 and <= 0xB7 => 1,
                >= 0xB8 and <= 0xBF => operandSize / 8,
                0xC0 or 0xC1 or 0xC6 or 0xCD or 0xD4 or 0xD5 => 1,
                0xC2 or 0xCA => 2,
                0xC8 => 3,
                >= 0xE0 and <= 0xE7 => 1,
                0xEB => 1,
                0xF6 => (instruction.ModRm & 0x30) == 0 ? 1 : 0,
                0xF7 => (instruction.ModRm & 0x30) == 0 ? full : 0,
                _ => 0,
            };
        }

        if (instruction.Map == 1)
        {
            return opcode switch
            {
                0x0F => 1,
                < 0x70 => 0,
                <= 0x73 => 1,
                >= 0x80 and <= 0x8F => full,
                0xA4 or 0xAC or 0xBA or 0xC2 => 1,
                >= 0xC4 and <= 0xC6 => 1,
                _ => 0,
            };
        }

        return instruction.Map == 3 ? 1 : 0;
    }

    private static bool TryNext(ReadOnlySpan<byte> code, ref int at, out byte value)
    {
        bool any = at < code.Length;
        value = any ? code[at] : (byte)0;
        at++;
        return any;
    }

    private static ulong ReadNumber(ReadOnlySpan<byte> bytes)
    {
        ulong value = 0;
        for (int i = bytes.Length - 1; i >= 0; i--)
        {
            value = (value << 8) | bytes[i];
        }

        return value;
    }
}
