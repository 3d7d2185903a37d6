// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What only the run can know of what a Linux guest finds. All else is launched, measured, and made by the image builder (Svsm.Sdk/Builder):
//
//   boot parameters   the E820 memory map: the checked RAM, the SVSM's region and the ranges to keep as reserved, the ACPI tables
//   table "APIC"      one entry per vCPU; the head is at the end of a page, so that entries fill whole pages
//   page tables       the C-bit
//
// The host has no say in any of it but the number of vCPUs and the amount of RAM: no table of the host's reaches the guest.
// Source: Linux Documentation/arch/x86/boot.rst; ACPI 6.5, 5.2.12.12.

using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Completes the pages of a Linux guest.</summary>
internal static class LinuxHandover
{
    /// <summary>Entries of processors in one page of the table.</summary>
    public const int ProcessorsPerPage = Page.Size / 16;

    private const ulong PresentEntry = 1;

    /// <summary>Writes the memory map into the boot parameters.</summary>
    /// <param name="bootParameters">The page.</param>
    /// <param name="ram">The guest's RAM; ascending, disjoint, without the region.</param>
    /// <param name="region">The SVSM's region.</param>
    /// <param name="ranges">The image's ranges; ascending, disjoint, all of them RAM.</param>
    /// <returns>False: there are more entries than the page has room for; they are there up to that one, their number is not.</returns>
    public static bool TryFillMemoryMap(Span<byte> bootParameters, ReadOnlySpan<PageRange> ram, PageRange region, ReadOnlySpan<GuestRange> ranges)
    {
        int count = 0;
        bool hasRegion = false;
        for (int i = 0; i < ram.Length; i++)
        {
            if (!hasRegion && region.First < ram[i].First)
            {
                hasRegion = true;
                if (!TryAdd(bootParameters, ref count, region.First, region.End, GuestRangeUse.Reserved))
                {
                    return false;
                }
            }

            ulong page = ram[i].First;
            for (int j = 0; j < ranges.Length; j++)
            {
                ulong first = ranges[j].Base >> Page.Shift;
                if (ranges[j].Use == GuestRangeUse.Ram || !ram[i].Contains(first))
                {
                    continue;
                }

                ulong end = first + (ranges[j].Length >> Page.Shift);
                if (!TryAdd(bootParameters, ref count, page, first, GuestRangeUse.Ram) || !TryAdd(bootParameters, ref count, first, end, ranges[j].Use))
                {
                    return false;
                }

                page = end;
            }

            if (!TryAdd(bootParameters, ref count, page, ram[i].End, GuestRangeUse.Ram))
            {
                return false;
            }
        }

        if (!hasRegion && !TryAdd(bootParameters, ref count, region.First, region.End, GuestRangeUse.Reserved))
        {
            return false;
        }

        bootParameters[LinuxBootParameters.MemoryMapCount] = (byte)count;
        return true;
    }

    /// <summary>Writes entries of processors whose x2APIC ids follow each other.</summary>
    /// <param name="page">A page behind the head of the table, from its start on.</param>
    /// <param name="firstId">First id.</param>
    /// <param name="count">Number of processors, at most <see cref="ProcessorsPerPage"/>.</param>
    /// <returns>The sum of the bytes written.</returns>
    public static byte WriteProcessors(Span<byte> page, uint firstId, int count)
    {
        Span<AcpiX2ApicEntry> entries = MemoryMarshal.Cast<byte, AcpiX2ApicEntry>(page);
        for (int i = 0; i < count; i++)
        {
            entries[i] = new AcpiX2ApicEntry
            {
                Type = AcpiX2ApicEntry.TypeValue,
                Length = (byte)Unsafe.SizeOf<AcpiX2ApicEntry>(),
                ApicId = firstId + (uint)i,
                Flags = AcpiX2ApicEntry.Enabled,
                ProcessorUid = firstId + (uint)i,
            };
        }

        return Sum(page.Slice(0, count * Unsafe.SizeOf<AcpiX2ApicEntry>()));
    }

    /// <summary>Makes the head of the table fit its entries.</summary>
    /// <param name="head">The head.</param>
    /// <param name="processorCount">Number of entries.</param>
    /// <param name="sum">Sum of their bytes.</param>
    public static void FinishInterruptControllers(Span<byte> head, uint processorCount, byte sum)
    {
        uint length = AcpiTable.InterruptControllersHeadLength + (processorCount * (uint)Unsafe.SizeOf<AcpiX2ApicEntry>());
        BinaryPrimitives.WriteUInt32LittleEndian(head.Slice(AcpiTable.Length), length);
        head[AcpiTable.Checksum] = 0;
        head[AcpiTable.Checksum] = (byte)-(Sum(head.Slice(0, AcpiTable.InterruptControllersHeadLength)) + sum);
    }

    /// <summary>Sets the C-bit in every present entry of a page table.</summary>
    /// <param name="entries">The 512 entries.</param>
    /// <param name="encryptionMask">The C-bit.</param>
    public static void Encrypt(Span<ulong> entries, ulong encryptionMask)
    {
        for (int i = 0; i < entries.Length; i++)
        {
            if ((entries[i] & PresentEntry) != 0)
            {
                entries[i] |= encryptionMask;
            }
        }
    }

    private static bool TryAdd(Span<byte> bootParameters, ref int count, ulong first, ulong end, GuestRangeUse use)
    {
        if (first == end)
        {
            return true;
        }

        if (count == LinuxBootParameters.MaxMemoryMapEntries)
        {
            return false;
        }

        E820Entry entry = new() { Base = first << Page.Shift, Length = (end - first) << Page.Shift, Type = use };
        MemoryMarshal.Write(bootParameters.Slice(LinuxBootParameters.MemoryMap + (count * Unsafe.SizeOf<E820Entry>())), in entry);
        count++;
        return true;
    }

    private static byte Sum(ReadOnlySpan<byte> bytes)
    {
        int sum = 0;
        for (int i = 0; i < bytes.Length; i++)
        {
            sum += bytes[i];
        }

        return (byte)sum;
    }
}
