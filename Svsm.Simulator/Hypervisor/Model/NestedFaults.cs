// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Nested page faults: an access that the nested tables do not allow (yet) meets the RMP.
//
// A VMPL that may read a page but not write it, and writes it, is left for VMPL0 of the same vCPU, as for a VMGEXIT: VMPL0 has taken the right to
// learn of the write, gives it back, and has the instruction executed again. The VMSA tells why it was left: exit code 0x400, the error code as an
// SNP processor gives it, the address without C-bit. An event whose delivery was the write is injected when the VMPL runs again. The walk of the
// page tables is a write like any other: it sets accessed and dirty bits. So are those writes that the hypervisor makes in the processor's
// place (VcDelivery.cs, GuestPageWalk.cs): they are noted (VirtualCpu.Refusal), and what was to be done is done anew afterwards.

using System.Threading;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Nested page faults.</summary>
internal static unsafe class NestedFaults
{
    // SAFETY (whole type): pages come from GuestMemory.Find; Check refuses null.

    private const ulong EventValid = 1ul << 31;

    // VMPL0 may give the page back later, a tenth of a second for example.
    private const uint MaxRepeats = 100_000;

    /// <summary>Handles a nested page fault.</summary>
    /// <returns>False when the run must stop, which has been asked for.</returns>
    public static bool Handle(VirtualMachine machine, VirtualCpu cpu)
    {
        GuestMemory memory = machine.Memory;
        ulong error = cpu.Vmcb->ExitInfo1;
        ulong gpa = cpu.Vmcb->ExitInfo2 & ~Amd64.CBit;
        bool walk = (error & NestedFault.PageWalk) != 0;
        bool paging = (cpu.State->Cr0 & Amd64.Cr0Paging) != 0;
        bool mappedPrivate = !paging || (cpu.Vmcb->ExitInfo2 & Amd64.CBit) != 0;

        // Page tables are private whatever their pointer says. The emulator asks for write access when it walks, to set accessed bits.
        bool isPrivate = mappedPrivate || walk;
        AccessKind kind = walk ? AccessKind.Read
            : (error & NestedFault.Fetch) != 0 ? AccessKind.Fetch
            : (error & NestedFault.Write) != 0 ? AccessKind.Write
            : AccessKind.Read;
        GuestPage* page = memory.Find(gpa);
        AccessVerdict verdict = GuestMemory.Check(page, cpu.Vmpl, isPrivate, kind, cpu.State->Cpl == 3);
        if (verdict == AccessVerdict.Allowed && walk && (page->GetPermissions(cpu.Vmpl) & RmpPermissions.Write) == 0)
        {
            verdict = AccessVerdict.VmplPermission;
        }

        if (verdict == AccessVerdict.Allowed && isPrivate && memory.Stale.Hinders(page, cpu))
        {
            // Whoever may still reach the page shares it with this access.
            return cpu.Stop(ViolationKind.StaleTranslation, gpa);
        }

        if (verdict == AccessVerdict.Allowed)
        {
            return Map(machine, cpu, page, gpa, mappedPrivate, walk || kind == AccessKind.Write, kind == AccessKind.Fetch);
        }

        if (verdict == AccessVerdict.NotValidated)
        {
            return DeliverNotValidated(memory, cpu, gpa, kind, walk);
        }

        if (verdict == AccessVerdict.NoMemory && !isPrivate && kind != AccessKind.Fetch && machine.Devices.Contains(gpa))
        {
            // A device: the guest decodes its instruction, and asks.
            return VcDelivery.Deliver(memory, cpu, ExitCode.NestedPageFault);
        }

        if (verdict == AccessVerdict.SharedAccessToPrivatePage && !page->IsRunning && machine.Devices.Contains(gpa))
        {
            // Launched where devices are: a firmware that looks for its flash. The host makes the page what the access takes it for, as KVM does.
            return VmgExit.ChangePageState(machine, cpu, Amd64.PageOf(gpa), PageStateOperation.Shared, large: false, out _);
        }

        // What an SNP processor would have told its hypervisor.
        cpu.Vmcb->ExitInfo1 = error | NestedFault.Rmp
            | (isPrivate ? NestedFault.Encrypted : 0)
            | (verdict == AccessVerdict.VmplPermission ? NestedFault.Vmpl : 0);
        bool writes = walk || kind == AccessKind.Write;
        return verdict == AccessVerdict.VmplPermission && writes && CanRead(page, cpu) && CanLeave(machine, cpu, gpa)
            ? LeaveForWrite(machine, cpu, gpa, walk)
            : cpu.Stop(Violations.Of(verdict), gpa);
    }

    /// <summary>Has VMPL0 learn of a write that the hypervisor was refused, in place of the stop that was asked for because of it.</summary>
    /// <returns>False when the run must stop after all.</returns>
    public static bool TryLeaveForWrite(VirtualMachine machine, VirtualCpu cpu)
    {
        ulong gpa = cpu.Refusal;
        bool isCause = cpu.StopRequest is { IsSet: true, Reason: StopReason.Violation, Violation: ViolationKind.VcNotDelivered or ViolationKind.Unsupported };
        if (gpa == VirtualCpu.NoRefusal || !isCause || !CanRead(machine.Memory.Find(gpa), cpu) || !CanLeave(machine, cpu, gpa))
        {
            return false;
        }

        cpu.WithdrawStop();
        return LeaveForWrite(machine, cpu, gpa, walk: false);
    }

    private static bool CanRead(GuestPage* page, VirtualCpu cpu) => (page->GetPermissions(cpu.Vmpl) & RmpPermissions.Read) != 0;

    // There is a VMPL0 that can run, and it has not been told of the same thing over and over.
    private static bool CanLeave(VirtualMachine machine, VirtualCpu cpu, ulong gpa) =>
        cpu.Vmpl != 0 && machine.CanEnter(cpu, 0) && cpu.Current.CountRefusal(cpu.State->Rip, gpa) < MaxRepeats;

    private static bool LeaveForWrite(VirtualMachine machine, VirtualCpu cpu, ulong gpa, bool walk)
    {
        cpu.Vmcb->ExitInfo1 = NestedFault.Present | NestedFault.Write | (cpu.State->Cpl == 3 || walk ? NestedFault.User : 0)
            | NestedFault.Rmp | NestedFault.Encrypted | NestedFault.Vmpl | (walk ? NestedFault.PageWalk : NestedFault.Final);
        cpu.Vmcb->ExitInfo2 = gpa;
        machine.Events.WriteFault(cpu, gpa);
        return machine.LeaveFor(cpu, 0, ExitCode.NestedPageFault);
    }

    private static bool Map(VirtualMachine machine, VirtualCpu cpu, GuestPage* page, ulong gpa, bool mappedPrivate, bool write, bool fetch)
    {
        ulong after = page->Assigned && !mappedPrivate
            ? machine.Memory.MapTable(page, gpa, cpu.Vmpl, out ulong before)
            : machine.Memory.MapNested(page, gpa, cpu.Vmpl, mappedPrivate, out before);

        // A fault that the entry does not explain would come back for ever.
        bool sufficient = (!write || (after & Amd64.PteWritable) != 0) && (!fetch || (after & Amd64.PteNoExecute) == 0);
        if (!sufficient || (before == after && !IsDoneByAnother(machine, cpu, gpa)))
        {
            return cpu.Stop(ViolationKind.Unsupported, gpa);
        }

        return true;
    }

    // Two vCPUs that run at the same time can fault for the same reason; the first removes it. Alone, nobody else can have been it.
    private static bool IsDoneByAnother(VirtualMachine machine, VirtualCpu cpu, ulong gpa) =>
        machine.Threads.Enabled && cpu.CountFault(gpa) < MaxRepeats;

    private static bool DeliverNotValidated(GuestMemory memory, VirtualCpu cpu, ulong gpa, AccessKind kind, bool walk)
    {
        if ((cpu.Vmcb->ExitIntInfo & EventValid) != 0)
        {
            return cpu.Stop(ViolationKind.VcNotDelivered, gpa);
        }

        if (!GuestCode.TryFindFaultAddress(memory, cpu, gpa, kind == AccessKind.Fetch, out ulong linear))
        {
            // Without its page tables the guest's handler cannot be reached either.
            return cpu.Stop(walk ? ViolationKind.VcNotDelivered : ViolationKind.Unsupported, gpa);
        }

        // A handler that needs the page itself raises #VC for ever, at the same place with the same stack.
        cpu.State->Cr2 = linear;
        return cpu.CountFault(linear) < MaxRepeats
            ? VcDelivery.Deliver(memory, cpu, ExitCode.PageNotValidated) || StopAt(cpu, gpa)
            : cpu.Stop(ViolationKind.VcNotDelivered, gpa);
    }

    private static bool StopAt(VirtualCpu cpu, ulong gpa)
    {
        cpu.NoteGpa(gpa);
        return false;
    }
}
