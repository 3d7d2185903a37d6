// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Compares page tables with the partition of the address space. For the self-check, in images made for tests only; free of hardware.
//
//   below slot 510    nothing: neither page 0 nor anything of a user (no process runs during an audit)
//   slot 510          the CPU's pages and its two tables; windows as far as the CPU says that they are open; the GHCB and doorbell pages are shared
//   slot 511          text: executable, not writable; behind it, up to the data, and the archive of modules: neither; data, hand-over pages, KernelPages, page states;
//                     SharedPages, which alone are shared
//   every page        of the SVSM's own memory but for windows, mapped once in the whole VM but for the two tables, not for CPL 3, not
//                     writable and executable
//
// Each frame of the SVSM's memory has a mark: who maps it. Those of the CPU and of the shared part are taken anew in each audit.

using System;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>How page tables break the partition.</summary>
internal enum PartitionFault : byte
{
    /// <summary>They do not.</summary>
    None,

    /// <summary>CPL 3 may use the page.</summary>
    UserMode,

    /// <summary>The page is writable and executable.</summary>
    WritableAndExecutable,

    /// <summary>Nothing may be mapped there.</summary>
    Outside,

    /// <summary>The page has other rights there than it may have.</summary>
    WrongRights,

    /// <summary>The page is shared with the host, or the GHCB page is not.</summary>
    WrongEncryption,

    /// <summary>The frame is not the SVSM's.</summary>
    NotOurs,

    /// <summary>The frame is mapped somewhere else too.</summary>
    MappedTwice,
}

/// <summary>What the audit compares with.</summary>
internal struct PartitionFacts
{
    /// <summary>First byte of the text.</summary>
    public ulong TextStart;

    /// <summary>First byte after the text.</summary>
    public ulong TextEnd;

    /// <summary>First byte of the data.</summary>
    public ulong DataStart;

    /// <summary>First byte after the data.</summary>
    public ulong DataEnd;

    /// <summary>The SVSM's region.</summary>
    public PageRange Region;

    /// <summary>RAM that was claimed.</summary>
    public PageRange Claim;

    /// <summary>The CPU's #HV doorbell page is shared with the host.</summary>
    public bool HasDoorbell;
}

/// <summary>Walks the page tables of a CPU.</summary>
internal unsafe ref struct PageTableAudit<TMemory>
    where TMemory : ITableMemory
{
    /// <summary>Mark of what all CPUs map.</summary>
    public const ushort Shared = ushort.MaxValue;

    private const int TopLevel = 3;
    private const int Entries = 512;

    private readonly ref TMemory _memory;
    private readonly ref readonly PartitionFacts _facts;
    private readonly ulong _encryptionMask;
    private readonly Span<ushort> _marks;
    private readonly ReadOnlySpan<ulong> _windows;
    private ushort _cpu;

    /// <summary>Makes an audit.</summary>
    /// <param name="memory">Where tables are.</param>
    /// <param name="encryptionMask">The C-bit.</param>
    /// <param name="facts">What to compare with.</param>
    /// <param name="marks">One for each page of the region, then of the claim; zero before the first audit, kept for the others.</param>
    /// <param name="windows">The CPU's own list of open windows, one bit each, as it is at each moment.</param>
    public PageTableAudit(ref TMemory memory, ulong encryptionMask, ref readonly PartitionFacts facts, Span<ushort> marks, ReadOnlySpan<ulong> windows)
    {
        _memory = ref memory;
        _encryptionMask = encryptionMask;
        _facts = ref facts;
        _marks = marks;
        _windows = windows;
    }

    /// <summary>Pages that were found, without windows.</summary>
    public int Pages { get; private set; }

    /// <summary>Address that the fault is about.</summary>
    public ulong Address { get; private set; }

    /// <summary>Walks the tables of a CPU.</summary>
    /// <param name="root">Its PML4.</param>
    /// <param name="cpu">Its number.</param>
    /// <returns>The first fault.</returns>
    public PartitionFault Run(PhysicalAddress root, int cpu)
    {
        _cpu = (ushort)(cpu + 1);
        for (int i = 0; i < _marks.Length; i++)
        {
            _marks[i] = _marks[i] == Shared || _marks[i] == _cpu ? (ushort)0 : _marks[i];
        }

        return Walk(root, 0, TopLevel);
    }

    private PartitionFault Walk(PhysicalAddress table, ulong address, int level)
    {
        ulong* entries = _memory.Map(table);
        PartitionFault fault = PartitionFault.None;
        for (int i = 0; i < Entries && fault == PartitionFault.None; i++)
        {
            // SAFETY: Map gives 512 entries.
            ulong entry = entries[i];
            ulong next = address + ((ulong)i << (Page.Shift + (9 * level)));

            // The upper half has all upper bits set.
            next |= level == TopLevel && i >= Entries / 2 ? 0xFFFF_0000_0000_0000 : 0;
            if ((entry & PageEntry.Present) == 0)
            {
                continue;
            }

            bool isTable = level > 0 && (entry & PageEntry.Large) == 0;
            if (next < KernelAddressSpace.PerCpuBase)
            {
                fault = PartitionFault.Outside;
            }
            else if ((entry & PageEntry.User) != 0)
            {
                fault = PartitionFault.UserMode;
            }
            else if (isTable)
            {
                fault = (entry & _encryptionMask) == 0 ? PartitionFault.WrongEncryption : Walk(AddressOf(entry), next, level - 1);
                continue;
            }
            else
            {
                fault = CheckPage(next, entry, level);
            }

            Address = next;
        }

        _memory.Unmap(entries);
        return fault;
    }

    private PartitionFault CheckPage(ulong address, ulong entry, int level)
    {
        bool writable = (entry & PageEntry.Writable) != 0;
        bool executable = (entry & PageEntry.NoExecute) == 0;
        if (writable && executable)
        {
            return PartitionFault.WritableAndExecutable;
        }

        bool isShared = address == KernelLayout.GhcbPage || (address == KernelLayout.DoorbellPage && _facts.HasDoorbell) || IsInSharedPages(address);
        if (((entry & _encryptionMask) == 0) != isShared)
        {
            return PartitionFault.WrongEncryption;
        }

        if (address - KernelAddressSpace.WindowBase < KernelLayout.WindowsLength)
        {
            ulong window = (address - KernelAddressSpace.WindowBase) / Page.Size;
            return level != 0 || window >= KernelAddressSpace.WindowPageCount || (_windows[(int)(window / 64)] & (1ul << (int)(window % 64))) == 0 ? PartitionFault.Outside
                : writable ? PartitionFault.None : PartitionFault.WrongRights;
        }

        // Only page states are on large pages.
        bool isState = address - KernelLayout.PageStates < KernelLayout.PageStatesLength;
        if (!TryGetRights(address, out bool mayWrite, out bool mayExecute) || level > (isState ? 1 : 0))
        {
            return PartitionFault.Outside;
        }

        if (writable != mayWrite || executable != mayExecute)
        {
            return PartitionFault.WrongRights;
        }

        ushort mark = address >= KernelAddressSpace.GlobalBase ? Shared : _cpu;
        int pages = level == 0 ? 1 : Page.PerLarge;
        Pages += pages;
        for (int i = 0; i < pages; i++)
        {
            if (!TryFind(AddressOf(entry).PageNumber + (ulong)i, out int index))
            {
                return PartitionFault.NotOurs;
            }

            if (_marks[index] != 0)
            {
                return PartitionFault.MappedTwice;
            }

            _marks[index] = mark;
        }

        return PartitionFault.None;
    }

    private readonly bool TryGetRights(ulong address, out bool mayWrite, out bool mayExecute)
    {
        mayExecute = false;
        mayWrite = true;
        if (address < KernelAddressSpace.GlobalBase)
        {
            return address is KernelLayout.PerCpuData or KernelLayout.GhcbPage or KernelLayout.DoorbellPage or KernelLayout.WindowTable or KernelLayout.WindowDirectory ||
                KernelLayout.TryFindStack(address, out _);
        }

        if (address < _facts.DataEnd)
        {
            mayExecute = address >= _facts.TextStart && address < _facts.TextEnd;
            mayWrite = address >= _facts.DataStart;
            return address >= _facts.TextStart;
        }

        if (address - KernelAddressSpace.Archive < KernelAddressSpace.ArchiveMaxLength)
        {
            mayWrite = false;
            return true;
        }

        mayWrite = address is not (KernelAddressSpace.Configuration or KernelAddressSpace.GeneralParameters or KernelAddressSpace.MemoryMap);
        return !mayWrite || address == KernelAddressSpace.Secrets || IsInSharedPages(address) || address - KernelLayout.PageStates < KernelLayout.PageStatesLength ||
            address - KernelLayout.KernelPages < (ulong)KernelLayout.KernelPagesCount * Page.Size;
    }

    private static bool IsInSharedPages(ulong address) => address - KernelLayout.SharedPages < (ulong)KernelLayout.SharedPagesCount * Page.Size;

    private readonly bool TryFind(ulong page, out int index)
    {
        ulong number = _facts.Region.Contains(page) ? page - _facts.Region.First
            : _facts.Claim.Contains(page) ? _facts.Region.Count + (page - _facts.Claim.First)
            : ulong.MaxValue;
        index = (int)number;
        return number < (ulong)_marks.Length;
    }

    private readonly PhysicalAddress AddressOf(ulong entry) => new(entry & PageEntry.AddressMask & ~_encryptionMask);
}
