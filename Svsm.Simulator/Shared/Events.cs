// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the hypervisor tells about a run beside its consoles: the state of memory, counters by cause, and single events. For both ends of the
// link (Link.cs); the machine names them.

using System.Runtime.InteropServices;

namespace Svsm.Simulator.Shared;

/// <summary>A range of guest memory whose pages are all in one state. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct RmpRange
{
    /// <summary>First GPA, page-aligned.</summary>
    public ulong Gpa;

    /// <summary>Length in 4-KiB pages.</summary>
    public uint PageCount;

    /// <summary>The RMP entry of each page, as in <see cref="StopReport.RmpEntry"/>.</summary>
    public uint Entry;
}

/// <summary>What an <see cref="EventCount"/> or a <see cref="TraceRecord"/> is about.</summary>
public enum EventKind : byte
{
    /// <summary>An exit to the hypervisor; code = hardware's exit code (all ones: VMRUN refused).</summary>
    Exit = 0,

    /// <summary>A request by GHCB page; code = SW_EXITCODE.</summary>
    GhcbPage = 1,

    /// <summary>A request by the GHCB MSR; code = GHCBInfo, bits 11:0.</summary>
    GhcbMsr = 2,

    /// <summary>PVALIDATE; code = EAX afterwards, bit 32 = CF; info1 = linear address, info2 = EDX, in bits 63:32 ECX.</summary>
    PValidate = 3,

    /// <summary>RMPADJUST; the same.</summary>
    RmpAdjust = 4,

    /// <summary>The host changed the owner of a page; code = 1 private, 2 shared; info1 = GPA.</summary>
    PageState = 5,

    /// <summary>A request by GHCB page was answered; code = SW_EXITCODE, info = SW_EXITINFO1 and 2 of the answer.</summary>
    GhcbPageAnswer = 6,

    /// <summary>A request by the GHCB MSR was answered; code = GHCBInfo, info1 = the MSR.</summary>
    GhcbMsrAnswer = 7,

    /// <summary>A VMPL wrote without the right to, and VMPL0 was told; code = the error code, info1 = GPA.</summary>
    WriteFault = 8,
}

/// <summary>How often something happened at a VMPL, on all vCPUs. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct EventCount
{
    /// <summary>Class for counting: <see cref="EventKind.Exit"/>, <see cref="EventKind.GhcbPage"/> or <see cref="EventKind.GhcbMsr"/>.</summary>
    public EventKind Kind;

    /// <summary>VMPL.</summary>
    public byte Vmpl;

    /// <summary>Zero.</summary>
    public ushort Reserved;

    /// <summary>The code; <see cref="EventCounters.Other"/> for the rare ones taken together.</summary>
    public uint Code;

    /// <summary>How often.</summary>
    public ulong Count;
}

/// <summary>Where the hypervisor counts: a slot per VMPL, kind and code.</summary>
public static class EventCounters
{
    /// <summary>Slots per VMPL.</summary>
    public const int Slots = 1024;

    /// <summary>Code of the slot for codes that have none.</summary>
    public const uint Other = 0xFFFF_FFFE;

    /// <summary>Code of nested page faults that VMPL0 was told of, which are among those of code 0x400.</summary>
    public const uint WriteFault = 0x4000_0400;

    private const int NestedPageFault = 0xF0;
    private const int Invalid = 0xF1;
    private const int WriteFaultExit = 0xF2;
    private const int OtherExit = 0xFF;
    private const int Page = 0x100;
    private const int PageSynthetic = 0xC0;
    private const int PageFeatures = 0xE0;
    private const int OtherPage = 0xFF;
    private const int Msr = 0x200;
    private const int OtherMsr = 0x1FF;

    /// <summary>The slot of an exit.</summary>
    public static int ExitSlot(ulong code) => code < NestedPageFault ? (int)code : code == 0x400 ? NestedPageFault : code == ulong.MaxValue ? Invalid
        : code == WriteFault ? WriteFaultExit : OtherExit;

    /// <summary>The slot of a request by page.</summary>
    public static int PageSlot(ulong code) =>
        Page + (code < PageSynthetic ? (int)code
            : code - 0x8000_0000 < 0x20 ? PageSynthetic + (int)(code & 0x1F)
            : code - 0x8000_FFF0 < 0x10 ? PageFeatures + (int)(code & 0xF)
            : OtherPage);

    /// <summary>The slot of a request by MSR.</summary>
    public static int MsrSlot(ulong request) => Msr + ((request & 0xFFF) < OtherMsr ? (int)(request & 0xFFF) : OtherMsr);

    /// <summary>Kind and code of a slot.</summary>
    public static uint CodeOf(int slot, out EventKind kind)
    {
        kind = slot < Page ? EventKind.Exit : slot < Msr ? EventKind.GhcbPage : EventKind.GhcbMsr;
        if (kind == EventKind.GhcbMsr)
        {
            return slot - Msr == OtherMsr ? Other : (uint)(slot - Msr);
        }

        int code = slot & 0xFF;
        if (kind == EventKind.Exit)
        {
            return code < NestedPageFault ? (uint)code : code == NestedPageFault ? 0x400u : code == Invalid ? uint.MaxValue
                : code == WriteFaultExit ? WriteFault : Other;
        }

        return code < PageSynthetic ? (uint)code
            : code < PageFeatures ? 0x8000_0000u + (uint)(code - PageSynthetic)
            : code < PageFeatures + 0x10 ? 0x8000_FFF0u + (uint)(code - PageFeatures)
            : Other;
    }
}

/// <summary>A single event. 40 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct TraceRecord
{
    /// <summary>What it is.</summary>
    public EventKind Kind;

    /// <summary>VMPL that ran.</summary>
    public byte Vmpl;

    /// <summary>vCPU.</summary>
    public ushort Vcpu;

    /// <summary>CPL that ran.</summary>
    public uint Cpl;

    /// <summary>RIP.</summary>
    public ulong Rip;

    /// <summary>By kind.</summary>
    public ulong Code;

    /// <summary>By kind.</summary>
    public ulong Info1;

    /// <summary>By kind.</summary>
    public ulong Info2;
}

/// <summary>What the machine asks of the hypervisor while the guest runs.</summary>
public enum CommandKind : uint
{
    /// <summary>Sends the state of all guest memory.</summary>
    QueryRmp = 1,

    /// <summary>Ends the run. No answer but the end.</summary>
    Stop = 2,

    /// <summary>The data are typed at the console, COM1.</summary>
    ConsoleInput = 3,

    /// <summary>The data are a <see cref="LaunchAttack"/>; it is added to the others.</summary>
    Attack = 4,

    /// <summary>The guest stands still before its next instruction, which a Paused frame tells.</summary>
    Pause = 5,

    /// <summary>The guest goes on.</summary>
    Resume = 6,

    /// <summary>The vCPU executes one instruction; a Paused frame tells that it did.</summary>
    Step = 7,

    /// <summary>The answer has the <see cref="StopReport"/> of the vCPU.</summary>
    ReadRegisters = 8,

    /// <summary>Sets a general register of the vCPU: address = number (16 RIP, 17 RFLAGS), value.</summary>
    WriteRegister = 9,

    /// <summary>The answer has <see cref="CommandHeader.Value"/> bytes at a linear address, read as the vCPU at its VMPL would.</summary>
    ReadMemory = 10,

    /// <summary>Writes the data at a linear address.</summary>
    WriteMemory = 11,

    /// <summary>Adds (value 1) or removes (value 0) a breakpoint at a linear address of 64-bit code.</summary>
    Breakpoint = 12,

    /// <summary>As <see cref="ReadMemory"/>, but as the vCPU's VMPL0 would, whichever VMPL runs.</summary>
    ReadMemoryOfVmpl0 = 13,

    /// <summary>
    /// Copies parts of shared pages to the window: <see cref="CommandHeader.Value"/> <see cref="SharedPart"/> entries, at most <see cref="Link.MaxSharedParts"/>,
    /// are at its begin, and behind them the bytes, part after part. Not done, any of it, when one is not shared RAM.
    /// </summary>
    ReadShared = 14,

    /// <summary>Copies from the window, which is laid out the same way, to shared pages, part after part.</summary>
    WriteShared = 15,

    /// <summary>VMPL0 of vCPU 0 gets the interrupt <see cref="MachinePorts.MigrationVector"/>. Not done while it takes none.</summary>
    NotifySvsm = 16,

    /// <summary>The guest stands still, and other commands are carried out, until <see cref="Release"/>.</summary>
    Hold = 17,

    /// <summary>The guest goes on.</summary>
    Release = 18,

    /// <summary>
    /// Copies what the hypervisor knows of the guest, its shared pages apart, to the window. The answer to this and the next ones has a u32
    /// <see cref="HostStateRefusal"/>, u32 bytes in the window, u64 where to go on.
    /// </summary>
    SaveModel = 19,

    /// <summary>Copies records of shared pages to the window, from where the address says; 0 = the first. All ones to go on: that was all.</summary>
    SavePages = 20,

    /// <summary>Tells whether <see cref="TakeModel"/> would take what is in the window, <see cref="CommandHeader.Value"/> bytes.</summary>
    CheckModel = 21,

    /// <summary>Tells the same of <see cref="TakePages"/>.</summary>
    CheckPages = 22,

    /// <summary>Makes the pages of the records in the window shared, with the contents told.</summary>
    TakePages = 23,

    /// <summary>Takes what is in the window for what the hypervisor knows of the guest.</summary>
    TakeModel = 24,
}

/// <summary>Why what a hypervisor knows of a guest cannot be had or taken.</summary>
public enum HostStateRefusal : uint
{
    /// <summary>It can.</summary>
    None = 0,

    /// <summary>A VMPL other than 0 runs, or halts and would be woken.</summary>
    GuestRuns = 1,

    /// <summary>The guest has devices of PCI, whose state is QEMU's.</summary>
    PciDevices = 2,

    /// <summary>It is damaged, or too long.</summary>
    Damaged = 3,

    /// <summary>It is of a machine with other vCPUs, memory, options, firmware items or clock.</summary>
    OtherMachine = 4,

    /// <summary>VMPL0 has one of the pages in use here.</summary>
    PageInUse = 5,
}

/// <summary>The answer to commands about what the hypervisor knows of the guest. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct HostStateAnswer
{
    /// <summary>Why not, if not.</summary>
    public HostStateRefusal Refusal;

    /// <summary>Bytes in the window.</summary>
    public uint Length;

    /// <summary>Where to go on; all ones = that was all.</summary>
    public ulong Next;
}

/// <summary>What a record of shared pages says of their contents.</summary>
public enum HostStatePages : uint
{
    /// <summary>Zeroes.</summary>
    Zeroes = 0,

    /// <summary>What is left when a private page becomes shared.</summary>
    Ciphertext = 1,

    /// <summary>The contents follow.</summary>
    Told = 2,
}

/// <summary>A part of the guest's shared memory. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct SharedPart
{
    /// <summary>GPA of its first byte.</summary>
    public ulong Address;

    /// <summary>Bytes.</summary>
    public ulong Length;
}

/// <summary>Head of a Command. 24 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct CommandHeader
{
    /// <summary>What is to be done.</summary>
    public CommandKind Kind;

    /// <summary>vCPU, for commands about one.</summary>
    public uint Vcpu;

    /// <summary>By kind.</summary>
    public ulong Address;

    /// <summary>By kind.</summary>
    public ulong Value;
}

/// <summary>Why the guest stands still.</summary>
public enum PauseReason : uint
{
    /// <summary>It was asked to.</summary>
    Asked = 0,

    /// <summary>It executed one instruction.</summary>
    Stepped = 1,

    /// <summary>It came to a breakpoint.</summary>
    Breakpoint = 2,

    /// <summary>The run is over but for the last frame.</summary>
    Ending = 3,
}

/// <summary>An access to a register of a device that the machine plays. 24 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct DeviceAccess
{
    /// <summary>Set in <see cref="Kind"/> of a write.</summary>
    public const uint Write = 1u << 31;

    /// <summary>Index of the device.</summary>
    public uint Device;

    /// <summary>1, 2, 4 or 8 bytes; <see cref="Write"/>.</summary>
    public uint Kind;

    /// <summary>Offset of the register, a multiple of the size.</summary>
    public ulong Offset;

    /// <summary>What is written.</summary>
    public ulong Value;
}

/// <summary>The answer to a <see cref="DeviceAccess"/>. 16 bytes.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1)]
public struct DeviceAnswer
{
    /// <summary>What was read.</summary>
    public ulong Value;

    /// <summary>State of the device's interrupt line from now on: 1 = it interrupts.</summary>
    public uint Interrupt;

    /// <summary>Zero.</summary>
    public uint Reserved;
}
