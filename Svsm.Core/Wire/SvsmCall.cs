// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The call interface between a guest and the SVSM: protocol and call numbers, results, the calling area and the PVALIDATE list.
// For the kernel (serves), the guest payload (calls) and tests.
// Source: coconut-svsm kernel/src/protocols, Linux arch/x86/include/asm/sev.h, EDK2 OvmfPkg/Library/AmdSvsmLib.

namespace Svsm.Wire;

/// <summary>Protocol numbers: RAX bits 63:32 of a call.</summary>
public enum SvsmProtocol : uint
{
    /// <summary>Core.</summary>
    Core = 0,

    /// <summary>Attestation.</summary>
    Attestation = 1,

    /// <summary>Virtual TPM.</summary>
    Vtpm = 2,

    /// <summary>APIC emulation.</summary>
    Apic = 3,

    /// <summary>UEFI management mode.</summary>
    UefiMm = 4,
}

/// <summary>Calls of the core protocol: RAX bits 31:0.</summary>
public enum CoreCall : uint
{
    /// <summary><c>SVSM_CORE_REMAP_CA</c>: RCX = GPA of the new calling area.</summary>
    RemapCallingArea = 0,

    /// <summary><c>SVSM_CORE_PVALIDATE</c>: RCX = GPA of the list, see <see cref="PvalidateList"/>.</summary>
    PValidate = 1,

    /// <summary><c>SVSM_CORE_CREATE_VCPU</c>: RCX = GPA of the VMSA, RDX = GPA of its calling area, R8 = APIC id.</summary>
    CreateVcpu = 2,

    /// <summary><c>SVSM_CORE_DELETE_VCPU</c>: RCX = GPA of the VMSA.</summary>
    DeleteVcpu = 3,

    /// <summary><c>SVSM_CORE_DEPOSIT_MEM</c>: RCX = GPA of a list of pages, laid out as <see cref="PvalidateList"/>; the format is this project's.</summary>
    DepositMemory = 4,

    /// <summary><c>SVSM_CORE_WITHDRAW_MEM</c>: RCX = GPA of a list to be filled in, laid out as <see cref="PvalidateList"/>; the format is this project's.</summary>
    WithdrawMemory = 5,

    /// <summary><c>SVSM_CORE_QUERY_PROTOCOL</c>: RCX = protocol in 63:32, wanted version in 31:0; answer in RCX: highest version in 63:32, lowest in 31:0, or 0.</summary>
    QueryProtocol = 6,

    /// <summary><c>SVSM_CORE_CONFIGURE_VTOM</c>.</summary>
    ConfigureVtom = 7,
}

/// <summary>Results in RAX.</summary>
public enum SvsmResultCode : ulong
{
    /// <summary><c>SVSM_SUCCESS</c>.</summary>
    Success = 0,

    /// <summary><c>SVSM_ERR_INCOMPLETE</c>: call again.</summary>
    Incomplete = 0x8000_0000,

    /// <summary><c>SVSM_ERR_UNSUPPORTED_PROTOCOL</c>.</summary>
    UnsupportedProtocol = 0x8000_0001,

    /// <summary><c>SVSM_ERR_UNSUPPORTED_CALL</c>.</summary>
    UnsupportedCall = 0x8000_0002,

    /// <summary><c>SVSM_ERR_INVALID_ADDRESS</c>.</summary>
    InvalidAddress = 0x8000_0003,

    /// <summary><c>SVSM_ERR_INVALID_FORMAT</c>.</summary>
    InvalidFormat = 0x8000_0004,

    /// <summary><c>SVSM_ERR_INVALID_PARAMETER</c>.</summary>
    InvalidParameter = 0x8000_0005,

    /// <summary><c>SVSM_ERR_INVALID_REQUEST</c>.</summary>
    InvalidRequest = 0x8000_0006,

    /// <summary><c>SVSM_ERR_BUSY</c>.</summary>
    Busy = 0x8000_0007,

    /// <summary>First protocol-specific result; the core protocol adds the instruction's return code.</summary>
    ProtocolBase = 0x8000_1000,

    /// <summary>PVALIDATE returned FAIL_INPUT.</summary>
    PValidateFailInput = 0x8000_1001,

    /// <summary>RMPADJUST returned FAIL_INUSE: the VMSA runs.</summary>
    VmsaInUse = 0x8000_1003,

    /// <summary>PVALIDATE returned FAIL_SIZEMISMATCH: repeat with 4-KiB entries.</summary>
    PValidateSizeMismatch = 0x8000_1006,

    /// <summary>PVALIDATE set CF: the page already had the state asked for.</summary>
    PValidateNoChange = 0x8000_1010,
}

/// <summary>Byte offsets in a calling area, a page shared by one vCPU of the guest and the SVSM.</summary>
public static class CallingArea
{
    /// <summary>u8: 1 while a call waits; set by the guest, cleared by the SVSM.</summary>
    public const int CallPendingOffset = 0;

    /// <summary>u8: the SVSM has memory that the guest may withdraw.</summary>
    public const int MemoryAvailableOffset = 1;

    /// <summary>First byte that the guest may use for arguments.</summary>
    public const int BufferOffset = 8;
}

/// <summary>The list of <see cref="CoreCall.PValidate"/>: a head of 8 bytes, then entries of 8 bytes, all in one page.</summary>
public static class PvalidateList
{
    /// <summary>u16: number of entries.</summary>
    public const int CountOffset = 0;

    /// <summary>u16: index of the entry to start with; advanced by the SVSM past each success.</summary>
    public const int NextOffset = 2;

    /// <summary>Byte offset of entry 0.</summary>
    public const int EntriesOffset = 8;

    /// <summary>Bits 1:0 of an entry: page size, 0 = 4 KiB, 1 = 2 MiB.</summary>
    public const ulong PageSizeMask = 3;

    /// <summary>Bit 2 of an entry: validate (1) or rescind (0).</summary>
    public const ulong Validate = 1 << 2;

    /// <summary>Bit 3 of an entry: a page that already has the state is no error.</summary>
    public const ulong IgnoreNoChange = 1 << 3;

    /// <summary>Bits 11:4 of an entry: reserved, zero.</summary>
    public const ulong ReservedMask = 0xFF0;
}
