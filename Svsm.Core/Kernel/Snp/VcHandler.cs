// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// #VC: the processor gives the kernel's own intercepted instructions back to it. The kernel's code has none on purpose, but a
// library or a later module may: CPUID is answered from the CPUID page, port and MSR accesses go to the host.
//
// A #VC while one is handled, a code that does not match the instruction, and code 0x404 (a page of the kernel that is not
// validated any more) end the VM.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>Handles #VC.</summary>
internal static unsafe class VcHandler
{
    private const ulong PageNotValidated = 0x404;
    private const int PortShift = 16;
    private const int OperandSizeShift = 4;

    /// <summary>The private copy of the CPUID page that the entry code made.</summary>
    // SAFETY: Entry.S reserves 4096 bytes there.
    public static ReadOnlySpan<byte> CpuidPage => new((void*)CpuidPageAddress(), Page.Size);

    /// <summary>Handles a #VC of the kernel.</summary>
    public static void Handle(ref TrapFrame frame)
    {
        ref PerCpu cpu = ref PerCpu.Current;
        if (cpu.HandlesVc)
        {
            Panic.Stop(TerminationReason.VcNested, "#VC during #VC"u8, in frame);
        }

        // A task that is to be preempted is so behind the instruction, not here: this stack is the CPU's.
        bool endsTurn = cpu.Turn.Holds == 0 && frame.Rsp - cpu.Turn.StackBottom < cpu.Turn.StackSize;
        cpu.Turn.Holds++;
        cpu.HandlesVc = true;
        if (frame.ErrorCode == PageNotValidated)
        {
            Panic.Stop(TerminationReason.VcUnvalidatedPage, "the kernel touched a page that is not validated"u8, in frame);
        }

        if (!KernelText.TryRead(frame.Rip, out ReadOnlySpan<byte> code))
        {
            Panic.Stop(TerminationReason.VcMismatch, "#VC outside of the kernel's text"u8, in frame);
        }

        switch (VcInstruction.TryDecode(code, frame.ErrorCode, out VcInstruction instruction))
        {
            case VcDecodeResult.Mismatch:
                Panic.Stop(TerminationReason.VcMismatch, "#VC whose code does not match the instruction"u8, in frame);
                break;
            case VcDecodeResult.Unsupported:
                Panic.Stop(TerminationReason.VcUnsupported, "#VC for something that the kernel never does"u8, in frame);
                break;
            default:
                break;
        }

        switch (instruction.ExitCode)
        {
            case GhcbExitCode.Cpuid:
                EmulateCpuid(ref frame);
                break;
            case GhcbExitCode.Msr:
                ForwardMsr(ref frame, in instruction);
                break;
            default:
                ForwardPort(ref frame, in instruction);
                break;
        }

        frame.Rip += (ulong)instruction.Length;
        cpu.HandlesVc = false;
        if (endsTurn)
        {
            EndTurn(ref frame);
        }
        else
        {
            cpu.Turn.Holds--;
        }
    }

    // Has the task go on in svsm_preempted, as #HV does (Doorbell.S): whatever came meanwhile is found there. The hold stays until then.
    private static void EndTurn(ref TrapFrame frame)
    {
        // SAFETY: RSP lies in the stack of the task; nothing below it is in use.
        ulong* words = (ulong*)frame.Rsp - 5;
        words[0] = frame.Rip;
        words[1] = frame.Cs;
        words[2] = frame.Rflags;
        words[3] = frame.Rsp;
        words[4] = frame.Ss;
        frame.Rsp = (ulong)words;
        frame.Rip = PreemptedAddress();
    }

    [RuntimeImport("*", "svsm_preempted_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong PreemptedAddress();

    /// <summary>What CPUID shows: the CPUID page. Its entry count was checked while booting, on this very copy.</summary>
    public static CpuidValues Cpuid(uint function, uint index)
    {
        _ = CpuidTable.TryOpen(CpuidPage, out CpuidTable table);
        return table.Get(function, index);
    }

    private static void EmulateCpuid(ref TrapFrame frame)
    {
        CpuidValues values = Cpuid((uint)frame.Rax, (uint)frame.Rcx);
        frame.Rax = values.Eax;
        frame.Rbx = values.Ebx;
        frame.Rcx = values.Ecx;
        frame.Rdx = values.Edx;
    }

    private static void ForwardMsr(ref TrapFrame frame, in VcInstruction instruction)
    {
        if (!VcInstruction.MayIntercept((uint)frame.Rcx))
        {
            Panic.Stop(TerminationReason.VcMismatch, "#VC for an MSR that the processor keeps to itself"u8, in frame);
        }

        GhcbRequest request = new()
        {
            ExitCode = GhcbExitCode.Msr,
            Info1 = instruction.IsRead ? 0u : 1u,
            Sent = instruction.IsRead ? GhcbRegisters.Rcx : GhcbRegisters.Rax | GhcbRegisters.Rcx | GhcbRegisters.Rdx,
            Wanted = instruction.IsRead ? GhcbRegisters.Rax | GhcbRegisters.Rdx : GhcbRegisters.None,
            Rax = (uint)frame.Rax,
            Rcx = (uint)frame.Rcx,
            Rdx = (uint)frame.Rdx,
        };
        GhcbAnswer answer = Forward(in request, in frame);
        if (instruction.IsRead)
        {
            frame.Rax = (uint)answer.Rax;
            frame.Rdx = (uint)answer.Rdx;
        }
    }

    private static void ForwardPort(ref TrapFrame frame, in VcInstruction instruction)
    {
        ulong port = instruction.HasImmediatePort ? instruction.Port : frame.Rdx & 0xFFFF;
        ulong mask = instruction.OperandSize == 4 ? uint.MaxValue : (1ul << (instruction.OperandSize * 8)) - 1;
        GhcbRequest request = new()
        {
            ExitCode = GhcbExitCode.Ioio,
            Info1 = (port << PortShift) | ((ulong)instruction.OperandSize << OperandSizeShift) | (instruction.IsRead ? (ulong)IoioInfo.In : 0),
            Sent = instruction.IsRead ? GhcbRegisters.None : GhcbRegisters.Rax,
            Wanted = instruction.IsRead ? GhcbRegisters.Rax : GhcbRegisters.None,
            Rax = frame.Rax & mask,
        };
        GhcbAnswer answer = Forward(in request, in frame);
        if (instruction.IsRead)
        {
            // A 4-byte result clears the upper half of the register, shorter ones leave the rest as it was.
            ulong kept = instruction.OperandSize == 4 ? 0 : frame.Rax & ~mask;
            frame.Rax = kept | (answer.Rax & mask);
        }
    }

    private static GhcbAnswer Forward(in GhcbRequest request, in TrapFrame frame)
    {
        if (!Host.HasPage || !Host.TryExchange(in request, out GhcbAnswer answer))
        {
            Panic.Stop(TerminationReason.GhcbAnswer, "the host refused an access of the kernel"u8, in frame);
            return default;
        }

        return answer;
    }

    [RuntimeImport("*", "svsm_cpuid_page_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong CpuidPageAddress();
}
