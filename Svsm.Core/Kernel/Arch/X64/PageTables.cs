// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Four-level page tables: walking, mapping, and the tables of another CPU. Free of hardware: every table is reached through ITableMemory, one
// after the other, and nothing is remembered. The caller holds the lock of the part that it changes, and drops translations.
//
//   PML4 (one per CPU) -> slot 0:   tables of the process that the CPU runs, if it runs one (Processes/ProcessTables.cs)
//                      -> slot 510: tables of that CPU alone
//                      -> slot 511: tables that all CPUs share

using System.Threading;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>Bits of a page-table entry.</summary>
internal static class PageEntry
{
    /// <summary>The entry is used.</summary>
    public const ulong Present = 1ul << 0;

    /// <summary>Writes are allowed.</summary>
    public const ulong Writable = 1ul << 1;

    /// <summary>Accesses from CPL 3 are allowed.</summary>
    public const ulong User = 1ul << 2;

    /// <summary>The entry was used.</summary>
    public const ulong Accessed = 1ul << 5;

    /// <summary>The page was written.</summary>
    public const ulong Dirty = 1ul << 6;

    /// <summary>The entry maps a page of 2 MiB, in a table of level 1.</summary>
    public const ulong Large = 1ul << 7;

    /// <summary>A change of CR3 keeps the translation.</summary>
    public const ulong Global = 1ul << 8;

    /// <summary>Instructions are not fetched.</summary>
    public const ulong NoExecute = 1ul << 63;

    /// <summary>What points to a table.</summary>
    public const ulong Table = Present | Writable | Accessed;

    /// <summary>What maps private data.</summary>
    public const ulong Data = Present | Writable | Accessed | Dirty | NoExecute;

    /// <summary>The address bits, the C-bit among them.</summary>
    public const ulong AddressMask = 0x000F_FFFF_FFFF_F000;
}

/// <summary>Edits page tables.</summary>
internal unsafe ref struct PageTables<TMemory>
    where TMemory : ITableMemory
{
    /// <summary>Entries in a table.</summary>
    public const int EntriesPerTable = 512;

    private const int TopLevel = 3;

    private readonly ref TMemory _memory;
    private readonly ulong _encryptionMask;

    /// <summary>Makes an editor.</summary>
    /// <param name="memory">Where tables are.</param>
    /// <param name="encryptionMask">The C-bit; set in every entry that is made here.</param>
    public PageTables(ref TMemory memory, ulong encryptionMask)
    {
        _memory = ref memory;
        _encryptionMask = encryptionMask;
    }

    /// <summary>Reads the entry of an address.</summary>
    /// <param name="root">The PML4.</param>
    /// <param name="address">A virtual address.</param>
    /// <param name="level">0 = page, 3 = PML4.</param>
    /// <returns>The entry; 0 when a table on the way is missing, or a large page.</returns>
    public readonly ulong Read(PhysicalAddress root, ulong address, int level) => Exchange(root, address, level, 0, 0);

    /// <summary>Changes the entry of an address whose tables exist.</summary>
    /// <param name="root">The PML4.</param>
    /// <param name="address">A virtual address.</param>
    /// <param name="level">0 = page, 3 = PML4.</param>
    /// <param name="clear">Bits to clear.</param>
    /// <param name="set">Bits to set afterwards.</param>
    /// <returns>The entry as it was; 0, and nothing changed, when a table on the way is missing.</returns>
    public readonly ulong Exchange(PhysicalAddress root, ulong address, int level, ulong clear, ulong set)
    {
        PhysicalAddress table = root;
        for (int current = TopLevel; ; current--)
        {
            ulong* entries = _memory.Map(table);

            // SAFETY (all methods): Map gives 512 entries, and Slot is below 512.
            ref ulong slot = ref entries[Slot(address, current)];
            ulong entry = slot;
            if (current == level && (clear | set) != 0)
            {
                Volatile.Write(ref slot, (entry & ~clear) | set);
            }

            _memory.Unmap(entries);
            if (current == level)
            {
                return entry;
            }

            if ((entry & (PageEntry.Present | PageEntry.Large)) != PageEntry.Present)
            {
                return 0;
            }

            table = AddressOf(entry);
        }
    }

    /// <summary>Maps a page; makes the tables on the way. Those stay when the page is unmapped.</summary>
    /// <param name="root">The PML4.</param>
    /// <param name="address">A virtual address whose entry is free.</param>
    /// <param name="frame">The page.</param>
    /// <param name="flags">Bits of the entry beside address and C-bit; with <see cref="PageEntry.Large"/> a page of 2 MiB. With
    /// <see cref="PageEntry.User"/> the tables that are made are for CPL 3 as well.</param>
    /// <returns><see cref="MemoryError.NoFrames"/>, or <see cref="MemoryError.NoAddresses"/> when something is mapped there.</returns>
    public readonly MemoryError Map(PhysicalAddress root, ulong address, PhysicalAddress frame, ulong flags)
    {
        PhysicalAddress table = root;
        int last = (flags & PageEntry.Large) != 0 ? 1 : 0;
        for (int current = TopLevel; ; current--)
        {
            ulong* entries = _memory.Map(table);
            ref ulong slot = ref entries[Slot(address, current)];
            MemoryError error = MemoryError.None;
            if (slot != 0)
            {
                error = current == last || (slot & PageEntry.Large) != 0 ? MemoryError.NoAddresses : MemoryError.None;
            }
            else if (current == last)
            {
                Volatile.Write(ref slot, frame.Value | _encryptionMask | flags);
            }
            else if (_memory.TryAllocate(out PhysicalAddress fresh))
            {
                Volatile.Write(ref slot, fresh.Value | _encryptionMask | PageEntry.Table | (flags & PageEntry.User));
            }
            else
            {
                error = MemoryError.NoFrames;
            }

            table = AddressOf(slot);
            _memory.Unmap(entries);
            if (error != MemoryError.None || current == last)
            {
                return error;
            }
        }
    }

    /// <summary>Makes tables for another CPU: the shared part as it is, and a part of its own of the same shape, on frames of zeroes.</summary>
    /// <param name="model">The PML4 of the CPU whose shape is copied.</param>
    /// <param name="root">The new PML4.</param>
    /// <returns><see cref="MemoryError.NoFrames"/>: nothing was made.</returns>
    public readonly MemoryError CreateCpu(PhysicalAddress model, out PhysicalAddress root)
    {
        if (!_memory.TryAllocate(out root))
        {
            return MemoryError.NoFrames;
        }

        ulong shared = Read(model, KernelAddressSpace.GlobalBase, TopLevel);
        Exchange(root, KernelAddressSpace.GlobalBase, TopLevel, 0, shared);
        MemoryError error = CreateCpuPages(model, root);
        if (error != MemoryError.None)
        {
            DestroyCpu(root);
            root = default;
        }

        return error;
    }

    /// <summary>Frees what <see cref="CreateCpu"/> made. No CPU uses it, and none of its pages was shared with the host.</summary>
    public readonly void DestroyCpu(PhysicalAddress root)
    {
        for (ulong page = 0; page < EntriesPerTable; page++)
        {
            ulong entry = Read(root, KernelAddressSpace.PerCpuBase + (page * Page.Size), 0);
            if (entry != 0 && !IsTableAlias(page))
            {
                _memory.Free(AddressOf(entry));
            }
        }

        for (int level = 1; level <= TopLevel; level++)
        {
            if (level == 1)
            {
                FreeTable(Read(root, KernelAddressSpace.WindowBase, level));
            }

            FreeTable(Read(root, KernelAddressSpace.PerCpuBase, level));
        }

        _memory.Free(root);
    }

    /// <summary>The frame that an entry names.</summary>
    public readonly PhysicalAddress AddressOf(ulong entry) => new(entry & PageEntry.AddressMask & ~_encryptionMask);

    // The pages of a CPU lie in the first 2 MiB of its part, its windows in the second, the window for a large page in the third.
    private readonly MemoryError CreateCpuPages(PhysicalAddress model, PhysicalAddress root)
    {
        for (ulong page = 0; page < EntriesPerTable; page++)
        {
            ulong address = KernelAddressSpace.PerCpuBase + (page * Page.Size);
            if (IsTableAlias(page) || Read(model, address, 0) == 0)
            {
                continue;
            }

            if (!_memory.TryAllocate(out PhysicalAddress frame))
            {
                return MemoryError.NoFrames;
            }

            MemoryError error = Map(root, address, frame, PageEntry.Data);
            if (error != MemoryError.None)
            {
                _memory.Free(frame);
                return error;
            }
        }

        // Its windows: a table without entries.
        if (!_memory.TryAllocate(out PhysicalAddress windows))
        {
            return MemoryError.NoFrames;
        }

        Exchange(root, KernelAddressSpace.WindowBase, 1, 0, windows.Value | _encryptionMask | PageEntry.Table);
        return MapTableAliases(root);
    }

    /// <summary>Lets a CPU reach the two tables that govern its windows: maps them into its own part.</summary>
    public readonly MemoryError MapTableAliases(PhysicalAddress root)
    {
        MemoryError error = Map(root, KernelLayout.WindowTable, AddressOf(Read(root, KernelAddressSpace.WindowBase, 1)), PageEntry.Data);
        return error == MemoryError.None ? Map(root, KernelLayout.WindowDirectory, AddressOf(Read(root, KernelAddressSpace.PerCpuBase, 2)), PageEntry.Data) : error;
    }

    private static bool IsTableAlias(ulong page) =>
        KernelAddressSpace.PerCpuBase + (page * Page.Size) is KernelLayout.WindowTable or KernelLayout.WindowDirectory;

    private readonly void FreeTable(ulong entry)
    {
        if (entry != 0)
        {
            _memory.Free(AddressOf(entry));
        }
    }

    private static int Slot(ulong address, int level) => (int)(address >> (Page.Shift + (9 * level))) & (EntriesPerTable - 1);
}
