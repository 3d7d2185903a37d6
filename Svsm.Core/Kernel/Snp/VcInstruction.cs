// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The instructions that may raise #VC in the kernel, and nothing else: CPUID, RDMSR, WRMSR, IN and OUT without strings.
//
// The host chooses when #VC is raised and with which exit code. So the code is a claim, and the bytes at RIP are the proof:
// a code that does not match the instruction is an attack, and a handler that believed it would change registers or skip
// bytes of an innocent instruction.
//
// Encodings (64-bit mode): 0F A2, 0F 30, 0F 32, E4-E7 imm8, EC-EF; prefixes 66 and REX. Nothing else is taken: compiled code and
// the kernel's own assembly use no other forms. Source: AMD64 Architecture Programmer's Manual, volume 3.

using System;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Outcome of <see cref="VcInstruction.TryDecode"/>.</summary>
internal enum VcDecodeResult : byte
{
    /// <summary>The instruction is what the exit code says.</summary>
    Match,

    /// <summary>It is not, or the bytes end too early.</summary>
    Mismatch,

    /// <summary>The exit code is for something that the kernel never does.</summary>
    Unsupported,
}

/// <summary>An instruction that raised #VC.</summary>
internal struct VcInstruction
{
    /// <summary>What is to be done.</summary>
    public GhcbExitCode ExitCode;

    /// <summary>Length in bytes, 1 to 4.</summary>
    public int Length;

    /// <summary>IN, RDMSR: a register gets a value.</summary>
    public bool IsRead;

    /// <summary>IN, OUT: operand size in bytes: 1, 2 or 4.</summary>
    public int OperandSize;

    /// <summary>IN, OUT: the port is <see cref="Port"/> and not DX.</summary>
    public bool HasImmediatePort;

    /// <summary>IN, OUT with an immediate: the port.</summary>
    public byte Port;

    private const byte OperandSizePrefix = 0x66;
    private const byte TwoByteOpcode = 0x0F;

    /// <summary>Compares an exit code with the instruction that it is said to come from.</summary>
    /// <param name="code">The bytes at RIP, as many as there are up to the end of the text, at most 15 matter.</param>
    /// <param name="exitCode">Error code of the #VC. Untrusted.</param>
    /// <param name="instruction">The instruction, when the result is <see cref="VcDecodeResult.Match"/>.</param>
    public static VcDecodeResult TryDecode(ReadOnlySpan<byte> code, ulong exitCode, out VcInstruction instruction)
    {
        instruction = default;
        GhcbExitCode claimed = (GhcbExitCode)exitCode;
        if (claimed is not (GhcbExitCode.Cpuid or GhcbExitCode.Msr or GhcbExitCode.Ioio))
        {
            return VcDecodeResult.Unsupported;
        }

        int position = 0;
        bool small = false;
        if (position < code.Length && code[position] == OperandSizePrefix)
        {
            small = true;
            position++;
        }

        bool wide = false;
        if (position < code.Length && (code[position] & 0xF0) == 0x40)
        {
            wide = (code[position] & 8) != 0;
            position++;
        }

        if (position >= code.Length)
        {
            return VcDecodeResult.Mismatch;
        }

        instruction.ExitCode = claimed;
        byte opcode = code[position++];
        bool matches = claimed == GhcbExitCode.Ioio
            ? instruction.DecodePort(code, opcode, small && !wide, ref position)
            : opcode == TwoByteOpcode && instruction.DecodeTwoByte(code, ref position);
        if (!matches)
        {
            instruction = default;
            return VcDecodeResult.Mismatch;
        }

        instruction.Length = position;
        return VcDecodeResult.Match;
    }

    /// <summary>Whether an MSR can raise #VC: those between the processor and the SVSM never do, so their #VC is the host's invention.</summary>
    /// <param name="msr">Number of the MSR.</param>
    public static bool MayIntercept(uint msr) => msr is not (SevMsr.Ghcb or SevMsr.SevStatus);

    private bool DecodeTwoByte(ReadOnlySpan<byte> code, ref int position)
    {
        if (position >= code.Length)
        {
            return false;
        }

        byte opcode = code[position++];
        IsRead = opcode == 0x32;
        return ExitCode == GhcbExitCode.Cpuid ? opcode == 0xA2 : opcode is 0x30 or 0x32;
    }

    private bool DecodePort(ReadOnlySpan<byte> code, byte opcode, bool small, ref int position)
    {
        // 1110 d1ws: d = port in DX, w = OUT, s = operand wider than a byte.
        if ((opcode & 0xF4) != 0xE4)
        {
            return false;
        }

        IsRead = (opcode & 2) == 0;
        OperandSize = (opcode & 1) == 0 ? 1 : small ? 2 : 4;
        HasImmediatePort = (opcode & 8) == 0;
        if (HasImmediatePort)
        {
            if (position >= code.Length)
            {
                return false;
            }

            Port = code[position++];
        }

        return true;
    }
}
