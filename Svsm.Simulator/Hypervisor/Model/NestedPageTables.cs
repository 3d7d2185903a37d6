// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The nested page tables: what each VMPL can reach now. A cache of the RMP, filled on nested page faults and emptied by RMP changes.
//
// Per VMPL there are two roots over the same tables:
//
//   root          slots 0 to 255: shared view | slots 256 to 511 (bit 47, the C-bit): private view
//   root, PG = 0  slots 0 to 255: private view. Without paging there is no C-bit, and every access is private.
//
// The emulator drops all translations at VMRUN and #VMEXIT. So an edit needs no flush, but whoever may be in a guest that has used an entry must
// leave it before anybody counts on its being gone (VcpuThreads.Recall). New and wider entries need nothing.

using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The nested page tables of all VMPLs.</summary>
internal sealed unsafe class NestedPageTables
{
    /// <summary>Number of VMPLs.</summary>
    public const int VmplCount = 4;

    private const int EntriesPerTable = 512;
    private const int RootShift = 39;
    private const int PageShift = 12;

    /// <summary>A nested walk counts as a user access: every entry needs the user bit.</summary>
    private const ulong TableFlags = Amd64.PtePresent | Amd64.PteWritable | Amd64.PteUser;

    private readonly FramePool _pool;
    private readonly ulong* _roots;

    /// <summary>Makes empty tables.</summary>
    public NestedPageTables(FramePool pool)
    {
        _pool = pool;
        _roots = (ulong*)pool.AllocateZeroed(2 * VmplCount);
    }

    /// <summary>The root for a VMPL.</summary>
    /// <param name="vmpl">0 to 3.</param>
    /// <param name="paging">Whether the guest's CR0.PG is set.</param>
    public ulong GetRoot(int vmpl, bool paging) => (ulong)Root(vmpl, paging);

    /// <summary>Makes a page reachable.</summary>
    /// <param name="vmpl">0 to 3.</param>
    /// <param name="gpa">Page-aligned, below the C-bit.</param>
    /// <param name="isPrivate">Which view.</param>
    /// <param name="frame">Host-physical address of the page.</param>
    /// <param name="writable">Whether writes are allowed.</param>
    /// <param name="executable">Whether fetches are allowed.</param>
    /// <param name="before">What the entry was.</param>
    /// <returns>What the entry is.</returns>
    public ulong Map(int vmpl, ulong gpa, bool isPrivate, byte* frame, bool writable, bool executable, out ulong before)
    {
        ulong* entry = Entry(vmpl, gpa, isPrivate, create: true);
        before = *entry;
        return *entry = (ulong)frame | Amd64.PtePresent | Amd64.PteUser | (writable ? Amd64.PteWritable : 0) | (executable ? 0 : Amd64.PteNoExecute);
    }

    /// <summary>Makes a page unreachable, in both views, for every VMPL.</summary>
    /// <param name="gpa">Page-aligned, below the C-bit.</param>
    /// <returns>The VMPLs that could reach it; bit n = VMPL n.</returns>
    public int Unmap(ulong gpa)
    {
        int vmpls = 0;
        for (int vmpl = 0; vmpl < VmplCount; vmpl++)
        {
            for (int view = 0; view < 2; view++)
            {
                ulong* entry = Entry(vmpl, gpa, view != 0, create: false);
                if (entry != null && *entry != 0)
                {
                    *entry = 0;
                    vmpls |= 1 << vmpl;
                }
            }
        }

        return vmpls;
    }

    /// <summary>The entry of a page as the processor would find it, or 0. For tests and reports.</summary>
    public ulong Lookup(int vmpl, ulong gpa, bool isPrivate)
    {
        ulong* entry = Entry(vmpl, gpa, isPrivate, create: false);
        return entry == null ? 0 : *entry;
    }

    private ulong* Root(int vmpl, bool paging) => _roots + ((vmpl * 2) + (paging ? 0 : 1)) * EntriesPerTable;

    private ulong* Entry(int vmpl, ulong gpa, bool isPrivate, bool create)
    {
        ulong address = isPrivate ? gpa | Amd64.CBit : gpa;

        // SAFETY: roots and tables are whole frames of the pool, indexes are below 512.
        ulong* entry = &Root(vmpl, paging: true)[(address >> RootShift) & (EntriesPerTable - 1)];
        for (int shift = RootShift - 9; shift >= PageShift; shift -= 9)
        {
            if ((*entry & Amd64.PtePresent) == 0)
            {
                if (!create)
                {
                    return null;
                }

                *entry = (ulong)_pool.AllocateZeroed() | TableFlags;
                if (isPrivate && shift == RootShift - 9)
                {
                    Root(vmpl, paging: false)[(gpa >> RootShift) & (EntriesPerTable - 1)] = *entry;
                }
            }

            entry = &((ulong*)Amd64.PageOf(*entry))[(address >> shift) & (EntriesPerTable - 1)];
        }

        return entry;
    }
}
