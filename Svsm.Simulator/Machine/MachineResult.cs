// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.Linq;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>How a run ended.</summary>
public enum MachineStop
{
    /// <summary>The guest ended it with an exit status.</summary>
    GuestExit = (int)StopReason.GuestExit,

    /// <summary>The guest asked for its termination by GHCB.</summary>
    Terminate = (int)StopReason.Terminate,

    /// <summary>The guest did what hardware leaves undefined, would hang on, or would hide.</summary>
    Violation = (int)StopReason.Violation,

    /// <summary>The vCPU shut down (triple fault).</summary>
    Shutdown = (int)StopReason.Shutdown,

    /// <summary>The hypervisor failed: a fault of the simulator.</summary>
    HypervisorFault = (int)StopReason.HypervisorFault,

    /// <summary>The hypervisor refused what the machine handed to it: a fault of the simulator.</summary>
    BadLaunch = (int)StopReason.BadLaunch,

    /// <summary>The guest asked for a reset of the machine.</summary>
    Reset = (int)StopReason.Reset,

    /// <summary>It was stopped from outside, with <see cref="MachineTest.StopAsync"/>.</summary>
    Stopped = (int)StopReason.Stopped,

    /// <summary>The host cut the power: <see cref="Attack.CutPower"/>.</summary>
    PowerOff = (int)StopReason.PowerOff,

    /// <summary>The time was up.</summary>
    Timeout = 0x100,

    /// <summary>QEMU ended before the hypervisor reported an end.</summary>
    QemuFailed = 0x101,

    /// <summary>The link between hypervisor and machine carried what neither writes.</summary>
    LinkBroken = 0x102,
}

/// <summary>The outcome of a run that started.</summary>
public sealed record MachineResult
{
    /// <summary>How the run ended.</summary>
    public required MachineStop Stop { get; init; }

    /// <summary>
    /// Exit status 0 to 255 for <see cref="MachineStop.GuestExit"/>; reason set in bits 3:0 and reason in bits 11:4 for
    /// <see cref="MachineStop.Terminate"/>; the <see cref="ViolationKind"/> for <see cref="MachineStop.Violation"/>; the I/O port for
    /// <see cref="MachineStop.Reset"/>; else without meaning.
    /// </summary>
    public ulong Detail { get; init; }

    /// <summary>What QEMU or the link said, for <see cref="MachineStop.QemuFailed"/> and <see cref="MachineStop.LinkBroken"/>; else empty.</summary>
    public string Message { get; init; } = "";

    /// <summary>
    /// Who was where: the vCPU that ended the run, or every vCPU when the run was stopped or the time was up (unless the hypervisor did not answer).
    /// </summary>
    public ImmutableArray<StopReport> Reports { get; init; } = [];

    /// <summary>The first of <see cref="Reports"/>, or null when the hypervisor sent none.</summary>
    public StopReport? Report => Reports.IsEmpty ? null : Reports[0];

    /// <summary>The state of guest memory at the end.</summary>
    public RmpMap Memory { get; init; } = RmpMap.Empty;

    /// <summary>How often what happened, by VMPL: exits by cause, and requests by GHCB.</summary>
    public ImmutableArray<EventCount> Events { get; init; } = [];

    /// <summary>What the attacks of the run did, in order.</summary>
    public ImmutableArray<AttackEvent> Attacks { get; init; } = [];

    /// <summary>The launch digest of the guest, 48 bytes.</summary>
    public required ReadOnlyMemory<byte> LaunchDigest { get; init; }

    /// <summary>
    /// Pages that were validated at launch without contents, as firmware would have left them: not 0 for a Linux kernel without image and firmware.
    /// </summary>
    public ulong PagesValidatedAtLaunch { get; init; }

    /// <summary>Console lines in the order of their completion; the last of a source may be unfinished.</summary>
    public ImmutableArray<ConsoleLine> Console { get; init; } = [];

    /// <summary>True when the consoles wrote more than is kept (16 million characters), and <see cref="Console"/> lacks the rest.</summary>
    public bool ConsoleTruncated { get; init; }

    /// <summary>Counters of each vCPU and VMPL that ran.</summary>
    public ImmutableArray<VmplStatistics> Statistics { get; init; } = [];

    /// <summary>
    /// What the SVSM's kernel tells of itself: log, counters of calls. Null when there is no map with its symbols, when the run ended before it had a log, or without the
    /// hypervisor.
    /// </summary>
    public KernelObservation? Kernel { get; init; }

    /// <summary>Symbols for addresses in <see cref="Report"/>.</summary>
    public SymbolMap Symbols { get; init; } = SymbolMap.Empty;

    /// <summary>The guest's exit status, or null when the run ended otherwise.</summary>
    public int? ExitStatus => Stop == MachineStop.GuestExit ? (int)Detail : null;

    /// <summary>The violation, or <see cref="ViolationKind.None"/> when the run ended otherwise.</summary>
    public ViolationKind Violation => Stop == MachineStop.Violation ? (ViolationKind)Detail : ViolationKind.None;

    /// <summary>All that a VMPL wrote, on every vCPU.</summary>
    /// <param name="vmpl">VMPL, 0 to 3; -1 for the simulator itself.</param>
    /// <returns>The lines, each followed by a line feed; the last one not, if it is unfinished.</returns>
    public string ConsoleText(int vmpl)
    {
        ConsoleLine[] lines = [.. Console.Where(line => line.Source.Vmpl == vmpl)];
        return string.Join('\n', lines.Select(line => line.Text)) + (lines is [] or [.., { IsUnfinished: true }] ? "" : "\n");
    }

    /// <summary>The run on one page: who did how much and what for, and the state of memory at the end; for a person.</summary>
    /// <returns>Lines, without a line end after the last.</returns>
    public string ToSummary() => Summary.Render(this);

    /// <summary>The run as one JSON object, see docs/simulated-machine.md.</summary>
    /// <returns>Indented JSON.</returns>
    public string ToJson() => ResultJson.Render(this);

    /// <summary>The end of the run in words: what, who, where, why; for a person.</summary>
    /// <returns>One or several lines, without a line end after the last.</returns>
    public override string ToString() => ResultText.Render(this);
}
