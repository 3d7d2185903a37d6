// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Text.Json;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class SummaryTests
{
    private static readonly MachineResult s_result = new()
    {
        Stop = MachineStop.GuestExit,
        LaunchDigest = new byte[48],
        Statistics = [new VmplStatistics { Vcpu = 0, Vmpl = 0, Ticks = 25, Exits = 3 }, new VmplStatistics { Vcpu = 0, Vmpl = 2, Ticks = 75, Exits = 1 }],
        Events =
        [
            new EventCount { Kind = EventKind.Exit, Vmpl = 0, Code = 0x400, Count = 2 },
            new EventCount { Kind = EventKind.Exit, Vmpl = 2, Code = 0x400, Count = 5 },
            new EventCount { Kind = EventKind.GhcbPage, Vmpl = 0, Code = 0x8000_0010, Count = 1 },
            new EventCount { Kind = EventKind.GhcbMsr, Vmpl = 0, Code = 0x014, Count = 1 },
        ],
        Memory = new RmpMap([new RmpRange { Gpa = 0, PageCount = 10 }, new RmpRange { Gpa = 0xA000, PageCount = 4, Entry = 0x3 }, new RmpRange { Gpa = 0xE000, PageCount = 1, Entry = 0xF007 }]),
        Attacks = [new AttackEvent("remap:3", AttackOutcome.RefusedByProcessor, 12)],
    };

    [Fact]
    public void ToSummary_Run_IsOnePage()
    {
        string summary = s_result.ToSummary();

        Assert.StartsWith("Summary\n  violations  none\n  attack      remap:3 on event 12: the processor refused\n", summary, StringComparison.Ordinal);
        Assert.Contains("cpu0 vmpl2   75.0 % of guest time, 1 exits", summary, StringComparison.Ordinal);
        Assert.Contains("  7  nested page fault (VMPL0 2, VMPL2 5)\n", summary, StringComparison.Ordinal);
        Assert.Contains("  1  PageStateChange (VMPL0 1)\n", summary, StringComparison.Ordinal);
        Assert.Contains("  1  page state change (VMPL0 1)\n", summary, StringComparison.Ordinal);
        Assert.Contains("  10  shared\n", summary, StringComparison.Ordinal);
        Assert.Contains("  5  private, validated\n", summary, StringComparison.Ordinal);
        Assert.Contains("  1  of these a VMSA\n", summary, StringComparison.Ordinal);
    }

    [Fact]
    public void ToJson_Run_HasEventsPagesAndAttacks()
    {
        using JsonDocument json = JsonDocument.Parse(s_result.ToJson());
        JsonElement root = json.RootElement;

        Assert.Equal("nested page fault", root.GetProperty("events")[0].GetProperty("name").GetString());
        Assert.Equal(5, root.GetProperty("pages").GetProperty("validated").GetInt64());
        Assert.Equal(4, root.GetProperty("pages").GetProperty("vmpl0Only").GetInt64());
        Assert.Equal("refusedByProcessor", root.GetProperty("attacks")[0].GetProperty("outcome").GetString());
    }

    // Every slot of the hypervisor's counters has one code, and every code its slot.
    [Fact]
    public void EventCounters_SlotsAndCodes_FitTogether()
    {
        for (int slot = 0; slot < EventCounters.Slots; slot++)
        {
            uint code = EventCounters.CodeOf(slot, out EventKind kind);
            ulong wide = kind == EventKind.Exit && code == uint.MaxValue ? ulong.MaxValue : code;
            int back = kind switch
            {
                EventKind.Exit => EventCounters.ExitSlot(wide),
                EventKind.GhcbPage => EventCounters.PageSlot(wide),
                _ => EventCounters.MsrSlot(wide),
            };
            Assert.True(code == EventCounters.Other || kind == EventKind.GhcbMsr || back == slot, $"{slot}: {kind} 0x{code:X} is in slot {back}");
        }

        Assert.Equal(EventCounters.ExitSlot(0xFFFF), EventCounters.ExitSlot(0x1_0000_0041));
        Assert.Equal(EventCounters.PageSlot(0x9000_0000), EventCounters.PageSlot(ulong.MaxValue));
    }

    [Theory]
    [InlineData(EventKind.Exit, 0x7Cul, 0ul, 0ul, "exit MSR, info1 0x0, info2 0x0")]
    [InlineData(EventKind.Exit, 0x1_0000_0000ul, 0ul, 0ul, "exit 0x100000000, info1 0x0, info2 0x0")]
    [InlineData(EventKind.GhcbPage, 0x8000_0018ul, 2ul, 0ul, "GHCB RunVmpl, info1 0x2, info2 0x0")]
    [InlineData(EventKind.GhcbMsr, 0x014ul, 0x10_0000_8000_0014ul, 0ul, "GHCB MSR page state change, 0x10000080000014")]
    [InlineData(EventKind.PValidate, 0x1_0000_0000ul, 0x5000ul, 0x1_0000_0001ul, "PVALIDATE 0x5000, 2 MiB, validate: done, no change")]
    [InlineData(EventKind.PValidate, 6ul, 0x5000ul, 0ul, "PVALIDATE 0x5000, 4 KiB, rescind: FAIL_SIZEMISMATCH")]
    [InlineData(EventKind.RmpAdjust, 0ul, 0x5000ul, 0x1_0F02ul, "RMPADJUST 0x5000, 4 KiB, VMPL2 rwus, VMSA: done")]
    [InlineData(EventKind.PageState, 2ul, 0x7000ul, 0ul, "page 0x7000 becomes shared")]
    public void Render_Trace_NamesTheEvent(EventKind kind, ulong code, ulong info1, ulong info2, string text)
    {
        var record = new TraceRecord { Kind = kind, Vcpu = 1, Rip = 0x10004, Code = code, Info1 = info1, Info2 = info2 };
        using var map = new StringReader("0x00010000 boot\n");

        Assert.Equal("cpu1 vmpl0 0x10004 boot + 0x4: " + text, EventText.Render(in record, SymbolMap.Read(map)));
    }
}
