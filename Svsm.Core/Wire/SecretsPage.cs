// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The two pages that the security processor prepares at launch: secrets and CPUID.
// For the kernel (reads its own, writes the guest's copies), the simulator (fills them) and the guest payload.
// Source: coconut-svsm kernel/src/sev/secrets_page.rs, Linux arch/x86/include/asm/sev.h, EDK2 Register/Amd/Svsm.h.

using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>The secrets page. 4096 bytes; fields from 0x140 on are written by the SVSM for the guest.</summary>
[StructLayout(LayoutKind.Explicit, Size = 4096)]
public struct SecretsPage
{
    /// <summary>Version of the layout.</summary>
    [FieldOffset(0x000)]
    public uint Version;

    /// <summary>Bit 0: the initial migration image is enabled.</summary>
    [FieldOffset(0x004)]
    public uint Flags;

    /// <summary>CPUID family, model, stepping of the chip.</summary>
    [FieldOffset(0x008)]
    public uint FamilyModelStepping;

    /// <summary>VM platform communication key 0. Whoever has it speaks to the security processor as VMPL0.</summary>
    [FieldOffset(0x020)]
    [Secret]
    public Bytes32 Vmpck0;

    /// <summary>VM platform communication key 1.</summary>
    [FieldOffset(0x040)]
    [Secret]
    public Bytes32 Vmpck1;

    /// <summary>VM platform communication key 2.</summary>
    [FieldOffset(0x060)]
    [Secret]
    public Bytes32 Vmpck2;

    /// <summary>VM platform communication key 3.</summary>
    [FieldOffset(0x080)]
    [Secret]
    public Bytes32 Vmpck3;

    /// <summary>First GPA of the memory that belongs to the SVSM.</summary>
    [FieldOffset(0x140)]
    public ulong SvsmBase;

    /// <summary>Length in bytes of the memory that belongs to the SVSM; 0 means that there is no SVSM.</summary>
    [FieldOffset(0x148)]
    public ulong SvsmSize;

    /// <summary>GPA of the boot vCPU's calling area.</summary>
    [FieldOffset(0x150)]
    public ulong SvsmCallingArea;

    /// <summary>Highest version of the core protocol that the SVSM offers.</summary>
    [FieldOffset(0x158)]
    public uint SvsmMaxVersion;

    /// <summary>VMPL that the guest runs at.</summary>
    [FieldOffset(0x15C)]
    public byte SvsmGuestVmpl;

    /// <summary>TSC factor.</summary>
    [FieldOffset(0x160)]
    public uint TscFactor;
}

/// <summary>Head of the CPUID page; up to <see cref="MaxEntries"/> entries follow at <see cref="EntriesOffset"/>.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct CpuidPageHeader
{
    /// <summary>Most entries that a page may have.</summary>
    public const uint MaxEntries = 64;

    /// <summary>Offset of entry 0 in the page.</summary>
    public const int EntriesOffset = 16;

    /// <summary>Number of entries, 0 to 64.</summary>
    public uint Count;

    /// <summary>Zero.</summary>
    public uint Reserved0;

    /// <summary>Zero.</summary>
    public ulong Reserved1;
}

/// <summary>One function of the CPUID page. 48 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct CpuidEntry
{
    /// <summary>Function (EAX on input).</summary>
    public uint Function;

    /// <summary>Index (ECX on input).</summary>
    public uint Index;

    /// <summary>XCR0 that the values hold for.</summary>
    public ulong Xcr0;

    /// <summary>XSS that the values hold for.</summary>
    public ulong Xss;

    /// <summary>EAX on output.</summary>
    public uint Eax;

    /// <summary>EBX on output.</summary>
    public uint Ebx;

    /// <summary>ECX on output.</summary>
    public uint Ecx;

    /// <summary>EDX on output.</summary>
    public uint Edx;

    /// <summary>Zero.</summary>
    public ulong Reserved;
}
