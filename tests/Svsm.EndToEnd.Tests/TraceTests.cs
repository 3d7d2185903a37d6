// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What --trace shows of a run: a line for every event that the counters count, and none of another kind.

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Simulator;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.EndToEnd.Tests;

public sealed partial class TraceTests
{
    [Theory]
    [InlineData(TraceKinds.Exits, new[] { EventKind.Exit })]
    [InlineData(TraceKinds.Rmp, new[] { EventKind.PValidate, EventKind.RmpAdjust, EventKind.PageState })]
    [InlineData(TraceKinds.Ghcb, new[] { EventKind.GhcbPage, EventKind.GhcbPageAnswer, EventKind.GhcbMsr, EventKind.GhcbMsrAnswer })]
    public async Task Trace_OfARun_HasALinePerEvent(TraceKinds kinds, EventKind[] shown)
    {
        using ImageUnderTest image = ImageUnderTest.Build("exit:0");
        var output = new StringWriter();

        MachineResult result = await ImageUnderTest.RunAsync(image.Options() with { Trace = kinds, Output = output });

        Assert.True(result.ExitStatus == 0, result.ToString());
        string[] lines = [.. output.ToString().Split('\n').Where(line => line.StartsWith("[trace] ", StringComparison.Ordinal))];
        ILookup<EventKind, Match> events = lines.Select(Read).ToLookup(line => line.Kind, line => line.Match);
        Assert.Equal(shown.Order(), events.Select(group => group.Key).Order());

        // As many as were counted.
        foreach (EventKind kind in shown.Where(kind => kind is EventKind.Exit or EventKind.GhcbPage or EventKind.GhcbMsr))
        {
            Assert.Equal(result.Events.Where(entry => entry.Kind == kind).Sum(entry => (long)entry.Count), events[kind].LongCount());
        }

        if (kinds == TraceKinds.Exits)
        {
            string[] names = [.. events[EventKind.Exit].Select(match => match.Groups["name"].Value)];
            Assert.Contains("VMGEXIT/VMMCALL", names);
            Assert.Contains("nested page fault", names);
            Assert.Contains("#UD", names);
        }

        if (kinds == TraceKinds.Ghcb)
        {
            Assert.Contains(events[EventKind.GhcbPage], match => match.Groups["name"].Value == nameof(GhcbExitCode.PageStateChange));
            Assert.Contains(events[EventKind.GhcbMsr], match => match.Groups["name"].Value == "register GHCB");
            Assert.Equal(events[EventKind.GhcbPage].Count(), events[EventKind.GhcbPageAnswer].Count());
            Assert.Equal(events[EventKind.GhcbMsr].Count(), events[EventKind.GhcbMsrAnswer].Count());
        }

        if (kinds == TraceKinds.Rmp)
        {
            Assert.Equal(result.Statistics.Sum(entry => (long)entry.PValidates), events[EventKind.PValidate].LongCount());
            Assert.Equal(result.Statistics.Sum(entry => (long)entry.RmpAdjusts), events[EventKind.RmpAdjust].LongCount());
            Assert.Contains(events[EventKind.RmpAdjust], match => match.Value.Contains(", VMSA: done", StringComparison.Ordinal));
            Assert.Contains(events[EventKind.PageState], match => match.Groups["name"].Value == "shared");
            Assert.Contains(events[EventKind.PageState], match => match.Groups["name"].Value == "private");
        }

        // Who and where: the SVSM's code has names.
        Assert.Contains(lines, line => line.StartsWith("[trace] cpu0 vmpl0 0x", StringComparison.Ordinal) && Symbol().IsMatch(line));
    }

    private static (EventKind Kind, Match Match) Read(string line)
    {
        foreach ((EventKind kind, Regex pattern) in s_patterns)
        {
            if (pattern.Match(line) is { Success: true } match)
            {
                return (kind, match);
            }
        }

        throw new Xunit.Sdk.XunitException($"No trace line: {line}");
    }

    private static readonly Dictionary<EventKind, Regex> s_patterns = new()
    {
        [EventKind.Exit] = Pattern("exit (?<name>.+), info1 0x[0-9a-f]+, info2 0x[0-9a-f]+"),
        [EventKind.GhcbPageAnswer] = Pattern("GHCB answer, info1 0x[0-9a-f]+, info2 0x[0-9a-f]+"),
        [EventKind.GhcbPage] = Pattern("GHCB (?<name>[A-Za-z0-9]+), info1 0x[0-9a-f]+, info2 0x[0-9a-f]+"),
        [EventKind.GhcbMsrAnswer] = Pattern("GHCB MSR answer, 0x[0-9a-f]+"),
        [EventKind.GhcbMsr] = Pattern("GHCB MSR (?<name>.+), 0x[0-9a-f]+"),
        [EventKind.PValidate] = Pattern("PVALIDATE 0x[0-9a-f]+, [24] [KM]iB, (validate|rescind): .+"),
        [EventKind.RmpAdjust] = Pattern("RMPADJUST 0x[0-9a-f]+, [24] [KM]iB, VMPL[1-3] .+: .+"),
        [EventKind.PageState] = Pattern("page 0x[0-9a-f]+ becomes (?<name>private|shared)"),
    };

    private static Regex Pattern(string what) => new($"^\\[trace\\] cpu[0-9]+ vmpl[0-3] 0x[0-9a-f]+( [^:]+)?: {what}$");

    [GeneratedRegex(" 0x[0-9a-f]+ [A-Za-z_]")]
    private static partial Regex Symbol();
}
