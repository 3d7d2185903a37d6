// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What happens at each exit of the guest: the level-1 processor's exit becomes what an SNP processor does.
//
//   automatic exits   HLT, nested page faults, VMGEXIT              to the host's side
//   non-automatic     CPUID, IN/OUT, MSRs, WBINVD, ...              #VC in the guest, error code = exit code
//   the processor's   PVALIDATE, RMPADJUST, INVLPGB, TLBSYNC, GHCB MSR, SEV_STATUS, CR0.PG

using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Exit handling.</summary>
internal static unsafe class ExitHandler
{
    // SAFETY (whole type): VMCB, save area and registers belong to the vCPU.

    private const byte RepeatNotEqual = 0xF2;
    private const byte RepeatEqual = 0xF3;
    private const byte GroupOpcode = 0x01;
    private const byte ModRmPValidate = 0xFF;
    private const byte ModRmRmpAdjust = 0xFE;
    private const byte MoveToControlRegister = 0x22;
    private const byte InvdOpcode = 0x08;
    private const int LoadMachineStatusWord = 6;
    private const ulong MachineStatusWord = 0xF;
    private const ulong MsrWrite = 1;
    private const int PauseLength = 2;
    private const int HaltLength = 1;

    /// <summary>Handles the exit that is in the VMCB.</summary>
    /// <returns>False when the run must stop; <see cref="VirtualCpu.StopRequest"/> says why.</returns>
    public static bool Handle(VirtualMachine machine, VirtualCpu cpu)
    {
        ulong exitCode = cpu.Vmcb->ExitCode;

        // What an earlier exit met with is no reason for what becomes of this one.
        cpu.Refusal = VirtualCpu.NoRefusal;
        if ((cpu.State->Efer & Amd64.EferSvme) == 0)
        {
            // The guest's EFER is the VMSA's: without SVME no VMRUN takes it again.
            return cpu.Stop(ViolationKind.InvalidVmsa, cpu.Current.VmsaGpa);
        }

        switch (exitCode)
        {
            case ExitCode.NestedPageFault:
                return NestedFaults.Handle(machine, cpu);
            case ExitCode.Vmmcall:
                return HypervisorCall(machine, cpu);
            case ExitCode.InvalidOpcode:
                return InvalidOpcode(machine, cpu);
            case ExitCode.Msr:
                return ModelSpecificRegister(machine, cpu);
            case ExitCode.Cr0SelectiveWrite:
                return Cr0Write(machine, cpu);
            case ExitCode.Cr3Write:
            case ExitCode.Cr4Write:
                return PagingWrite(machine, cpu, exitCode);
            case ExitCode.Cr8Write:
                return TaskPriorityWrite(machine, cpu);
            case ExitCode.Invlpg:
                return InvalidatePage(machine, cpu);
            case ExitCode.Cpuid:
            case ExitCode.Ioio:
            case ExitCode.Rdpmc:
            case ExitCode.Invd:
            case ExitCode.Monitor:
            case ExitCode.Mwait:
            case ExitCode.Dr7Read:
            case ExitCode.Dr7Write:
                return VcDelivery.Deliver(machine.Memory, cpu, exitCode);
            case ExitCode.Wbinvd:
                // The emulator reports INVD as this as well.
                bool isInvd = GuestCode.Decode(machine.Memory, cpu) is { Map: 1, Opcode: InvdOpcode };
                return VcDelivery.Deliver(machine.Memory, cpu, isInvd ? ExitCode.Invd : ExitCode.Wbinvd);
            case ExitCode.Rdtsc:
            case ExitCode.Rdtscp:
                // Only a hostile host intercepts them. The emulator reports both as RDTSC.
                bool isRdtscp = GuestCode.Decode(machine.Memory, cpu) is { Map: 1, Opcode: GroupOpcode };
                return VcDelivery.Deliver(machine.Memory, cpu, isRdtscp ? ExitCode.Rdtscp : ExitCode.Rdtsc);
            case ExitCode.MwaitConditional:
                return VcDelivery.Deliver(machine.Memory, cpu, ExitCode.Mwait);
            case ExitCode.Invlpga:
            case >= ExitCode.Vmrun and <= ExitCode.Skinit:
                return cpu.Raise(Amd64.VectorInvalidOpcode);
            case ExitCode.Halt:
                return machine.Wait(cpu, exitCode, HaltLength);
            case ExitCode.Interrupt:
                machine.Interrupts.HandlePhysical(cpu);

                // An NMI that came with it is gone; what it told of is not.
                return machine.Commands.Attend(cpu);
            case ExitCode.Pause:
                cpu.Yields = true;
                return cpu.Skip(PauseLength);
            case ExitCode.Shutdown:
                return cpu.Stop(StopReason.Shutdown, 0);
            case ExitCode.Invalid:
                return cpu.Stop(ViolationKind.InvalidVmsa, cpu.Current.VmsaGpa);
            default:
                return cpu.Stop(ViolationKind.Unsupported, 0);
        }
    }

    private static bool HypervisorCall(VirtualMachine machine, VirtualCpu cpu)
    {
        const int UsualLength = 4;
        int length = UsualLength;
        if (!GuestCode.IsUsualVmgExit(machine.Memory, cpu))
        {
            Instruction instruction = GuestCode.Decode(machine.Memory, cpu);
            if (instruction.Length == 0)
            {
                return cpu.Stop(ViolationKind.Unsupported, 0);
            }

            if (instruction.Repeat == 0)
            {
                return VcDelivery.Deliver(machine.Memory, cpu, ExitCode.Vmmcall);
            }

            length = instruction.Length;
        }

        cpu.Skip(length);
        cpu.Yields = !machine.Interrupts.TurnsAreDrawn;
        VmplContext caller = cpu.Current;
        ulong request = caller.GhcbMsr;
        bool resume = machine.Attacks.Any ? machine.Attacks.VmgExit(cpu) : VmgExit.Handle(machine, cpu);
        if (machine.Events.TracesRequests)
        {
            machine.Events.Answered(cpu, caller, request);
        }

        return resume;
    }

    private static bool InvalidOpcode(VirtualMachine machine, VirtualCpu cpu)
    {
        Instruction instruction = GuestCode.Decode(machine.Memory, cpu);
        if (instruction.Length != 0 && instruction.Map == 1 && instruction.Opcode == GroupOpcode)
        {
            switch (instruction.Repeat, instruction.ModRm)
            {
                case (RepeatNotEqual, ModRmPValidate):
                    return RmpInstructions.Validate(machine, cpu, in instruction);
                case (RepeatEqual, ModRmRmpAdjust):
                    return RmpInstructions.Adjust(machine, cpu, in instruction);
                case (0, ModRmRmpAdjust):
                    return InvalidatePages(machine, cpu, in instruction);
                case (0, ModRmPValidate):
                    return Synchronize(machine, cpu, in instruction);
            }
        }

        return cpu.Raise(Amd64.VectorInvalidOpcode);
    }

    // INVLPGB. Its other operands, ASID and PCID in EDX, are the guest's own in any case: PCIDs are not offered.
    private static bool InvalidatePages(VirtualMachine machine, VirtualCpu cpu, in Instruction instruction)
    {
        const ulong ReservedOperand = 0xFC0;
        const uint LargePages = 1u << 31;
        const uint ReservedCount = 0x7FFF_0000;
        ulong operand = cpu.Registers[VirtualCpu.Rax];
        var count = (uint)cpu.Registers[VirtualCpu.Rcx];
        if (cpu.State->Cpl != 0 || (operand & ReservedOperand) != 0 || (count & ReservedCount) != 0 || (ushort)count > CpuidModel.InvlpgbCountMax)
        {
            return cpu.Raise(Amd64.VectorGeneralProtection, 0);
        }

        machine.Memory.Stale.Broadcast(cpu, operand, (ushort)count, (count & LargePages) != 0);
        return cpu.Skip(instruction.Length);
    }

    private static bool Synchronize(VirtualMachine machine, VirtualCpu cpu, in Instruction instruction)
    {
        if (cpu.State->Cpl != 0)
        {
            return cpu.Raise(Amd64.VectorGeneralProtection, 0);
        }

        machine.Memory.Stale.Synchronize(cpu);
        return cpu.Skip(instruction.Length);
    }

    private static bool InvalidatePage(VirtualMachine machine, VirtualCpu cpu)
    {
        Instruction instruction = GuestCode.Decode(machine.Memory, cpu);
        if (!instruction.HasMemory)
        {
            return cpu.Stop(ViolationKind.Unsupported, 0);
        }

        machine.Memory.Stale.InvalidatePage(cpu, GuestCode.OperandAddress(cpu, in instruction));
        return cpu.Skip(instruction.Length);
    }

    // Writes to CR3 and CR4 exit while translations have to be flushed, and what they flush is noted. The usual ones are emulated; the
    // processor does the others itself, as they may fault: from then on until the next loss no flush is seen.
    private static bool PagingWrite(VirtualMachine machine, VirtualCpu cpu, ulong exitCode)
    {
        const ulong HarmlessCr4 = Amd64.Cr4PageGlobal | Amd64.Cr4Smep | Amd64.Cr4Smap | 0x60F;
        Vmsa* state = cpu.State;
        Instruction instruction = GuestCode.Decode(machine.Memory, cpu);
        if (instruction.Map != 1 || instruction.Opcode != MoveToControlRegister)
        {
            return cpu.Stop(ViolationKind.Unsupported, 0);
        }

        ulong value = cpu.Registers[instruction.Rm];
        bool emulate = cpu.IsLongCode;
        if (exitCode == ExitCode.Cr3Write)
        {
            emulate &= (value & ~(Amd64.PteAddress | Amd64.CBit | 0xFFF)) == 0;
            machine.Memory.Stale.WriteCr3(cpu);
        }
        else
        {
            emulate &= ((value ^ state->Cr4) & ~HarmlessCr4) == 0;
            machine.Memory.Stale.WriteCr4(cpu, value);
        }

        if (!emulate)
        {
            Intercepts.SelectFlushes(cpu, byAddress: false, everything: false);
            return true;
        }

        (exitCode == ExitCode.Cr3Write ? ref state->Cr3 : ref state->Cr4) = value;
        return cpu.Skip(instruction.Length);
    }

    // CR8 is the upper half of the task priority; the processor keeps it but while an interrupt is offered.
    private static bool TaskPriorityWrite(VirtualMachine machine, VirtualCpu cpu)
    {
        const int Register = 8;
        const int PriorityShift = 4;
        Instruction instruction = GuestCode.Decode(machine.Memory, cpu);
        if (instruction.Map != 1 || instruction.Opcode != MoveToControlRegister || instruction.Reg != Register)
        {
            return cpu.Stop(ViolationKind.Unsupported, 0);
        }

        ulong value = cpu.Registers[instruction.Rm];
        if (value > 0xF)
        {
            return cpu.Raise(Amd64.VectorGeneralProtection, 0);
        }

        cpu.Current.Apic.TaskPriority = (byte)(value << PriorityShift);
        return cpu.Skip(instruction.Length);
    }

    private static bool ModelSpecificRegister(VirtualMachine machine, VirtualCpu cpu)
    {
        ulong* registers = cpu.Registers;
        var msr = (uint)registers[VirtualCpu.Rcx];
        bool write = cpu.Vmcb->ExitInfo1 == MsrWrite;
        if (msr is not (SevMsr.Ghcb or SevMsr.SevStatus))
        {
            return VcDelivery.Deliver(machine.Memory, cpu, ExitCode.Msr);
        }

        if (write && msr == SevMsr.SevStatus)
        {
            return cpu.Raise(Amd64.VectorGeneralProtection, 0);
        }

        int length = GuestCode.MsrInstructionLength(machine.Memory, cpu);
        if (length == 0)
        {
            return cpu.Stop(ViolationKind.Unsupported, 0);
        }

        if (write)
        {
            cpu.Current.GhcbMsr = (uint)registers[VirtualCpu.Rax] | (registers[VirtualCpu.Rdx] << 32);
        }
        else
        {
            ulong value = msr == SevMsr.Ghcb ? cpu.Current.GhcbMsr
                : SevStatus.Sev | SevStatus.SevEs | ((ulong)cpu.Features << SevStatus.FeaturesShift);
            registers[VirtualCpu.Rax] = (uint)value;
            registers[VirtualCpu.Rdx] = value >> 32;
        }

        return cpu.Skip(length);
    }

    private static bool Cr0Write(VirtualMachine machine, VirtualCpu cpu)
    {
        Vmsa* state = cpu.State;
        Instruction instruction = GuestCode.Decode(machine.Memory, cpu);
        ulong value;
        if (instruction.Map == 1 && instruction.Opcode == MoveToControlRegister && instruction.Reg == 0)
        {
            value = cpu.Registers[instruction.Rm];
            value = cpu.IsLongCode ? value : (uint)value;
        }
        else if (instruction.Map == 1 && instruction.Opcode == GroupOpcode && ((instruction.ModRm >> 3) & 7) == LoadMachineStatusWord
            && !instruction.HasMemory)
        {
            // LMSW can set PE but not clear it.
            ulong word = cpu.Registers[instruction.Rm] & MachineStatusWord;
            value = (state->Cr0 & ~(MachineStatusWord & ~Amd64.Cr0ProtectedMode)) | word;
        }
        else
        {
            return cpu.Stop(ViolationKind.Unsupported, 0);
        }

        bool paging = (value & Amd64.Cr0Paging) != 0;
        bool wasPaging = (state->Cr0 & Amd64.Cr0Paging) != 0;
        bool longMode = (state->Efer & Amd64.EferLongModeEnable) != 0;
        bool invalid = (value >> 32) != 0
            || (paging && (value & Amd64.Cr0ProtectedMode) == 0)
            || ((value & Amd64.Cr0NotWriteThrough) != 0 && (value & Amd64.Cr0CacheDisable) == 0)
            || (paging && !wasPaging && longMode && ((state->Cr4 & Amd64.Cr4Pae) == 0 || (state->Cs.Attributes & SegmentAttributes.Long) != 0))
            || (!paging && wasPaging && cpu.IsLongCode);
        if (invalid)
        {
            return cpu.Raise(Amd64.VectorGeneralProtection, 0);
        }

        state->Cr0 = value | Amd64.Cr0ExtensionType;
        if (paging != wasPaging)
        {
            state->Efer = paging && longMode ? state->Efer | Amd64.EferLongModeActive : state->Efer & ~Amd64.EferLongModeActive;
            cpu.SelectNestedTables(machine.Memory.NestedTables);
        }

        return cpu.Skip(instruction.Length);
    }
}
