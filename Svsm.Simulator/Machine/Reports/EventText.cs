// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Names of what happens in a run. Sources: AMD64 Architecture Programmer's Manual, volume 2, appendix C (exit codes); Svsm.Core/Wire/Ghcb.cs.

using System;
using System.Collections.Generic;
using System.Globalization;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Simulator;

internal static class EventText
{
    private static readonly Dictionary<uint, string> s_exits = new()
    {
        [0x27] = "DR7 read", [0x37] = "DR7 write", [0x41] = "#DB", [0x46] = "#UD", [0x60] = "INTR", [0x61] = "NMI", [0x64] = "VINTR",
        [0x65] = "CR0 write", [0x6E] = "RDTSC", [0x6F] = "RDPMC", [0x72] = "CPUID", [0x76] = "INVD", [0x77] = "PAUSE", [0x78] = "HLT",
        [0x7A] = "INVLPGA", [0x7B] = "IN/OUT", [0x7C] = "MSR", [0x7F] = "shutdown", [0x80] = "VMRUN", [0x81] = "VMGEXIT/VMMCALL", [0x87] = "RDTSCP",
        [0x89] = "WBINVD", [0x8A] = "MONITOR", [0x8B] = "MWAIT", [0x8C] = "MWAIT (armed)", [0x8D] = "XSETBV", [0x400] = "nested page fault",
        [EventCounters.WriteFault] = "write told to VMPL0", [uint.MaxValue] = "VMRUN refused", [EventCounters.Other] = "others",
    };

    private static readonly Dictionary<uint, string> s_requests = new()
    {
        [(uint)GhcbMsr.SevInfoRequest] = "SEV information",
        [(uint)GhcbMsr.CpuidRequest] = "CPUID",
        [(uint)GhcbMsr.ApResetHoldRequest] = "AP reset hold",
        [(uint)GhcbMsr.PreferredGhcbRequest] = "preferred GHCB",
        [(uint)GhcbMsr.RegisterGhcbRequest] = "register GHCB",
        [(uint)GhcbMsr.PageStateChangeRequest] = "page state change",
        [(uint)GhcbMsr.RunVmplRequest] = "run VMPL",
        [(uint)GhcbMsr.FeaturesRequest] = "features",
        [(uint)GhcbMsr.TerminateRequest] = "terminate",
        [EventCounters.Other] = "others",
    };

    // The name of a counter's or event's code.
    public static string Name(EventKind kind, ulong code) => kind switch
    {
        EventKind.Exit => code <= uint.MaxValue || code == ulong.MaxValue ? s_exits.GetValueOrDefault((uint)code, Hex(code)) : Hex(code),
        EventKind.GhcbMsr or EventKind.GhcbMsrAnswer => s_requests.GetValueOrDefault((uint)code, Hex(code)),
        EventKind.GhcbPage or EventKind.GhcbPageAnswer =>
            code == EventCounters.Other ? "others" : Enum.IsDefined((GhcbExitCode)code) ? ((GhcbExitCode)code).ToString() : Hex(code),
        EventKind.PValidate => "PVALIDATE",
        EventKind.RmpAdjust => "RMPADJUST",
        EventKind.WriteFault => "write told to VMPL0",
        _ => "page state",
    };

    // A trace line without its label.
    public static string Render(in TraceRecord record, SymbolMap symbols)
    {
        string symbol = record.Vmpl == 0 && symbols.Find(record.Rip) is string name ? " " + name : "";
        string where = string.Create(CultureInfo.InvariantCulture, $"cpu{record.Vcpu} vmpl{record.Vmpl} 0x{record.Rip:x}{symbol}: ");
        return where + record.Kind switch
        {
            EventKind.Exit => Invariant($"exit {Name(record.Kind, record.Code)}, info1 0x{record.Info1:x}, info2 0x{record.Info2:x}"),
            EventKind.GhcbPage => Invariant($"GHCB {Name(record.Kind, record.Code)}, info1 0x{record.Info1:x}, info2 0x{record.Info2:x}"),
            EventKind.GhcbPageAnswer => Invariant($"GHCB answer, info1 0x{record.Info1:x}, info2 0x{record.Info2:x}"),
            EventKind.GhcbMsr => Invariant($"GHCB MSR {Name(record.Kind, record.Code)}, 0x{record.Info1:x}"),
            EventKind.GhcbMsrAnswer => Invariant($"GHCB MSR answer, 0x{record.Info1:x}"),
            EventKind.PValidate => Invariant($"PVALIDATE 0x{record.Info1:x}, {Size(record.Info2)}, {((record.Info2 & 1) != 0 ? "validate" : "rescind")}: {Result(record.Code)}"),
            EventKind.RmpAdjust => Invariant($"RMPADJUST 0x{record.Info1:x}, {Size(record.Info2)}, {Rights(record.Info2)}: {Result(record.Code)}"),
            EventKind.WriteFault => Invariant($"write to 0x{record.Info1:x} without the right to, error code 0x{record.Code:x}: VMPL0 is told"),
            _ => Invariant($"page 0x{record.Info1:x} becomes {((PageStateOperation)record.Code == PageStateOperation.Private ? "private" : "shared")}"),
        };
    }

    private static string Size(ulong operands) => ((operands >> 32) & 1) != 0 ? "2 MiB" : "4 KiB";

    // Target VMPL in bits 7:0 of RDX, rights in 15:8, the VMSA bit in 16.
    private static string Rights(ulong operands)
    {
        const int VmplOfEntry = 1;
        uint rights = (uint)(operands >> 8) & 0xF;
        string text = Invariant($"VMPL{operands & 0xFF} {new RmpEntry(rights << (4 + (4 * VmplOfEntry))).Rights(VmplOfEntry)}");
        return ((operands >> 16) & 1) != 0 ? text + ", VMSA" : text;
    }

    private static string Result(ulong code) => (uint)code switch
    {
        0 => (code >> 32) != 0 ? "done, no change" : "done",
        1 => "FAIL_INPUT",
        2 => "FAIL_PERMISSION",
        3 => "FAIL_INUSE",
        6 => "FAIL_SIZEMISMATCH",
        _ => Invariant($"result {(uint)code}"),
    };

    private static string Hex(ulong code) => Invariant($"0x{code:X}");

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
