// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A run as one JSON object, for programs: docs/simulated-machine.md lists the properties. Addresses and registers are hexadecimal strings,
// because many readers of JSON cannot hold 64 bits.

using System;
using System.Buffers;
using System.Globalization;
using System.Linq;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using Svsm.Simulator.Shared;

namespace Svsm.Simulator;

internal static class ResultJson
{
    private static readonly string[] s_registers =
        ["rax", "rcx", "rdx", "rbx", "", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

    public static string Render(MachineResult result)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }))
        {
            json.WriteStartObject();
            json.WriteString("stop", Camel(result.Stop.ToString()));
            json.WriteString("summary", ResultText.Headline(result));
            if (result.ExitStatus is int status)
            {
                json.WriteNumber("exitStatus", status);
            }

            if (result.Violation != ViolationKind.None)
            {
                json.WriteString("violation", result.Violation.ToString());
                json.WriteString("explanation", ViolationText.For(result.Violation).Explanation);
            }

            if (result.Stop == MachineStop.Terminate)
            {
                json.WriteNumber("reasonSet", result.Detail & 0xF);
                json.WriteNumber("reason", (result.Detail >> 4) & 0xFF);
            }

            if (result.Message.Length != 0)
            {
                json.WriteString("message", result.Message);
            }

            json.WriteString("launchDigest", Convert.ToHexStringLower(result.LaunchDigest.Span));
            if (result.Report is StopReport report)
            {
                WriteReport(json, "report", in report, result.Symbols);
            }

            if (result.Reports.Length > 1)
            {
                json.WriteStartArray("reports");
                foreach (StopReport each in result.Reports)
                {
                    WriteReport(json, null, in each, result.Symbols);
                }

                json.WriteEndArray();
            }

            WriteAttacks(json, result);
            WriteEvents(json, result);

            WriteConsole(json, result);
            WriteStatistics(json, result);
            WriteKernel(json, result.Kernel);
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(buffer.WrittenSpan);
    }

    private static void WriteKernel(Utf8JsonWriter json, KernelObservation? kernel)
    {
        if (kernel is null)
        {
            return;
        }

        json.WriteStartObject("svsm");
        json.WriteStartArray("log");
        foreach (KernelLogLine line in kernel.Log)
        {
            json.WriteStartObject();
            WriteHex(json, "time", line.Time);
            json.WriteNumber("cpu", line.Cpu);
            json.WriteString("level", Camel(line.Level.ToString()));
            json.WriteString("text", line.Text);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("calls");
        foreach (KernelCallCount count in kernel.Calls)
        {
            json.WriteStartObject();
            json.WriteNumber("cpu", count.Cpu);
            json.WriteString("call", count.Call);
            json.WriteString("result", count.Result);
            json.WriteNumber("count", count.Count);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteNumber("framesInUse", kernel.FramesInUse);
        json.WriteNumber("frames", kernel.FrameCount);
        json.WriteEndObject();
    }

    private static void WriteAttacks(Utf8JsonWriter json, MachineResult result)
    {
        json.WriteStartArray("attacks");
        foreach (AttackEvent attack in result.Attacks)
        {
            json.WriteStartObject();
            json.WriteString("name", attack.Name);
            json.WriteString("outcome", Camel(attack.Outcome.ToString()));
            json.WriteNumber("event", attack.Number);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteEvents(Utf8JsonWriter json, MachineResult result)
    {
        json.WriteStartArray("events");
        foreach (EventCount entry in result.Events)
        {
            json.WriteStartObject();
            json.WriteString("kind", Camel(entry.Kind.ToString()));
            json.WriteNumber("vmpl", entry.Vmpl);
            WriteHex(json, "code", entry.Code);
            json.WriteString("name", EventText.Name(entry.Kind, entry.Code));
            json.WriteNumber("count", entry.Count);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartObject("pages");
        foreach ((_, string property, Func<RmpEntry, bool> predicate) in Summary.PageStates)
        {
            json.WriteNumber(property, result.Memory.Count(predicate));
        }

        json.WriteEndObject();
    }

    private static void WriteReport(Utf8JsonWriter json, string? property, in StopReport report, SymbolMap symbols)
    {
        if (property is null)
        {
            json.WriteStartObject();
        }
        else
        {
            json.WriteStartObject(property);
        }

        json.WriteNumber("vcpu", report.Vcpu);
        json.WriteNumber("vmpl", report.Vmpl);
        json.WriteNumber("cpl", report.Cpl);
        WriteHex(json, "rip", report.Rip);
        if (report.Vmpl == 0 && symbols.Find(report.Rip) is string name)
        {
            json.WriteString("symbol", name);
        }

        WriteHex(json, "gpa", report.Gpa);
        WriteHex(json, "rmpEntry", report.RmpEntry);
        WriteHex(json, "exitCode", report.ExitCode);
        WriteHex(json, "exitInfo1", report.ExitInfo1);
        WriteHex(json, "exitInfo2", report.ExitInfo2);
        WriteHex(json, "ghcbMsr", report.GhcbMsr);
        json.WriteStartObject("registers");
        for (int i = 0; i < s_registers.Length; i++)
        {
            if (s_registers[i].Length != 0)
            {
                WriteHex(json, s_registers[i], report.Registers[i]);
            }
        }

        WriteHex(json, "rsp", report.Rsp);
        WriteHex(json, "rflags", report.Rflags);
        WriteHex(json, "cr0", report.Cr0);
        WriteHex(json, "cr2", report.Cr2);
        WriteHex(json, "cr3", report.Cr3);
        WriteHex(json, "cr4", report.Cr4);
        WriteHex(json, "efer", report.Efer);
        WriteHex(json, "csBase", report.CsBase);
        WriteHex(json, "csAttributes", report.CsAttributes);
        json.WriteEndObject();
        ReadOnlySpan<byte> code = report.Code;
        json.WriteString("code", Convert.ToHexStringLower(code[..report.CodeLength]));
        json.WriteStartArray("frames");
        foreach (ulong frame in report.Frames)
        {
            if (frame == 0)
            {
                break;
            }

            json.WriteStartObject();
            WriteHex(json, "address", frame);
            if (report.Vmpl == 0 && symbols.Find(frame) is string frameName)
            {
                json.WriteString("symbol", frameName);
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteConsole(Utf8JsonWriter json, MachineResult result)
    {
        json.WriteBoolean("consoleTruncated", result.ConsoleTruncated);
        json.WriteStartArray("console");
        foreach (ConsoleLine line in result.Console)
        {
            json.WriteStartObject();
            if (line.Source == ConsoleSource.Host)
            {
                json.WriteBoolean("host", true);
            }
            else
            {
                json.WriteNumber("vcpu", line.Source.Vcpu);
                json.WriteNumber("vmpl", line.Source.Vmpl);
            }

            json.WriteString("text", line.Text);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteStatistics(Utf8JsonWriter json, MachineResult result)
    {
        json.WriteStartArray("statistics");
        foreach (VmplStatistics entry in result.Statistics.OrderBy(entry => entry.Vcpu).ThenBy(entry => entry.Vmpl))
        {
            json.WriteStartObject();
            json.WriteNumber("vcpu", entry.Vcpu);
            json.WriteNumber("vmpl", entry.Vmpl);
            json.WriteNumber("ticks", entry.Ticks);
            json.WriteNumber("exits", entry.Exits);
            json.WriteNumber("hypervisorTicks", entry.HypervisorTicks);
            json.WriteNumber("vmgExits", entry.VmgExits);
            json.WriteNumber("vcExceptions", entry.VcExceptions);
            json.WriteNumber("pValidates", entry.PValidates);
            json.WriteNumber("rmpAdjusts", entry.RmpAdjusts);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static string Camel(string name) => char.ToLowerInvariant(name[0]) + name[1..];

    private static void WriteHex(Utf8JsonWriter json, string name, ulong value) =>
        json.WriteString(name, string.Create(CultureInfo.InvariantCulture, $"0x{value:x}"));
}
