// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The serial link between the hypervisor and the machine: frames over the outer COM1 (0x3F8 of the level-1 machine).
// For both. A GuestRequest is answered by Certificates frames, if wanted, and one GuestResponse; the hypervisor sends no other request before
// it has them; so is a DeviceAccess, by one DeviceAnswer. A CpuidPage, which is sent before the guest starts, is answered by one. Unasked, the machine sends Commands only, at any time after that;
// what arrives interrupts the guest (the receiver of COM1 raises an NMI).
// A run to which none is sent is not influenced by the time of the host. A frame is
//
//   u8 0xA5 | u8 type | u16 length | payload (length bytes)
//
// Numbers are little-endian. Bytes before the first 0xA5 are an outer firmware's chatter; after it, a byte that is not 0xA5
// where a frame should start means that the link is broken, and ends the run.

using System.Runtime.InteropServices;

namespace Svsm.Simulator.Shared;

/// <summary>The framing.</summary>
public static class Link
{
    /// <summary>First byte of every frame.</summary>
    public const byte Start = 0xA5;

    /// <summary>Bytes before the payload.</summary>
    public const int HeaderLength = 4;

    /// <summary>Longest payload in bytes.</summary>
    public const int MaxPayload = 4096 + 16;

    /// <summary>Bytes before the page of a <see cref="LinkFrame.GuestRequest"/>.</summary>
    public const int GuestRequestHeaderLength = 8;

    /// <summary>Bytes before the message of a <see cref="LinkFrame.GuestResponse"/>.</summary>
    public const int GuestResponseHeaderLength = 16;

    /// <summary>Room for certificates of a request that wants none.</summary>
    public const uint NoCertificates = uint.MaxValue;

    /// <summary>Most pages of certificates that the machine sends.</summary>
    public const uint MaxCertificatePages = 16;

    /// <summary>Length of the memory that hypervisor and machine share for data of Commands: base address 2 of an ivshmem device.</summary>
    public const uint WindowLength = 64 * 1024;

    /// <summary>Most parts of shared pages that one Command copies: a request of as many descriptors as the longest queue has, and its rings.</summary>
    public const int MaxSharedParts = 128;

    /// <summary>Version of frames and payloads, in <see cref="LinkFrame.Hello"/>.</summary>
    public const uint Version = 6;

    /// <summary>Port with which a guest ends the run: the byte written is the exit status. (QEMU's isa-debug-exit default port)</summary>
    public const ushort GuestExitPort = 0xF4;
}

/// <summary>Frame types.</summary>
public enum LinkFrame : byte
{
    /// <summary>First frame: u32 <see cref="Link.Version"/>.</summary>
    Hello = 1,

    /// <summary>Console output: u16 vCPU, u8 VMPL, u8 zero, then the bytes.</summary>
    Console = 2,

    /// <summary>Text of the hypervisor itself, UTF-8.</summary>
    Log = 3,

    /// <summary>A <see cref="StopReport"/>, before <see cref="Exit"/>; one, or for <see cref="StopReason.Stopped"/> one per vCPU.</summary>
    Report = 4,

    /// <summary>Counters: <see cref="VmplStatistics"/> entries.</summary>
    Statistics = 5,

    /// <summary>Last frame: u32 <see cref="StopReason"/>, u32 zero, u64 detail.</summary>
    Exit = 6,

    /// <summary>
    /// A guest's message for the security processor: u32 pages of room for certificates (<see cref="Link.NoCertificates"/> = none wanted),
    /// u32 zero, then the 4096 bytes of the request page.
    /// </summary>
    GuestRequest = 7,

    /// <summary>From the machine: the next page of the certificate table, 4096 bytes.</summary>
    Certificates = 8,

    /// <summary>
    /// From the machine, the end of an answer: u64 SW_EXITINFO2, u32 pages of room that certificates need if there was too little (else 0),
    /// u32 zero, then the response message, empty when there is none.
    /// </summary>
    GuestResponse = 9,

    /// <summary>
    /// <c>RmpRange</c> entries in ascending order: the state of all guest memory, over as many frames as it takes. Sent before the end, and
    /// as the answer to <c>CommandKind.QueryRmp</c>.
    /// </summary>
    RmpMap = 10,

    /// <summary>Counters by cause: <c>EventCount</c> entries. Sent before the end.</summary>
    EventCounts = 11,

    /// <summary>Something happened that the launch asked to be told of: a <c>TraceRecord</c>.</summary>
    Trace = 12,

    /// <summary>From the machine: a <c>CommandHeader</c>, then its data.</summary>
    Command = 13,

    /// <summary>The end of the answer to a Command: u32 <c>CommandKind</c>, u32 zero if it was done, then data.</summary>
    CommandDone = 14,

    /// <summary>An attack acted: u32 its index, u32 <c>AttackOutcome</c>, u64 the number of the event that it acted on.</summary>
    Attack = 15,

    /// <summary>The guest stands still until the machine says otherwise: u32 vCPU, u32 <c>PauseReason</c>.</summary>
    Paused = 16,

    /// <summary>
    /// A CPUID page, 4096 bytes: as the host fills it, for the security processor to check; and its answer, the page that goes into guest memory.
    /// A page that is refused has no answer: the run ends.
    /// </summary>
    CpuidPage = 17,

    /// <summary>The guest accesses a device that the machine plays: a <c>DeviceAccess</c>. It stands still until the answer.</summary>
    DeviceAccess = 18,

    /// <summary>From the machine, after any Commands: a <c>DeviceAnswer</c>.</summary>
    DeviceAnswer = 19,
}

/// <summary>Why a run ended.</summary>
public enum StopReason : uint
{
    /// <summary>The guest wrote its exit status to <see cref="Link.GuestExitPort"/>; detail = status, 0 to 255.</summary>
    GuestExit = 0,

    /// <summary>A termination request by GHCB; detail = reason set in bits 3:0, reason in bits 11:4; the report says who.</summary>
    Terminate = 1,

    /// <summary>Something that hardware leaves undefined, would hang on, or would hide; detail = <see cref="ViolationKind"/>.</summary>
    Violation = 2,

    /// <summary>The vCPU shut down (triple fault).</summary>
    Shutdown = 3,

    /// <summary>The hypervisor itself failed; the log says how.</summary>
    HypervisorFault = 4,

    /// <summary>The launch blob was refused; the log says why.</summary>
    BadLaunch = 5,

    /// <summary>The guest asked for a reset of the machine by port 0x64 or 0xCF9; detail = the port.</summary>
    Reset = 6,

    /// <summary>The machine asked for the end (<c>CommandKind.Stop</c>); a report of each vCPU says where it was.</summary>
    Stopped = 7,

    /// <summary>The host cut the power (<c>AttackAction.PowerOff</c>).</summary>
    PowerOff = 8,
}

/// <summary>What a violation is.</summary>
public enum ViolationKind : uint
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Private access to a page that is shared (not assigned): hardware hands the host a nested page fault with the RMP bit, over and over.</summary>
    PrivateAccessToSharedPage = 1,

    /// <summary>Shared access to a page that is assigned to the guest: the guest would read ciphertext, a write hits an RMP check.</summary>
    SharedAccessToPrivatePage = 2,

    /// <summary>An access that the VMPL has no right to.</summary>
    VmplPermission = 3,

    /// <summary>An access to memory that does not exist.</summary>
    NoMemory = 4,

    /// <summary>An access to, or a rescind of, a VMSA page in use.</summary>
    VmsaPage = 5,

    /// <summary>A #VC that the guest could not take: no handler, no stack, or a fault while it was delivered.</summary>
    VcNotDelivered = 6,

    /// <summary>A GHCB request that no host answers: unregistered page, not shared, unknown MSR protocol code.</summary>
    Ghcb = 7,

    /// <summary>A vCPU halted with no event that could ever wake it.</summary>
    HaltForever = 8,

    /// <summary>VMRUN refused the state of a VMSA.</summary>
    InvalidVmsa = 9,

    /// <summary>An instruction that the simulated processor does not have or cannot decode.</summary>
    Unsupported = 10,

    /// <summary>An instruction fetch through a mapping without the C-bit: hardware takes fetches as private whatever the mapping says.</summary>
    SharedFetch = 11,

    /// <summary>A page was used again while a processor may still hold a translation from before a rescind or a loss of rights: a flush is missing.</summary>
    StaleTranslation = 12,
}

/// <summary>Who was where when the run stopped. 320 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 320)]
public struct StopReport
{
    /// <summary><see cref="StopReason"/>.</summary>
    [FieldOffset(0x00)]
    public StopReason Reason;

    /// <summary><see cref="ViolationKind"/>.</summary>
    [FieldOffset(0x04)]
    public ViolationKind Violation;

    /// <summary>vCPU.</summary>
    [FieldOffset(0x08)]
    public uint Vcpu;

    /// <summary>VMPL that ran.</summary>
    [FieldOffset(0x0C)]
    public uint Vmpl;

    /// <summary>GPA concerned, without C-bit, or 0.</summary>
    [FieldOffset(0x10)]
    public ulong Gpa;

    /// <summary>Hardware exit code.</summary>
    [FieldOffset(0x18)]
    public ulong ExitCode;

    /// <summary>EXITINFO1.</summary>
    [FieldOffset(0x20)]
    public ulong ExitInfo1;

    /// <summary>EXITINFO2.</summary>
    [FieldOffset(0x28)]
    public ulong ExitInfo2;

    /// <summary>RMP entry of the GPA: bit 0 assigned, 1 validated, 2 VMSA, 3 2-MiB; bits 8.. permissions of VMPL1, 12.. VMPL2, 16.. VMPL3 (read, write, user execute, supervisor execute).</summary>
    [FieldOffset(0x30)]
    public ulong RmpEntry;

    /// <summary>GHCB MSR of the VMPL that ran.</summary>
    [FieldOffset(0x38)]
    public ulong GhcbMsr;

    /// <summary>RIP.</summary>
    [FieldOffset(0x40)]
    public ulong Rip;

    /// <summary>RSP.</summary>
    [FieldOffset(0x48)]
    public ulong Rsp;

    /// <summary>RFLAGS.</summary>
    [FieldOffset(0x50)]
    public ulong Rflags;

    /// <summary>CR0.</summary>
    [FieldOffset(0x58)]
    public ulong Cr0;

    /// <summary>CR2.</summary>
    [FieldOffset(0x60)]
    public ulong Cr2;

    /// <summary>CR3.</summary>
    [FieldOffset(0x68)]
    public ulong Cr3;

    /// <summary>CR4.</summary>
    [FieldOffset(0x70)]
    public ulong Cr4;

    /// <summary>EFER.</summary>
    [FieldOffset(0x78)]
    public ulong Efer;

    /// <summary>CS base.</summary>
    [FieldOffset(0x80)]
    public ulong CsBase;

    /// <summary>CS attributes, packed form.</summary>
    [FieldOffset(0x88)]
    public ushort CsAttributes;

    /// <summary>Number of valid bytes in <see cref="Code"/>.</summary>
    [FieldOffset(0x8A)]
    public byte CodeLength;

    /// <summary>CPL.</summary>
    [FieldOffset(0x8B)]
    public byte Cpl;

    /// <summary>RAX, RCX, RDX, RBX, (RSP), RBP, RSI, RDI, R8 to R15, in the processor's numbering.</summary>
    [FieldOffset(0x90)]
    public Registers16 Registers;

    /// <summary>Bytes at RIP.</summary>
    [FieldOffset(0x110)]
    public Code16 Code;

    /// <summary>Return addresses found by walking the frame pointers, 0 where the walk ended.</summary>
    [FieldOffset(0x120)]
    public Frames4 Frames;
}

/// <summary>Sixteen registers.</summary>
[System.Runtime.CompilerServices.InlineArray(16)]
public struct Registers16
{
    private ulong _element0;
}

/// <summary>Sixteen code bytes.</summary>
[System.Runtime.CompilerServices.InlineArray(16)]
public struct Code16
{
    private byte _element0;
}

/// <summary>Four return addresses.</summary>
[System.Runtime.CompilerServices.InlineArray(4)]
public struct Frames4
{
    private ulong _element0;
}

/// <summary>Counters of one vCPU at one VMPL. 64 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
public struct VmplStatistics
{
    /// <summary>vCPU.</summary>
    [FieldOffset(0x00)]
    public uint Vcpu;

    /// <summary>VMPL.</summary>
    [FieldOffset(0x04)]
    public uint Vmpl;

    /// <summary>Time-stamp ticks that this VMPL ran; its instructions under <c>-icount shift=0</c>.</summary>
    [FieldOffset(0x08)]
    public ulong Ticks;

    /// <summary>Exits to the hypervisor.</summary>
    [FieldOffset(0x10)]
    public ulong Exits;

    /// <summary>Ticks that the hypervisor spent on these exits.</summary>
    [FieldOffset(0x18)]
    public ulong HypervisorTicks;

    /// <summary>VMGEXITs among the exits.</summary>
    [FieldOffset(0x20)]
    public ulong VmgExits;

    /// <summary>#VC exceptions delivered.</summary>
    [FieldOffset(0x28)]
    public ulong VcExceptions;

    /// <summary>PVALIDATE instructions.</summary>
    [FieldOffset(0x30)]
    public ulong PValidates;

    /// <summary>RMPADJUST instructions.</summary>
    [FieldOffset(0x38)]
    public ulong RmpAdjusts;
}
