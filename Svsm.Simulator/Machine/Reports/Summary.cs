// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The run on one page: who did how much, what for, and what memory looks like at the end.

using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;
using System.Text;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal static class Summary
{
    // A page has so many lines for causes.
    private const int MostCauses = 12;

    // States of pages, each with its name in words and in JSON. A VMSA and a part of a 2-MiB entry are counted as validated, too.
    public static IReadOnlyList<(string Text, string Property, Func<RmpEntry, bool> Is)> PageStates { get; } =
    [
        ("shared", "shared", entry => !entry.IsAssigned),
        ("private, not validated", "notValidated", entry => entry.IsAssigned && !entry.IsValidated),
        ("private, validated", "validated", entry => entry.IsAssigned && entry.IsValidated),
        ("of these a VMSA", "vmsa", entry => entry.IsVmsa),
        ("of these of a 2-MiB entry", "large", entry => entry.IsLarge),
        ("of these without any right for VMPL1 to 3", "vmpl0Only", entry => entry.IsAssigned && entry.IsValidated && (entry.Value >> 8) == 0),
    ];

    public static string Render(MachineResult result)
    {
        var text = new StringBuilder("Summary\n");
        text.Append(CultureInfo.InvariantCulture, $"  violations  {(result.Violation == ViolationKind.None ? "none" : result.Violation.ToString())}");
        foreach (AttackEvent attack in result.Attacks)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n  attack      {attack.Name} on event {attack.Number}: {Outcome(attack.Outcome)}");
        }

        if (result.PagesValidatedAtLaunch != 0)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n  launch      {result.PagesValidatedAtLaunch} pages of RAM were validated at launch, as firmware would have left them");
        }

        VmplStatistics[] ran = [.. result.Statistics.Where(entry => entry.Exits != 0).OrderBy(entry => entry.Vcpu).ThenBy(entry => entry.Vmpl)];
        double all = Math.Max(1, ran.Sum(entry => (double)entry.Ticks));
        foreach (VmplStatistics entry in ran)
        {
            text.Append(CultureInfo.InvariantCulture,
                $"\n  cpu{entry.Vcpu} vmpl{entry.Vmpl}  {100 * entry.Ticks / all,5:F1} % of guest time, {entry.Exits} exits, {entry.VmgExits} VMGEXIT, {entry.VcExceptions} #VC, {entry.PValidates} PVALIDATE, {entry.RmpAdjusts} RMPADJUST");
        }

        foreach (IGrouping<EventKind, EventCount> kind in result.Events.GroupBy(entry => entry.Kind).OrderBy(group => group.Key))
        {
            string label = kind.Key switch { EventKind.Exit => "exits", EventKind.GhcbPage => "GHCB", _ => "GHCB MSR" };
            (uint Code, Dictionary<byte, ulong> ByVmpl, ulong Count)[] causes = [.. kind.GroupBy(entry => entry.Code)
                .Select(group => (group.Key, group.ToDictionary(entry => entry.Vmpl, entry => entry.Count), group.Aggregate(0ul, (sum, entry) => sum + entry.Count)))
                .OrderByDescending(cause => cause.Item3).ThenBy(cause => cause.Key)];
            foreach ((uint code, Dictionary<byte, ulong> byVmpl, ulong count) in causes.Take(MostCauses))
            {
                string split = string.Join(", ", byVmpl.OrderBy(pair => pair.Key).Select(pair => string.Create(CultureInfo.InvariantCulture, $"VMPL{pair.Key} {pair.Value}")));
                text.Append(CultureInfo.InvariantCulture, $"\n  {label,-10}  {count,10}  {EventText.Name(kind.Key, code)} ({split})");
                label = "";
            }

            if (causes.Length > MostCauses)
            {
                text.Append(CultureInfo.InvariantCulture, $"\n  {"",-10}  and {causes.Length - MostCauses} more causes");
            }
        }

        string pages = "pages";
        foreach ((string name, _, Func<RmpEntry, bool> predicate) in PageStates)
        {
            text.Append(CultureInfo.InvariantCulture, $"\n  {pages,-10}  {result.Memory.Count(predicate),10}  {name}");
            pages = "";
        }

        AddKernel(text, result.Kernel);
        return text.ToString();
    }

    private static void AddKernel(StringBuilder text, KernelObservation? kernel)
    {
        if (kernel is null)
        {
            return;
        }

        string label = "SVSM calls";
        foreach ((string call, IReadOnlyList<(string Result, ulong Count)> results) in kernel.CallsOfAllCpus())
        {
            string split = string.Join(", ", results.Select(result => string.Create(CultureInfo.InvariantCulture, $"{result.Result} {result.Count}")));
            ulong all = results.Aggregate(0ul, (sum, result) => unchecked(sum + result.Count));
            text.Append(CultureInfo.InvariantCulture, $"\n  {label,-10}  {all,10}  {call} ({split})");
            label = "";
        }

        text.Append(CultureInfo.InvariantCulture, $"\n  {"SVSM frames",-11} {kernel.FramesInUse,10}  in use, of {kernel.FrameCount}");
    }

    private static string Outcome(AttackOutcome outcome) => outcome switch
    {
        AttackOutcome.Done => "done",
        AttackOutcome.RefusedByProcessor => "the processor refused",
        _ => "nothing to attack",
    };
}
