// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Moves a vCPU's registers between its VMSA page and what VMRUN of AMD-SVM takes, and checks a VMSA as VMRUN of SEV-SNP would.
//
// The VMCB's save area has the layout of a VMSA up to 0x298, so most of it is copied in runs; the runs leave out what only a VMSA has
// (VMPL, XSS, shadow stacks, debug registers 0 to 3).

using System;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>VMSA to VMCB and back.</summary>
internal static unsafe class VmsaTransfer
{
    // SAFETY (whole type): a VMSA is a whole page, VMCB and frame likewise; every offset used lies inside.

    /// <summary>The features that the simulated processor has.</summary>
    public const SevFeatures Supported = SevFeatures.SnpActive | SevFeatures.RestrictedInjection | SevFeatures.DebugSwap
        | SevFeatures.PreventHostIbs | SevFeatures.BtbIsolation | SevFeatures.SmtProtection;

    private const ulong Cr0Valid = 0xE005_003F;
    private const ulong Cr4Valid = 0x00FF_FFFF;
    private const ulong EferValid = 0x7D01;
    private const ushort MxcsrValid = 0xFFFF;

    private const int InterruptShadowBit = 10;

    private const int FxControlWord = 0;
    private const int FxStatusWord = 2;
    private const int FxTagByte = 4;
    private const int FxOpcode = 6;
    private const int FxInstructionPointer = 8;
    private const int FxDataPointer = 16;
    private const int FxMxcsr = 24;
    private const int FxX87Registers = 32;
    private const int FxX87RegisterSlot = 16;
    private const int FxXmmRegisters = 160;
    private const int X87RegisterLength = 10;
    private const int X87RegisterCount = 8;
    private const ushort AllEmpty = 0xFFFF;

    /// <summary>Whether VMRUN takes a VMSA.</summary>
    /// <param name="vmsa">The VMSA.</param>
    /// <param name="vmpl">VMPL that it is to run at.</param>
    public static bool IsValid(Vmsa* vmsa, int vmpl)
    {
        ulong cr0 = vmsa->Cr0;
        ulong efer = vmsa->Efer;
        var features = (SevFeatures)vmsa->SevFeatures;
        bool longPaging = (efer & Amd64.EferLongModeEnable) != 0 && (cr0 & Amd64.Cr0Paging) != 0;
        bool longCode = (vmsa->Cs.Attributes & SegmentAttributes.Long) != 0;
        return (efer & Amd64.EferSvme) != 0
            && (efer & ~EferValid) == 0
            && vmsa->Vmpl == vmpl
            && (features & SevFeatures.SnpActive) != 0
            && (features & ~Supported) == 0
            && (cr0 & ~Cr0Valid) == 0
            && ((cr0 & Amd64.Cr0NotWriteThrough) == 0 || (cr0 & Amd64.Cr0CacheDisable) != 0)
            && ((cr0 & Amd64.Cr0Paging) == 0 || (cr0 & Amd64.Cr0ProtectedMode) != 0)
            && (vmsa->Cr4 & ~Cr4Valid) == 0
            && (vmsa->Cr3 & Amd64.PteReserved) == 0
            && (vmsa->Dr6 >> 32) == 0
            && (vmsa->Dr7 >> 32) == 0
            && (!longPaging || ((vmsa->Cr4 & Amd64.Cr4Pae) != 0 && (cr0 & Amd64.Cr0ProtectedMode) != 0))
            && !(longPaging && longCode && (vmsa->Cs.Attributes & SegmentAttributes.Default32) != 0);
    }

    /// <summary>Loads a vCPU from a VMSA.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="vmsa">A VMSA that <see cref="IsValid"/> accepts.</param>
    public static void Load(VirtualCpu cpu, Vmsa* vmsa)
    {
        Vmsa* state = cpu.State;
        CopyCommon(state, vmsa);
        cpu.Features = (SevFeatures)vmsa->SevFeatures;
        cpu.Vmcb->EventInjection = 0;
        cpu.InterruptedEvent = 0;
        cpu.Vmcb->InterruptShadow = (vmsa->VirtualInterruptControl >> InterruptShadowBit) & 1;

        ulong* registers = cpu.Registers;
        registers[VirtualCpu.Rax] = vmsa->Rax;
        registers[VirtualCpu.Rcx] = vmsa->Rcx;
        registers[VirtualCpu.Rdx] = vmsa->Rdx;
        registers[VirtualCpu.Rbx] = vmsa->Rbx;
        registers[VirtualCpu.Rsp] = vmsa->Rsp;
        registers[VirtualCpu.Rbp] = vmsa->Rbp;
        registers[VirtualCpu.Rsi] = vmsa->Rsi;
        registers[VirtualCpu.Rdi] = vmsa->Rdi;
        Move(&registers[8], &vmsa->R8, 8 * sizeof(ulong));

        byte* fx = (byte*)&cpu.Frame->Extended;
        *(ushort*)(fx + FxControlWord) = vmsa->X87ControlWord;
        *(ushort*)(fx + FxStatusWord) = vmsa->X87StatusWord;
        *(ushort*)(fx + FxTagByte) = ToTagByte(vmsa->X87TagWord);
        *(ushort*)(fx + FxOpcode) = vmsa->X87Opcode;
        *(ulong*)(fx + FxInstructionPointer) = vmsa->X87InstructionPointer;
        *(ulong*)(fx + FxDataPointer) = vmsa->X87DataPointer;

        // FXRSTOR faults on reserved bits, in the hypervisor.
        *(uint*)(fx + FxMxcsr) = vmsa->Mxcsr & MxcsrValid;
        for (int i = 0; i < X87RegisterCount; i++)
        {
            MoveX87(fx + FxX87Registers + (i * FxX87RegisterSlot), (byte*)&vmsa->X87Registers + (i * X87RegisterLength));
        }

        Move(fx + FxXmmRegisters, &vmsa->XmmRegisters, sizeof(Bytes256));
    }

    /// <summary>Stores a vCPU to a VMSA.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="vmsa">Its VMSA.</param>
    /// <param name="exitCode">GUEST_EXITCODE.</param>
    public static void Store(VirtualCpu cpu, Vmsa* vmsa, ulong exitCode)
    {
        CopyCommon(vmsa, cpu.State);
        vmsa->ExitCode = exitCode;
        vmsa->ExitInfo1 = cpu.Vmcb->ExitInfo1;
        vmsa->ExitInfo2 = cpu.Vmcb->ExitInfo2;
        vmsa->ExitIntInfo = 0;
        vmsa->NextRip = cpu.State->Rip;
        vmsa->EventInjection = 0;
        vmsa->VirtualInterruptControl = (vmsa->VirtualInterruptControl & ~(1ul << InterruptShadowBit))
            | ((cpu.Vmcb->InterruptShadow & 1) << InterruptShadowBit);

        ulong* registers = cpu.Registers;
        vmsa->Rax = registers[VirtualCpu.Rax];
        vmsa->Rcx = registers[VirtualCpu.Rcx];
        vmsa->Rdx = registers[VirtualCpu.Rdx];
        vmsa->Rbx = registers[VirtualCpu.Rbx];
        vmsa->Rsp = registers[VirtualCpu.Rsp];
        vmsa->Rbp = registers[VirtualCpu.Rbp];
        vmsa->Rsi = registers[VirtualCpu.Rsi];
        vmsa->Rdi = registers[VirtualCpu.Rdi];
        Move(&vmsa->R8, &registers[8], 8 * sizeof(ulong));

        byte* fx = (byte*)&cpu.Frame->Extended;
        vmsa->X87ControlWord = *(ushort*)(fx + FxControlWord);
        vmsa->X87StatusWord = *(ushort*)(fx + FxStatusWord);
        vmsa->X87TagWord = ToTagWord(fx);
        vmsa->X87Opcode = *(ushort*)(fx + FxOpcode);
        vmsa->X87InstructionPointer = *(ulong*)(fx + FxInstructionPointer);
        vmsa->X87DataPointer = *(ulong*)(fx + FxDataPointer);
        vmsa->Mxcsr = *(uint*)(fx + FxMxcsr);
        for (int i = 0; i < X87RegisterCount; i++)
        {
            MoveX87((byte*)&vmsa->X87Registers + (i * X87RegisterLength), fx + FxX87Registers + (i * FxX87RegisterSlot));
        }

        Move(&vmsa->XmmRegisters, fx + FxXmmRegisters, sizeof(Bytes256));
    }

    private static void CopyCommon(Vmsa* destination, Vmsa* source)
    {
        // Segments: ES to TR.
        Move(destination, source, 10 * sizeof(SegmentRegister));
        destination->Cpl = source->Cpl;
        destination->Efer = source->Efer;
        destination->Cr4 = source->Cr4;
        destination->Cr3 = source->Cr3;
        destination->Cr0 = source->Cr0;
        destination->Dr7 = source->Dr7;
        destination->Dr6 = source->Dr6;
        destination->Rflags = source->Rflags;
        destination->Rip = source->Rip;
        destination->Star = source->Star;
        destination->LStar = source->LStar;
        destination->CStar = source->CStar;
        destination->SFMask = source->SFMask;
        destination->KernelGsBase = source->KernelGsBase;
        destination->SysenterCs = source->SysenterCs;
        destination->SysenterEsp = source->SysenterEsp;
        destination->SysenterEip = source->SysenterEip;
        destination->Cr2 = source->Cr2;
        destination->Pat = source->Pat;
        destination->DebugControl = source->DebugControl;
    }

    // FSAVE keeps two bits per register (3 = empty), FXSAVE one (0 = empty).
    private static byte ToTagByte(ushort tagWord)
    {
        if (tagWord == AllEmpty)
        {
            return 0;
        }

        int result = 0;
        for (int i = 0; i < X87RegisterCount; i++)
        {
            result |= ((tagWord >> (i * 2)) & 3) == 3 ? 0 : 1 << i;
        }

        return (byte)result;
    }

    private static ushort ToTagWord(byte* fx)
    {
        const int Valid = 0;
        const int Zero = 1;
        const int Special = 2;
        const int Empty = 3;
        if (fx[FxTagByte] == 0)
        {
            return AllEmpty;
        }

        int top = (*(ushort*)(fx + FxStatusWord) >> 11) & 7;
        int result = 0;
        for (int i = 0; i < X87RegisterCount; i++)
        {
            // Tags are by register, contents by distance from the top of the stack.
            byte* content = fx + FxX87Registers + (((i - top) & 7) * FxX87RegisterSlot);
            ulong mantissa = *(ulong*)content;
            int exponent = *(ushort*)(content + sizeof(ulong)) & 0x7FFF;
            int tag = (fx[FxTagByte] & (1 << i)) == 0 ? Empty
                : exponent == 0 && mantissa == 0 ? Zero
                : exponent == 0 || exponent == 0x7FFF || mantissa >> 63 == 0 ? Special
                : Valid;
            result |= tag << (i * 2);
        }

        return (ushort)result;
    }

    // 80 bits.
    private static void MoveX87(byte* destination, byte* source)
    {
        *(ulong*)destination = *(ulong*)source;
        *(ushort*)(destination + sizeof(ulong)) = *(ushort*)(source + sizeof(ulong));
    }

    private static void Move(void* destination, void* source, int length)
    {
        // SAFETY: both ends are fields of pages that the caller holds, at least length bytes long.
        new Span<byte>(source, length).CopyTo(new Span<byte>(destination, length));
    }
}
