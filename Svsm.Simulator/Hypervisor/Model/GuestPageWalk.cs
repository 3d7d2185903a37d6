// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Translates linear addresses of the guest the way its processor does, for what the hypervisor does in the guest's place:
// instruction fetches, the operands of PVALIDATE and RMPADJUST, and the stack frames of #VC.
//
// Page tables are always read as private memory, whatever the C-bit of the entry that points to them says; so are fetches.
// Long mode with four levels, and no paging. Other modes are not translated: an SNP guest that needs help there does not exist.

using System.Threading;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>How a translation ended.</summary>
internal enum WalkStatus
{
    /// <summary>Translated.</summary>
    Done,

    /// <summary>The guest gets #PF.</summary>
    PageFault,

    /// <summary>The address is not canonical.</summary>
    NotCanonical,

    /// <summary>The RMP refused the read of a page table.</summary>
    Refused,

    /// <summary>A paging mode that is not translated.</summary>
    Unsupported,

    /// <summary>Another vCPU changed an entry meanwhile; inside the walk only.</summary>
    Changed,
}

/// <summary>Result of a translation.</summary>
internal struct WalkResult
{
    /// <summary>How it ended.</summary>
    public WalkStatus Status;

    /// <summary>Guest-physical address without C-bit; of the page table when <see cref="Status"/> is <see cref="WalkStatus.Refused"/>.</summary>
    public ulong Gpa;

    /// <summary>Whether the mapping has the C-bit.</summary>
    public bool IsPrivate;

    /// <summary>Whether the mapping is global.</summary>
    public bool IsGlobal;

    /// <summary>Error code of a #PF.</summary>
    public uint ErrorCode;

    /// <summary>Why the read of a page table was refused.</summary>
    public AccessVerdict Verdict;
}

/// <summary>The guest page walk.</summary>
internal static unsafe class GuestPageWalk
{
    private const uint FaultPresent = 1 << 0;
    private const uint FaultWrite = 1 << 1;
    private const uint FaultUser = 1 << 2;
    private const uint FaultReserved = 1 << 3;
    private const uint FaultFetch = 1 << 4;

    /// <summary>Translates an address.</summary>
    /// <param name="memory">The guest's memory.</param>
    /// <param name="state">The guest's registers.</param>
    /// <param name="vmpl">VMPL that runs, 0 to 3.</param>
    /// <param name="linear">Linear address.</param>
    /// <param name="kind">What for.</param>
    /// <param name="user">Whether the access counts as one at CPL 3.</param>
    /// <param name="record">Gets the table entries that were read, or null.</param>
    public static WalkResult Translate(
        GuestMemory memory, Vmsa* state, int vmpl, ulong linear, AccessKind kind, bool user, RememberedWalk* record = null)
    {
        if ((state->Cr0 & Amd64.Cr0Paging) == 0)
        {
            return new WalkResult { Status = WalkStatus.Done, Gpa = (uint)linear, IsPrivate = true };
        }

        if ((state->Efer & Amd64.EferLongModeActive) == 0 || (state->Cr4 & Amd64.Cr4La57) != 0)
        {
            return new WalkResult { Status = WalkStatus.Unsupported };
        }

        if (!Amd64.IsCanonical(linear))
        {
            return new WalkResult { Status = WalkStatus.NotCanonical };
        }

        WalkResult result;
        do
        {
            if (record != null)
            {
                record->Clear();
            }

            result = Walk(memory, state, vmpl, linear, kind, user, record);
        }
        while (result.Status == WalkStatus.Changed);
        return result;
    }

    private static WalkResult Walk(GuestMemory memory, Vmsa* state, int vmpl, ulong linear, AccessKind kind, bool user, RememberedWalk* record)
    {
        bool noExecute = (state->Efer & Amd64.EferNoExecute) != 0;
        uint fault = (kind == AccessKind.Write ? FaultWrite : 0) | (user ? FaultUser : 0)
            | (kind == AccessKind.Fetch && (noExecute || (state->Cr4 & Amd64.Cr4Smep) != 0) ? FaultFetch : 0);

        // Rights add up along the walk: a right that one entry denies is denied.
        ulong mustBeClear = Amd64.PteReserved | (noExecute ? 0 : Amd64.PteNoExecute);
        ulong inAll = ulong.MaxValue;
        ulong inAny = 0;
        ulong table = state->Cr3 & Amd64.PteAddress;
        for (int shift = 39; ; shift -= 9)
        {
            ulong entryAddress = table + (((linear >> shift) & 0x1FF) * sizeof(ulong));
            AccessVerdict verdict = memory.AccessTable(entryAddress, vmpl, out byte* bytes);
            if (verdict != AccessVerdict.Allowed)
            {
                return new WalkResult { Status = WalkStatus.Refused, Gpa = entryAddress, IsPrivate = true, Verdict = verdict };
            }

            // SAFETY: Access gave the bytes of the page from this address on; an entry is aligned, so it does not cross the page.
            ulong* slot = (ulong*)bytes;
            ulong entry = *slot;
            if ((entry & Amd64.PtePresent) == 0)
            {
                return new WalkResult { Status = WalkStatus.PageFault, ErrorCode = fault };
            }

            inAll &= entry;
            inAny |= entry;
            if (shift > 12 && (entry & (Amd64.PteLarge | mustBeClear)) == 0)
            {
                if ((entry & Amd64.PteAccessed) == 0 && !CanWrite(memory, vmpl, entryAddress))
                {
                    return NotWritable(entryAddress);
                }

                if (!TrySet(slot, ref entry, Amd64.PteAccessed))
                {
                    return Again;
                }

                if (record != null)
                {
                    record->Add(memory.Find(entryAddress), slot, entry);
                }

                table = entry & Amd64.PteAddress;
                continue;
            }

            // Address bits of a large page below its size are reserved, but for bit 12 (PAT); a large page of the top level is not known.
            ulong offsetMask = (1ul << shift) - 1;
            bool reserved = (entry & mustBeClear) != 0 || shift == 39
                || (shift > 12 && (entry & Amd64.PteAddress & offsetMask & ~0x1000ul) != 0);
            if (reserved)
            {
                return new WalkResult { Status = WalkStatus.PageFault, ErrorCode = fault | FaultPresent | FaultReserved };
            }

            bool writable = (inAll & Amd64.PteWritable) != 0;
            bool userPage = (inAll & Amd64.PteUser) != 0;
            if (!IsAllowed(state, kind, user, writable, userPage, executable: (inAny & Amd64.PteNoExecute) == 0))
            {
                return new WalkResult { Status = WalkStatus.PageFault, ErrorCode = fault | FaultPresent };
            }

            ulong bits = Amd64.PteAccessed | (kind == AccessKind.Write ? Amd64.PteDirty : 0);
            if ((entry & bits) != bits && !CanWrite(memory, vmpl, entryAddress))
            {
                return NotWritable(entryAddress);
            }

            if (!TrySet(slot, ref entry, bits))
            {
                return Again;
            }

            if (record != null)
            {
                record->Add(memory.Find(entryAddress), slot, entry);
            }

            return new WalkResult
            {
                Status = WalkStatus.Done,
                Gpa = (entry & Amd64.PteAddress & ~offsetMask) | (linear & offsetMask),
                IsPrivate = (entry & Amd64.CBit) != 0,
                IsGlobal = (entry & Amd64.PteGlobal) != 0 && (state->Cr4 & Amd64.Cr4PageGlobal) != 0,
            };
        }
    }

    // Accessed and dirty bits are writes of the VMPL that walks.
    private static bool CanWrite(GuestMemory memory, int vmpl, ulong entryAddress) =>
        (memory.Find(entryAddress)->GetPermissions(vmpl) & RmpPermissions.Write) != 0;

    private static WalkResult NotWritable(ulong entryAddress) =>
        new() { Status = WalkStatus.Refused, Gpa = entryAddress, IsPrivate = true, Verdict = AccessVerdict.VmplPermission };

    private static WalkResult Again => new() { Status = WalkStatus.Changed };

    // As the processor does it: not when the entry has been changed since it was read. Then the walk begins anew.
    private static bool TrySet(ulong* slot, ref ulong entry, ulong bits)
    {
        ulong before = entry;
        entry |= bits;
        return entry == before || Interlocked.CompareExchange(ref *slot, entry, before) == before;
    }

    private static bool IsAllowed(Vmsa* state, AccessKind kind, bool user, bool writable, bool userPage, bool executable)
    {
        if (kind == AccessKind.Fetch)
        {
            return executable && (user ? userPage : !userPage || (state->Cr4 & Amd64.Cr4Smep) == 0);
        }

        if (user)
        {
            return userPage && (kind == AccessKind.Read || writable);
        }

        bool preventedBySmap = userPage && (state->Cr4 & Amd64.Cr4Smap) != 0 && (state->Rflags & Amd64.FlagAlignment) == 0;
        return !preventedBySmap && (kind == AccessKind.Read || writable || (state->Cr0 & Amd64.Cr0WriteProtect) == 0);
    }
}
