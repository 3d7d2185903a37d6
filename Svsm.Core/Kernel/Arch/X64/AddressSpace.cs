// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The kernel's page tables at run time: mapping windows, the GHCB page's C-bit, and the page states. There is no direct map.
//
// The tables that the builder made are one after the other, in memory at KernelRoot and in the address space at
// KernelAddressSpace.PageTables; so the table behind an entry is found by its number. Windows are the entries of one such table:
// each mapping takes a free one and gives it back. Window mappings are private (C-bit), writable, never executable.

using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Memory;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>Edits the kernel's page tables.</summary>
internal static unsafe class AddressSpace
{
    private const ulong Present = 1ul << 0;
    private const ulong Writable = 1ul << 1;
    private const ulong Accessed = 1ul << 5;
    private const ulong Dirty = 1ul << 6;
    private const ulong LargePage = 1ul << 7;
    private const ulong NoExecute = 1ul << 63;
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;
    private const int EntriesPerTable = 512;
    private const int TopLevel = 3;

    private static ulong s_encryptionMask;
    private static ulong s_rootAddress;
    private static ulong s_tableCount;
    private static ulong* s_windows;
    private static ulong* s_largeWindow;

    /// <summary>Takes note of the tables. Before anything else here.</summary>
    /// <param name="encryptionMask">The C-bit.</param>
    /// <param name="configuration">The measured configuration.</param>
    /// <returns>False: the tables are not as the contract says.</returns>
    public static bool TryInitialize(ulong encryptionMask, in ImageConfiguration configuration)
    {
        s_encryptionMask = encryptionMask;
        s_rootAddress = configuration.KernelRoot;
        s_tableCount = configuration.KernelTableCount;
        if (configuration.WindowTableIndex >= s_tableCount)
        {
            return false;
        }

        s_windows = (ulong*)(KernelAddressSpace.PageTables + ((ulong)configuration.WindowTableIndex * Page.Size));
        s_largeWindow = FindEntry(KernelLayout.LargeWindow, 1);
        return s_largeWindow != null && FindEntry(KernelAddressSpace.WindowBase, 0) == s_windows;
    }

    /// <summary>Maps a frame.</summary>
    /// <param name="frame">The frame; its page must be validated, or about to be.</param>
    /// <returns>Virtual address of its first byte.</returns>
    public static ulong MapWindow(PhysicalAddress frame)
    {
        ref PerCpu cpu = ref PerCpu.Current;
        for (int word = 0; word < KernelAddressSpace.WindowPageCount / 64; word++)
        {
            ulong free = ~cpu.UsedWindows[word];
            if (free != 0)
            {
                ulong lowest = free & (~free + 1);
                cpu.UsedWindows[word] |= lowest;
                int slot = (word * 64) + System.Numerics.BitOperations.TrailingZeroCount(lowest);

                // SAFETY: slot is below WindowPageCount, the number of entries in the table.
                Volatile.Write(ref s_windows[slot], Entry(frame));
                return KernelAddressSpace.WindowBase + ((ulong)slot * Page.Size);
            }
        }

        // 512 windows are many more than any path has open at a time: one was not closed.
        throw new System.InvalidOperationException("no free mapping window");
    }

    /// <summary>Ends a mapping.</summary>
    /// <param name="address">What <see cref="MapWindow"/> returned.</param>
    public static void UnmapWindow(ulong address)
    {
        ulong slot = (address - KernelAddressSpace.WindowBase) / Page.Size;
        if (slot >= KernelAddressSpace.WindowPageCount)
        {
            throw new System.ArgumentOutOfRangeException(nameof(address));
        }

        // SAFETY: slot was just checked.
        Volatile.Write(ref s_windows[slot], 0);
        X64.InvalidatePage(address);
        PerCpu.Current.UsedWindows[slot / 64] &= ~(1ul << (int)(slot % 64));
    }

    /// <summary>Maps a 2-MiB page at <see cref="KernelLayout.LargeWindow"/>. One at a time.</summary>
    public static void MapLargeWindow(PhysicalAddress page) => Volatile.Write(ref *s_largeWindow, Entry(page) | LargePage);

    /// <summary>Ends the mapping at <see cref="KernelLayout.LargeWindow"/>.</summary>
    public static void UnmapLargeWindow()
    {
        Volatile.Write(ref *s_largeWindow, 0);
        X64.InvalidatePage(KernelLayout.LargeWindow);
    }

    /// <summary>Finds the frame behind a page of the kernel's image.</summary>
    public static bool TryTranslate(ulong address, out PhysicalAddress frame)
    {
        ulong* entry = FindEntry(address, 0);
        if (entry == null || (*entry & Present) == 0)
        {
            frame = default;
            return false;
        }

        frame = new PhysicalAddress(*entry & AddressMask & ~s_encryptionMask);
        return true;
    }

    /// <summary>Makes a page of the kernel's image shared with the host: clears its C-bit.</summary>
    public static void MakeShared(ulong address)
    {
        ulong* entry = FindEntry(address, 0);
        Volatile.Write(ref *entry, *entry & ~s_encryptionMask);
        X64.InvalidatePage(address);
    }

    /// <summary>Maps fresh frames for the page states, at <see cref="KernelLayout.PageStates"/>. Once, while booting.</summary>
    /// <param name="pageCount">Number of pages, 1 to 262144 (1 GiB).</param>
    /// <returns>False: no frames left.</returns>
    public static bool TryMapPageStates(ulong pageCount)
    {
        ulong* top = FindEntry(KernelLayout.PageStates, 2);
        if (top == null || *top != 0 || !FrameAllocator.TryAllocate(out PhysicalAddress directory))
        {
            return false;
        }

        ulong directoryWindow = MapWindow(directory);
        for (ulong first = 0; first < pageCount; first += EntriesPerTable)
        {
            if (!FrameAllocator.TryAllocate(out PhysicalAddress table))
            {
                return false;
            }

            ulong tableWindow = MapWindow(table);
            for (ulong i = 0; i < EntriesPerTable && first + i < pageCount; i++)
            {
                if (!FrameAllocator.TryAllocate(out PhysicalAddress frame))
                {
                    return false;
                }

                // SAFETY: both windows are mapped tables, and the indexes stay below 512.
                ((ulong*)tableWindow)[i] = Entry(frame);
            }

            UnmapWindow(tableWindow);
            ((ulong*)directoryWindow)[first / EntriesPerTable] = table.Value | s_encryptionMask | Present | Writable | Accessed;
        }

        UnmapWindow(directoryWindow);
        Volatile.Write(ref *top, directory.Value | s_encryptionMask | Present | Writable | Accessed);
        return true;
    }

    private static ulong Entry(PhysicalAddress frame) => frame.Value | s_encryptionMask | Present | Writable | Accessed | Dirty | NoExecute;

    // The entry of an address at a level (0 = page, 3 = PML4), or null when a table on the way is missing or not one of the builder's.
    private static ulong* FindEntry(ulong address, int level)
    {
        // SAFETY: every table that is followed has a number below the count, so it is mapped at its place behind PageTables.
        ulong* table = (ulong*)KernelAddressSpace.PageTables;
        for (int current = TopLevel; current > level; current--)
        {
            ulong entry = table[Slot(address, current)];
            ulong number = ((entry & AddressMask & ~s_encryptionMask) - s_rootAddress) / Page.Size;
            if ((entry & (Present | LargePage)) != Present || number >= s_tableCount)
            {
                return null;
            }

            table = (ulong*)(KernelAddressSpace.PageTables + (number * Page.Size));
        }

        return table + Slot(address, level);
    }

    private static int Slot(ulong address, int level) => (int)(address >> (Page.Shift + (9 * level))) & (EntriesPerTable - 1);
}
