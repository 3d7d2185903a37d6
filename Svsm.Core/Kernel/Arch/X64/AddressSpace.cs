// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The kernel's address spaces at run time. There is no direct map: a frame is reachable while something maps it, and no longer.
//
//   per CPU   windows: 512 pages and one page of 2 MiB, for what is looked at for a moment. A CPU reaches the two tables that govern its own
//             windows as pages of its part, and no other table
//   shared    KernelPages, page states. Their tables, and everything else of tables, are edited through windows
//
// The builder maps its tables at KernelAddressSpace.PageTables, for the boot CPU's first steps; that mapping ends in TryInitialize.
// Window mappings are private (C-bit), writable, never executable. A window belongs to the CPU that opened it: whoever holds one is not moved
// to another CPU.

using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Arch;

/// <summary>Edits the kernel's page tables.</summary>
internal static unsafe class AddressSpace
{
    private const int LargeWindowSlot = 2;

    // The last window is not handed out: it is PageWindow.
    private const int PageWindowSlot = KernelAddressSpace.WindowPageCount - 1;

    /// <summary>Windows are taken from slot 192 on: 320 of them, where a few are open at a time.</summary>
    /// <remarks>
    /// An emulator finds a translation by the low bits of the page number. The first slots share them with the pages that the kernel
    /// works with all the time (all its areas begin at multiples of 2 MiB), so opening a window puts those out, and QEMU, which counts
    /// twice what INVLPG then finds in its victim buffer, enlarges its table with each one: to 128 MiB, cleared at each switch of page
    /// tables, which was half of the time of an image with modules. Hardware does not care.
    /// </remarks>
    private const int FirstWindowWord = 3;

    private static ulong s_encryptionMask;
    private static KernelLock s_sharedLock;

    /// <summary>The PML4 of the current CPU.</summary>
    public static PhysicalAddress Root => new(X64.ReadCr3() & PageEntry.AddressMask & ~s_encryptionMask);

    /// <summary>The C-bit.</summary>
    public static ulong EncryptionMask => s_encryptionMask;

    // SAFETY (whole class): the tables that govern the windows are mapped at these addresses on every CPU, and no slot is above 511.
    private static ulong* Windows => (ulong*)KernelLayout.WindowTable;

    private static ref ulong LargeWindow => ref ((ulong*)KernelLayout.WindowDirectory)[LargeWindowSlot];

    /// <summary>Takes over the tables of the builder. Before anything else here.</summary>
    /// <param name="encryptionMask">The C-bit.</param>
    /// <param name="configuration">The measured configuration.</param>
    /// <returns>False: the tables are not as the contract says.</returns>
    public static bool TryInitialize(ulong encryptionMask, in ImageConfiguration configuration)
    {
        s_encryptionMask = encryptionMask;
        BuilderTables memory = new(configuration.KernelRoot, configuration.KernelTableCount);
        PageTables<BuilderTables> tables = new(ref memory, encryptionMask);
        PhysicalAddress root = new(configuration.KernelRoot);
        ulong windows = configuration.KernelRoot + ((ulong)configuration.WindowTableIndex * Page.Size);
        if (tables.AddressOf(tables.Read(root, KernelAddressSpace.WindowBase, 1)).Value != windows || tables.MapTableAliases(root) != MemoryError.None || memory.HasFailed)
        {
            return false;
        }

        // The tables are reachable through windows from here on.
        tables.Exchange(root, KernelAddressSpace.PageTables, 2, ulong.MaxValue, 0);
        Processor.FlushTranslations();
        return true;
    }

    /// <summary>Maps a frame for the current CPU.</summary>
    /// <param name="frame">The frame; its page must be validated, or about to be.</param>
    /// <returns>Virtual address of its first byte.</returns>
    public static ulong MapWindow(PhysicalAddress frame)
    {
        ref PerCpu cpu = ref PerCpu.Current;
        CpuLocks.Hold();
        for (int word = FirstWindowWord; word < KernelAddressSpace.WindowPageCount / 64; word++)
        {
            ulong free = ~cpu.UsedWindows[word];
            if (free != 0)
            {
                ulong lowest = free & (~free + 1);
                int slot = (word * 64) + System.Numerics.BitOperations.TrailingZeroCount(lowest);
                if (slot == PageWindowSlot)
                {
                    break;
                }

                cpu.UsedWindows[word] |= lowest;
                Volatile.Write(ref Windows[slot], Entry(frame));
                CpuLocks.Release();
                return KernelAddressSpace.WindowBase + ((ulong)slot * Page.Size);
            }
        }

        // No allocation: how many are open at a time is a property of the code, at most a few. One was not closed.
        throw new System.InvalidOperationException("no free mapping window");
    }

    /// <summary>Ends a mapping.</summary>
    /// <param name="address">What <see cref="MapWindow"/> returned, on this CPU.</param>
    public static void UnmapWindow(ulong address)
    {
        ulong slot = (address - KernelAddressSpace.WindowBase) / Page.Size;
        if (slot >= KernelAddressSpace.WindowPageCount)
        {
            throw new System.ArgumentOutOfRangeException(nameof(address));
        }

        CpuLocks.Hold();
        Volatile.Write(ref Windows[slot], 0);
        X64.InvalidatePage(address);
        PerCpu.Current.UsedWindows[slot / 64] &= ~(1ul << (int)(slot % 64));
        CpuLocks.Release();
    }

    /// <summary>Maps a page at <see cref="KernelLayout.PageWindow"/>. One at a time; faster than a window of its own.</summary>
    public static void MapPageWindow(PhysicalAddress page) => Volatile.Write(ref Windows[PageWindowSlot], Entry(page));

    /// <summary>Ends the mapping at <see cref="KernelLayout.PageWindow"/>.</summary>
    public static void UnmapPageWindow()
    {
        Volatile.Write(ref Windows[PageWindowSlot], 0);
        X64.InvalidatePage(KernelLayout.PageWindow);
    }

    /// <summary>Maps a 2-MiB page at <see cref="KernelLayout.LargeWindow"/>. One at a time.</summary>
    public static void MapLargeWindow(PhysicalAddress page) => Volatile.Write(ref LargeWindow, Entry(page) | PageEntry.Large);

    /// <summary>Ends the mapping at <see cref="KernelLayout.LargeWindow"/>.</summary>
    public static void UnmapLargeWindow()
    {
        Volatile.Write(ref LargeWindow, 0);
        X64.InvalidatePage(KernelLayout.LargeWindow);
    }

    /// <summary>Finds the frame behind a page of the kernel, as the current CPU sees it.</summary>
    /// <param name="address">A virtual address.</param>
    /// <param name="frame">The frame.</param>
    /// <returns>False: nothing is mapped there, or a large page.</returns>
    public static bool TryTranslate(ulong address, out PhysicalAddress frame)
    {
        TableWindows memory = default;
        PageTables<TableWindows> tables = new(ref memory, s_encryptionMask);
        ulong entry = tables.Read(Root, address, 0);
        frame = tables.AddressOf(entry);
        return (entry & PageEntry.Present) != 0;
    }

    /// <summary>Makes a page shared with the host: clears its C-bit. One of the current CPU's part, or one that no other CPU has used.</summary>
    public static void MakeShared(ulong address)
    {
        TableWindows memory = default;
        new PageTables<TableWindows>(ref memory, s_encryptionMask).Exchange(Root, address, 0, s_encryptionMask, 0);
        X64.InvalidatePage(address);
    }

    /// <summary>Maps a page for all CPUs, private, writable, never executable.</summary>
    /// <param name="address">A virtual address of the shared part, aligned to the page.</param>
    /// <param name="frame">The page.</param>
    /// <param name="size">Its size.</param>
    /// <returns><see cref="MemoryError.NoFrames"/> for the tables, or <see cref="MemoryError.NoAddresses"/> when something is mapped there.</returns>
    public static MemoryError MapShared(ulong address, PhysicalAddress frame, PageSize size)
    {
        ulong flags = PageEntry.Data | PageEntry.Global | (size == PageSize.Large ? PageEntry.Large : 0);
        TableWindows memory = default;
        s_sharedLock.Acquire(LockRank.AddressSpace);
        MemoryError error = new PageTables<TableWindows>(ref memory, s_encryptionMask).Map(Root, address, frame, flags);
        s_sharedLock.Release(LockRank.AddressSpace);
        return error;
    }

    /// <summary>Ends a 4-KiB mapping of all CPUs. The caller drops translations before the frame is used again.</summary>
    /// <param name="address">A virtual address of the shared part.</param>
    /// <param name="frame">What was mapped there.</param>
    /// <returns>False: nothing.</returns>
    public static bool TryUnmapShared(ulong address, out PhysicalAddress frame)
    {
        TableWindows memory = default;
        PageTables<TableWindows> tables = new(ref memory, s_encryptionMask);
        s_sharedLock.Acquire(LockRank.AddressSpace);
        ulong entry = tables.Exchange(Root, address, 0, ulong.MaxValue, 0);
        s_sharedLock.Release(LockRank.AddressSpace);
        frame = tables.AddressOf(entry);
        return entry != 0;
    }

    private static ulong Entry(PhysicalAddress frame) => frame.Value | s_encryptionMask | PageEntry.Data;

    // The builder's tables where it mapped them. Needs no window, and cannot make tables.
    private struct BuilderTables : ITableMemory
    {
        private readonly ulong _root;
        private readonly ulong _count;

        public BuilderTables(ulong root, ulong count)
        {
            _root = root;
            _count = count;
        }

        /// <summary>An entry named a table that is none of the builder's.</summary>
        public bool HasFailed { get; private set; }

        public readonly bool TryAllocate(out PhysicalAddress frame)
        {
            frame = default;
            return false;
        }

        public readonly void Free(PhysicalAddress frame)
        {
        }

        public ulong* Map(PhysicalAddress table)
        {
            ulong number = (table.Value - _root) / Page.Size;
            HasFailed |= number >= _count;
            return (ulong*)(KernelAddressSpace.PageTables + (HasFailed ? 0 : number * Page.Size));
        }

        public readonly void Unmap(ulong* table)
        {
        }
    }
}
