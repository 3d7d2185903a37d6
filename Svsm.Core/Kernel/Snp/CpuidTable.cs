// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// CPUID as the security processor vouches for it: the table of the CPUID page, from a private copy.
//
// A function that the table lacks returns zeroes, as a processor of AMD returns beyond its range. The host is never asked.
// Functions with several indexes match function and index; for the others the index does not matter, as on the processor.
// Function 0xD has entries for several values of XCR0 and XSS; the kernel runs with XCR0 = 1 (x87 only) and XSS = 0, and takes
// the first entry of a matching index: sizes in it are the host's choice among true ones, and the kernel uses none of them.
// Source: SecretsPage.cs (layout), Linux arch/x86/coco/sev/shared.c (which functions have indexes).

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Snp;

/// <summary>What CPUID returns.</summary>
internal struct CpuidValues
{
    /// <summary>EAX.</summary>
    public uint Eax;

    /// <summary>EBX.</summary>
    public uint Ebx;

    /// <summary>ECX.</summary>
    public uint Ecx;

    /// <summary>EDX.</summary>
    public uint Edx;
}

/// <summary>A view of a private copy of a CPUID page.</summary>
internal readonly ref struct CpuidTable
{
    /// <summary>Highest standard function and vendor.</summary>
    public const uint Vendor = 0;

    /// <summary>Family, features.</summary>
    public const uint Features = 1;

    /// <summary>Structured extended features.</summary>
    public const uint ExtendedFeatures = 7;

    /// <summary>Address sizes.</summary>
    public const uint AddressSizes = 0x8000_0008;

    /// <summary>Memory encryption: the C-bit position is in EBX 5:0.</summary>
    public const uint Encryption = 0x8000_001F;

    private const uint EbxInvlpgb = 1u << 3;
    private const int MinAddressBits = 32;
    private const int MaxAddressBits = 52;

    private readonly ReadOnlySpan<CpuidEntry> _entries;

    private CpuidTable(ReadOnlySpan<CpuidEntry> entries) => _entries = entries;

    /// <summary>Number of entries.</summary>
    public int Count => _entries.Length;

    /// <summary>The processor has INVLPGB and TLBSYNC.</summary>
    public bool HasInvlpgb => (Get(AddressSizes, 0).Ebx & EbxInvlpgb) != 0;

    /// <summary>Opens a table.</summary>
    /// <param name="privateCopy">The 4096 bytes of the page, in memory that the host cannot change.</param>
    /// <param name="table">The table.</param>
    /// <returns>False: the page is no CPUID page (too short, or more than 64 entries).</returns>
    public static bool TryOpen(ReadOnlySpan<byte> privateCopy, out CpuidTable table)
    {
        table = default;
        if (!MemoryMarshal.TryRead(privateCopy, out CpuidPageHeader header) || header.Count > CpuidPageHeader.MaxEntries)
        {
            return false;
        }

        ReadOnlySpan<byte> entries = privateCopy.Slice(CpuidPageHeader.EntriesOffset);
        int length = (int)header.Count * Unsafe.SizeOf<CpuidEntry>();
        if (length > entries.Length)
        {
            return false;
        }

        table = new CpuidTable(MemoryMarshal.Cast<byte, CpuidEntry>(entries.Slice(0, length)));
        return true;
    }

    /// <summary>What CPUID returns for a function and index; zeroes when the table lacks them.</summary>
    public CpuidValues Get(uint function, uint index)
    {
        bool indexed = HasIndexes(function);
        for (int i = 0; i < _entries.Length; i++)
        {
            ref readonly CpuidEntry entry = ref _entries[i];
            if (entry.Function == function && (!indexed || entry.Index == index))
            {
                return new CpuidValues { Eax = entry.Eax, Ebx = entry.Ebx, Ecx = entry.Ecx, Edx = entry.Edx };
            }
        }

        return default;
    }

    /// <summary>The limit of guest-physical addresses: what the processor has, and below the C-bit.</summary>
    /// <param name="encryptionBit">Position of the C-bit.</param>
    /// <param name="pageLimit">First page number that cannot exist.</param>
    /// <returns>False: the table lacks the address sizes, which the host can bring about, or names one that no such processor has.</returns>
    public bool TryGetPageLimit(int encryptionBit, out ulong pageLimit)
    {
        int bits = (int)(Get(AddressSizes, 0).Eax & 0xFF);
        bool isValid = bits is >= MinAddressBits and <= MaxAddressBits;
        pageLimit = isValid ? 1ul << (Math.Min(bits, encryptionBit) - Page.Shift) : 0;
        return isValid;
    }

    /// <summary>Whether CPUID looks at ECX for this function.</summary>
    public static bool HasIndexes(uint function) => function is
        0x4 or 0x7 or 0xB or 0xD or 0xF or 0x10 or 0x12 or 0x14 or 0x17 or 0x18 or 0x1D or 0x1E or 0x1F or
        0x8000_001D or 0x8000_0020 or 0x8000_0026;
}
