// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest-host communication block: a shared page and a register protocol through which an SNP guest asks its host.
// For the kernel and the guest payload (ask), and for the hypervisor (answers).
// Source: coconut-svsm kernel/src/sev/{ghcb,msr_protocol}.rs, Linux arch/x86/include/asm/sev-common.h and uapi/asm/svm.h, EDK2 Register/Amd/Ghcb.h.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>The GHCB's shared buffer.</summary>
[InlineArray(GhcbPage.SharedBufferSize)]
public struct GhcbSharedBuffer
{
    private byte _element0;
}

/// <summary>The GHCB page. 4096 bytes, shared with the host: every field may change at any time.</summary>
[StructLayout(LayoutKind.Explicit, Size = 4096)]
public struct GhcbPage
{
    /// <summary>Length of <see cref="SharedBuffer"/> in bytes.</summary>
    public const int SharedBufferSize = 0x7F0;

    /// <summary>Byte offset of <see cref="SharedBuffer"/> in the page.</summary>
    public const int SharedBufferOffset = 0x800;

    /// <summary>CPL.</summary>
    [FieldOffset(0x0CB)]
    public byte Cpl;

    /// <summary>XSS.</summary>
    [FieldOffset(0x140)]
    public ulong Xss;

    /// <summary>DR7.</summary>
    [FieldOffset(0x160)]
    public ulong Dr7;

    /// <summary>RAX.</summary>
    [FieldOffset(0x1F8)]
    public ulong Rax;

    /// <summary>RCX.</summary>
    [FieldOffset(0x308)]
    public ulong Rcx;

    /// <summary>RDX.</summary>
    [FieldOffset(0x310)]
    public ulong Rdx;

    /// <summary>RBX.</summary>
    [FieldOffset(0x318)]
    public ulong Rbx;

    /// <summary>RBP.</summary>
    [FieldOffset(0x328)]
    public ulong Rbp;

    /// <summary>RSI.</summary>
    [FieldOffset(0x330)]
    public ulong Rsi;

    /// <summary>RDI.</summary>
    [FieldOffset(0x338)]
    public ulong Rdi;

    /// <summary>R8.</summary>
    [FieldOffset(0x340)]
    public ulong R8;

    /// <summary>R9.</summary>
    [FieldOffset(0x348)]
    public ulong R9;

    /// <summary>What the guest asks for, see <see cref="GhcbExitCode"/>.</summary>
    [FieldOffset(0x390)]
    public ulong SwExitCode;

    /// <summary>First argument of the request; the completion code in bits 31:0 of the answer, see <see cref="GhcbCompletion"/>.</summary>
    [FieldOffset(0x398)]
    public ulong SwExitInfo1;

    /// <summary>Second argument of the request; details in the answer.</summary>
    [FieldOffset(0x3A0)]
    public ulong SwExitInfo2;

    /// <summary>GPA of a shared buffer of the request.</summary>
    [FieldOffset(0x3A8)]
    public ulong SwScratch;

    /// <summary>XCR0.</summary>
    [FieldOffset(0x3E8)]
    public ulong Xcr0;

    /// <summary>Which quadwords below 0x400 carry a value.</summary>
    [FieldOffset(0x3F0)]
    public Bytes16 ValidBitmap;

    /// <summary>The buffer for scratch data.</summary>
    [FieldOffset(SharedBufferOffset)]
    public GhcbSharedBuffer SharedBuffer;

    /// <summary>Protocol version in use: 1 or 2.</summary>
    [FieldOffset(0xFFA)]
    public ushort ProtocolVersion;

    /// <summary>Usage; 0 is the layout of this structure.</summary>
    [FieldOffset(0xFFC)]
    public uint Usage;
}

/// <summary>SW_EXITCODE of a GHCB request. Codes below 0x8000_0000 are the exit codes of the intercepts.</summary>
public enum GhcbExitCode : ulong
{
    /// <summary>DR7 read.</summary>
    Dr7Read = 0x27,

    /// <summary>DR7 write.</summary>
    Dr7Write = 0x37,

    /// <summary>RDTSC.</summary>
    Rdtsc = 0x6E,

    /// <summary>RDPMC.</summary>
    Rdpmc = 0x6F,

    /// <summary>CPUID.</summary>
    Cpuid = 0x72,

    /// <summary>INVD.</summary>
    Invd = 0x76,

    /// <summary>IN, OUT, INS, OUTS; SW_EXITINFO1 describes it, see <see cref="IoioInfo"/>.</summary>
    Ioio = 0x7B,

    /// <summary>RDMSR (SW_EXITINFO1 = 0) or WRMSR (1).</summary>
    Msr = 0x7C,

    /// <summary>VMMCALL.</summary>
    Vmmcall = 0x81,

    /// <summary>RDTSCP.</summary>
    Rdtscp = 0x87,

    /// <summary>WBINVD.</summary>
    Wbinvd = 0x89,

    /// <summary>MONITOR.</summary>
    Monitor = 0x8A,

    /// <summary>MWAIT.</summary>
    Mwait = 0x8B,

    /// <summary>MMIO read: SW_EXITINFO1 = GPA, SW_EXITINFO2 = length.</summary>
    MmioRead = 0x8000_0001,

    /// <summary>MMIO write: SW_EXITINFO1 = GPA, SW_EXITINFO2 = length.</summary>
    MmioWrite = 0x8000_0002,

    /// <summary>NMI complete.</summary>
    NmiComplete = 0x8000_0003,

    /// <summary>AP reset hold.</summary>
    ApResetHold = 0x8000_0004,

    /// <summary>AP jump table.</summary>
    ApJumpTable = 0x8000_0005,

    /// <summary>Page state changes, listed in the scratch buffer.</summary>
    PageStateChange = 0x8000_0010,

    /// <summary>Guest request to the security processor.</summary>
    GuestRequest = 0x8000_0011,

    /// <summary>Guest request with certificates.</summary>
    ExtendedGuestRequest = 0x8000_0012,

    /// <summary>vCPU creation: SW_EXITINFO1 = request, VMPL, APIC id; SW_EXITINFO2 = GPA of the VMSA; RAX = SEV_FEATURES.</summary>
    ApCreation = 0x8000_0013,

    /// <summary>#HV doorbell page.</summary>
    HvDoorbellPage = 0x8000_0014,

    /// <summary>#HV inter-processor interrupt.</summary>
    HvIpi = 0x8000_0015,

    /// <summary>APIC id list.</summary>
    ApicIdList = 0x8000_0017,

    /// <summary>Run another VMPL of this vCPU: SW_EXITINFO1 = VMPL.</summary>
    RunVmpl = 0x8000_0018,

    /// <summary>Hypervisor features.</summary>
    HypervisorFeatures = 0x8000_FFFD,

    /// <summary>Termination: SW_EXITINFO1 bits 3:0 = reason set, 11:4 = reason.</summary>
    Terminate = 0x8000_FFFE,

    /// <summary>The guest met an event that it does not support.</summary>
    UnsupportedEvent = 0x8000_FFFF,
}

/// <summary>Bits 31:0 of SW_EXITINFO1 in an answer.</summary>
public enum GhcbCompletion : uint
{
    /// <summary>Done.</summary>
    Success = 0,

    /// <summary>SW_EXITINFO2 holds an event that the guest is to raise on itself.</summary>
    RaiseEvent = 1,

    /// <summary>The request was malformed; SW_EXITINFO2 holds a <see cref="GhcbError"/>.</summary>
    BadRequest = 2,
}

/// <summary>SW_EXITINFO2 with <see cref="GhcbCompletion.BadRequest"/>.</summary>
public enum GhcbError : ulong
{
    /// <summary>The GHCB page is not registered.</summary>
    NotRegistered = 1,

    /// <summary>Unknown usage.</summary>
    InvalidUsage = 2,

    /// <summary>The scratch area is not where it may be.</summary>
    InvalidScratch = 3,

    /// <summary>A needed field is not marked valid.</summary>
    MissingInput = 4,

    /// <summary>A field has a value out of range.</summary>
    InvalidInput = 5,

    /// <summary>Unknown exit code.</summary>
    InvalidEvent = 6,
}

/// <summary>SW_EXITINFO1 of an IOIO request.</summary>
[Flags]
public enum IoioInfo : uint
{
    /// <summary>OUT of nothing: no bits.</summary>
    None = 0,

    /// <summary>IN rather than OUT.</summary>
    In = 1 << 0,

    /// <summary>String form.</summary>
    String = 1 << 2,

    /// <summary>REP prefix.</summary>
    Rep = 1 << 3,

    /// <summary>1-byte operand.</summary>
    Size8 = 1 << 4,

    /// <summary>2-byte operand.</summary>
    Size16 = 1 << 5,

    /// <summary>4-byte operand.</summary>
    Size32 = 1 << 6,

    /// <summary>16-bit addresses.</summary>
    Address16 = 1 << 7,

    /// <summary>32-bit addresses.</summary>
    Address32 = 1 << 8,

    /// <summary>64-bit addresses.</summary>
    Address64 = 1 << 9,
}

/// <summary>The register protocol: bits 11:0 of the GHCB MSR. A page-aligned value is the GPA of the GHCB page.</summary>
public static class GhcbMsr
{
    /// <summary>Mask of the function code.</summary>
    public const ulong CodeMask = 0xFFF;

    /// <summary>Answer: 63:48 highest version, 47:32 lowest version, 31:24 C-bit position.</summary>
    public const ulong SevInfoResponse = 0x001;

    /// <summary>Ask for versions and C-bit position.</summary>
    public const ulong SevInfoRequest = 0x002;

    /// <summary>CPUID: 63:32 function, 31:30 register (0 EAX to 3 EDX).</summary>
    public const ulong CpuidRequest = 0x004;

    /// <summary>CPUID answer: 63:32 value.</summary>
    public const ulong CpuidResponse = 0x005;

    /// <summary>AP reset hold.</summary>
    public const ulong ApResetHoldRequest = 0x006;

    /// <summary>AP reset hold answer.</summary>
    public const ulong ApResetHoldResponse = 0x007;

    /// <summary>Preferred GHCB address.</summary>
    public const ulong PreferredGhcbRequest = 0x010;

    /// <summary>Preferred GHCB address answer: 63:12 frame number, all ones for none.</summary>
    public const ulong PreferredGhcbResponse = 0x011;

    /// <summary>Register the GHCB page: 63:12 frame number.</summary>
    public const ulong RegisterGhcbRequest = 0x012;

    /// <summary>Registration answer: must repeat the frame number.</summary>
    public const ulong RegisterGhcbResponse = 0x013;

    /// <summary>Page state change: 51:12 frame number, 55:52 <see cref="PageStateOperation"/>.</summary>
    public const ulong PageStateChangeRequest = 0x014;

    /// <summary>Page state change answer: 63:32 error, 31:12 reserved.</summary>
    public const ulong PageStateChangeResponse = 0x015;

    /// <summary>Run another VMPL: 39:32 VMPL.</summary>
    public const ulong RunVmplRequest = 0x016;

    /// <summary>Run VMPL answer: 63:32 error.</summary>
    public const ulong RunVmplResponse = 0x017;

    /// <summary>Ask for the hypervisor's features.</summary>
    public const ulong FeaturesRequest = 0x080;

    /// <summary>Features answer: 63:12 <see cref="HypervisorFeatures"/>.</summary>
    public const ulong FeaturesResponse = 0x081;

    /// <summary>End of the VM: 15:12 reason set, 23:16 reason.</summary>
    public const ulong TerminateRequest = 0x100;
}

/// <summary>Features that a hypervisor announces.</summary>
[Flags]
public enum HypervisorFeatures : ulong
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>SEV-SNP.</summary>
    Snp = 1 << 0,

    /// <summary>vCPU creation from a VMSA.</summary>
    ApCreation = 1 << 1,

    /// <summary>Restricted injection.</summary>
    RestrictedInjection = 1 << 2,

    /// <summary>Restricted injection timer.</summary>
    RestrictedInjectionTimer = 1 << 3,

    /// <summary>APIC id list.</summary>
    ApicIdList = 1 << 4,

    /// <summary>Several VMPLs.</summary>
    MultiVmpl = 1 << 5,

    /// <summary>Page state change extensions.</summary>
    PageStateChange = 1 << 6,

    /// <summary>Extended interrupts (alternate injection).</summary>
    ExtendedInterrupts = 1 << 9,
}

/// <summary>Operation of a page state change.</summary>
public enum PageStateOperation : byte
{
    /// <summary>Assign the page to the guest.</summary>
    Private = 1,

    /// <summary>Give the page back to the host.</summary>
    Shared = 2,

    /// <summary>Split a 2-MiB RMP entry.</summary>
    Psmash = 3,

    /// <summary>Join 512 RMP entries.</summary>
    Unsmash = 4,
}

/// <summary>The scratch buffer of <see cref="GhcbExitCode.PageStateChange"/>: a head of 8 bytes, then entries of 8 bytes.</summary>
public static class PageStateChangeBuffer
{
    /// <summary>Most entries of a buffer.</summary>
    public const int MaxEntries = 253;

    /// <summary>u16: index of the entry that comes next; the host advances it.</summary>
    public const int CurrentOffset = 0;

    /// <summary>u16: index of the last entry.</summary>
    public const int EndOffset = 2;

    /// <summary>Byte offset of entry 0.</summary>
    public const int EntriesOffset = 8;

    /// <summary>Entry: 11:0 current page of a 2-MiB entry; 51:12 frame number; this shift for 55:52 <see cref="PageStateOperation"/>.</summary>
    public const int OperationShift = 52;

    /// <summary>Entry: bit 56, a 2-MiB page.</summary>
    public const ulong Large = 1ul << 56;
}
