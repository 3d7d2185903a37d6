// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Immutable;
using System.IO;
using System.Linq;
using System.Text.Json;
using CsCheck;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class ResultTextTests
{
    private static readonly MachineResult s_violation = new()
    {
        Stop = MachineStop.Violation,
        Detail = (ulong)ViolationKind.PrivateAccessToSharedPage,
        Reports = [Report()],
        LaunchDigest = Convert.FromHexString(TestImage.Digest),
        Symbols = SymbolMap.Read(new StringReader("0xFFFFFF8000201000 Svsm_Kernel_Memory__Touch\n0xFFFFFF8000203000 Svsm_Kernel__Main\n")),
    };

    [Fact]
    public void ToString_Violation_SaysWhatWhyWhoAndWhere() => Assert.Equal(
        """
        Violation PrivateAccessToSharedPage: private access to a shared page.
          Hardware hands the host a nested page fault with the RMP bit set, and the instruction never
          completes. The page was given to the host, or never taken from it: change its state to private and
          validate it first, or map it without the C-bit.
          who       vCPU 1, VMPL0, CPL0
          where     0xFFFFFF8000201010  Svsm_Kernel_Memory__Touch + 0x10
          code      FFFFFF8000201010  488908                mov [rax], rcx
                    FFFFFF8000201013  F30F01D9              vmgexit
                    FFFFFF8000201017  C3                    ret
          page      GPA 0x8100000: assigned, not validated; VMPL1 ----; VMPL2 rwus; VMPL3 r---
          needed    assigned, validated
          exit      code 0x400, info1 0x580000006, info2 0x8100008 (private write, RMP check)
          registers RIP FFFFFF8000201010  RSP FFFFFF8000300FF0  RFLAGS 00000046
                    RAX 0000000000000000  RCX 0000000000000001  RDX 0000000000000002  RBX 0000000000000003
                    RSP FFFFFF8000300FF0  RBP 0000000000000005  RSI 0000000000000006  RDI 0000000000000007
                    R8  0000000000000008  R9  0000000000000009  R10 000000000000000A  R11 000000000000000B
                    R12 000000000000000C  R13 000000000000000D  R14 000000000000000E  R15 000000000000000F
                    CR0 0000000080010033  CR2 0000000000000000  CR3 0000800008010000  CR4 00000000000006F0
                    EFER D00, CS base 0 attributes A9B, GHCB MSR 8200000
          called by 0xFFFFFF8000203020  Svsm_Kernel__Main + 0x20
                    0xFFFFFF8000309999
        """,
        s_violation.ToString());

    [Fact]
    public void ToString_CodeOfTheGuest_HasNoKernelSymbols()
    {
        StopReport report = Report();
        report.Vmpl = 2;

        string text = (s_violation with { Reports = [report] }).ToString();

        Assert.DoesNotContain("Svsm_Kernel", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0x29B, "mov [rax], rcx")]
    [InlineData(0xC9B, "dec eax")]
    [InlineData(0x09B, "dec ax")]
    public void ToString_CodeSegment_DecidesTheDisassembly(int attributes, string instruction)
    {
        StopReport report = Report();
        report.CsAttributes = (ushort)attributes;

        Assert.Contains(instruction, (s_violation with { Reports = [report] }).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void ToString_NoCode_SaysSo()
    {
        StopReport report = Report();
        report.CodeLength = 0;

        Assert.Contains("\n  code      not readable\n", (s_violation with { Reports = [report] }).ToString(), StringComparison.Ordinal);
    }

    [Fact]
    public void ToString_InvalidInstruction_SaysSo()
    {
        StopReport report = Report();
        "\x06"u8.CopyTo(report.Code);
        report.CodeLength = 1;

        Assert.Contains("06                    (not an instruction)", (s_violation with { Reports = [report] }).ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0x1_0000_0004, "(shared read)")]
    [InlineData(0x5_8000_0015, "(private instruction fetch, RMP check)")]
    [InlineData(0x15_8000_0004, "(private read, VMPL check)")]
    [InlineData(0x6_8000_0006, "(private write of a page table, RMP check)")]
    public void ToString_NestedPageFault_IsSpelledOut(ulong info, string text)
    {
        StopReport report = Report();
        report.ExitInfo1 = info;

        Assert.Contains(text + "\n", (s_violation with { Reports = [report] }).ToString(), StringComparison.Ordinal);
    }

    // Rows: violation, EXITCODE, EXITINFO1, VMPL, CPL, the state that was needed.
    [Theory]
    [InlineData(ViolationKind.PrivateAccessToSharedPage, 0x400ul, 0x5_8000_0004ul, 0, 0, "assigned, validated")]
    [InlineData(ViolationKind.PrivateAccessToSharedPage, 0x46ul, 0ul, 0, 0, "assigned")]
    [InlineData(ViolationKind.SharedAccessToPrivatePage, 0x400ul, 0x1_8000_0006ul, 0, 0, "not assigned (shared)")]
    [InlineData(ViolationKind.SharedAccessToPrivatePage, 0x46ul, 0ul, 0, 0, "a mapping with the C-bit")]
    [InlineData(ViolationKind.SharedFetch, 0x400ul, 0x1_8000_0014ul, 0, 0, "assigned, validated, and a mapping with the C-bit")]
    [InlineData(ViolationKind.VmplPermission, 0x400ul, 0x15_8000_0004ul, 2, 3, "assigned, validated; VMPL2 r")]
    [InlineData(ViolationKind.VmplPermission, 0x400ul, 0x15_8000_0006ul, 1, 0, "assigned, validated; VMPL1 w")]
    [InlineData(ViolationKind.VmplPermission, 0x400ul, 0x15_8000_0014ul, 2, 3, "assigned, validated; VMPL2 u")]
    [InlineData(ViolationKind.VmplPermission, 0x400ul, 0x15_8000_0014ul, 2, 0, "assigned, validated; VMPL2 s")]
    [InlineData(ViolationKind.VmplPermission, 0x400ul, 0x16_8000_0006ul, 2, 0, "assigned, validated; VMPL2 rw")]
    [InlineData(ViolationKind.VmsaPage, 0x400ul, 0x5_8000_0004ul, 0, 0, "not a VMSA in use")]
    [InlineData(ViolationKind.NoMemory, 0x400ul, 0x5_8000_0004ul, 0, 0, "RAM, or device space and a shared access")]
    [InlineData(ViolationKind.StaleTranslation, 0x46ul, 0ul, 0, 0, "no vCPU with a translation from before")]
    public void ToString_Violation_SaysWhatStateWasNeeded(ViolationKind kind, ulong code, ulong info, uint vmpl, byte cpl, string needed)
    {
        StopReport report = Report();
        (report.Violation, report.ExitCode, report.ExitInfo1, report.Vmpl, report.Cpl) = (kind, code, info, vmpl, cpl);

        string text = (s_violation with { Detail = (ulong)kind, Reports = [report] }).ToString();

        Assert.Contains($"\n  page      GPA 0x8100000: ", text, StringComparison.Ordinal);
        Assert.Contains($"\n  needed    {needed}\n", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0ul, "not assigned (shared)")]
    [InlineData(7ul, "assigned, validated, VMSA; VMPL1 ----; VMPL2 ----; VMPL3 ----")]
    [InlineData(0xFFF0Bul, "assigned, validated, 2 MiB; VMPL1 rwus; VMPL2 rwus; VMPL3 rwus")]
    public void ToString_RmpEntry_IsSpelledOut(ulong entry, string text)
    {
        StopReport report = Report();
        report.RmpEntry = entry;

        Assert.Contains(": " + text + "\n", (s_violation with { Reports = [report] }).ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(MachineStop.GuestExit, 3, "The guest ended the run with status 3.")]
    [InlineData(MachineStop.Terminate, 0x0121, "The guest asked for its termination: reason set 1, reason 0x12.")]
    [InlineData(MachineStop.Terminate, 0x0115, "The SVSM ended its VM: SevStatusMismatch (reason set 5, reason 0x11).")]
    [InlineData(MachineStop.Terminate, 0x0FF5, "The guest asked for its termination: reason set 5, reason 0xFF.")]
    [InlineData(MachineStop.Shutdown, 0, "The vCPU shut down (triple fault).")]
    [InlineData(MachineStop.Reset, 0xCF9, "The guest asked for a reset of the machine, by port 0xCF9.")]
    [InlineData(MachineStop.Timeout, 0, "The time was up.")]
    public void ToString_OtherEnds_AreOneLine(MachineStop stop, ulong detail, string text) =>
        Assert.Equal(text, new MachineResult { Stop = stop, Detail = detail, LaunchDigest = new byte[48] }.ToString());

    [Fact]
    public void ToString_Message_Follows() => Assert.Equal(
        "QEMU failed.\nQEMU ended with status 1.",
        new MachineResult { Stop = MachineStop.QemuFailed, Message = "QEMU ended with status 1.", LaunchDigest = new byte[48] }.ToString());

    [Fact]
    public void ViolationText_EachKind_HasItsOwn()
    {
        ViolationKind[] kinds = [.. Enum.GetValues<ViolationKind>().Where(kind => kind != ViolationKind.None)];

        Assert.Equal(kinds.Length, kinds.Select(kind => ViolationText.For(kind).Title).Distinct().Count());
        Assert.DoesNotContain(kinds, kind => ViolationText.For(kind) == ViolationText.For(ViolationKind.None));
    }

    // A guest chooses most of these bytes.
    [Fact]
    public void ToStringAndToJson_AnyReport_Render() => Gen.Byte.Array[320].Sample(bytes =>
    {
        StopReport report = System.Runtime.InteropServices.MemoryMarshal.Read<StopReport>(bytes);
        report.CodeLength %= 17;
        MachineResult result = s_violation with { Reports = [report] };
        using JsonDocument json = JsonDocument.Parse(result.ToJson());
        return result.ToString().Length > 100;
    });

    // A run that ends while a guest writes: what it has written is told from what it would have.
    [Theory]
    [InlineData(false, "wrote 72\nwrote 7\n")]
    [InlineData(true, "wrote 72\nwrote 7")]
    public void ConsoleText_LastLine_IsEndedIfTheGuestHasEndedIt(bool isUnfinished, string wanted)
    {
        var guest = new ConsoleSource(0, 2);
        MachineResult result = s_violation with
        {
            Console = [new(guest, "wrote 72"), new(new ConsoleSource(0, 0), "svsm"), new(guest, "wrote 7") { IsUnfinished = isUnfinished }],
        };
        Assert.Equal(wanted, result.ConsoleText(2));
        Assert.Equal("svsm\n", result.ConsoleText(0));
        Assert.Empty(result.ConsoleText(1));
    }

    [Fact]
    public void ToJson_Violation_HasAllParts()
    {
        MachineResult result = s_violation with
        {
            Console = [new ConsoleLine(new ConsoleSource(1, 0), "line \x1B\""), new ConsoleLine(ConsoleSource.Host, "note")],
            Statistics = [new VmplStatistics { Vcpu = 1, Vmpl = 0, Ticks = 2, Exits = 3, HypervisorTicks = 4, VmgExits = 5, VcExceptions = 6, PValidates = 7, RmpAdjusts = 8 }],
        };

        using JsonDocument document = JsonDocument.Parse(result.ToJson());

        JsonElement root = document.RootElement;
        Assert.Equal("violation", root.GetProperty("stop").GetString());
        Assert.Equal("PrivateAccessToSharedPage", root.GetProperty("violation").GetString());
        Assert.Equal(TestImage.Digest, root.GetProperty("launchDigest").GetString());
        JsonElement report = root.GetProperty("report");
        Assert.Equal("0xffffff8000201010", report.GetProperty("rip").GetString());
        Assert.Equal("Svsm_Kernel_Memory__Touch + 0x10", report.GetProperty("symbol").GetString());
        Assert.Equal("0xf", report.GetProperty("registers").GetProperty("r15").GetString());
        Assert.Equal("488908f30f01d9c3", report.GetProperty("code").GetString());
        Assert.Equal(2, report.GetProperty("frames").GetArrayLength());
        Assert.Equal("line \x1B\"", root.GetProperty("console")[0].GetProperty("text").GetString());
        Assert.True(root.GetProperty("console")[1].GetProperty("host").GetBoolean());
        Assert.Equal([1, 0, 2, 3, 4, 5, 6, 7, 8], root.GetProperty("statistics")[0].EnumerateObject().Select(property => property.Value.GetInt32()));
    }

    [Fact]
    public void ToJson_GuestExit_HasStatus()
    {
        using JsonDocument document = JsonDocument.Parse(new MachineResult { Stop = MachineStop.GuestExit, Detail = 4, LaunchDigest = new byte[48] }.ToJson());

        Assert.Equal("guestExit", document.RootElement.GetProperty("stop").GetString());
        Assert.Equal(4, document.RootElement.GetProperty("exitStatus").GetInt32());
        Assert.False(document.RootElement.TryGetProperty("report", out _));
    }

    private static StopReport Report()
    {
        var report = new StopReport
        {
            Reason = StopReason.Violation,
            Violation = ViolationKind.PrivateAccessToSharedPage,
            Vcpu = 1,
            Gpa = 0x810_0000,
            ExitCode = 0x400,
            ExitInfo1 = 0x5_8000_0006,
            ExitInfo2 = 0x810_0008,
            RmpEntry = 0x1_F001,
            GhcbMsr = 0x820_0000,
            Rip = 0xFFFF_FF80_0020_1010,
            Rsp = 0xFFFF_FF80_0030_0FF0,
            Rflags = 0x46,
            Cr0 = 0x8001_0033,
            Cr3 = 0x8000_0801_0000,
            Cr4 = 0x6F0,
            Efer = 0xD00,
            CsAttributes = 0xA9B,
            CodeLength = 8,
        };
        for (int i = 0; i < 16; i++)
        {
            report.Registers[i] = (ulong)i;
        }

        Convert.FromHexString("488908F30F01D9C3").CopyTo(report.Code);
        report.Frames[0] = 0xFFFF_FF80_0020_3020;
        report.Frames[1] = 0xFFFF_FF80_0030_9999;
        return report;
    }
}
