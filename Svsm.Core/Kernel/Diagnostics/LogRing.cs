// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The log in memory: a ring of entries (Svsm.Wire.LogEntry), written by all CPUs without a lock, because a CPU that panics writes too, whatever
// it holds. A line takes as many consecutive numbers as it needs entries; their places are nobody else's until the ring has come round.
//
//   number := 0, then the contents, then number := n      so a reader knows an entry that is half written

using System;
using System.Threading;
using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>Writes the log. A view of the memory that has it.</summary>
internal readonly ref struct LogRing
{
    private readonly ref KernelRecord _head;
    private readonly Span<LogEntry> _entries;

    /// <summary>Makes a view.</summary>
    /// <param name="head">The head.</param>
    /// <param name="entries">The ring, <see cref="KernelRecord.LogEntryCount"/> entries.</param>
    public LogRing(ref KernelRecord head, Span<LogEntry> entries)
    {
        _head = ref head;
        _entries = entries;
    }

    /// <summary>Writes a line.</summary>
    /// <param name="cpu">Number of the CPU.</param>
    /// <param name="time">Time-stamp counter.</param>
    /// <param name="level">Level.</param>
    /// <param name="text">The line, as <see cref="LineBuffer"/> has it.</param>
    public void Write(uint cpu, ulong time, LogLevel level, ReadOnlySpan<byte> text)
    {
        int count = Math.Max(1, (text.Length + LogEntry.TextLength - 1) / LogEntry.TextLength);
        ulong number = Interlocked.Add(ref _head.LogCount, (ulong)count) - (ulong)count;
        if (number == 0)
        {
            _head.Version = KernelRecord.CurrentVersion;
            Volatile.Write(ref _head.Magic, KernelRecord.MagicValue);
        }

        for (int i = 0; i < count; i++)
        {
            int start = i * LogEntry.TextLength;
            ReadOnlySpan<byte> part = text.Slice(start, Math.Min(LogEntry.TextLength, text.Length - start));
            ref LogEntry entry = ref _entries[(int)((number + (ulong)i) % KernelRecord.LogEntryCount)];

            // Exchange: the store is done before the contents change.
            Interlocked.Exchange(ref entry.Number, 0);
            entry.Time = time;
            entry.Cpu = (ushort)cpu;
            entry.Level = level;
            entry.Length = (byte)part.Length;
            entry.Flags = i + 1 < count ? LogEntry.GoesOn : (byte)0;
            part.CopyTo(entry.Text);
            Volatile.Write(ref entry.Number, number + (ulong)i + 1);
        }
    }
}
