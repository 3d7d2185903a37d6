// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// x86-64 page tables, four levels, 4-KiB pages, made at build time without the C-bit.
//
// Tables are numbered in the order in which they are needed; number 0 is the PML4. Table n is the page at baseGpa + n * 4096.
//
//   table entry   present | writable | accessed                     rights are decided at the last level only
//   page entry    present | accessed [| writable | dirty] [| NX] [| global]
//
// Accessed and dirty are set so that the processor never has to write to a table by itself. Dirty without writable would be a
// shadow-stack page once CET is on, so read-only pages do not have it. "User" is nowhere set: the kernel's half is the kernel's.
// Global is set for what all CPUs share; per-CPU pages and the boot tables' identity map must vanish when CR3 changes.
//
// Source: AMD64 Architecture Programmer's Manual, volume 2, 5.3 and 5.4.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;

namespace Svsm.Builder;

internal sealed class PageTables
{
    public const ulong Present = 1ul << 0;
    public const ulong Writable = 1ul << 1;
    public const ulong Accessed = 1ul << 5;
    public const ulong Dirty = 1ul << 6;
    public const ulong Global = 1ul << 8;
    public const ulong NoExecute = 1ul << 63;
    public const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    private const int PageSize = 4096;

    private readonly List<byte[]> _tables = [new byte[PageSize]];
    private readonly Dictionary<(int Table, int Slot), int> _children = [];

    public PageTables(ulong baseGpa) => BaseGpa = baseGpa;

    /// <summary>GPA of the PML4.</summary>
    public ulong BaseGpa { get; }

    /// <summary>Number of tables so far.</summary>
    public int Count => _tables.Count;

    /// <summary>The 4096 bytes of a table.</summary>
    public ReadOnlyMemory<byte> this[int index] => _tables[index];

    /// <summary>Maps one page. The address must not be mapped yet: the caller has checked for overlaps.</summary>
    public void Map(ulong virtualAddress, ulong gpa, PageRights rights, bool global)
    {
        ulong entry = gpa | Present | Accessed;
        entry |= rights.HasFlag(PageRights.Write) ? Writable | Dirty : 0;
        entry |= rights.HasFlag(PageRights.Execute) ? 0 : NoExecute;
        entry |= global ? Global : 0;
        int slot = Slot(virtualAddress, 0);
        int table = EnsureLastTable(virtualAddress);
        if (Entry(table, slot) != 0)
        {
            throw new InvalidOperationException($"0x{virtualAddress:X} is mapped already.");
        }

        SetEntry(table, slot, entry);
    }

    /// <summary>Makes the tables that govern an address exist.</summary>
    /// <returns>The number of the last one.</returns>
    public int EnsureLastTable(ulong virtualAddress)
    {
        int table = 0;
        for (int level = 3; level > 0; level--)
        {
            int slot = Slot(virtualAddress, level);
            if (!_children.TryGetValue((table, slot), out int child))
            {
                child = _tables.Count;
                _tables.Add(new byte[PageSize]);
                _children.Add((table, slot), child);
                SetEntry(table, slot, (BaseGpa + ((ulong)child * PageSize)) | Present | Writable | Accessed);
            }

            table = child;
        }

        return table;
    }

    /// <summary>Copies the entries of another PML4's upper half.</summary>
    public void ShareUpperHalf(PageTables other) => other._tables[0].AsSpan(PageSize / 2).CopyTo(_tables[0].AsSpan(PageSize / 2));

    private ulong Entry(int table, int slot) => BinaryPrimitives.ReadUInt64LittleEndian(_tables[table].AsSpan(slot * 8));

    private void SetEntry(int table, int slot, ulong entry) => BinaryPrimitives.WriteUInt64LittleEndian(_tables[table].AsSpan(slot * 8), entry);

    private static int Slot(ulong virtualAddress, int level) => (int)(virtualAddress >> (12 + (9 * level))) & 511;
}
