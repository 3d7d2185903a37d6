// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a hostile host does, and when, as the hypervisor is told by launch blob or command. For the machine (Attack.cs makes them of names and
// seeds) and the hypervisor (Model/Attacks.cs). All choices are made by the machine before the start: the hypervisor only counts events of the
// guest and acts, so a run repeats.

using System.Runtime.InteropServices;

namespace Svsm.Simulator.Shared;

/// <summary>Events of the guest that attacks count.</summary>
public enum AttackTrigger : uint
{
    /// <summary>Exits; code = hardware's exit code.</summary>
    Exit = 0,

    /// <summary>Requests by GHCB page; code = SW_EXITCODE.</summary>
    GhcbPage = 1,

    /// <summary>Requests by GHCB MSR; code = GHCBInfo.</summary>
    GhcbMsr = 2,

    /// <summary>PVALIDATE instructions that changed a page to validated.</summary>
    Validated = 3,
}

/// <summary>What a hostile host does.</summary>
public enum AttackAction : uint
{
    /// <summary>Puts another frame behind a private page (RMPUPDATE): its contents are ciphertext, it is not validated, rights are gone.</summary>
    Remap = 1,

    /// <summary>Keeps a page's ciphertext at the first event and puts it back <see cref="LaunchAttack.Value"/> events later; not validated then, rights are gone.</summary>
    Replay = 2,

    /// <summary>Exchanges the frames of two private pages, the other at <see cref="LaunchAttack.Value"/>; both are not validated then, rights are gone.</summary>
    Swap = 3,

    /// <summary>Makes a page shared and private again (two RMPUPDATEs); contents stay, it is not validated then, rights are gone. GPA 0: the page that was just validated.</summary>
    Flip = 4,

    /// <summary>Writes <see cref="LaunchAttack.Value"/> into the answer: at byte offset GPA of the GHCB page, or into the GHCB MSR.</summary>
    Answer = 5,

    /// <summary>Resumes the guest without having looked at its request.</summary>
    Ignore = 6,

    /// <summary>Has the processor inject <see cref="LaunchAttack.Value"/> (EVENTINJ).</summary>
    Inject = 7,

    /// <summary>Runs VMPL <see cref="LaunchAttack.Value"/> in place of the one that exited.</summary>
    RunVmpl = 8,

    /// <summary>Runs the VMSA of the vCPU that exited on a second vCPU, <see cref="LaunchAttack.Value"/>, as well.</summary>
    StartTwice = 9,

    /// <summary>Writes bits 31:0 of <see cref="LaunchAttack.Value"/> into the #HV doorbell page of the VMPL that runs (vector, flags, no EOI, VMPL events), and injects #HV.</summary>
    Ring = 10,

    /// <summary>Shows nothing in doorbell pages and injects no #HV any more.</summary>
    Withhold = 11,

    /// <summary>Intercepts RDTSC and RDTSCP on all vCPUs from then on: they are #VC.</summary>
    InterceptTimeStampCounter = 12,

    /// <summary>Ends the machine, as a loss of power does.</summary>
    PowerOff = 13,
}

/// <summary>What came of an attack.</summary>
public enum AttackOutcome : uint
{
    /// <summary>It was done.</summary>
    Done = 0,

    /// <summary>The processor refuses it: VMRUN fails, or RMPUPDATE does.</summary>
    RefusedByProcessor = 1,

    /// <summary>There was nothing to do it to: no such page, not private, no such vCPU, no doorbell page.</summary>
    NoTarget = 2,
}

/// <summary>One attack. 64 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
public struct LaunchAttack
{
    /// <summary><see cref="Vmpl"/> for all.</summary>
    public const uint AnyVmpl = uint.MaxValue;

    /// <summary><see cref="Code"/> for all.</summary>
    public const ulong AnyCode = ulong.MaxValue - 1;

    /// <summary>What.</summary>
    [FieldOffset(0x00)]
    public AttackAction Action;

    /// <summary>Which events count.</summary>
    [FieldOffset(0x04)]
    public AttackTrigger Trigger;

    /// <summary>Only those of this VMPL count.</summary>
    [FieldOffset(0x08)]
    public uint Vmpl;

    /// <summary>It acts at most so many times, on events that follow one another. At least 1.</summary>
    [FieldOffset(0x0C)]
    public uint Repeat;

    /// <summary>Only events with this code count.</summary>
    [FieldOffset(0x10)]
    public ulong Code;

    /// <summary>Number of the first event that it acts on, from 1.</summary>
    [FieldOffset(0x18)]
    public ulong First;

    /// <summary>It acts so many instructions of the guest after the event (Exit only).</summary>
    [FieldOffset(0x20)]
    public uint Instructions;

    /// <summary>Page, or offset in the GHCB page.</summary>
    [FieldOffset(0x28)]
    public ulong Gpa;

    /// <summary>By action.</summary>
    [FieldOffset(0x30)]
    public ulong Value;

    /// <summary>For <see cref="AttackAction.Answer"/>: whether Value is combined with what is there by exclusive or.</summary>
    [FieldOffset(0x38)]
    public uint Combine;
}
