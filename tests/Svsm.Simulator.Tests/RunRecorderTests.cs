// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class RunRecorderTests
{
    [Fact]
    public void Accept_WholeRun_IsRecorded()
    {
        var console = new ConsoleCollector(null, SymbolMap.Empty, showVcpu: true, hasSvsm: true);
        var recorder = new RunRecorder(console, 2);

        Push(recorder,
            Frames.Hello, Frames.Console(1, 2, "hi\n"), Frames.Log("note\n"), Frames.Report(new StopReport { Vcpu = 1, Rip = 5 }),
            Frames.Statistics(new VmplStatistics { Vcpu = 0, Ticks = 8 }, new VmplStatistics { Vcpu = 1, Vmpl = 2 }), Frames.Exit(StopReason.Terminate, 0x21));

        Assert.True(recorder.Finished);
        Assert.Equal((StopReason.Terminate, 0x21ul), (recorder.Reason, recorder.Detail));
        Assert.Equal(5ul, Assert.Single(recorder.Reports).Rip);
        Assert.Equal(2, recorder.Statistics.Count);
        Assert.Equal([new ConsoleLine(new ConsoleSource(1, 2), "hi"), new ConsoleLine(ConsoleSource.Host, "note")], console.Lines);
    }

    public static TheoryData<string, byte[], string> Refusals() => new()
    {
        { "second Hello", Frames.Hello, "second Hello" },
        { "unknown type", Frames.Frame((LinkFrame)99, []), "unknown type 99" },
        { "the machine's own type", Frames.Frame(LinkFrame.Command, []), "unknown type 13" },
        { "short console", Frames.Frame(LinkFrame.Console, [0, 0, 0]), "has 3 bytes" },
        { "console of vCPU 2", Frames.Console(2, 0, ""), "vCPU 2, VMPL0" },
        { "console of VMPL4", Frames.Console(0, 4, ""), "vCPU 0, VMPL4" },
        { "console with flags", Frames.Frame(LinkFrame.Console, [0, 0, 0, 1]), "Byte 3 of a Console frame is 1" },
        { "short report", Frames.Frame(LinkFrame.Report, new byte[319]), "has 319 bytes" },
        { "report of vCPU 9", Frames.Report(new StopReport { Vcpu = 9 }), "vCPU 9" },
        { "report with much code", Frames.Report(new StopReport { CodeLength = 17 }), "17 code bytes" },
        { "odd map", Frames.Frame(LinkFrame.RmpMap, new byte[17]), "17 bytes" },
        { "map backwards", Frames.Map(new RmpRange { Gpa = 0x2000, PageCount = 1 }, new RmpRange { Gpa = 0x2000, PageCount = 1 }), "0x2000, 1 pages, behind 0x3000" },
        { "map of nothing", Frames.Map(new RmpRange { Gpa = 0x2000 }), "0 pages" },
        { "map beyond the C-bit", Frames.Map(new RmpRange { Gpa = 1ul << 47, PageCount = 1 }), "0x800000000000" },
        { "counter of another kind", Frames.Events(new EventCount { Kind = EventKind.PValidate }), "kind 3" },
        { "counter of VMPL4", Frames.Events(new EventCount { Vmpl = 4 }), "VMPL4" },
        { "short trace", Frames.Frame(LinkFrame.Trace, new byte[39]), "has 39 bytes" },
        { "short answer", Frames.Frame(LinkFrame.CommandDone, new byte[7]), "has 7 bytes" },
        { "unknown attack", Frames.Frame(LinkFrame.Attack, new byte[16]), "attack 0; there are 0" },
        { "pause of vCPU 7", Frames.Frame(LinkFrame.Paused, [7, 0, 0, 0, 0, 0, 0, 0]), "vCPU 7" },
        { "odd statistics", Frames.Frame(LinkFrame.Statistics, new byte[65]), "65 bytes" },
        { "too many statistics", Frames.Statistics(new VmplStatistics[9]), "More than 8" },
        { "statistics of VMPL7", Frames.Statistics(new VmplStatistics { Vmpl = 7 }), "VMPL7" },
        { "short exit", Frames.Frame(LinkFrame.Exit, new byte[15]), "has 15 bytes" },
        { "unknown reason", Frames.Exit((StopReason)99, 0), "unknown reason 99" },
        { "large status", Frames.Exit(StopReason.GuestExit, 256), "guest status 256" },
        { "unknown violation", Frames.Exit(StopReason.Violation, 99), "unknown violation 99" },
        { "no violation", Frames.Exit(StopReason.Violation, 0), "unknown violation 0" },
        { "huge violation", Frames.Exit(StopReason.Violation, 0x1_0000_0001), "unknown violation 4294967297" },
    };

    [Theory]
    [MemberData(nameof(Refusals), DisableDiscoveryEnumeration = true)]
    public void Accept_WhatTheHypervisorNeverWrites_IsRefused(string name, byte[] frame, string part)
    {
        RunRecorder recorder = Create();
        Push(recorder, Frames.Hello);

        var error = Assert.Throws<LinkException>(() => Push(recorder, frame));

        Assert.Contains(part, error.Message, StringComparison.Ordinal);
        Assert.False(recorder.Finished, name);
    }

    [Fact]
    public void Accept_NoHello_IsRefused() => Assert.Throws<LinkException>(() => Push(Create(), Frames.Log("x")));

    [Fact]
    public void Accept_OtherVersion_IsRefused()
    {
        var error = Assert.Throws<LinkException>(() => Push(Create(), Frames.Frame(LinkFrame.Hello, BitConverter.GetBytes(77))));

        Assert.Contains("version 77", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Accept_MoreReportsThanVcpus_AreRefused() =>
        Assert.Throws<LinkException>(() => Push(Create(), Frames.Hello, Frames.Report(default), Frames.Report(default), Frames.Report(default)));

    [Fact]
    public void Accept_MapInTwoFrames_IsOne()
    {
        RunRecorder recorder = Create();

        Push(recorder, Frames.Hello, Frames.Map(new RmpRange { Gpa = 0, PageCount = 2, Entry = 3 }), Frames.Map(new RmpRange { Gpa = 0x10_0000, PageCount = 1 }));

        RmpMap map = recorder.TakeMap();
        Assert.Equal((true, true), (map[0x1FFF].IsAssigned, map[0x1FFF].IsValidated));
        Assert.Equal(3, map.Count(_ => true));
        Assert.Throws<ArgumentOutOfRangeException>(() => map[0x2000]);
        Assert.Empty(recorder.TakeMap().Ranges);
    }

    [Fact]
    public void Accept_Answer_ReachesWhoAsked()
    {
        RunRecorder recorder = Create();
        var answers = new List<(CommandKind, bool, byte[])>();
        recorder.CommandDone = (kind, done, data) => answers.Add((kind, done, data));
        recorder.AttackNames.Add("a");

        Push(recorder, Frames.Hello, Frames.Frame(LinkFrame.CommandDone, [1, 0, 0, 0, 1, 0, 0, 0, 0xAB]), Frames.Frame(LinkFrame.Attack, [0, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]));

        (CommandKind command, bool done, byte[] data) = Assert.Single(answers);
        Assert.Equal((CommandKind.QueryRmp, false), (command, done));
        Assert.Equal([0xAB], data);
        Assert.Equal(new AttackEvent("a", AttackOutcome.NoTarget, 9), Assert.Single(recorder.Attacks));
    }

    [Fact]
    public void Accept_FrameAfterExit_IsRefused() => Assert.Throws<LinkException>(() => Push(Create(), Frames.Hello, Frames.Exit(StopReason.Shutdown, 0), Frames.Log("x")));

    private static RunRecorder Create() => new(new ConsoleCollector(null, SymbolMap.Empty, showVcpu: false, hasSvsm: true), 2);

    private static void Push(RunRecorder recorder, params byte[][] frames)
    {
        var reader = new LinkReader(recorder.Accept);
        foreach (byte[] frame in frames)
        {
            reader.Push(frame);
        }
    }
}
