// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Numbers of the SEV-SNP processor that more than one part needs: SEV_STATUS, SEV_FEATURES, MSRs, instruction results.
// Source: coconut-svsm kernel/src/sev, Linux arch/x86/include/asm/sev-common.h and msr-index.h, EDK2 Register/Amd/SevSnpMsr.h.

using System;

namespace Svsm.Wire;

/// <summary>VM privilege level; 0 is the most privileged.</summary>
public enum Vmpl : byte
{
    /// <summary>The SVSM.</summary>
    Vmpl0 = 0,

    /// <summary>Unused by this project.</summary>
    Vmpl1 = 1,

    /// <summary>The guest.</summary>
    Vmpl2 = 2,

    /// <summary>Unused by this project.</summary>
    Vmpl3 = 3,
}

/// <summary>SEV_FEATURES of a VMSA (offset 0x3B0). Bit n is reported to the guest as bit n + 2 of SEV_STATUS.</summary>
[Flags]
public enum SevFeatures : ulong
{
    /// <summary>No feature; not valid for SNP.</summary>
    None = 0,

    /// <summary>SEV-SNP is active.</summary>
    SnpActive = 1ul << 0,

    /// <summary>Virtual top of memory.</summary>
    VirtualTom = 1ul << 1,

    /// <summary>Reflect #VC to the guest.</summary>
    ReflectVc = 1ul << 2,

    /// <summary>Restricted injection: the hypervisor may inject only #HV.</summary>
    RestrictedInjection = 1ul << 3,

    /// <summary>Alternate injection: events come from the VMSA only.</summary>
    AlternateInjection = 1ul << 4,

    /// <summary>Debug registers are swapped with the VMSA.</summary>
    DebugSwap = 1ul << 5,

    /// <summary>The host's instruction-based sampling is off while the guest runs.</summary>
    PreventHostIbs = 1ul << 6,

    /// <summary>Branch target buffer isolation.</summary>
    BtbIsolation = 1ul << 7,

    /// <summary>Supervisor shadow stack permission per VMPL.</summary>
    VmplSss = 1ul << 8,

    /// <summary>Secure time-stamp counter.</summary>
    SecureTsc = 1ul << 9,

    /// <summary>VMGEXIT parameter.</summary>
    VmgexitParameter = 1ul << 10,

    /// <summary>VMSA register protection.</summary>
    VmsaRegisterProtection = 1ul << 14,

    /// <summary>SMT protection.</summary>
    SmtProtection = 1ul << 15,
}

/// <summary>Model-specific registers of SEV-SNP.</summary>
public static class SevMsr
{
    /// <summary>GHCB MSR: the request or the GHCB page's address. (<c>0xC001_0130</c>)</summary>
    public const uint Ghcb = 0xC001_0130;

    /// <summary>SEV_STATUS, read-only. (<c>0xC001_0131</c>)</summary>
    public const uint SevStatus = 0xC001_0131;

    /// <summary>Software convention between the guest's firmware and its OS, emulated by the guest's own #VC handler: the calling area. (<c>MSR_SVSM_CAA</c>, <c>0xC001_F000</c>)</summary>
    public const uint SvsmCallingArea = 0xC001_F000;
}

/// <summary>SEV_STATUS bits that are not a shifted <see cref="SevFeatures"/> bit.</summary>
public static class SevStatus
{
    /// <summary>SEV is active.</summary>
    public const ulong Sev = 1ul << 0;

    /// <summary>SEV-ES is active.</summary>
    public const ulong SevEs = 1ul << 1;

    /// <summary>SEV_STATUS bit number = SEV_FEATURES bit number + this.</summary>
    public const int FeaturesShift = 2;
}

/// <summary>Results of PVALIDATE and RMPADJUST in EAX.</summary>
public enum RmpResult : uint
{
    /// <summary>Done.</summary>
    Success = 0,

    /// <summary><c>FAIL_INPUT</c>: a bad operand.</summary>
    FailInput = 1,

    /// <summary><c>FAIL_PERMISSION</c>: the caller's VMPL has not the right it wants to give, or the target is not below it.</summary>
    FailPermission = 2,

    /// <summary><c>FAIL_INUSE</c>: the VMSA page is running.</summary>
    FailInUse = 3,

    /// <summary><c>FAIL_SIZEMISMATCH</c>: the RMP entry or the mapping has another page size.</summary>
    FailSizeMismatch = 6,
}

/// <summary>Operand RDX of RMPADJUST and the permission bits of an RMP entry.</summary>
[Flags]
public enum RmpPermissions : uint
{
    /// <summary>No access.</summary>
    None = 0,

    /// <summary>Read (RDX bit 8).</summary>
    Read = 1 << 8,

    /// <summary>Write (RDX bit 9).</summary>
    Write = 1 << 9,

    /// <summary>Execute at CPL 3 (RDX bit 10).</summary>
    ExecuteUser = 1 << 10,

    /// <summary>Execute at CPL 0 to 2 (RDX bit 11).</summary>
    ExecuteSupervisor = 1 << 11,

    /// <summary>Everything but the VMSA bit.</summary>
    All = Read | Write | ExecuteUser | ExecuteSupervisor,

    /// <summary>Not a permission: makes the page a VMSA (RDX bit 16).</summary>
    VmsaPage = 1 << 16,

    /// <summary>
    /// A VMSA of the guest. The guest may read it: Linux takes SEV_FEATURES from there when it tells the host of a vCPU that the SVSM has created.
    /// </summary>
    GuestVmsa = Read | VmsaPage,
}

/// <summary>Page types of the security processor's launch update, and of the launch digest's PAGE_INFO.</summary>
public enum SnpPageType : byte
{
    /// <summary>Contents are measured and given to the guest.</summary>
    Normal = 1,

    /// <summary>A VMSA.</summary>
    Vmsa = 2,

    /// <summary>A page of zeroes; only type and address are measured.</summary>
    Zero = 3,

    /// <summary>Contents are not measured; type and address are.</summary>
    Unmeasured = 4,

    /// <summary>The security processor fills in the secrets page.</summary>
    Secrets = 5,

    /// <summary>The security processor checks the CPUID table.</summary>
    Cpuid = 6,
}
