// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Svsm.Wire;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class KernelObservationTests
{
    private const ulong Address = 0xFFFF_FF80_0021_1000;
    private const ulong CountersAddress = 0xFFFF_FF81_0000_1000;
    private const int PerCpu = CallCounters.Rows * CallCounters.Columns;

    private readonly LogEntry[] _entries = new LogEntry[KernelRecord.LogEntryCount];
    private readonly ulong[] _counters = new ulong[2 * PerCpu];
    private KernelRecord _head = new()
    {
        Magic = KernelRecord.MagicValue,
        Version = KernelRecord.CurrentVersion,
        CpuCount = 2,
        Counters = CountersAddress,
        FramesInUse = 24,
        FrameCount = 1990,
    };

    [Fact]
    public async Task Read_Record_HasLogCountersAndFrames()
    {
        Add("svsm: one");
        Add("svsm: a long line, ", LogEntry.GoesOn, LogLevel.Debug);
        Add("its end", 0, LogLevel.Debug);
        _counters[PerCpu + (1 * CallCounters.Columns) + 12] = 7;
        _counters[0] = 3;

        KernelObservation? kernel = await ReadAsync();

        Assert.NotNull(kernel);
        Assert.Equal([("svsm: one", LogLevel.Information), ("svsm: a long line, its end", LogLevel.Debug)], kernel.Log.Select(line => (line.Text, line.Level)));
        Assert.Equal([new KernelCallCount(0, "REMAP_CA", "SUCCESS", 3), new KernelCallCount(1, "PVALIDATE", "NO_CHANGE", 7)], kernel.Calls);
        Assert.Equal((24, 1990), (kernel.FramesInUse, kernel.FrameCount));
    }

    // The oldest line of a ring that has come round may have lost its beginning.
    [Fact]
    public async Task Read_RingThatCameRound_HasItsLastWholeLines()
    {
        for (int i = 0; i < KernelRecord.LogEntryCount / 2; i++)
        {
            Add($"svsm: {i} ", LogEntry.GoesOn);
            Add("end");
        }

        Add("svsm: last");
        KernelObservation? kernel = await ReadAsync();

        Assert.Equal("svsm: 1 end", kernel!.Log[0].Text);
        Assert.Equal("svsm: last", kernel.Log[^1].Text);
        Assert.Equal((KernelRecord.LogEntryCount / 2), kernel.Log.Length);
    }

    [Fact]
    public async Task Read_EntryThatIsBeingWritten_IsLeftOut()
    {
        Add("svsm: one");
        Add("svsm: two");
        Add("svsm: three");
        _entries[1].Number = 0;
        Assert.Equal(["svsm: one", "svsm: three"], (await ReadAsync())!.Log.Select(line => line.Text));
    }

    [Fact]
    public async Task Read_HostileRecord_IsReadWithinItsBounds()
    {
        Add("svsm: \u001b[2J\n");
        Add("svsm: too long");
        Add("svsm: no level");
        _entries[1].Length = byte.MaxValue;
        _entries[2].Level = (LogLevel)9;
        _head.CpuCount = uint.MaxValue;
        _head.FramesInUse = uint.MaxValue;
        _head.LogCount = ulong.MaxValue;

        KernelObservation? kernel = await ReadAsync();
        Assert.Empty(kernel!.Log);
        Assert.Empty(kernel.Calls);
        Assert.Equal(int.MaxValue, kernel.FramesInUse);

        _head.LogCount = 3;
        Assert.Equal("svsm: ?[2J?", Assert.Single((await ReadAsync())!.Log).Text);
    }

    [Theory]
    [InlineData(0ul, KernelRecord.CurrentVersion)]
    [InlineData(KernelRecord.MagicValue, 99u)]
    public async Task Read_NoRecordOrAnotherVersion_IsNothing(ulong magic, uint version)
    {
        _head.Magic = magic;
        _head.Version = version;
        Assert.Null(await ReadAsync());
    }

    [Fact]
    public async Task Read_MemoryThatIsNotThere_IsNothing() => Assert.Null(await KernelObservation.ReadAsync(Address, (_, _) => Task.FromResult<byte[]>([])));

    [Fact]
    public async Task Reports_Run_HaveIt()
    {
        Add("svsm: stopped: for a test");
        Add("svsm:   at 0xffffff8000201004", 0, LogLevel.Error);
        _counters[1] = 5;
        _counters[PerCpu + 1] = 6;
        _counters[PerCpu + 2] = 1;
        var result = new MachineResult
        {
            Stop = MachineStop.Terminate,
            LaunchDigest = new byte[48],
            Kernel = await ReadAsync(),
            Symbols = SymbolMap.Read(new StringReader("0xFFFFFF8000201000 Function\n")),
        };

        Assert.Contains("  12  REMAP_CA (INCOMPLETE 11, UNSUPPORTED_PROTOCOL 1)\n", result.ToSummary(), StringComparison.Ordinal);
        Assert.Contains("24  in use, of 1990", result.ToSummary(), StringComparison.Ordinal);
        Assert.Contains("cpu0 error       svsm:   at 0xffffff8000201004 Function + 0x4", result.ToString(), StringComparison.Ordinal);
        using JsonDocument json = JsonDocument.Parse(result.ToJson());
        JsonElement svsm = json.RootElement.GetProperty("svsm");
        Assert.Equal("svsm: stopped: for a test", svsm.GetProperty("log")[0].GetProperty("text").GetString());
        Assert.Equal("information", svsm.GetProperty("log")[0].GetProperty("level").GetString());
        Assert.Equal(6, svsm.GetProperty("calls")[1].GetProperty("count").GetInt32());
        Assert.Equal(24, svsm.GetProperty("framesInUse").GetInt32());
    }

    private void Add(string text, byte flags = 0, LogLevel level = LogLevel.Information)
    {
        ref LogEntry entry = ref _entries[(int)(_head.LogCount % KernelRecord.LogEntryCount)];
        entry = new LogEntry { Number = ++_head.LogCount, Level = level, Length = (byte)text.Length, Flags = flags };
        Encoding.ASCII.GetBytes(text, entry.Text);
    }

    // Memory in which a read gives at most 2 KiB.
    private Task<KernelObservation?> ReadAsync() => KernelObservation.ReadAsync(Address, (address, length) =>
    {
        byte[] record = [.. MemoryMarshal.AsBytes(new ReadOnlySpan<KernelRecord>(in _head)), .. MemoryMarshal.AsBytes<LogEntry>(_entries)];
        byte[] counters = MemoryMarshal.AsBytes<ulong>(_counters).ToArray();
        (byte[] bytes, ulong start) = address >= CountersAddress ? (counters, CountersAddress) : (record, Address);
        int offset = (int)Math.Min(address - start, (ulong)bytes.Length);
        return Task.FromResult(bytes.AsSpan(offset, Math.Min(Math.Min(length, 2048), bytes.Length - offset)).ToArray());
    });
}
