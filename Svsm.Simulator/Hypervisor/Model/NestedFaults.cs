// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Nested page faults: an access that the nested tables do not allow (yet) meets the RMP.

using System.Threading;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>Nested page faults.</summary>
internal static unsafe class NestedFaults
{
    // SAFETY (whole type): pages come from GuestMemory.Find; Check refuses null.

    private const ulong EventValid = 1ul << 31;
    private const uint MaxRepeats = 1000;

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

        if (verdict == AccessVerdict.Allowed && isPrivate && memory.Stale.Pending(page) >> (cpu.Vmpl + 1) != 0)
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
        return cpu.Stop(Violations.Of(verdict), gpa);
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
