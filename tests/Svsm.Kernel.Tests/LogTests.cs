// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Tasks;
using Svsm.Kernel.Diagnostics;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class LogTests
{
    private readonly LogEntry[] _entries = new LogEntry[KernelRecord.LogEntryCount];
    private KernelRecord _head;

    [Fact]
    public void Structures_HaveTheirSizes() =>
        Assert.Equal((64, 128, 1280), (Unsafe.SizeOf<KernelRecord>(), Unsafe.SizeOf<LogEntry>(), Unsafe.SizeOf<CallCounters>()));

    [Fact]
    public void Append_AnyByte_IsPrintableAndCanBeToldApart()
    {
        HashSet<string> seen = [];
        for (int value = 0; value <= byte.MaxValue; value++)
        {
            LineBuffer line = default;
            line.Append((byte)value);
            Assert.DoesNotContain(line.Text.ToArray(), written => written is < 0x20 or >= 0x7F);
            Assert.True(seen.Add(Encoding.ASCII.GetString(line.Text)));
        }
    }

    // What a guest would send to a terminal, or to a reader of the log.
    [Theory]
    [InlineData("\x1b[2Jsvsm: stopped: no", @"\x1b[2Jsvsm: stopped: no")]
    [InlineData("a\nsvsm: b\r", @"a\x0asvsm: b\x0d")]
    [InlineData(@"\x41", @"\x5cx41")]
    [InlineData("é", @"\xc3\xa9")]
    [InlineData("\0\x7f", @"\x00\x7f")]
    public void Append_HostileText_IsEscaped(string text, string expected)
    {
        LineBuffer line = default;
        foreach (byte value in Encoding.UTF8.GetBytes(text))
        {
            line.Append(value);
        }

        Assert.Equal(expected, Encoding.ASCII.GetString(line.Text));
        line.Clear();
        Assert.Equal(0, line.Text.Length);
    }

    [Theory]
    [InlineData('x', LineBuffer.MaxLength)]
    [InlineData('\n', LineBuffer.MaxLength)]
    public void Append_MoreThanFits_DropsTheRest(char value, int expected)
    {
        LineBuffer line = default;
        line.Append((byte)'x');
        for (int i = 0; i < 1000; i++)
        {
            line.Append((byte)value);
        }

        Assert.InRange(line.Text.Length, expected - 3, expected);
    }

    [Fact]
    public void Write_Line_IsInTheRing()
    {
        Write(3, 77, LogLevel.Warning, "svsm: hello");
        Assert.Equal((KernelRecord.MagicValue, KernelRecord.CurrentVersion, 1ul), (_head.Magic, _head.Version, _head.LogCount));
        Assert.Equal((1ul, 77ul, (ushort)3, LogLevel.Warning, (byte)0), (_entries[0].Number, _entries[0].Time, _entries[0].Cpu, _entries[0].Level, _entries[0].Flags));
        Assert.Equal("svsm: hello", TextOf(_entries[0]));
    }

    [Fact]
    public void Write_EmptyLine_TakesAnEntry()
    {
        Write(0, 0, LogLevel.Error, "");
        Assert.Equal((1ul, (byte)0), (_entries[0].Number, _entries[0].Length));
    }

    [Theory]
    [InlineData(104, 1)]
    [InlineData(105, 2)]
    [InlineData(LineBuffer.MaxLength, 4)]
    public void Write_LongLine_TakesSeveralEntries(int length, int expected)
    {
        string text = string.Concat(Enumerable.Range(0, length).Select(i => (char)('a' + (i % 26))));
        Write(0, 1, LogLevel.Debug, text);
        Assert.Equal((ulong)expected, _head.LogCount);
        Assert.Equal(text, string.Concat(_entries.Take(expected).Select(TextOf)));
        Assert.Equal(Enumerable.Repeat(LogEntry.GoesOn, expected - 1).Append((byte)0), _entries.Take(expected).Select(entry => entry.Flags));
    }

    [Fact]
    public void Write_MoreThanTheRingHas_ReplacesTheOldest()
    {
        for (int i = 1; i <= KernelRecord.LogEntryCount + 5; i++)
        {
            Write(0, (ulong)i, LogLevel.Information, $"line {i}");
        }

        Assert.Equal($"line {KernelRecord.LogEntryCount + 5}", TextOf(_entries[4]));
        Assert.Equal("line 6", TextOf(_entries[5]));
        Assert.Equal((ulong)KernelRecord.LogEntryCount + 5, _entries[4].Number);
    }

    // Each thread writes fewer entries than the ring has: nothing may be lost or mixed.
    [Fact]
    public void Write_SeveralCpusAtOnce_EachLineIsWhole()
    {
        const int Cpus = 8;
        const int Lines = KernelRecord.LogEntryCount / Cpus / 2;
        for (int round = 0; round < 50; round++)
        {
            _head = default;
            Array.Clear(_entries);
            Parallel.For(0, Cpus, cpu =>
            {
                for (int i = 0; i < Lines; i++)
                {
                    Write((uint)cpu, (ulong)i, LogLevel.Information, new string((char)('a' + cpu), 150));
                }
            });

            Assert.Equal((ulong)(Cpus * Lines * 2), _head.LogCount);
            Assert.Equal(Enumerable.Range(1, Cpus * Lines * 2).Select(number => (ulong)number), _entries.Select(entry => entry.Number));
            for (int i = 0; i < _entries.Length; i += 2)
            {
                Assert.Equal(new string((char)('a' + _entries[i].Cpu), 150), TextOf(_entries[i]) + TextOf(_entries[i + 1]));
                Assert.Equal((_entries[i].Cpu, _entries[i].Time), (_entries[i + 1].Cpu, _entries[i + 1].Time));
            }
        }
    }

    [Fact]
    public void CallIndex_CallsAndResults_HaveCountersOfTheirOwn()
    {
        SvsmResultCode[] results = [.. Enum.GetValues<SvsmResultCode>().Where(result => result != SvsmResultCode.ProtocolBase)];
        HashSet<int> seen = [];
        for (uint call = 0; call <= 8; call++)
        {
            Assert.All(results, result => Assert.True(seen.Add(CallIndex.Of(SvsmProtocol.Core, call, result))));
        }

        Assert.All(results, result => Assert.True(seen.Add(CallIndex.Of((SvsmProtocol)1, 3, result))));
        Assert.All(seen, index => Assert.InRange(index, 0, (CallCounters.Rows * CallCounters.Columns) - 1));
    }

    [Theory]
    [InlineData(0u, uint.MaxValue, ulong.MaxValue, 143)]
    [InlineData(uint.MaxValue, 0u, 0x8000_1002ul, 159)]
    [InlineData(0u, 7u, 0x8000_0008ul, 127)]
    [InlineData(0u, 0u, 0x1_8000_0000ul, 15)]
    public void CallIndex_AnythingElse_IsCountedAsOther(uint protocol, uint call, ulong result, int expected) =>
        Assert.Equal(expected, CallIndex.Of((SvsmProtocol)protocol, call, (SvsmResultCode)result));

    private void Write(uint cpu, ulong time, LogLevel level, string text) => new LogRing(ref _head, _entries).Write(cpu, time, level, Encoding.ASCII.GetBytes(text));

    private static string TextOf(LogEntry entry) => Encoding.ASCII.GetString(((ReadOnlySpan<byte>)entry.Text)[..entry.Length]);
}
