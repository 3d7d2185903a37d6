// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Guest memory as the processor finds it after launch, and the processor's own walk of page tables: written from the architecture manual,
// not from the builder's code.

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Svsm.Igvm;

namespace Svsm.Builder.Tests;

/// <summary>What a walk found.</summary>
public readonly record struct Translation(ulong Gpa, bool Writable, bool Executable, bool Global, bool User);

/// <summary>The memory that an IGVM file describes.</summary>
public sealed class ImageMemory
{
    private readonly Dictionary<ulong, byte[]> _pages = [];

    public ImageMemory(IgvmFile file)
    {
        foreach (IgvmDirective directive in file.Directives)
        {
            if (directive is IgvmPageData page)
            {
                byte[] data = new byte[4096];
                page.Data.Span.CopyTo(data);
                _pages.Add(page.Gpa, data);
                Types.Add(page.Gpa, page.DataType.ToString());
            }
            else if (directive is IgvmParameterInsert insert)
            {
                _pages.Add(insert.Gpa, new byte[4096]);
                Types.Add(insert.Gpa, "Parameter");
            }
        }
    }

    public Dictionary<ulong, string> Types { get; } = [];

    public ReadOnlySpan<byte> Page(ulong gpa) => _pages[gpa];

    public ulong Read(ulong gpa) => BinaryPrimitives.ReadUInt64LittleEndian(_pages[gpa & ~0xFFFul].AsSpan((int)(gpa & 0xFFF)));

    /// <summary>Sets the C-bit in every present entry of a run of tables, as the boot stub does.</summary>
    public void Encrypt(ulong root, uint count, ulong bit)
    {
        for (ulong entry = root; entry < root + (count * 4096ul); entry += 8)
        {
            ulong value = Read(entry);
            if ((value & 1) != 0)
            {
                BinaryPrimitives.WriteUInt64LittleEndian(_pages[entry & ~0xFFFul].AsSpan((int)(entry & 0xFFF)), value | bit);
            }
        }
    }

    /// <summary>Every page that a root maps.</summary>
    public List<(ulong VirtualAddress, Translation Page)> Mappings(ulong root, ulong encryptionBit = 0)
    {
        var found = new List<(ulong, Translation)>();
        Walk(root & ~encryptionBit, 3, 0, new Translation(0, true, true, false, true), encryptionBit, found);
        return found;
    }

    private void Walk(ulong table, int level, ulong prefix, Translation rights, ulong bit, List<(ulong, Translation)> found)
    {
        for (ulong slot = 0; slot < 512; slot++)
        {
            ulong entry = Read(table + (slot * 8));
            if ((entry & 1) == 0)
            {
                if (entry != 0)
                {
                    throw new InvalidOperationException("An entry that is not present has other bits.");
                }

                continue;
            }

            if ((entry & bit) != bit || (level > 0 && (entry & 0x80) != 0))
            {
                throw new InvalidOperationException($"Entry 0x{entry:X}: C-bit missing, or a large page.");
            }

            ulong next = entry & 0x000F_FFFF_FFFF_F000 & ~bit;
            var inner = new Translation(
                next, rights.Writable && (entry & 2) != 0, rights.Executable && entry >> 63 == 0, (entry & 0x100) != 0, rights.User && (entry & 4) != 0);
            ulong address = prefix | (slot << (12 + (9 * level)));
            if (level == 3 && slot >= 256)
            {
                address |= 0xFFFF_0000_0000_0000;
            }

            if (level == 0)
            {
                found.Add((address, inner));
            }
            else
            {
                Walk(next, level - 1, address, inner, bit, found);
            }
        }
    }
}
