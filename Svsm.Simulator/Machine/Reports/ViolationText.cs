// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

// What a violation means to the author of the code that did it: what happened, what hardware does, what is mostly wrong.
internal static class ViolationText
{
    /// <summary>The state of the page that the access would have needed, in the words of <see cref="RmpEntry"/>; empty when no state would do.</summary>
    public static string NeededState(in StopReport report)
    {
        const ulong NestedPageFault = 0x400;
        const ulong Write = 1ul << 1;
        const ulong Fetch = 1ul << 4;
        const ulong Walk = 1ul << 33;
        bool isAccess = report.ExitCode == NestedPageFault;
        ulong info = report.ExitInfo1;
        string right = (info & Walk) != 0 ? "rw" : (info & Fetch) != 0 ? report.Cpl == 3 ? "u" : "s" : (info & Write) != 0 ? "w" : "r";
        return report.Violation switch
        {
            ViolationKind.PrivateAccessToSharedPage => isAccess ? "assigned, validated" : "assigned",
            ViolationKind.SharedAccessToPrivatePage => isAccess ? "not assigned (shared)" : "a mapping with the C-bit",
            ViolationKind.SharedFetch => "assigned, validated, and a mapping with the C-bit",
            ViolationKind.VmplPermission => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"assigned, validated; VMPL{report.Vmpl} {right}"),
            ViolationKind.VmsaPage => "not a VMSA in use",
            ViolationKind.NoMemory => "RAM, or device space and a shared access",
            ViolationKind.StaleTranslation => "no vCPU with a translation from before",
            _ => "",
        };
    }

    public static (string Title, string Explanation) For(ViolationKind kind) => kind switch
    {
        ViolationKind.PrivateAccessToSharedPage => (
            "private access to a shared page",
            "Hardware hands the host a nested page fault with the RMP bit set, and the instruction never completes. The page was given to the " +
            "host, or never taken from it: change its state to private and validate it first, or map it without the C-bit."),
        ViolationKind.SharedAccessToPrivatePage => (
            "shared access to a private page",
            "On hardware the guest reads ciphertext, and a write runs into the RMP check. The mapping lacks the C-bit, or the page should have " +
            "been rescinded and made shared first."),
        ViolationKind.VmplPermission => (
            "access that the VMPL has no right to",
            "Hardware hands the host a nested page fault with the VMPL bit set, and the instruction never completes. A more privileged VMPL has " +
            "to grant the right with RMPADJUST."),
        ViolationKind.NoMemory => (
            "access to memory that does not exist",
            "There is neither RAM nor a device at this address. On hardware the host stops the guest or answers what it likes."),
        ViolationKind.VmsaPage => (
            "access to a VMSA page in use",
            "Hardware protects a page with the VMSA bit from all access but that of its owner. Clear the bit with RMPADJUST before the page is " +
            "used otherwise, and not while the vCPU runs."),
        ViolationKind.VcNotDelivered => (
            "#VC that the guest could not take",
            "The exception found no handler, no stack, or faulted while it was delivered. Hardware ends in a double or triple fault."),
        ViolationKind.Ghcb => (
            "GHCB request that no host answers",
            "The request is not part of the protocol, or its GHCB page is not registered or not shared. A real host refuses it or stops the guest."),
        ViolationKind.HaltForever => (
            "halt that nothing can end",
            "The vCPU waits and no event can wake it: no interrupt, no other vCPU that could send one. Hardware would wait for ever."),
        ViolationKind.InvalidVmsa => (
            "VMSA that cannot run",
            "VMRUN refuses the register state: hardware reports the exit code INVALID to the host."),
        ViolationKind.Unsupported => (
            "instruction that the simulated processor does not have",
            "It may exist on hardware; no SVSM or guest needed it here so far. If a real one needs it, the simulator has to learn it."),
        ViolationKind.SharedFetch => (
            "instruction fetch through a shared mapping",
            "Hardware takes instruction fetches as private whatever the mapping says: it would run other bytes than a read of this address " +
            "shows. Map code with the C-bit."),
        ViolationKind.StaleTranslation => (
            "page used again before translations of it were flushed",
            "The page was rescinded, or a VMPL lost rights to it, and a processor may still hold the translation from before: it would go on " +
            "with the old rights, perhaps to other memory. Flush (INVLPGB and TLBSYNC, or CR4.PGE if only this vCPU ran the VMPL) before the " +
            "page is validated, granted, made a VMSA, read or written. The host's lines above say who may hold it."),
        _ => (
            "unknown violation",
            "The hypervisor reports a violation that this machine has no words for."),
    };
}
