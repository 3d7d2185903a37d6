// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

/// <summary>
/// When an attack acts, in events of the guest: never in the host's time, so that a run repeats. The factory methods make one; with
/// <c>with { Repeat = 3 }</c> it acts on three events in a row.
/// </summary>
public readonly record struct AttackTime
{
    private AttackTime(AttackTrigger trigger, ulong first, int? vmpl, ulong? code)
    {
        Trigger = trigger;
        First = first;
        Vmpl = vmpl;
        Code = code;
        Repeat = 1;
    }

    /// <summary>Which events count.</summary>
    public AttackTrigger Trigger { get; private init; }

    /// <summary>Number of the first event that it acts on, from 1.</summary>
    public ulong First { get; private init; }

    /// <summary>Only events of this VMPL count; null = of all.</summary>
    public int? Vmpl { get; private init; }

    /// <summary>Only events with this code count; null = all.</summary>
    public ulong? Code { get; private init; }

    /// <summary>It acts at most on so many events in a row.</summary>
    public int Repeat { get; init; }

    /// <summary>It acts so many instructions of the guest after the event; for <see cref="AtExit"/> only.</summary>
    public int Instructions { get; init; }

    /// <summary>After an exit of the guest.</summary>
    /// <param name="number">Which, from 1.</param>
    /// <param name="vmpl">Only exits of this VMPL count; null = of all.</param>
    /// <param name="code">Only exits with this code count; null = all.</param>
    /// <returns>The time.</returns>
    public static AttackTime AtExit(ulong number, int? vmpl = null, ulong? code = null) => new(AttackTrigger.Exit, number, vmpl, code);

    /// <summary>At a request by GHCB page.</summary>
    /// <param name="number">Which, from 1.</param>
    /// <param name="code">Only requests with this SW_EXITCODE count; null = all.</param>
    /// <param name="vmpl">Only requests of this VMPL count; null = of all.</param>
    /// <returns>The time.</returns>
    public static AttackTime AtRequest(ulong number, ulong? code = null, int? vmpl = null) => new(AttackTrigger.GhcbPage, number, vmpl, code);

    /// <summary>At a request by GHCB MSR.</summary>
    /// <param name="number">Which, from 1.</param>
    /// <param name="code">Only requests with this GHCBInfo (bits 11:0) count; null = all.</param>
    /// <param name="vmpl">Only requests of this VMPL count; null = of all.</param>
    /// <returns>The time.</returns>
    public static AttackTime AtMsrRequest(ulong number, ulong? code = null, int? vmpl = null) => new(AttackTrigger.GhcbMsr, number, vmpl, code);

    /// <summary>After a PVALIDATE that made a page valid, before the next instruction.</summary>
    /// <param name="number">Which, from 1.</param>
    /// <returns>The time.</returns>
    public static AttackTime AtValidation(ulong number) => new(AttackTrigger.Validated, number, null, null);
}
