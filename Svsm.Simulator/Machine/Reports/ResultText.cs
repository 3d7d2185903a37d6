// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The end of a run, for a person at a terminal.

using System;
using System.Globalization;
using System.Linq;
using System.Text;
using Iced.Intel;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Decoder = Iced.Intel.Decoder;

namespace Svsm.Simulator;

internal static class ResultText
{
    private const int LabelWidth = 10;
    private const int ExplanationWidth = 100;

    // Packed segment attributes: AVL, L, D/B, G in bits 8 to 11.
    private const ushort LongCode = 1 << 9;
    private const ushort DefaultSize32 = 1 << 10;

    private const ulong NestedPageFault = 0x400;

    private static readonly string[] s_registers =
        ["RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"];

    public static string Render(MachineResult result)
    {
        var text = new StringBuilder();
        text.Append(Headline(result));
        if (result.Message.Length != 0)
        {
            text.Append('\n').Append(result.Message);
        }

        if (result.Violation != ViolationKind.None)
        {
            AddExplanation(text, ViolationText.For(result.Violation).Explanation);
        }

        foreach (StopReport report in result.Reports)
        {
            AddReport(text, in report, result.Symbols);
        }

        AddLog(text, result);
        return text.ToString();
    }

    public static string Headline(MachineResult result) => result.Stop switch
    {
        MachineStop.GuestExit => Invariant($"The guest ended the run with status {result.Detail}."),
        MachineStop.Terminate => Termination(result.Detail & 0xF, (result.Detail >> 4) & 0xFF),
        MachineStop.Violation => Invariant($"Violation {result.Violation}: {ViolationText.For(result.Violation).Title}."),
        MachineStop.Shutdown => "The vCPU shut down (triple fault).",
        MachineStop.Reset => Invariant($"The guest asked for a reset of the machine, by port 0x{result.Detail:X}."),
        MachineStop.HypervisorFault => "The hypervisor of the simulator failed. This is a fault of the simulator.",
        MachineStop.BadLaunch => "The hypervisor refused the launch. This is a fault of the simulator.",
        MachineStop.Stopped => "The run was stopped.",
        MachineStop.PowerOff => "The host cut the power.",
        MachineStop.Timeout => "The time was up.",
        MachineStop.QemuFailed => "QEMU failed.",
        MachineStop.LinkBroken => "The link to the hypervisor broke. This is a fault of the simulator.",
        _ => Invariant($"Unknown end {result.Stop}."),
    };

    // A reason of the SVSM has a name, and an explanation in docs/kernel.md.
    private static string Termination(ulong set, ulong reason)
    {
        string numbers = Invariant($"reason set {set}, reason 0x{reason:X2}");
        return set == TerminationReasonSet.Svsm && Enum.IsDefined((TerminationReason)reason)
            ? $"The SVSM ended its VM: {(TerminationReason)reason} ({numbers})."
            : $"The guest asked for its termination: {numbers}.";
    }

    private static void AddExplanation(StringBuilder text, string explanation)
    {
        int column = 0;
        foreach (string word in explanation.Split(' '))
        {
            if (column == 0 || column + 1 + word.Length > ExplanationWidth)
            {
                text.Append("\n  ").Append(word);
                column = word.Length;
            }
            else
            {
                text.Append(' ').Append(word);
                column += 1 + word.Length;
            }
        }
    }

    // The last lines of the SVSM's log, those among them that its console did not get.
    private static void AddLog(StringBuilder text, MachineResult result)
    {
        const int MostLines = 24;
        string label = "SVSM log";
        foreach (KernelLogLine line in result.Kernel?.Log.TakeLast(MostLines) ?? [])
        {
            AddLine(text, label, KernelObservation.Render(line, result.Symbols));
            label = "";
        }
    }

    private static void AddReport(StringBuilder text, in StopReport report, SymbolMap symbols)
    {
        AddLine(text, "who", Invariant($"vCPU {report.Vcpu}, VMPL{report.Vmpl}, CPL{report.Cpl}"));
        AddLine(text, "where", Address(report.Rip, in report, symbols));
        AddCode(text, in report);
        if (report.Gpa != 0 || report.RmpEntry != 0 || report.ExitCode == NestedPageFault)
        {
            AddLine(text, "page", Invariant($"GPA 0x{report.Gpa:X}: {new RmpEntry((uint)report.RmpEntry)}"));
            if (ViolationText.NeededState(in report) is { Length: not 0 } needed)
            {
                AddLine(text, "needed", needed);
            }
        }

        AddLine(text, "exit", Invariant($"code 0x{report.ExitCode:X}, info1 0x{report.ExitInfo1:X}, info2 0x{report.ExitInfo2:X}{PageFault(in report)}"));
        AddLine(text, "registers", Invariant($"RIP {report.Rip:X16}  RSP {report.Rsp:X16}  RFLAGS {report.Rflags:X8}"));
        for (int row = 0; row < 4; row++)
        {
            var line = new StringBuilder();
            for (int column = 0; column < 4; column++)
            {
                int index = (row * 4) + column;

                // RSP is in a field of its own.
                ulong value = index == 4 ? report.Rsp : report.Registers[index];
                line.Append(CultureInfo.InvariantCulture, $"{(column == 0 ? "" : "  ")}{s_registers[index],-3} {value:X16}");
            }

            AddLine(text, "", line.ToString());
        }

        AddLine(text, "", Invariant($"CR0 {report.Cr0:X16}  CR2 {report.Cr2:X16}  CR3 {report.Cr3:X16}  CR4 {report.Cr4:X16}"));
        AddLine(text, "", Invariant($"EFER {report.Efer:X}, CS base {report.CsBase:X} attributes {report.CsAttributes:X3}, GHCB MSR {report.GhcbMsr:X}"));
        string label = "called by";
        foreach (ulong frame in report.Frames)
        {
            if (frame == 0)
            {
                break;
            }

            AddLine(text, label, Address(frame, in report, symbols));
            label = "";
        }
    }

    private static void AddCode(StringBuilder text, in StopReport report)
    {
        ReadOnlySpan<byte> code = report.Code;
        code = code[..report.CodeLength];
        if (code.IsEmpty)
        {
            AddLine(text, "code", "not readable");
            return;
        }

        int bitness = (report.CsAttributes & LongCode) != 0 ? 64 : (report.CsAttributes & DefaultSize32) != 0 ? 32 : 16;
        var decoder = Decoder.Create(bitness, new ByteArrayCodeReader(code.ToArray()), report.Rip, DecoderOptions.AMD);
        var formatter = new NasmFormatter { Options = { HexPrefix = "0x", HexSuffix = null, SpaceAfterOperandSeparator = true } };
        var output = new StringOutput();
        string label = "code";
        for (int offset = 0; offset < code.Length;)
        {
            decoder.Decode(out Instruction instruction);

            // Past the first one, an instruction may be cut off by the end of the bytes.
            if (instruction.IsInvalid && offset != 0)
            {
                break;
            }

            string name = KnownEncoding(code[offset..]) ?? "";
            if (name.Length == 0)
            {
                formatter.Format(in instruction, output);
                name = instruction.IsInvalid ? "(not an instruction)" : output.ToStringAndReset();
            }

            int length = Math.Max(instruction.Length, 1);
            AddLine(text, label, Invariant($"{report.Rip + (uint)offset:X16}  {Convert.ToHexString(code.Slice(offset, Math.Min(length, code.Length - offset))),-20}  {name}"));
            label = "";
            offset += length;
            if (instruction.IsInvalid)
            {
                break;
            }
        }
    }

    // REP VMMCALL and the REPNE form are VMGEXIT; a disassembler says VMMCALL.
    private static string? KnownEncoding(ReadOnlySpan<byte> code) =>
        code.StartsWith([(byte)0xF3, (byte)0x0F, (byte)0x01, (byte)0xD9]) || code.StartsWith([(byte)0xF2, (byte)0x0F, (byte)0x01, (byte)0xD9]) ? "vmgexit" : null;

    // Bits of EXITINFO1. Source: AMD64 Architecture Programmer's Manual, volume 2, nested page faults with SNP.
    private static string PageFault(in StopReport report)
    {
        if (report.ExitCode != NestedPageFault)
        {
            return "";
        }

        ulong info = report.ExitInfo1;
        string access = Has(4) ? "instruction fetch" : Has(1) ? "write" : "read";
        string view = Has(34) ? "private" : "shared";
        string where = Has(33) ? " of a page table" : "";
        string check = Has(36) ? ", VMPL check" : Has(31) ? ", RMP check" : "";
        return $" ({view} {access}{where}{check})";

        bool Has(int bit) => (info & (1ul << bit)) != 0;
    }

    // The symbols are those of the SVSM's kernel.
    private static string Address(ulong address, in StopReport report, SymbolMap symbols)
    {
        string text = Invariant($"0x{address:X16}");
        return report.Vmpl == 0 && symbols.Find(address) is string name ? $"{text}  {name}" : text;
    }

    private static void AddLine(StringBuilder text, string label, string value) => text.Append("\n  ").Append(label.PadRight(LabelWidth)).Append(value);

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
