// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Text;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class ConsoleCollectorTests : IDisposable
{
    private static readonly ConsoleSource s_svsm = new(0, 0);
    private static readonly ConsoleSource s_guest = new(0, 2);

    private readonly StringWriter _output = new() { NewLine = "\n" };

    public void Dispose() => _output.Dispose();

    [Fact]
    public void Write_PiecesOfTwoSources_GiveWholeLines()
    {
        ConsoleCollector console = Create();

        console.Write(s_svsm, "SVSM st"u8);
        console.Write(s_guest, "guest\r\nse"u8);
        console.Write(s_svsm, "arts\n\n"u8);
        console.Write(s_guest, "cond"u8);
        console.Flush();

        Assert.Equal("[vmpl2] guest\n[vmpl0] SVSM starts\n[vmpl0] \n[vmpl2] second\n", _output.ToString());
        Assert.Equal(["guest", "SVSM starts", "", "second"], console.Lines.Select(line => line.Text));
        Assert.Equal([false, false, false, true], console.Lines.Select(line => line.IsUnfinished));
    }

    [Fact]
    public void Write_SeveralVcpus_AreNamed()
    {
        ConsoleCollector console = Create(showVcpu: true);

        console.Write(new ConsoleSource(3, 0), "a\n"u8);
        console.Write(ConsoleSource.Host, "b\n"u8);

        Assert.Equal("[cpu3 vmpl0] a\n[host] b\n", _output.ToString());
    }

    [Fact]
    public void Write_LineOfSeveralVcpus_IsOneLineOfTheFirst()
    {
        ConsoleCollector console = Create(showVcpu: true);

        console.Write(new ConsoleSource(3, 2), "filled: 135 of 1"u8);
        console.Write(new ConsoleSource(1, 0), "svsm\n"u8);
        console.Write(new ConsoleSource(1, 2), "35\nnext"u8);
        console.Flush();

        Assert.Equal("[cpu1 vmpl0] svsm\n[cpu3 vmpl2] filled: 135 of 135\n[cpu1 vmpl2] next\n", _output.ToString());
    }

    [Fact]
    public void Write_LineOfSeveralVcpusOfAGuestAtVmpl0_IsOneLineOfTheFirst()
    {
        ConsoleCollector console = Create(showVcpu: true, hasSvsm: false);

        console.Write(new ConsoleSource(0, 0), "sums: "u8);
        console.Write(new ConsoleSource(2, 0), "1\n"u8);
        console.Flush();

        Assert.Equal("[cpu0 vmpl0] sums: 1\n", _output.ToString());
    }

    [Fact]
    public void Write_LinesOfSeveralCpusOfTheSvsm_StayApart()
    {
        ConsoleCollector console = Create(showVcpu: true);

        console.Write(new ConsoleSource(0, 0), "svsm: stop"u8);
        console.Write(new ConsoleSource(1, 0), "svsm: stopped: b\n"u8);
        console.Write(new ConsoleSource(0, 0), "ped: a\n"u8);

        Assert.Equal("[cpu1 vmpl0] svsm: stopped: b\n[cpu0 vmpl0] svsm: stopped: a\n", _output.ToString());
    }

    [Fact]
    public void Write_Utf8InPieces_IsDecoded()
    {
        ConsoleCollector console = Create();

        foreach (byte value in Encoding.UTF8.GetBytes("Grüße 🙂\n"))
        {
            console.Write(s_svsm, [value]);
        }

        Assert.Equal("[vmpl0] Grüße 🙂\n", _output.ToString());
    }

    [Fact]
    public void Write_ControlCharacters_AreMadeVisibleButKept()
    {
        ConsoleCollector console = Create();

        console.Write(s_guest, "\tred \x1B[31m\r over\x7F \x9B\n"u8);

        Assert.Equal("[vmpl2] \tred \u241B[31m\u240D over\u2421 \uFFFD\n", _output.ToString());
        Assert.Equal("\tred \x1B[31m\r over\x7F \x9B", console.Lines[0].Text);
    }

    [Fact]
    public void Write_InvalidUtf8_IsReplaced()
    {
        ConsoleCollector console = Create();

        console.Write(s_guest, [0xFF, 0x41, 0x0A]);

        Assert.Equal("\uFFFDA", console.Lines[0].Text);
    }

    [Fact]
    public void Write_EndlessLine_IsCut()
    {
        ConsoleCollector console = Create();

        console.Write(s_guest, Encoding.ASCII.GetBytes(new string('x', (2 * ConsoleCollector.MaxLineLength) + 5)));
        console.Flush();

        Assert.Equal([ConsoleCollector.MaxLineLength, ConsoleCollector.MaxLineLength, 5], console.Lines.Select(line => line.Text.Length));
    }

    [Fact]
    public void Write_LongCharacterAtTheCut_StaysWhole()
    {
        ConsoleCollector console = Create();

        console.Write(s_guest, Encoding.UTF8.GetBytes(new string('x', ConsoleCollector.MaxLineLength - 1) + "🙂y\n"));

        Assert.Equal([new string('x', ConsoleCollector.MaxLineLength - 1) + "🙂", "y"], console.Lines.Select(line => line.Text));
    }

    [Fact]
    public void Write_MoreThanIsKept_IsShownButDropped()
    {
        var console = new ConsoleCollector(null, SymbolMap.Empty, showVcpu: false, hasSvsm: true);
        byte[] line = Encoding.ASCII.GetBytes(new string('x', 4000) + "\n");

        for (int i = 0; i < (ConsoleCollector.MaxKept / 4000) + 1; i++)
        {
            console.Write(s_guest, line);
        }

        Assert.True(console.Truncated);
        Assert.InRange(console.Lines.Sum(kept => kept.Text.Length), ConsoleCollector.MaxKept / 2, ConsoleCollector.MaxKept);
    }

    [Fact]
    public void Write_BacktraceOfTheKernel_IsSymbolised()
    {
        var console = new ConsoleCollector(_output, SymbolMap.Read(new StringReader("0xFFFFFF8000201000 Kernel_Start")), showVcpu: false, hasSvsm: true);

        console.Write(s_svsm, "  at 0xFFFFFF8000201010\n"u8);
        console.Write(s_guest, "  at 0xFFFFFF8000201010\n"u8);

        Assert.Equal("[vmpl0]   at 0xFFFFFF8000201010 Kernel_Start + 0x10\n[vmpl2]   at 0xFFFFFF8000201010\n", _output.ToString());
    }

    private ConsoleCollector Create(bool showVcpu = false, bool hasSvsm = true) => new(_output, SymbolMap.Empty, showVcpu, hasSvsm);
}
