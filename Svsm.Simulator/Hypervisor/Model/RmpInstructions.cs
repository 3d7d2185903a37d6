// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// PVALIDATE and RMPADJUST: the guest's own instructions on its reverse map.
//
// Order of the checks, and what each failure is:
//
//   PVALIDATE                                            RMPADJUST
//   CPL is not 0, or VMPL is not 0         #GP(0)        CPL is not 0                           #GP(0)
//                                                        reserved bits of RDX, VMPL above 3     FAIL_INPUT
//                                                        target VMPL not below the caller's     FAIL_PERMISSION
//   2 MiB and address not 2-MiB aligned    FAIL_INPUT    the same                               FAIL_INPUT
//   address not canonical                  #GP(0)        the same                               #GP(0)
//   not mapped, or not readable            #PF           the same                               #PF
//   page not assigned                      nested fault  the same                               nested fault
//   4 KiB and RMP entry of 2 MiB           nested fault; the host splits the entry, and the instruction runs again
//                                                        page not validated                     #VC 0x404
//   2 MiB and RMP entry of 4 KiB           FAIL_SIZE..   the same                               FAIL_SIZEMISMATCH
//   VMSA of a vCPU that runs               FAIL_INUSE    the same                               FAIL_INUSE
//                                                        rights that the caller has not         FAIL_PERMISSION
//
// A nested fault for an unassigned page comes back for ever unless the host makes the page private, which a strict host does not do
// unasked: the run stops. So it does for a mapping without the C-bit, about which nothing is known.
// The VMSA bit follows RDX at VMPL0 and stays as it is at the others. HypervisorProbe/RmpTable.cs tries every row from inside.
//
// Sources: AMD64 Architecture Programmer's Manual, volume 3 (PVALIDATE, RMPADJUST) and volume 2, 15.36. Corroborated by
//   order, from the target VMPL on        VeriSMo source/verismo/src/arch/rmp/access_s.rs, its specification of both instructions
//   sizes, who splits                     Linux arch/x86/include/asm/sev.h, KVM's #NPF handling for SEV-SNP
//   FAIL_INUSE for a VMSA that runs       kvm list, Brijesh Singh on "snp_cleanup_vmsa", 2022-04; linux-svsm src/protocols/core.rs
//   VMSA bit, target VMPL                 EDK2 MpInitLib AmdSev.c
// Not corroborated: where alignment and reserved bits are checked, #GP of PVALIDATE outside VMPL0 (VeriSMo calls it a fault, not which).

using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>PVALIDATE and RMPADJUST.</summary>
internal static unsafe class RmpInstructions
{
    // SAFETY (whole type): pages come from GuestMemory.Find and are checked for null; a 2-MiB operation is aligned, and RAM of a 2-MiB entry is whole.

    private const ulong TargetVmplMask = 0xFF;
    private const ulong PermissionsMask = 0xFF00;
    private const ulong VmsaMask = 1ul << 16;
    private const ulong LargePage = 1;
    private const ulong PagesPerLargePage = 512;
    private const byte RepeatNotEqual = 0xF2;

    /// <summary>Runs PVALIDATE.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="instruction">The decoded instruction.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool Validate(VirtualMachine machine, VirtualCpu cpu, in Instruction instruction)
    {
        GuestMemory memory = machine.Memory;
        cpu.Current.Statistics->PValidates++;
        if (cpu.State->Cpl != 0 || cpu.Vmpl != 0)
        {
            return cpu.Raise(Amd64.VectorGeneralProtection, 0);
        }

        bool large = (cpu.Registers[VirtualCpu.Rcx] & LargePage) != 0;
        bool validate = (cpu.Registers[VirtualCpu.Rdx] & 1) != 0;
        if (!TryLocate(memory, cpu, in instruction, large, out Operand operand, out bool isInputBad))
        {
            return isInputBad ? Complete(machine, cpu, in instruction, RmpResult.FailInput, unchanged: false) : Pending(cpu);
        }

        ulong gpa = operand.Gpa;
        GuestPage* page = operand.Page;
        RmpResult refused = Refuse(page, large);
        if (refused != RmpResult.Success)
        {
            return Complete(machine, cpu, in instruction, refused, unchanged: false);
        }

        bool unchanged = page->Validated == validate;
        ulong count = unchanged ? 0 : large ? PagesPerLargePage : 1;
        for (ulong i = 0; i < count; i++)
        {
            ulong address = gpa + (i * Amd64.PageSize);
            GuestPage* each = memory.Find(address);
            if (validate && memory.Stale.IsPending(each, address))
            {
                return cpu.Stop(ViolationKind.StaleTranslation, address);
            }

            each->Validated = validate;
            memory.Unmap(each, address);
            if (!validate)
            {
                memory.LoseAll(each);
            }
        }

        if (count != 0 && !validate && (machine.Options & LaunchOptions.HostFlushes) == 0)
        {
            memory.Stale.Rescind(cpu, gpa, operand.Linear, count * Amd64.PageSize, operand.IsGlobal);
        }

        if (validate && !unchanged && machine.Attacks.Any)
        {
            machine.Attacks.AfterValidate(cpu, gpa);
        }

        return Complete(machine, cpu, in instruction, RmpResult.Success, unchanged);
    }

    /// <summary>Runs RMPADJUST.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="instruction">The decoded instruction.</param>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool Adjust(VirtualMachine machine, VirtualCpu cpu, in Instruction instruction)
    {
        GuestMemory memory = machine.Memory;
        cpu.Current.Statistics->RmpAdjusts++;
        if (cpu.State->Cpl != 0)
        {
            return cpu.Raise(Amd64.VectorGeneralProtection, 0);
        }

        ulong attributes = cpu.Registers[VirtualCpu.Rdx];
        var target = (int)(attributes & TargetVmplMask);
        ulong wanted = attributes & PermissionsMask;
        bool large = (cpu.Registers[VirtualCpu.Rcx] & LargePage) != 0;
        bool reserved = (attributes & ~(TargetVmplMask | PermissionsMask | VmsaMask)) != 0 || (wanted & ~(ulong)RmpPermissions.All) != 0
            || target >= NestedPageTables.VmplCount;
        if (reserved)
        {
            return Complete(machine, cpu, in instruction, RmpResult.FailInput, unchanged: false);
        }

        if (target <= cpu.Vmpl)
        {
            return Complete(machine, cpu, in instruction, RmpResult.FailPermission, unchanged: false);
        }

        if (!TryLocate(memory, cpu, in instruction, large, out Operand operand, out bool isInputBad))
        {
            return isInputBad ? Complete(machine, cpu, in instruction, RmpResult.FailInput, unchanged: false) : Pending(cpu);
        }

        GuestPage* page = operand.Page;
        if (!page->Validated)
        {
            cpu.State->Cr2 = operand.Linear | (cpu.Registers[VirtualCpu.Rax] & (Amd64.PageSize - 1));
            return VcDelivery.Deliver(memory, cpu, ExitCode.PageNotValidated);
        }

        RmpResult refused = Refuse(page, large);
        if (refused != RmpResult.Success)
        {
            return Complete(machine, cpu, in instruction, refused, unchanged: false);
        }

        var permissions = (RmpPermissions)wanted;
        if ((permissions & ~page->GetPermissions(cpu.Vmpl)) != 0)
        {
            return Complete(machine, cpu, in instruction, RmpResult.FailPermission, unchanged: false);
        }

        bool vmsa = (attributes & VmsaMask) != 0;
        for (ulong i = 0; i < (large ? PagesPerLargePage : 1); i++)
        {
            ulong address = operand.Gpa + (i * Amd64.PageSize);
            GuestPage* each = memory.Find(address);
            RmpPermissions before = each->GetPermissions(target);
            bool becomesVmsa = cpu.Vmpl == 0 && vmsa && !each->IsVmsa;
            memory.Stale.Regain(each, target, before, permissions);
            if (((permissions & ~before) != 0 || becomesVmsa) && memory.Stale.IsPending(each, address))
            {
                return cpu.Stop(ViolationKind.StaleTranslation, address);
            }

            each->SetPermissions(target, permissions);
            if (cpu.Vmpl == 0)
            {
                each->IsVmsa = vmsa;
            }

            memory.Unmap(each, address);
            RmpPermissions lost = before & ~permissions;
            if (lost == RmpPermissions.Write && (permissions & RmpPermissions.Read) != 0)
            {
                memory.Stale.LoseWrites(each, target, cpu);
            }
            else if (lost != 0)
            {
                memory.Stale.Lose(each, target);
            }
        }

        return Complete(machine, cpu, in instruction, RmpResult.Success, unchanged: false);
    }

    /// <summary>What RAX names.</summary>
    private struct Operand
    {
        /// <summary>Address of the (first) page.</summary>
        public ulong Gpa;

        /// <summary>The (first) page.</summary>
        public GuestPage* Page;

        /// <summary>Linear address of the (first) page.</summary>
        public ulong Linear;

        /// <summary>Whether its mapping is global.</summary>
        public bool IsGlobal;
    }

    /// <summary>Translates RAX and finds the RMP entry.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="instruction">The decoded instruction.</param>
    /// <param name="large">Whether it works on 2 MiB.</param>
    /// <param name="operand">What was found.</param>
    /// <param name="completes">When not located: true if the instruction ends with FAIL_INPUT, false if it raised an exception or stops the run.</param>
    private static bool TryLocate(
        GuestMemory memory,
        VirtualCpu cpu,
        in Instruction instruction,
        bool large,
        out Operand operand,
        out bool completes)
    {
        completes = false;
        operand = default;
        ulong linear = cpu.Registers[VirtualCpu.Rax];
        linear = instruction.AddressSize switch
        {
            16 => (ushort)linear,
            32 => (uint)linear,
            _ => linear,
        };
        linear += GuestCode.SegmentBase(cpu, instruction.Segment);
        if (large && (linear & (Amd64.LargePageSize - 1) & ~(ulong)(Amd64.PageSize - 1)) != 0)
        {
            completes = true;
            return false;
        }

        WalkResult walk = GuestPageWalk.Translate(memory, cpu.State, cpu.Vmpl, linear, AccessKind.Read, user: false);
        switch (walk.Status)
        {
            case WalkStatus.Done:
                break;
            case WalkStatus.PageFault:
                cpu.State->Cr2 = linear;
                cpu.Raise(Amd64.VectorPageFault, walk.ErrorCode);
                return false;
            case WalkStatus.NotCanonical:
                cpu.Raise(Amd64.VectorGeneralProtection, 0);
                return false;
            case WalkStatus.Refused when walk.Verdict == AccessVerdict.NotValidated:
                cpu.State->Cr2 = linear;
                VcDelivery.Deliver(memory, cpu, ExitCode.PageNotValidated);
                return false;
            case WalkStatus.Refused:
                cpu.Stop(Violations.Of(walk.Verdict), walk.Gpa);
                return false;
            default:
                cpu.Stop(ViolationKind.Unsupported, 0);
                return false;
        }

        ulong gpa = Amd64.PageOf(walk.Gpa);
        GuestPage* page = memory.Find(gpa);
        operand = new Operand { Gpa = gpa, Page = page, Linear = Amd64.PageOf(linear), IsGlobal = walk.IsGlobal };
        if (large && (gpa & (Amd64.LargePageSize - 1)) != 0)
        {
            completes = true;
            return false;
        }

        if (page == null || !walk.IsPrivate || !page->Assigned)
        {
            cpu.Stop(
                page == null ? ViolationKind.NoMemory
                    : walk.IsPrivate ? ViolationKind.PrivateAccessToSharedPage
                    : ViolationKind.SharedAccessToPrivatePage,
                gpa);
            return false;
        }

        if (!large && page->IsLarge)
        {
            memory.Split(gpa);
        }

        return true;
    }

    // A VMSA that runs has an entry of its own, so the first page tells.
    private static RmpResult Refuse(GuestPage* page, bool large)
    {
        return large && !page->IsLarge ? RmpResult.FailSizeMismatch
            : page->IsRunning ? RmpResult.FailInUse
            : RmpResult.Success;
    }

    /// <summary>What a handler returns once an exception is pending or a stop was asked for.</summary>
    private static bool Pending(VirtualCpu cpu) => !cpu.StopRequest.IsSet;

    /// <summary>Sets EAX and the flags, which tell about EAX as a comparison with 0 would; CF tells that the RMP entry did not change.</summary>
    private static bool Complete(VirtualMachine machine, VirtualCpu cpu, in Instruction instruction, RmpResult result, bool unchanged)
    {
        const ulong Flags = Amd64.FlagCarry | Amd64.FlagParity | Amd64.FlagAdjust | Amd64.FlagZero | Amd64.FlagSign | Amd64.FlagOverflow;
        var value = (uint)result;
        bool evenParity = (System.Numerics.BitOperations.PopCount(value & 0xFF) & 1) == 0;
        machine.Events.Rmp(
            cpu,
            instruction.Repeat == RepeatNotEqual ? EventKind.PValidate : EventKind.RmpAdjust,
            value | (unchanged ? 1ul << 32 : 0),
            cpu.Registers[VirtualCpu.Rax],
            (uint)cpu.Registers[VirtualCpu.Rdx] | (cpu.Registers[VirtualCpu.Rcx] << 32));
        cpu.Registers[VirtualCpu.Rax] = value;
        cpu.State->Rflags = (cpu.State->Rflags & ~Flags)
            | (unchanged ? Amd64.FlagCarry : 0)
            | (value == 0 ? Amd64.FlagZero : 0)
            | (evenParity ? Amd64.FlagParity : 0);
        return cpu.Skip(instruction.Length);
    }
}

/// <summary>Which violation a refused access is.</summary>
internal static class Violations
{
    /// <summary>The violation of a verdict that is neither "allowed" nor "not validated".</summary>
    public static ViolationKind Of(AccessVerdict verdict)
    {
        return verdict switch
        {
            AccessVerdict.NoMemory => ViolationKind.NoMemory,
            AccessVerdict.PrivateAccessToSharedPage => ViolationKind.PrivateAccessToSharedPage,
            AccessVerdict.SharedAccessToPrivatePage => ViolationKind.SharedAccessToPrivatePage,
            AccessVerdict.SharedFetch => ViolationKind.SharedFetch,
            AccessVerdict.VmplPermission => ViolationKind.VmplPermission,
            AccessVerdict.VmsaPage => ViolationKind.VmsaPage,
            _ => ViolationKind.None,
        };
    }
}
