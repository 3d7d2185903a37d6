// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What the SVSM's kernel keeps about itself in its memory (Svsm.Wire.KernelRecord): its log, counters of calls, frames. Read at the symbol
// svsm_record; whatever stands there is checked, for the memory is that of a guest.

using System;
using System.Collections.Generic;
using System.Collections.Immutable;
using System.Globalization;
using System.Linq;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading.Tasks;
using Svsm.Wire;

namespace Svsm.Simulator;

/// <summary>A line of the kernel's log.</summary>
/// <param name="Time">Time-stamp counter; 0: in a panic.</param>
/// <param name="Cpu">Number of the CPU.</param>
/// <param name="Level">Level.</param>
/// <param name="Text">The line, printable ASCII.</param>
public sealed record KernelLogLine(ulong Time, int Cpu, LogLevel Level, string Text);

/// <summary>How often a CPU gave an answer.</summary>
/// <param name="Cpu">Number of the CPU.</param>
/// <param name="Call">Name of the call.</param>
/// <param name="Result">Name of the result.</param>
/// <param name="Count">How often.</param>
public sealed record KernelCallCount(int Cpu, string Call, string Result, ulong Count);

/// <summary>What the SVSM's kernel tells of itself.</summary>
public sealed record KernelObservation
{
    private const int MaxCpus = 512;
    private const int HeadLength = 64;
    private const int EntryLength = 128;

    private static readonly string[] s_calls =
        ["REMAP_CA", "PVALIDATE", "CREATE_VCPU", "DELETE_VCPU", "DEPOSIT_MEM", "WITHDRAW_MEM", "QUERY_PROTOCOL", "CONFIGURE_VTOM", "other core calls", "other protocols"];

    private static readonly string[] s_results =
    [
        "SUCCESS", "INCOMPLETE", "UNSUPPORTED_PROTOCOL", "UNSUPPORTED_CALL", "INVALID_ADDRESS", "INVALID_FORMAT", "INVALID_PARAMETER", "INVALID_REQUEST", "BUSY",
        "FAIL_INPUT", "FAIL_INUSE", "SIZE_MISMATCH", "NO_CHANGE", "13", "14", "other",
    ];

    /// <summary>The lines that the log in memory still has, oldest first; the levels that the console did not get are among them.</summary>
    public ImmutableArray<KernelLogLine> Log { get; private init; } = [];

    /// <summary>Counters that are not 0, by CPU.</summary>
    public ImmutableArray<KernelCallCount> Calls { get; private init; } = [];

    /// <summary>4-KiB frames of the SVSM in use, when it last ran the guest.</summary>
    public int FramesInUse { get; private init; }

    /// <summary>Its frames in all.</summary>
    public int FrameCount { get; private init; }

    /// <summary>Reads what there is.</summary>
    /// <param name="address">Address of the record.</param>
    /// <param name="readAsync">Reads bytes of the kernel's memory; fewer if there are not so many.</param>
    /// <returns>What is there; null: no record, or none yet.</returns>
    internal static async Task<KernelObservation?> ReadAsync(ulong address, Func<ulong, int, Task<byte[]>> readAsync)
    {
        byte[] bytes = await ReadAllAsync(address, HeadLength + (KernelRecord.LogEntryCount * EntryLength), readAsync).ConfigureAwait(false);
        if (bytes.Length < HeadLength)
        {
            return null;
        }

        KernelRecord head = MemoryMarshal.Read<KernelRecord>(bytes);
        if (head.Magic != KernelRecord.MagicValue || head.Version != KernelRecord.CurrentVersion)
        {
            return null;
        }

        int cpus = head.Counters == 0 ? 0 : (int)Math.Min(head.CpuCount, MaxCpus);
        byte[] counters = await ReadAllAsync(head.Counters, cpus * Unsafe.SizeOf<CallCounters>(), readAsync).ConfigureAwait(false);
        return new KernelObservation
        {
            Log = ReadLog(MemoryMarshal.Cast<byte, LogEntry>(bytes.AsSpan(HeadLength)), head.LogCount),
            Calls = ReadCalls(MemoryMarshal.Cast<byte, ulong>(counters)),
            FramesInUse = (int)Math.Min(head.FramesInUse, int.MaxValue),
            FrameCount = (int)Math.Min(head.FrameCount, int.MaxValue),
        };
    }

    /// <summary>A line of the log as text.</summary>
    /// <param name="line">The line.</param>
    /// <param name="symbols">Names for addresses in it.</param>
    internal static string Render(KernelLogLine line, SymbolMap symbols) =>
        string.Create(CultureInfo.InvariantCulture, $"cpu{line.Cpu} {line.Level.ToString().ToLowerInvariant(),-11} {symbols.Annotate(line.Text)}");

    private static async Task<byte[]> ReadAllAsync(ulong address, int length, Func<ulong, int, Task<byte[]>> readAsync)
    {
        byte[] bytes = new byte[length];
        int done = 0;
        while (done < length && await readAsync(address + (ulong)done, length - done).ConfigureAwait(false) is { Length: > 0 } part)
        {
            part.AsSpan(0, Math.Min(part.Length, length - done)).CopyTo(bytes.AsSpan(done));
            done += part.Length;
        }

        return done >= length ? bytes : bytes[..done];
    }

    // Entries that have the number of their place; a line whose first part is gone, or whose last was not written, is not told.
    private static ImmutableArray<KernelLogLine> ReadLog(ReadOnlySpan<LogEntry> entries, ulong count)
    {
        var lines = ImmutableArray.CreateBuilder<KernelLogLine>();
        var text = new StringBuilder();
        bool isWhole = count <= KernelRecord.LogEntryCount;
        int there = entries.Length == KernelRecord.LogEntryCount ? (int)Math.Min(count, KernelRecord.LogEntryCount) : 0;
        for (int i = 0; i < there; i++)
        {
            ulong number = count - (ulong)there + (ulong)i + 1;
            ref readonly LogEntry entry = ref entries[(int)((number - 1) % KernelRecord.LogEntryCount)];
            if (entry.Number != number || entry.Length > LogEntry.TextLength || entry.Level is LogLevel.None or > LogLevel.Debug)
            {
                isWhole = false;
                text.Clear();
                continue;
            }

            foreach (byte value in ((ReadOnlySpan<byte>)entry.Text)[..entry.Length])
            {
                text.Append(value is >= 0x20 and < 0x7F ? (char)value : '?');
            }

            if ((entry.Flags & LogEntry.GoesOn) != 0)
            {
                continue;
            }

            // The first line of a ring that has come round may be the rest of one.
            if (isWhole || text.ToString().StartsWith("svsm: ", StringComparison.Ordinal))
            {
                lines.Add(new KernelLogLine(entry.Time, entry.Cpu, entry.Level, text.ToString()));
            }

            isWhole = true;
            text.Clear();
        }

        return lines.ToImmutable();
    }

    private static ImmutableArray<KernelCallCount> ReadCalls(ReadOnlySpan<ulong> counters)
    {
        const int PerCpu = CallCounters.Rows * CallCounters.Columns;
        var calls = ImmutableArray.CreateBuilder<KernelCallCount>();
        for (int i = 0; i < counters.Length; i++)
        {
            if (counters[i] != 0)
            {
                int index = i % PerCpu;
                calls.Add(new KernelCallCount(i / PerCpu, s_calls[index / CallCounters.Columns], s_results[index % CallCounters.Columns], counters[i]));
            }
        }

        return calls.ToImmutable();
    }

    /// <summary>The counters of all CPUs together.</summary>
    /// <returns>By call, in the order of their numbers: how often each result.</returns>
    internal IEnumerable<(string Call, IReadOnlyList<(string Result, ulong Count)> Results)> CallsOfAllCpus() =>
        Calls.GroupBy(count => count.Call).OrderBy(group => Array.IndexOf(s_calls, group.Key)).Select(group => (
            group.Key,
            (IReadOnlyList<(string, ulong)>)[.. group.GroupBy(count => count.Result).OrderBy(results => Array.IndexOf(s_results, results.Key))
                .Select(results => (results.Key, results.Aggregate(0ul, (sum, count) => unchecked(sum + count.Count))))]));
}
