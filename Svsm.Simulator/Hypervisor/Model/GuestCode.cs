// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reads the guest's current instruction, and finds out which linear address made it fault.

using System;
using System.Runtime.CompilerServices;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The guest's instruction at RIP.</summary>
internal static unsafe class GuestCode
{
    // SAFETY (whole type): guest bytes are reached through RememberedWalk.Reach only, and never beyond their page.

    /// <summary>Longest memory operand that an instruction touches (FXSAVE), for operands that cross a page.</summary>
    private const ulong LongestOperand = 512;

    private const int StackSegment = 2;

    /// <summary>Bits of the current code segment.</summary>
    public static int Mode(VirtualCpu cpu)
    {
        return cpu.IsLongCode ? 64 : (cpu.State->Cs.Attributes & SegmentAttributes.Default32) != 0 ? 32 : 16;
    }

    /// <summary>Reads the bytes at RIP, as many as the guest could fetch.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="code">Where they go; read up to its length.</param>
    /// <returns>Number of bytes read.</returns>
    public static int Read(GuestMemory memory, VirtualCpu cpu, Span<byte> code)
    {
        ulong linear = LinearAddress(cpu, cpu.State->Cs.Base, cpu.State->Rip);
        int done = 0;
        while (done < code.Length)
        {
            ulong at = linear + (ulong)done;
            byte* bytes = Reach(memory, cpu, at);
            if (bytes == null)
            {
                break;
            }

            int inPage = System.Math.Min(code.Length - done, Amd64.PageSize - (int)(at & (Amd64.PageSize - 1)));
            new ReadOnlySpan<byte>(bytes, inPage).CopyTo(code.Slice(done));
            done += inPage;
        }

        return done;
    }

    /// <summary>Decodes the instruction at RIP.</summary>
    public static Instruction Decode(GuestMemory memory, VirtualCpu cpu)
    {
        // No vCPU runs now, so bytes that lie in one page need no copy.
        ulong linear = LinearAddress(cpu, cpu.State->Cs.Base, cpu.State->Rip);
        if ((linear & (Amd64.PageSize - 1)) > Amd64.PageSize - InstructionDecoder.MaxLength)
        {
            return DecodeCopy(memory, cpu);
        }

        byte* code = Reach(memory, cpu, linear);
        if (code != null && InstructionDecoder.TryDecodeUsual(*(uint*)code, Mode(cpu), out Instruction instruction))
        {
            return instruction;
        }

        return InstructionDecoder.Decode(new ReadOnlySpan<byte>(code, code == null ? 0 : InstructionDecoder.MaxLength), Mode(cpu));
    }

    /// <summary>Length of RDMSR or WRMSR at RIP, which exited: without a prefix, as everybody writes them, there is little to decode.</summary>
    /// <returns>0 when the instruction cannot be decoded.</returns>
    public static int MsrInstructionLength(GuestMemory memory, VirtualCpu cpu)
    {
        const ushort ReadMsr = 0x320F;
        const ushort WriteMsr = 0x300F;
        const int UsualLength = 2;
        return (ushort)Peek(memory, cpu) is ReadMsr or WriteMsr ? UsualLength : Decode(memory, cpu).Length;
    }

    /// <summary>Whether VMGEXIT is at RIP as everybody writes it: REP VMMCALL without another prefix, 4 bytes.</summary>
    /// <returns>False also when it has to be decoded to know.</returns>
    public static bool IsUsualVmgExit(GuestMemory memory, VirtualCpu cpu)
    {
        const uint VmgExit = 0xD901_0FF3;
        return Peek(memory, cpu) == VmgExit;
    }

    // The first bytes at RIP in 64-bit code. 0, which no instruction is that is looked for: they are not to be had at once.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Peek(GuestMemory memory, VirtualCpu cpu)
    {
        ulong linear = cpu.State->Rip;
        if (!cpu.IsLongCode || (linear & (Amd64.PageSize - 1)) > Amd64.PageSize - sizeof(uint))
        {
            return 0;
        }

        byte* code = Reach(memory, cpu, linear);
        return code == null ? 0 : *(uint*)code;
    }

    private static Instruction DecodeCopy(GuestMemory memory, VirtualCpu cpu)
    {
        Span<byte> code = stackalloc byte[InstructionDecoder.MaxLength];
        int length = Read(memory, cpu, code);
        return InstructionDecoder.Decode(code.Slice(0, length), Mode(cpu));
    }

    // The byte that the guest would fetch, the rest of its page behind it; null when it cannot fetch.
    private static byte* Reach(GuestMemory memory, VirtualCpu cpu, ulong linear)
    {
        bool user = cpu.State->Cpl == 3;
        return RememberedWalk.Reach(memory, cpu, WalkUse.Code, linear, AccessKind.Fetch, user);
    }

    /// <summary>Finds the linear address behind a nested page fault.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="gpa">The address that faulted, C-bit removed.</param>
    /// <param name="isFetch">Whether the fault was one of a fetch.</param>
    /// <param name="linear">The linear address.</param>
    /// <returns>False when no operand of the instruction translates to this page.</returns>
    public static bool TryFindFaultAddress(GuestMemory memory, VirtualCpu cpu, ulong gpa, bool isFetch, out ulong linear)
    {
        Vmsa* state = cpu.State;
        ulong code = LinearAddress(cpu, state->Cs.Base, state->Rip);
        if (isFetch)
        {
            return Matches(memory, cpu, code, gpa, InstructionDecoder.MaxLength, out linear);
        }

        Instruction instruction = Decode(memory, cpu);
        if (instruction.HasMemory && Matches(memory, cpu, OperandAddress(cpu, in instruction), gpa, LongestOperand, out linear))
        {
            return true;
        }

        // Operands that the opcode implies: the stack, string source and destination.
        ulong* registers = cpu.Registers;
        ulong stack = LinearAddress(cpu, state->Ss.Base, registers[VirtualCpu.Rsp]);
        return Matches(memory, cpu, stack - LongestOperand, gpa, 2 * LongestOperand, out linear)
            || Matches(memory, cpu, LinearAddress(cpu, SegmentBase(cpu, instruction.Segment), registers[VirtualCpu.Rsi]), gpa, LongestOperand, out linear)
            || Matches(memory, cpu, LinearAddress(cpu, state->Es.Base, registers[VirtualCpu.Rdi]), gpa, LongestOperand, out linear);
    }

    /// <summary>Linear address of a ModRM memory operand.</summary>
    public static ulong OperandAddress(VirtualCpu cpu, in Instruction instruction)
    {
        ulong* registers = cpu.Registers;
        ulong offset = instruction.Displacement;
        if (instruction.Base == InstructionDecoder.NextInstruction)
        {
            offset += cpu.State->Rip + (ulong)instruction.Length;
        }
        else if (instruction.Base >= 0)
        {
            offset += registers[instruction.Base];
        }

        if (instruction.Index >= 0)
        {
            offset += registers[instruction.Index] << instruction.Scale;
        }

        offset = instruction.AddressSize switch
        {
            16 => (ushort)offset,
            32 => (uint)offset,
            _ => offset,
        };
        bool stackBased = instruction.Base is VirtualCpu.Rsp or VirtualCpu.Rbp && instruction.Segment < 0;
        return LinearAddress(cpu, SegmentBase(cpu, stackBased ? StackSegment : instruction.Segment), offset);
    }

    /// <summary>Base of a segment as the processor would use it.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="segment">0 ES to 5 GS; negative for DS.</param>
    public static ulong SegmentBase(VirtualCpu cpu, int segment)
    {
        const int DataSegment = 3;
        const int FirstWithBase = 4;
        int index = segment < 0 ? DataSegment : segment;
        return cpu.IsLongCode && index < FirstWithBase ? 0 : (&cpu.State->Es)[index].Base;
    }

    private static ulong LinearAddress(VirtualCpu cpu, ulong segmentBase, ulong offset)
    {
        return cpu.IsLongCode ? segmentBase + offset : (uint)(segmentBase + offset);
    }

    private static bool Matches(GuestMemory memory, VirtualCpu cpu, ulong start, ulong gpa, ulong length, out ulong linear)
    {
        for (ulong page = Amd64.PageOf(start); page - Amd64.PageOf(start) <= Amd64.PageOf((start & (Amd64.PageSize - 1)) + length - 1); page += Amd64.PageSize)
        {
            WalkResult walk = GuestPageWalk.Translate(memory, cpu.State, cpu.Vmpl, page, AccessKind.Read, cpu.State->Cpl == 3);
            if (walk.Status is WalkStatus.Done or WalkStatus.Refused && Amd64.PageOf(walk.Gpa) == Amd64.PageOf(gpa))
            {
                // The access itself faulted at this byte of the page, or the walk to it did, at some byte of a table.
                linear = walk.Status == WalkStatus.Done ? page | (gpa & (Amd64.PageSize - 1)) : System.Math.Max(page, start);
                return true;
            }
        }

        linear = 0;
        return false;
    }
}
