// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Translations that a processor may still hold after a page was rescinded or a VMPL lost a right. The emulator drops all translations at
// every exit and would hide a missing flush; this model does not. docs/simulator.md has the rules for those who write an SVSM.
//
// Two kinds:
//
//   of lower VMPLs   Per page (GuestPage): which VMPLs lost something, and when. A vCPU may hold the old translation if it ran that VMPL
//                    between its last flush and the loss. Which linear address it would be under nobody knows, so that only a flush of
//                    everything counts.
//   of VMPL0 itself  Per vCPU, a list of what it rescinded: PVALIDATE translated its operand, so this vCPU holds that translation. It
//                    is known, and a flush of its linear address is enough. The list has an end: the oldest entry is forgotten.
//
// A VMPL that lost nothing but its right to write still shares the page: it may get the right back before any flush, for then nothing is stale,
// and more privileged VMPLs may use the page meanwhile, as others do that serve it. Only the vCPU that took the right must not: it is about to look
// at what it takes for final (a migration copies the page), and a write through an old translation would be lost.
//
// Time counts flushes and first entries of a VMPL, not losses: what happens between two of them is as if at once.
//
// What flushes, and how it is seen. Only while something is to be flushed are the instructions intercepted:
//
//   CR4.PGE or another paging bit of CR4 changes    all of this vCPU, every VMPL: they share the address space identifier
//   CR3 write                                       own translations that are not global
//   INVLPG                                          own translation of this address
//   INVLPGB, completed by TLBSYNC of the same vCPU  by its operands, on every vCPU; see Broadcast
//
// Entries, exits and switches of the VMPL flush nothing, page state changes neither: a host need not help.

using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>A translation that VMPL0 used to rescind a page.</summary>
internal struct OwnTranslation
{
    /// <summary>The page, or the first one of a 2-MiB page.</summary>
    public ulong Gpa;

    /// <summary>Linear address; page-aligned.</summary>
    public ulong Linear;

    /// <summary>Bytes that the instruction covered.</summary>
    public ulong Length;

    /// <summary>Whether the mapping is global, so that it outlives CR3 writes.</summary>
    public bool IsGlobal;

    /// <summary>vCPUs whose next TLBSYNC completes a flush of it.</summary>
    public ulong Broadcasts;
}

/// <summary>Who may still hold what.</summary>
internal sealed unsafe class StaleTranslations
{
    // SAFETY (whole type): each vCPU's list is a frame of its own, and counts stay below its capacity.

    /// <summary>Most own translations that are remembered per vCPU.</summary>
    public const int MaxOwn = 64;

    private const int MaxCpus = VirtualMachine.MaxCpus;
    private const ulong BroadcastByAddress = 1 << 0;
    private const ulong BroadcastByPcid = 1 << 1;
    private const ulong BroadcastGlobal = 1 << 3;

    // Whatever changes how tables are read drops all that was read.
    private const ulong PagingBits = Amd64.Cr4PageSizeExtensions | Amd64.Cr4Pae | Amd64.Cr4PageGlobal | Amd64.Cr4La57 | Amd64.Cr4Pcid | Amd64.Cr4Smep;

    private readonly FramePool _pool;
    private readonly VcpuThreads? _threads;
    private readonly uint[] _flushed = new uint[MaxCpus];
    private readonly uint[] _broadcast = new uint[MaxCpus];
    private readonly uint[] _entered = new uint[MaxCpus * NestedPageTables.VmplCount];
    private readonly ulong[] _own = new ulong[MaxCpus];
    private readonly int[] _ownCount = new int[MaxCpus];
    private uint _now = 1;
    private uint _lastLoss;
    private int _lastTaker = -1;

    /// <summary>Makes an empty record.</summary>
    /// <param name="pool">Where frames come from.</param>
    /// <param name="threads">Who may be in a guest meanwhile; null = nobody.</param>
    public StaleTranslations(FramePool pool, VcpuThreads? threads = null)
    {
        _pool = pool;
        _threads = threads;
    }

    /// <summary>The vCPUs.</summary>
    public VirtualCpu[] Cpus { get; set; } = [];

    /// <summary>A VMPL of a vCPU is about to run.</summary>
    public void Enter(VirtualCpu cpu)
    {
        int index = Index(cpu.Id, cpu.Vmpl);
        if (_entered[index] == 0)
        {
            _entered[index] = ++_now;
        }

        Arm(cpu);
    }

    /// <summary>A VMPL lost rights to a page, or the page was rescinded while it had some.</summary>
    /// <param name="page">The page.</param>
    /// <param name="vmpl">1 to 3.</param>
    public void Lose(GuestPage* page, int vmpl)
    {
        page->AreOnlyWritesStale = false;
        Note(page, vmpl, Pending(page));
    }

    /// <summary>A VMPL lost the right to write a page, and nothing else.</summary>
    /// <param name="page">The page.</param>
    /// <param name="vmpl">1 to 3.</param>
    /// <param name="taker">The vCPU whose VMPL0 took it.</param>
    public void LoseWrites(GuestPage* page, int vmpl, VirtualCpu taker)
    {
        int pending = Pending(page);
        page->AreOnlyWritesStale |= pending == 0;
        _lastTaker = taker.Id;
        Note(page, vmpl, pending);
    }

    /// <summary>A VMPL gets rights. If it has lost its right to write before, and nothing else, what it may hold is not stale any more.</summary>
    /// <param name="page">The page.</param>
    /// <param name="vmpl">1 to 3.</param>
    /// <param name="before">Its rights until now.</param>
    /// <param name="after">Its rights from now on.</param>
    public void Regain(GuestPage* page, int vmpl, RmpPermissions before, RmpPermissions after)
    {
        if (page->AreOnlyWritesStale && after == (before | RmpPermissions.Write) && (before & RmpPermissions.Read) != 0)
        {
            page->StaleVmpls &= ~(1 << vmpl);
        }
    }

    /// <summary>Whether a private access must wait for a flush: somebody less privileged may still reach the page.</summary>
    /// <param name="page">The page.</param>
    /// <param name="cpu">Who accesses it.</param>
    public bool Hinders(GuestPage* page, VirtualCpu cpu) =>
        Pending(page) >> (cpu.Vmpl + 1) != 0 && (!page->AreOnlyWritesStale || cpu.Id == _lastTaker);

    private void Note(GuestPage* page, int vmpl, int pending)
    {
        page->StaleVmpls = pending | (1 << vmpl);
        page->StaleSince = _now;
        if (_lastLoss != _now)
        {
            _lastLoss = _now;
            ArmAll();
        }
    }

    /// <summary>VMPL0 rescinded a page.</summary>
    /// <param name="cpu">The vCPU that did.</param>
    /// <param name="gpa">The (first) page.</param>
    /// <param name="linear">The operand; page-aligned.</param>
    /// <param name="length">4 KiB or 2 MiB.</param>
    /// <param name="isGlobal">Whether the mapping is global.</param>
    public void Rescind(VirtualCpu cpu, ulong gpa, ulong linear, ulong length, bool isGlobal)
    {
        if (_own[cpu.Id] == 0)
        {
            _own[cpu.Id] = (ulong)_pool.AllocateZeroed();
        }

        OwnTranslation* list = Own(cpu.Id);
        if (_ownCount[cpu.Id] == MaxOwn)
        {
            Remove(cpu.Id, 0);
        }

        list[_ownCount[cpu.Id]++] = new OwnTranslation { Gpa = gpa, Linear = linear, Length = length, IsGlobal = isGlobal };
        Arm(cpu);
    }

    /// <summary>VMPLs below 0 that some vCPU may hold a stale translation of; bit n = VMPL n.</summary>
    /// <param name="page">The page. What was flushed is cleared in it.</param>
    public int Pending(GuestPage* page)
    {
        int mask = page->StaleVmpls;
        if (mask == 0)
        {
            return 0;
        }

        int pending = 0;
        for (int cpu = 0; cpu < Cpus.Length; cpu++)
        {
            pending |= PendingOn(page, cpu, mask);
        }

        page->StaleVmpls = pending;
        return pending;
    }

    /// <summary>VMPLs below 0 that one vCPU may hold a stale translation of; for reports.</summary>
    public int PendingOn(GuestPage* page, int cpu) => PendingOn(page, cpu, page->StaleVmpls);

    /// <summary>Whether a vCPU may hold the translation by which VMPL0 rescinded a page.</summary>
    /// <param name="gpa">The page.</param>
    /// <param name="cpu">Number of the vCPU.</param>
    public bool IsOwnPending(ulong gpa, int cpu)
    {
        OwnTranslation* list = Own(cpu);
        for (int i = 0; i < _ownCount[cpu]; i++)
        {
            if (gpa - list[i].Gpa < list[i].Length)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Whether anybody may hold a stale translation of a page.</summary>
    public bool IsPending(GuestPage* page, ulong gpa)
    {
        if (Pending(page) != 0)
        {
            return true;
        }

        for (int cpu = 0; cpu < Cpus.Length; cpu++)
        {
            if (_ownCount[cpu] != 0 && IsOwnPending(gpa, cpu))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>CR4 gets a value.</summary>
    public void WriteCr4(VirtualCpu cpu, ulong value)
    {
        if (((cpu.State->Cr4 ^ value) & PagingBits) != 0)
        {
            _flushed[cpu.Id] = ++_now;
            ForgetEntries(cpu.Id, _now);
            _ownCount[cpu.Id] = 0;
            Arm(cpu);
        }
    }

    /// <summary>CR3 gets a value.</summary>
    public void WriteCr3(VirtualCpu cpu)
    {
        OwnTranslation* list = Own(cpu.Id);
        for (int i = _ownCount[cpu.Id] - 1; i >= 0; i--)
        {
            if (!list[i].IsGlobal)
            {
                Remove(cpu.Id, i);
            }
        }

        Arm(cpu);
    }

    /// <summary>INVLPG.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="linear">Its operand.</param>
    public void InvalidatePage(VirtualCpu cpu, ulong linear)
    {
        OwnTranslation* list = Own(cpu.Id);
        for (int i = _ownCount[cpu.Id] - 1; i >= 0; i--)
        {
            if (linear - list[i].Linear < list[i].Length)
            {
                Remove(cpu.Id, i);
            }
        }

        Arm(cpu);
    }

    /// <summary>INVLPGB, as a guest executes it: whatever ASID it names, its own is meant.</summary>
    /// <param name="cpu">The vCPU.</param>
    /// <param name="operand">RAX: 0 by address, 1 by PCID, 3 global ones too, 63:12 address.</param>
    /// <param name="pageCount">Pages beyond the first.</param>
    /// <param name="large">Whether pages are 2 MiB apart.</param>
    public void Broadcast(VirtualCpu cpu, ulong operand, uint pageCount, bool large)
    {
        bool byAddress = (operand & BroadcastByAddress) != 0;
        bool global = (operand & BroadcastGlobal) != 0;
        if (!byAddress && global && (operand & BroadcastByPcid) == 0)
        {
            _broadcast[cpu.Id] = ++_now;
        }

        ulong first = Amd64.PageOf(operand);
        ulong stride = large ? Amd64.LargePageSize : Amd64.PageSize;
        for (int other = 0; other < Cpus.Length; other++)
        {
            OwnTranslation* list = Own(other);
            for (int i = 0; i < _ownCount[other]; i++)
            {
                // An address covers the page that maps it, a large one as well.
                ulong distance = list[i].Linear - (first & ~(list[i].Length - 1));
                bool covered = !byAddress || (distance <= pageCount * stride && (large || list[i].Length == Amd64.PageSize || distance == 0));
                if (covered && (global || !list[i].IsGlobal))
                {
                    list[i].Broadcasts |= 1ul << cpu.Id;
                }
            }
        }
    }

    /// <summary>TLBSYNC: what this vCPU broadcast is done on all of them.</summary>
    public void Synchronize(VirtualCpu cpu)
    {
        // The emulator's own translations go with the exit.
        _threads?.RecallAll();
        uint time = _broadcast[cpu.Id];
        for (int other = 0; other < Cpus.Length; other++)
        {
            if (time > _flushed[other])
            {
                _flushed[other] = time;
                ForgetEntries(other, time);
            }

            OwnTranslation* list = Own(other);
            for (int i = _ownCount[other] - 1; i >= 0; i--)
            {
                if ((list[i].Broadcasts & (1ul << cpu.Id)) != 0)
                {
                    Remove(other, i);
                }
            }
        }

        ArmAll();
    }

    private static int Index(int cpu, int vmpl) => (cpu * NestedPageTables.VmplCount) + vmpl;

    private OwnTranslation* Own(int cpu) => (OwnTranslation*)_own[cpu];

    private int PendingOn(GuestPage* page, int cpu, int mask)
    {
        uint since = page->StaleSince;
        int pending = 0;
        for (int vmpl = 1; vmpl < NestedPageTables.VmplCount; vmpl++)
        {
            uint entered = _entered[Index(cpu, vmpl)];
            if ((mask & (1 << vmpl)) != 0 && entered != 0 && entered <= since && _flushed[cpu] <= since)
            {
                pending |= 1 << vmpl;
            }
        }

        return pending;
    }

    // What was flushed holds nothing until it runs again; what runs now goes on.
    private void ForgetEntries(int cpu, uint time)
    {
        for (int vmpl = 0; vmpl < NestedPageTables.VmplCount; vmpl++)
        {
            bool runs = Cpus[cpu].IsRunning && Cpus[cpu].Vmpl == vmpl;
            if (!runs && _entered[Index(cpu, vmpl)] < time)
            {
                _entered[Index(cpu, vmpl)] = 0;
            }
        }
    }

    private void Remove(int cpu, int index)
    {
        OwnTranslation* list = Own(cpu);
        _ownCount[cpu]--;
        for (int i = index; i < _ownCount[cpu]; i++)
        {
            list[i] = list[i + 1];
        }
    }

    private void ArmAll()
    {
        for (int i = 0; i < Cpus.Length; i++)
        {
            Arm(Cpus[i]);
        }
    }

    // A vCPU that has nothing to flush does not exit for flushing.
    private void Arm(VirtualCpu cpu)
    {
        bool own = _ownCount[cpu.Id] != 0;
        bool lower = false;
        for (int vmpl = 1; vmpl < NestedPageTables.VmplCount; vmpl++)
        {
            lower |= _entered[Index(cpu.Id, vmpl)] is not 0 and uint entered && entered <= _lastLoss && _flushed[cpu.Id] <= _lastLoss;
        }

        if (Intercepts.SelectFlushes(cpu, byAddress: own, everything: own || lower))
        {
            // A flush that it makes from now on counts, so it has to be seen.
            _threads?.Recall(cpu);
        }
    }
}
