// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Names for the numbers of the IGVM format, for everybody who reads or makes such files.
//
// Source: igvm_defs 0.4.0 (IGVM_* tokens in the documentation of each member).

using System;

namespace Svsm.Igvm;

/// <summary>Version of the fixed header.</summary>
public enum IgvmFormatVersion : uint
{
    /// <summary>24-byte fixed header: x64, 4-KiB pages.</summary>
    V1 = 1,

    /// <summary>32-byte fixed header that names architecture and page size.</summary>
    V2 = 2,
}

/// <summary>Processor architecture of a version-2 file (<c>IgvmArchitecture</c>).</summary>
public enum IgvmArchitecture : uint
{
    /// <summary>x64. The only architecture of version 1.</summary>
    X64 = 0,

    /// <summary>AArch64.</summary>
    AArch64 = 1,
}

/// <summary>Isolation technology of a platform header (<c>IgvmPlatformType</c>).</summary>
public enum IgvmPlatformType : byte
{
    /// <summary>No isolation.</summary>
    Native = 0,

    /// <summary>Hyper-V virtualization-based isolation.</summary>
    VsmIsolation = 1,

    /// <summary>AMD SEV-SNP.</summary>
    SevSnp = 2,

    /// <summary>Intel TDX.</summary>
    Tdx = 3,

    /// <summary>AMD SEV.</summary>
    Sev = 4,

    /// <summary>AMD SEV-ES.</summary>
    SevEs = 5,

    /// <summary>Arm CCA.</summary>
    Cca = 6,
}

/// <summary>Type of a variable header (<c>IgvmVariableHeaderType</c>).</summary>
public enum IgvmHeaderType : uint
{
    /// <summary><c>IGVM_VHT_SUPPORTED_PLATFORM</c>.</summary>
    SupportedPlatform = 0x001,

    /// <summary><c>IGVM_VHT_GUEST_POLICY</c>.</summary>
    GuestPolicy = 0x101,

    /// <summary><c>IGVM_VHT_RELOCATABLE_REGION</c>.</summary>
    RelocatableRegion = 0x102,

    /// <summary><c>IGVM_VHT_PAGE_TABLE_RELOCATION_REGION</c>.</summary>
    PageTableRelocationRegion = 0x103,

    /// <summary><c>IGVM_VHT_CORIM_DOCUMENT</c>.</summary>
    CorimDocument = 0x104,

    /// <summary><c>IGVM_VHT_CORIM_SIGNATURE</c>.</summary>
    CorimSignature = 0x105,

    /// <summary><c>IGVM_VHT_CCA_POLICY</c>.</summary>
    CcaPolicy = 0x106,

    /// <summary><c>IGVM_VHT_PARAMETER_AREA</c>.</summary>
    ParameterArea = 0x301,

    /// <summary><c>IGVM_VHT_PAGE_DATA</c>.</summary>
    PageData = 0x302,

    /// <summary><c>IGVM_VHT_PARAMETER_INSERT</c>.</summary>
    ParameterInsert = 0x303,

    /// <summary><c>IGVM_VHT_VP_CONTEXT</c>.</summary>
    VpContext = 0x304,

    /// <summary><c>IGVM_VHT_REQUIRED_MEMORY</c>.</summary>
    RequiredMemory = 0x305,

    /// <summary><c>IGVM_VHT_VP_COUNT_PARAMETER</c>.</summary>
    VpCount = 0x307,

    /// <summary><c>IGVM_VHT_SRAT</c>.</summary>
    Srat = 0x308,

    /// <summary><c>IGVM_VHT_MADT</c>.</summary>
    Madt = 0x309,

    /// <summary><c>IGVM_VHT_MMIO_RANGES</c>.</summary>
    MmioRanges = 0x30A,

    /// <summary><c>IGVM_VHT_SNP_ID_BLOCK</c>.</summary>
    SnpIdBlock = 0x30B,

    /// <summary><c>IGVM_VHT_MEMORY_MAP</c>.</summary>
    MemoryMap = 0x30C,

    /// <summary><c>IGVM_VHT_ERROR_RANGE</c>.</summary>
    ErrorRange = 0x30D,

    /// <summary><c>IGVM_VHT_COMMAND_LINE</c>.</summary>
    CommandLine = 0x30E,

    /// <summary><c>IGVM_VHT_SLIT</c>.</summary>
    Slit = 0x30F,

    /// <summary><c>IGVM_VHT_PPTT</c>.</summary>
    Pptt = 0x310,

    /// <summary><c>IGVM_VHT_VBS_MEASUREMENT</c>.</summary>
    VbsMeasurement = 0x311,

    /// <summary><c>IGVM_VHT_DEVICE_TREE</c>.</summary>
    DeviceTree = 0x312,

    /// <summary><c>IGVM_VHT_ENVIRONMENT_INFO_PARAMETER</c>.</summary>
    EnvironmentInfo = 0x313,
}

/// <summary>What a host shall write into a parameter area.</summary>
/// <remarks>The values are the header types: each usage is a directive of its own.</remarks>
public enum IgvmParameterKind : uint
{
    /// <summary>u32 number of virtual processors.</summary>
    VpCount = IgvmHeaderType.VpCount,

    /// <summary>ACPI SRAT table.</summary>
    Srat = IgvmHeaderType.Srat,

    /// <summary>ACPI MADT table.</summary>
    Madt = IgvmHeaderType.Madt,

    /// <summary>Two pairs of u64 page number and u64 page count.</summary>
    MmioRanges = IgvmHeaderType.MmioRanges,

    /// <summary>24-byte entries, sorted, ended by an entry with page count 0 (<see cref="Svsm.Wire.MemoryMapEntry"/>).</summary>
    MemoryMap = IgvmHeaderType.MemoryMap,

    /// <summary>NUL-terminated ASCII command line.</summary>
    CommandLine = IgvmHeaderType.CommandLine,

    /// <summary>ACPI SLIT table.</summary>
    Slit = IgvmHeaderType.Slit,

    /// <summary>ACPI PPTT table.</summary>
    Pptt = IgvmHeaderType.Pptt,

    /// <summary>Flattened device tree.</summary>
    DeviceTree = IgvmHeaderType.DeviceTree,

    /// <summary>u32: bit 0 = memory starts shared.</summary>
    EnvironmentInfo = IgvmHeaderType.EnvironmentInfo,
}

/// <summary>Type of the page that a PAGE_DATA directive adds (<c>IgvmPageDataType</c>).</summary>
public enum IgvmPageDataType : ushort
{
    /// <summary>Ordinary memory.</summary>
    Normal = 0,

    /// <summary>SNP secrets page; the security processor fills it.</summary>
    Secrets = 1,

    /// <summary>SNP CPUID page; the host fills it.</summary>
    CpuidData = 2,

    /// <summary>SNP CPUID page whose extended-feature leaf covers several XCR0/XSS values.</summary>
    CpuidXf = 3,
}

/// <summary>Flags of a PAGE_DATA directive (<c>IgvmPageDataFlags</c>).</summary>
[Flags]
public enum IgvmPageDataFlags : uint
{
    /// <summary>A measured 4-KiB page.</summary>
    None = 0,

    /// <summary>2-MiB page; the file still carries 4096 bytes of data.</summary>
    Is2MBPage = 1,

    /// <summary>The contents are not measured.</summary>
    Unmeasured = 2,

    /// <summary>Host-visible page; not measured.</summary>
    Shared = 4,
}

/// <summary>Flags of a relocatable region.</summary>
[Flags]
public enum IgvmRelocationFlags : byte
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>The region belongs to VTL2.</summary>
    IsVtl2 = 1,

    /// <summary>The relocation offset is added to the instruction pointer.</summary>
    ApplyRip = 2,

    /// <summary>The relocation offset is added to the GDTR base.</summary>
    ApplyGdtr = 4,
}

/// <summary>Flags of a REQUIRED_MEMORY directive.</summary>
[Flags]
public enum IgvmRequiredMemoryFlags : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>The memory can be protected by VTL2.</summary>
    Vtl2Protectable = 1,
}
