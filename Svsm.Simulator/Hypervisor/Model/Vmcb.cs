// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The control block of a virtual machine, as VMRUN of AMD-SVM takes it. For the level-1 hypervisor only.
//
//   0x000  control area (this structure)
//   0x400  state save area: up to offset 0x298 the same layout as a Vmsa, through which it is reached (see SaveArea)
//
// Source: Linux arch/x86/include/asm/svm.h (struct vmcb_control_area, vmcb_save_area) and uapi/asm/svm.h (exit codes).

using System.Runtime.InteropServices;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>The control area of a VMCB. 4096 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 4096)]
internal unsafe struct Vmcb
{
    /// <summary>Byte offset of the state save area.</summary>
    public const int SaveOffset = 0x400;

    /// <summary>First offset of the save area that has no counterpart in a <see cref="Vmsa"/>.</summary>
    public const int SharedLayoutLength = 0x298;

    /// <summary>Intercepts of control register reads (15:0) and writes (31:16).</summary>
    [FieldOffset(0x000)]
    public uint InterceptControlRegisters;

    /// <summary>Intercepts of debug register reads (15:0) and writes (31:16).</summary>
    [FieldOffset(0x004)]
    public uint InterceptDebugRegisters;

    /// <summary>Intercepts of exceptions by vector.</summary>
    [FieldOffset(0x008)]
    public uint InterceptExceptions;

    /// <summary>Bit n intercepts exit code 0x60 + n.</summary>
    [FieldOffset(0x00C)]
    public ulong Intercepts;

    /// <summary>Address of the I/O permission map.</summary>
    [FieldOffset(0x040)]
    public ulong IoPermissionMap;

    /// <summary>Address of the MSR permission map.</summary>
    [FieldOffset(0x048)]
    public ulong MsrPermissionMap;

    /// <summary>Added to the time-stamp counter.</summary>
    [FieldOffset(0x050)]
    public ulong TscOffset;

    /// <summary>Address space identifier, not 0.</summary>
    [FieldOffset(0x058)]
    public uint Asid;

    /// <summary>TLB_CONTROL.</summary>
    [FieldOffset(0x05C)]
    public byte TlbControl;

    /// <summary>Virtual interrupt controls.</summary>
    [FieldOffset(0x060)]
    public ulong VirtualInterrupt;

    /// <summary>Bit 0: the guest is in an interrupt shadow.</summary>
    [FieldOffset(0x068)]
    public ulong InterruptShadow;

    /// <summary>EXITCODE.</summary>
    [FieldOffset(0x070)]
    public ulong ExitCode;

    /// <summary>EXITINFO1.</summary>
    [FieldOffset(0x078)]
    public ulong ExitInfo1;

    /// <summary>EXITINFO2.</summary>
    [FieldOffset(0x080)]
    public ulong ExitInfo2;

    /// <summary>EXITINTINFO: the event whose delivery the exit interrupted. Stale unless bit 31 is set.</summary>
    [FieldOffset(0x088)]
    public ulong ExitIntInfo;

    /// <summary>Bit 0: nested paging.</summary>
    [FieldOffset(0x090)]
    public ulong NestedControl;

    /// <summary>Event to inject on entry.</summary>
    [FieldOffset(0x0A8)]
    public ulong EventInjection;

    /// <summary>Root of the nested page tables.</summary>
    [FieldOffset(0x0B0)]
    public ulong NestedCr3;

    /// <summary>What is unchanged since the last entry; always 0 here.</summary>
    [FieldOffset(0x0C0)]
    public ulong CleanBits;

    /// <summary>The state save area. Only fields below <see cref="SharedLayoutLength"/> exist.</summary>
    public static Vmsa* SaveArea(Vmcb* vmcb)
    {
        // SAFETY: a VMCB is a whole page of the hypervisor's; 0x400 + 0x298 lies inside it.
        return (Vmsa*)((byte*)vmcb + SaveOffset);
    }
}

/// <summary>Exit codes of AMD-SVM, as far as they are met.</summary>
internal static class ExitCode
{
    /// <summary>CR3 write.</summary>
    public const ulong Cr3Write = 0x13;

    /// <summary>CR4 write.</summary>
    public const ulong Cr4Write = 0x14;

    /// <summary>CR8 write.</summary>
    public const ulong Cr8Write = 0x18;

    /// <summary>DR7 read.</summary>
    public const ulong Dr7Read = 0x27;

    /// <summary>DR7 write.</summary>
    public const ulong Dr7Write = 0x37;

    /// <summary>#DB.</summary>
    public const ulong Debug = 0x41;

    /// <summary>#UD.</summary>
    public const ulong InvalidOpcode = 0x46;

    /// <summary>A write to CR0 that changes more than TS and MP.</summary>
    public const ulong Cr0SelectiveWrite = 0x65;

    /// <summary>Physical interrupt.</summary>
    public const ulong Interrupt = 0x60;

    /// <summary>Physical NMI.</summary>
    public const ulong NonMaskableInterrupt = 0x61;

    /// <summary>RDTSC. The emulator reports RDTSCP as this as well.</summary>
    public const ulong Rdtsc = 0x6E;

    /// <summary>RDPMC.</summary>
    public const ulong Rdpmc = 0x6F;

    /// <summary>CPUID.</summary>
    public const ulong Cpuid = 0x72;

    /// <summary>INVD.</summary>
    public const ulong Invd = 0x76;

    /// <summary>PAUSE.</summary>
    public const ulong Pause = 0x77;

    /// <summary>HLT.</summary>
    public const ulong Halt = 0x78;

    /// <summary>INVLPG.</summary>
    public const ulong Invlpg = 0x79;

    /// <summary>INVLPGA.</summary>
    public const ulong Invlpga = 0x7A;

    /// <summary>IN, OUT, INS, OUTS.</summary>
    public const ulong Ioio = 0x7B;

    /// <summary>RDMSR, WRMSR; EXITINFO1 = 1 for a write.</summary>
    public const ulong Msr = 0x7C;

    /// <summary>Shutdown: a triple fault.</summary>
    public const ulong Shutdown = 0x7F;

    /// <summary>VMRUN.</summary>
    public const ulong Vmrun = 0x80;

    /// <summary>VMMCALL, and VMGEXIT on a processor without SEV-ES.</summary>
    public const ulong Vmmcall = 0x81;

    /// <summary>SKINIT, the last of VMLOAD (0x82), VMSAVE, STGI, CLGI, SKINIT.</summary>
    public const ulong Skinit = 0x86;

    /// <summary>RDTSCP.</summary>
    public const ulong Rdtscp = 0x87;

    /// <summary>WBINVD.</summary>
    public const ulong Wbinvd = 0x89;

    /// <summary>MONITOR.</summary>
    public const ulong Monitor = 0x8A;

    /// <summary>MWAIT.</summary>
    public const ulong Mwait = 0x8B;

    /// <summary>MWAIT, when the monitor is armed.</summary>
    public const ulong MwaitConditional = 0x8C;

    /// <summary>Nested page fault: EXITINFO1 = error code, EXITINFO2 = guest-physical address.</summary>
    public const ulong NestedPageFault = 0x400;

    /// <summary>VMGEXIT, in a VMSA and in #VC error codes.</summary>
    public const ulong VmgExit = 0x403;

    /// <summary>#VC error code of an access to an assigned page that is not validated.</summary>
    public const ulong PageNotValidated = 0x404;

    /// <summary>VMRUN refused the state.</summary>
    public const ulong Invalid = ulong.MaxValue;
}

/// <summary>EXITINFO1 of a nested page fault.</summary>
internal static class NestedFault
{
    /// <summary>The entry was present.</summary>
    public const ulong Present = 1ul << 0;

    /// <summary>Write.</summary>
    public const ulong Write = 1ul << 1;

    /// <summary>User access; a walk's always is one.</summary>
    public const ulong User = 1ul << 2;

    /// <summary>Instruction fetch.</summary>
    public const ulong Fetch = 1ul << 4;

    /// <summary>RMP check.</summary>
    public const ulong Rmp = 1ul << 31;

    /// <summary>The access was the last one of the translation.</summary>
    public const ulong Final = 1ul << 32;

    /// <summary>The access read a guest page table.</summary>
    public const ulong PageWalk = 1ul << 33;

    /// <summary>The access was private.</summary>
    public const ulong Encrypted = 1ul << 34;

    /// <summary>Page sizes of the RMP and the instruction differ.</summary>
    public const ulong SizeMismatch = 1ul << 35;

    /// <summary>The VMPL has no right.</summary>
    public const ulong Vmpl = 1ul << 36;
}
