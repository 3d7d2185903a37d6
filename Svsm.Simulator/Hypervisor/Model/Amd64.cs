// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Numbers of the x86-64 processor that the model needs.

namespace Svsm.Hypervisor;

/// <summary>Register bits, exception vectors and page table bits.</summary>
internal static class Amd64
{
    /// <summary>Length of a page in bytes.</summary>
    public const int PageSize = 4096;

    /// <summary>Length of a large page in bytes.</summary>
    public const ulong LargePageSize = 0x20_0000;

    /// <summary>Position of the C-bit in guest page table entries and of the private alias in guest-physical addresses.</summary>
    public const int CBitPosition = 47;

    /// <summary>The C-bit.</summary>
    public const ulong CBit = 1ul << CBitPosition;

    /// <summary>CR0.PE.</summary>
    public const ulong Cr0ProtectedMode = 1ul << 0;

    /// <summary>CR0.ET, always 1.</summary>
    public const ulong Cr0ExtensionType = 1ul << 4;

    /// <summary>CR0.WP.</summary>
    public const ulong Cr0WriteProtect = 1ul << 16;

    /// <summary>CR0.NW.</summary>
    public const ulong Cr0NotWriteThrough = 1ul << 29;

    /// <summary>CR0.CD.</summary>
    public const ulong Cr0CacheDisable = 1ul << 30;

    /// <summary>CR0.PG.</summary>
    public const ulong Cr0Paging = 1ul << 31;

    /// <summary>CR4.PSE.</summary>
    public const ulong Cr4PageSizeExtensions = 1ul << 4;

    /// <summary>CR4.PAE.</summary>
    public const ulong Cr4Pae = 1ul << 5;

    /// <summary>CR4.PGE.</summary>
    public const ulong Cr4PageGlobal = 1ul << 7;

    /// <summary>CR4.LA57.</summary>
    public const ulong Cr4La57 = 1ul << 12;

    /// <summary>CR4.PCIDE.</summary>
    public const ulong Cr4Pcid = 1ul << 17;

    /// <summary>CR4.SMEP.</summary>
    public const ulong Cr4Smep = 1ul << 20;

    /// <summary>CR4.SMAP.</summary>
    public const ulong Cr4Smap = 1ul << 21;

    /// <summary>EFER.LME.</summary>
    public const ulong EferLongModeEnable = 1ul << 8;

    /// <summary>EFER.LMA.</summary>
    public const ulong EferLongModeActive = 1ul << 10;

    /// <summary>EFER.NXE.</summary>
    public const ulong EferNoExecute = 1ul << 11;

    /// <summary>EFER.SVME.</summary>
    public const ulong EferSvme = 1ul << 12;

    /// <summary>RFLAGS.CF.</summary>
    public const ulong FlagCarry = 1ul << 0;

    /// <summary>RFLAGS bit 1, always 1.</summary>
    public const ulong FlagReserved = 1ul << 1;

    /// <summary>RFLAGS.PF.</summary>
    public const ulong FlagParity = 1ul << 2;

    /// <summary>RFLAGS.AF.</summary>
    public const ulong FlagAdjust = 1ul << 4;

    /// <summary>RFLAGS.ZF.</summary>
    public const ulong FlagZero = 1ul << 6;

    /// <summary>RFLAGS.SF.</summary>
    public const ulong FlagSign = 1ul << 7;

    /// <summary>RFLAGS.TF.</summary>
    public const ulong FlagTrap = 1ul << 8;

    /// <summary>RFLAGS.IF.</summary>
    public const ulong FlagInterrupt = 1ul << 9;

    /// <summary>RFLAGS.OF.</summary>
    public const ulong FlagOverflow = 1ul << 11;

    /// <summary>RFLAGS.NT.</summary>
    public const ulong FlagNestedTask = 1ul << 14;

    /// <summary>RFLAGS.RF.</summary>
    public const ulong FlagResume = 1ul << 16;

    /// <summary>RFLAGS.VM.</summary>
    public const ulong FlagVirtual8086 = 1ul << 17;

    /// <summary>RFLAGS.AC.</summary>
    public const ulong FlagAlignment = 1ul << 18;

    /// <summary>Vector of #DB.</summary>
    public const int VectorDebug = 1;

    /// <summary>Vector of #HV.</summary>
    public const int VectorHypervisor = 28;

    /// <summary>Vector of #UD.</summary>
    public const int VectorInvalidOpcode = 6;

    /// <summary>Vector of #GP.</summary>
    public const int VectorGeneralProtection = 13;

    /// <summary>Vector of #PF.</summary>
    public const int VectorPageFault = 14;

    /// <summary>Vector of #VC.</summary>
    public const int VectorVmmCommunication = 29;

    /// <summary>Page table entry: present.</summary>
    public const ulong PtePresent = 1ul << 0;

    /// <summary>Page table entry: writable.</summary>
    public const ulong PteWritable = 1ul << 1;

    /// <summary>Page table entry: user.</summary>
    public const ulong PteUser = 1ul << 2;

    /// <summary>Page table entry: accessed.</summary>
    public const ulong PteAccessed = 1ul << 5;

    /// <summary>Page table entry: dirty.</summary>
    public const ulong PteDirty = 1ul << 6;

    /// <summary>Page table entry of a directory: a large page.</summary>
    public const ulong PteLarge = 1ul << 7;

    /// <summary>Page table entry: global, if CR4.PGE is set.</summary>
    public const ulong PteGlobal = 1ul << 8;

    /// <summary>Page table entry: not executable.</summary>
    public const ulong PteNoExecute = 1ul << 63;

    /// <summary>Page table entry: address bits, C-bit not among them.</summary>
    public const ulong PteAddress = 0x0000_7FFF_FFFF_F000;

    /// <summary>Page table entry: address bits that no 48-bit machine has.</summary>
    public const ulong PteReserved = 0x000F_0000_0000_0000;

    /// <summary>The page that an address lies in.</summary>
    public static ulong PageOf(ulong address) => address & ~(ulong)(PageSize - 1);

    /// <summary>Whether bits 63:47 of a linear address are alike.</summary>
    public static bool IsCanonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
