// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Descriptor 11 of the module that moves the guest to another machine (ModulePermissions.Migrate): its memory with what changes there, its vCPUs, and the
// other modules' states. For the kernel (one end) and Svsm.Core (the other end). Little-endian.
//
// An offset has what is meant in bits 62:56 (MoveArea), and where in the others. Copies of at most a page, but for Pages: any number of whole pages.
//
//   while the guest runs      Control Track, then again and again: Dirty (which pages were written), Take (no longer writable for the guest), Pages (read);
//                             Control Pace if it writes faster than that
//   to stop it                Control Stop, again while it is EAGAIN; then Dirty, Take and Pages for what is left, States, Vcpus, ModuleRequest
//   to go on here             ModuleRequest (Arrive) if modules were told to leave; Control Run
//   to give it up for good    Control GiveUp
//   where it goes to          Control Hold, before the guest of the image has run; then States, Pages, Vcpus and ModuleRequest to write, Leave before the first
//                             Restore, and Arrive at the end; Control Run

using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>What an offset of <see cref="ModuleDescriptor.Move"/> means.</summary>
public enum MoveArea
{
    /// <summary>Read: a <see cref="MoveInformation"/>.</summary>
    Information = 0,

    /// <summary>Write, 4 bytes: a <see cref="MoveControl"/>.</summary>
    Control = 1,

    /// <summary>Read: a <see cref="MoveRange"/> for each range of the guest's memory, RAM first, then ROM.</summary>
    Ranges = 2,

    /// <summary>
    /// Write: u64 page numbers, at most 512. The guest cannot write the pages any more before the kernel knows of it, nor anybody through an old translation;
    /// they are not dirty from here on. A page that is not the guest's at this moment stays what it is.
    /// </summary>
    Take = 3,

    /// <summary>Read: a bit for each page, from page 8 * where on: it was written, or became the guest's, since it was taken. EINVAL unless tracked.</summary>
    Dirty = 4,

    /// <summary>Read: a byte for each page from page where on, a <see cref="MovePageState"/>. Write, while the guest does not run: makes the pages so.</summary>
    States = 5,

    /// <summary>Read, and write while the guest does not run: whole pages at the address where. EFAULT: one is not private.</summary>
    Pages = 6,

    /// <summary>
    /// Read, while the guest is stopped: at number * <see cref="MoveVcpu.Stride"/> a <see cref="MoveVcpu"/>, at <see cref="MoveVcpu.VmsaOffset"/> behind its
    /// start the VMSA. Write, while it is held: the same, in this order; with the VMSA the vCPU is there. EINVAL: it does not fit this image.
    /// </summary>
    Vcpus = 7,

    /// <summary>Read: a <see cref="MoveModule"/> for each other module, the one that keeps the store as the last.</summary>
    Modules = 8,

    /// <summary>
    /// Write: a <see cref="MoveRequest"/> and what follows it, to the module with the index in bits 15:0, of the kind in bits 23:16. ENOENT: there is none;
    /// EIO: it does not run; ENOMEM. Read: waits for the answer, a <see cref="MoveRequest"/> and what follows it; EIO: the module failed.
    /// </summary>
    ModuleRequest = 9,
}

/// <summary>Offsets of <see cref="ModuleDescriptor.Move"/>.</summary>
public static class MoveOffset
{
    /// <summary>Where <see cref="MoveArea"/> is.</summary>
    public const int AreaShift = 56;

    /// <summary>Where the kind of a request to a module is.</summary>
    public const int KindShift = 16;

    /// <summary>Most pages that are taken at a time.</summary>
    public const int MaxTaken = 512;

    /// <summary>Makes an offset.</summary>
    /// <param name="area">What.</param>
    /// <param name="where">Where, below 2^56.</param>
    public static long Of(MoveArea area, ulong where) => ((long)area << AreaShift) | (long)where;
}

/// <summary>What the kernel is to do.</summary>
public enum MoveControl : uint
{
    /// <summary>From here on, writes of the guest are noticed. All its pages are dirty. ENOMEM: there is no memory for that; ENOSYS: the host gives this CPU no events.</summary>
    Track = 1,

    /// <summary>No vCPU of the guest runs from here on. EAGAIN: one runs still, or a module works for it: to be asked again. EINVAL: it is held, or was given up.</summary>
    Stop = 2,

    /// <summary>The guest runs, and writes what it wants. EINVAL: it was given up.</summary>
    Run = 3,

    /// <summary>The guest never runs here again, and the other modules end. EINVAL: it is not stopped; EAGAIN: a module works still.</summary>
    GiveUp = 4,

    /// <summary>The guest of this image does not start: another one is to come. EINVAL: it has run.</summary>
    Hold = 5,

    /// <summary>No guest comes: the VM ends. EINVAL: the guest is not held.</summary>
    End = 6,

    /// <summary>
    /// From here on the guest gets back the right to write for one page where two were taken; whatever was taken before does not count. A vCPU that wants to
    /// write another one tries again until then, or for a tenth of a second.
    /// </summary>
    Pace = 7,
}

/// <summary>Whether the guest runs.</summary>
public enum MoveState : uint
{
    /// <summary>It runs, or is about to.</summary>
    Running = 0,

    /// <summary>It is being stopped, or is.</summary>
    Stopped = 1,

    /// <summary>It has not run yet, and waits for what is to run.</summary>
    Held = 2,

    /// <summary>It was given up.</summary>
    Gone = 3,
}

/// <summary>What a page of the guest's memory is.</summary>
public enum MovePageState : byte
{
    /// <summary>No page of the guest's memory.</summary>
    None = 0,

    /// <summary>The guest's; or the VMSA of a vCPU, which is made of the guest's page with the vCPU.</summary>
    Private = 1,

    /// <summary>
    /// A VMSA of the guest that no vCPU has any more, and that no processor can run. It is dirty when the guest is stopped, and read as a page then; where it goes
    /// to, its contents are written while it is <see cref="Private"/>.
    /// </summary>
    Vmsa = 2,

    /// <summary>Not validated: shared with the host, or nobody's.</summary>
    NotValidated = 3,

    /// <summary>Lent to the SVSM by the guest.</summary>
    Deposited = 4,

    /// <summary>Gone for good: the host took it.</summary>
    Lost = 5,
}

/// <summary>What there is to move.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct MoveInformation
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 24;

    /// <summary>vCPUs.</summary>
    public uint Vcpus;

    /// <summary>Position of the C-bit.</summary>
    public uint EncryptionBit;

    /// <summary>SEV_FEATURES of the guest's vCPUs.</summary>
    public ulong Features;

    /// <summary>The time-stamp counter.</summary>
    public ulong TimeStampCounter;
}

/// <summary>A range of the guest's memory.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct MoveRange
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 16;

    /// <summary>First byte.</summary>
    public ulong Address;

    /// <summary>Whole pages.</summary>
    public ulong Bytes;
}

/// <summary>A module that may have a state of the guest's.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct MoveModule
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 16;

    /// <summary>Its protocol.</summary>
    public SvsmProtocol Protocol;

    /// <summary>Its index.</summary>
    public uint Index;

    /// <summary>1: it runs. 0: it was retired.</summary>
    public uint Runs;
}

/// <summary>In front of a request to a module and of its answer: fields of the <see cref="ModuleMessage"/>.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct MoveRequest
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 32;

    /// <summary>Whether a message is one that the module that moves the guest sends to another one.</summary>
    /// <param name="kind">Its kind.</param>
    public static bool Precedes(ModuleMessageKind kind) =>
        kind is ModuleMessageKind.Save or ModuleMessageKind.Restore or ModuleMessageKind.Leave or ModuleMessageKind.Arrive;

    /// <summary><see cref="ModuleMessage.Call"/>.</summary>
    public uint Call;

    /// <summary>Zero.</summary>
    public uint Reserved;

    /// <summary><see cref="ModuleMessage.Result"/>, of an answer.</summary>
    public ulong Result;

    /// <summary><see cref="ModuleMessage.Rcx"/>.</summary>
    public ulong Rcx;

    /// <summary><see cref="ModuleMessage.Rdx"/>.</summary>
    public ulong Rdx;
}

/// <summary>State of a vCPU besides its VMSA.</summary>
public enum MoveVcpuState : uint
{
    /// <summary>It runs when the guest does.</summary>
    Runs = 1,

    /// <summary>It waits for the guest to create it; there is no VMSA.</summary>
    Waits = 2,
}

/// <summary>A call of a vCPU to a module that has its answer, which the vCPU has not taken.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8)]
public struct MoveCall
{
    /// <summary>1: there is one.</summary>
    public ulong IsThere;

    /// <summary>RAX of the call.</summary>
    public ulong Selector;

    /// <summary>RCX of the call.</summary>
    public ulong Rcx;

    /// <summary>RDX of the call.</summary>
    public ulong Rdx;

    /// <summary>R8 of the call.</summary>
    public ulong R8;

    /// <summary>R9 of the call.</summary>
    public ulong R9;

    /// <summary>RAX of the answer.</summary>
    public ulong Result;

    /// <summary>RCX of the answer.</summary>
    public ulong AnswerRcx;

    /// <summary>RDX of the answer.</summary>
    public ulong AnswerRdx;

    /// <summary>R8 of the answer.</summary>
    public ulong AnswerR8;

    /// <summary>R9 of the answer.</summary>
    public ulong AnswerR9;
}

/// <summary>A vCPU, besides its VMSA.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 8, Size = Length)]
public struct MoveVcpu
{
    /// <summary>Bytes of it.</summary>
    public const int Length = 0x80;

    /// <summary>From one to the next, in <see cref="MoveArea.Vcpus"/>.</summary>
    public const int Stride = 0x2000;

    /// <summary>From its start to its VMSA, a page.</summary>
    public const int VmsaOffset = 0x1000;

    /// <summary>Its number, which is its APIC id.</summary>
    public uint Number;

    /// <summary>What it does.</summary>
    public MoveVcpuState State;

    /// <summary>Address of its calling area.</summary>
    public ulong CallingArea;

    /// <summary>Address of its VMSA, a page of the guest; 0: memory of the SVSM.</summary>
    public ulong Vmsa;

    /// <summary>The time-stamp counter.</summary>
    public ulong TimeStampCounter;

    /// <summary>What it has called.</summary>
    public MoveCall Call;
}
