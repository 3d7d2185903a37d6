// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The VM save area: the encrypted page that holds the registers of one vCPU at one VMPL.
// For the kernel (guest vCPUs), the hypervisor (every vCPU) and the image tools (the launch VMSA).
//
// One 4-KiB page. A segment's attributes are the packed 12-bit form: descriptor bits 47:40 in 7:0, 55:52 in 11:8.
// Source: layout as seen in coconut-svsm cpuarch (vmsa) and Linux arch/x86/include/asm/svm.h (struct sev_es_save_area).

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>A segment register in a <see cref="Vmsa"/>. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct SegmentRegister
{
    /// <summary>Selector.</summary>
    public ushort Selector;

    /// <summary>Packed attributes: type, S, DPL, P in bits 7:0; AVL, L, D/B, G in bits 11:8.</summary>
    public ushort Attributes;

    /// <summary>Limit in bytes, granularity already applied.</summary>
    public uint Limit;

    /// <summary>Base linear address.</summary>
    public ulong Base;
}

/// <summary>80 raw bytes.</summary>
[InlineArray(80)]
public struct Bytes80
{
    private byte _element0;
}

/// <summary>256 raw bytes.</summary>
[InlineArray(256)]
public struct Bytes256
{
    private byte _element0;
}

/// <summary>The VM save area (SEV-ES and SEV-SNP). 4096 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 4096)]
public struct Vmsa
{
    /// <summary>ES.</summary>
    [FieldOffset(0x000)]
    public SegmentRegister Es;

    /// <summary>CS.</summary>
    [FieldOffset(0x010)]
    public SegmentRegister Cs;

    /// <summary>SS.</summary>
    [FieldOffset(0x020)]
    public SegmentRegister Ss;

    /// <summary>DS.</summary>
    [FieldOffset(0x030)]
    public SegmentRegister Ds;

    /// <summary>FS.</summary>
    [FieldOffset(0x040)]
    public SegmentRegister Fs;

    /// <summary>GS.</summary>
    [FieldOffset(0x050)]
    public SegmentRegister Gs;

    /// <summary>GDTR.</summary>
    [FieldOffset(0x060)]
    public SegmentRegister Gdtr;

    /// <summary>LDTR.</summary>
    [FieldOffset(0x070)]
    public SegmentRegister Ldtr;

    /// <summary>IDTR.</summary>
    [FieldOffset(0x080)]
    public SegmentRegister Idtr;

    /// <summary>TR.</summary>
    [FieldOffset(0x090)]
    public SegmentRegister Tr;

    /// <summary>Shadow stack pointer of privilege level 0.</summary>
    [FieldOffset(0x0A0)]
    public ulong Pl0Ssp;

    /// <summary>Shadow stack pointer of privilege level 1.</summary>
    [FieldOffset(0x0A8)]
    public ulong Pl1Ssp;

    /// <summary>Shadow stack pointer of privilege level 2.</summary>
    [FieldOffset(0x0B0)]
    public ulong Pl2Ssp;

    /// <summary>Shadow stack pointer of privilege level 3.</summary>
    [FieldOffset(0x0B8)]
    public ulong Pl3Ssp;

    /// <summary>User CET settings.</summary>
    [FieldOffset(0x0C0)]
    public ulong UCet;

    /// <summary>VM privilege level of the vCPU, 0 to 3.</summary>
    [FieldOffset(0x0CA)]
    public byte Vmpl;

    /// <summary>Current privilege level.</summary>
    [FieldOffset(0x0CB)]
    public byte Cpl;

    /// <summary>EFER; bit 12 (SVME) set means that the page may be run.</summary>
    [FieldOffset(0x0D0)]
    public ulong Efer;

    /// <summary>XSS.</summary>
    [FieldOffset(0x140)]
    public ulong Xss;

    /// <summary>CR4.</summary>
    [FieldOffset(0x148)]
    public ulong Cr4;

    /// <summary>CR3.</summary>
    [FieldOffset(0x150)]
    public ulong Cr3;

    /// <summary>CR0.</summary>
    [FieldOffset(0x158)]
    public ulong Cr0;

    /// <summary>DR7.</summary>
    [FieldOffset(0x160)]
    public ulong Dr7;

    /// <summary>DR6.</summary>
    [FieldOffset(0x168)]
    public ulong Dr6;

    /// <summary>RFLAGS.</summary>
    [FieldOffset(0x170)]
    public ulong Rflags;

    /// <summary>RIP.</summary>
    [FieldOffset(0x178)]
    public ulong Rip;

    /// <summary>DR0.</summary>
    [FieldOffset(0x180)]
    public ulong Dr0;

    /// <summary>DR1.</summary>
    [FieldOffset(0x188)]
    public ulong Dr1;

    /// <summary>DR2.</summary>
    [FieldOffset(0x190)]
    public ulong Dr2;

    /// <summary>DR3.</summary>
    [FieldOffset(0x198)]
    public ulong Dr3;

    /// <summary>Address mask of DR0.</summary>
    [FieldOffset(0x1A0)]
    public ulong Dr0AddressMask;

    /// <summary>Address mask of DR1.</summary>
    [FieldOffset(0x1A8)]
    public ulong Dr1AddressMask;

    /// <summary>Address mask of DR2.</summary>
    [FieldOffset(0x1B0)]
    public ulong Dr2AddressMask;

    /// <summary>Address mask of DR3.</summary>
    [FieldOffset(0x1B8)]
    public ulong Dr3AddressMask;

    /// <summary>RSP.</summary>
    [FieldOffset(0x1D8)]
    public ulong Rsp;

    /// <summary>Supervisor CET settings.</summary>
    [FieldOffset(0x1E0)]
    public ulong SCet;

    /// <summary>Shadow stack pointer.</summary>
    [FieldOffset(0x1E8)]
    public ulong Ssp;

    /// <summary>Interrupt shadow stack table address.</summary>
    [FieldOffset(0x1F0)]
    public ulong IsstAddress;

    /// <summary>RAX.</summary>
    [FieldOffset(0x1F8)]
    public ulong Rax;

    /// <summary>STAR.</summary>
    [FieldOffset(0x200)]
    public ulong Star;

    /// <summary>LSTAR.</summary>
    [FieldOffset(0x208)]
    public ulong LStar;

    /// <summary>CSTAR.</summary>
    [FieldOffset(0x210)]
    public ulong CStar;

    /// <summary>SFMASK.</summary>
    [FieldOffset(0x218)]
    public ulong SFMask;

    /// <summary>KERNEL_GS_BASE.</summary>
    [FieldOffset(0x220)]
    public ulong KernelGsBase;

    /// <summary>SYSENTER_CS.</summary>
    [FieldOffset(0x228)]
    public ulong SysenterCs;

    /// <summary>SYSENTER_ESP.</summary>
    [FieldOffset(0x230)]
    public ulong SysenterEsp;

    /// <summary>SYSENTER_EIP.</summary>
    [FieldOffset(0x238)]
    public ulong SysenterEip;

    /// <summary>CR2.</summary>
    [FieldOffset(0x240)]
    public ulong Cr2;

    /// <summary>G_PAT.</summary>
    [FieldOffset(0x268)]
    public ulong Pat;

    /// <summary>DBGCTL.</summary>
    [FieldOffset(0x270)]
    public ulong DebugControl;

    /// <summary>BR_FROM.</summary>
    [FieldOffset(0x278)]
    public ulong BranchFrom;

    /// <summary>BR_TO.</summary>
    [FieldOffset(0x280)]
    public ulong BranchTo;

    /// <summary>LAST_EXCP_FROM.</summary>
    [FieldOffset(0x288)]
    public ulong LastExceptionFrom;

    /// <summary>LAST_EXCP_TO.</summary>
    [FieldOffset(0x290)]
    public ulong LastExceptionTo;

    /// <summary>SPEC_CTRL.</summary>
    [FieldOffset(0x2E0)]
    public ulong SpecControl;

    /// <summary>PKRU.</summary>
    [FieldOffset(0x2E8)]
    public uint Pkru;

    /// <summary>TSC_AUX.</summary>
    [FieldOffset(0x2EC)]
    public uint TscAux;

    /// <summary>Guest TSC scale.</summary>
    [FieldOffset(0x2F0)]
    public ulong TscScale;

    /// <summary>Guest TSC offset.</summary>
    [FieldOffset(0x2F8)]
    public ulong TscOffset;

    /// <summary>REG_PROT_NONCE.</summary>
    [FieldOffset(0x300)]
    public ulong RegisterProtectionNonce;

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

    /// <summary>R10.</summary>
    [FieldOffset(0x350)]
    public ulong R10;

    /// <summary>R11.</summary>
    [FieldOffset(0x358)]
    public ulong R11;

    /// <summary>R12.</summary>
    [FieldOffset(0x360)]
    public ulong R12;

    /// <summary>R13.</summary>
    [FieldOffset(0x368)]
    public ulong R13;

    /// <summary>R14.</summary>
    [FieldOffset(0x370)]
    public ulong R14;

    /// <summary>R15.</summary>
    [FieldOffset(0x378)]
    public ulong R15;

    /// <summary>GUEST_EXITINFO1.</summary>
    [FieldOffset(0x390)]
    public ulong ExitInfo1;

    /// <summary>GUEST_EXITINFO2.</summary>
    [FieldOffset(0x398)]
    public ulong ExitInfo2;

    /// <summary>GUEST_EXITINTINFO: an event whose delivery the exit interrupted.</summary>
    [FieldOffset(0x3A0)]
    public ulong ExitIntInfo;

    /// <summary>GUEST_NRIP.</summary>
    [FieldOffset(0x3A8)]
    public ulong NextRip;

    /// <summary>SEV_FEATURES, see <see cref="Wire.SevFeatures"/>.</summary>
    [FieldOffset(0x3B0)]
    public ulong SevFeatures;

    /// <summary>VINTR_CTRL.</summary>
    [FieldOffset(0x3B8)]
    public ulong VirtualInterruptControl;

    /// <summary>GUEST_EXITCODE; 0x403 after a VMGEXIT.</summary>
    [FieldOffset(0x3C0)]
    public ulong ExitCode;

    /// <summary>VIRTUAL_TOM.</summary>
    [FieldOffset(0x3C8)]
    public ulong VirtualTom;

    /// <summary>TLB_ID.</summary>
    [FieldOffset(0x3D0)]
    public ulong TlbId;

    /// <summary>PCPU_ID.</summary>
    [FieldOffset(0x3D8)]
    public ulong PhysicalCpuId;

    /// <summary>EVENT_INJ.</summary>
    [FieldOffset(0x3E0)]
    public ulong EventInjection;

    /// <summary>XCR0.</summary>
    [FieldOffset(0x3E8)]
    public ulong Xcr0;

    /// <summary>x87 data pointer.</summary>
    [FieldOffset(0x400)]
    public ulong X87DataPointer;

    /// <summary>MXCSR.</summary>
    [FieldOffset(0x408)]
    public uint Mxcsr;

    /// <summary>FTW.</summary>
    [FieldOffset(0x40C)]
    public ushort X87TagWord;

    /// <summary>FSW.</summary>
    [FieldOffset(0x40E)]
    public ushort X87StatusWord;

    /// <summary>FCW.</summary>
    [FieldOffset(0x410)]
    public ushort X87ControlWord;

    /// <summary>FOP.</summary>
    [FieldOffset(0x412)]
    public ushort X87Opcode;

    /// <summary>x87 data segment.</summary>
    [FieldOffset(0x414)]
    public ushort X87DataSegment;

    /// <summary>x87 code segment.</summary>
    [FieldOffset(0x416)]
    public ushort X87CodeSegment;

    /// <summary>x87 instruction pointer.</summary>
    [FieldOffset(0x418)]
    public ulong X87InstructionPointer;

    /// <summary>The eight x87 registers, 10 bytes each.</summary>
    [FieldOffset(0x420)]
    public Bytes80 X87Registers;

    /// <summary>XMM0 to XMM15.</summary>
    [FieldOffset(0x470)]
    public Bytes256 XmmRegisters;

    /// <summary>Upper halves of YMM0 to YMM15.</summary>
    [FieldOffset(0x570)]
    public Bytes256 YmmHighRegisters;
}
