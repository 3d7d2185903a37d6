// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a running kernel keeps about itself in its own memory, for those who may read that: debuggers, and the simulated machine at the end of a
// run. It stands at the symbol svsm_record of the image's map, and never leaves the VM by itself.
//
//   KernelRecord     head, at svsm_record
//   LogEntry x 64    ring, right behind the head: entry n of the log is in place (n - 1) % 64
//   CallCounters     one per CPU, at KernelRecord.Counters, once the kernel has memory for them
//
// Everything is written while others read: a log entry counts when its number is the one that its place should have, before and after it was
// copied; counters only grow, each by its own CPU. docs/kernel.md has the picture.

using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Wire;

/// <summary>How important a line of the log is.</summary>
public enum LogLevel : byte
{
    /// <summary>No line has this level; as a limit: nothing.</summary>
    None = 0,

    /// <summary>The VM ends.</summary>
    Error = 1,

    /// <summary>Something is lost: the guest's or the host's doing.</summary>
    Warning = 2,

    /// <summary>What there is to know of a boot that goes well. Nothing secret.</summary>
    Information = 3,

    /// <summary>For debugging: may tell secrets, such as registers.</summary>
    Debug = 4,
}

/// <summary>Head of the record. 64 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
public struct KernelRecord
{
    /// <summary>Symbol of the head in the image's map.</summary>
    public const string Symbol = "svsm_record";

    /// <summary>"SVSMRECD".</summary>
    public const ulong MagicValue = 0x4443_4552_4D53_5653;

    /// <summary>The version of this layout.</summary>
    public const uint CurrentVersion = 1;

    /// <summary>Number of places in the ring.</summary>
    public const int LogEntryCount = 64;

    /// <summary><see cref="MagicValue"/>; zero before the first line.</summary>
    [FieldOffset(0x00)]
    public ulong Magic;

    /// <summary><see cref="CurrentVersion"/>.</summary>
    [FieldOffset(0x08)]
    public uint Version;

    /// <summary>Number of CPUs that have counters.</summary>
    [FieldOffset(0x0C)]
    public uint CpuCount;

    /// <summary>Number of log entries since the start, those among them that the ring has no more.</summary>
    [FieldOffset(0x10)]
    public ulong LogCount;

    /// <summary>Virtual address, in the kernel, of the first CPU's <see cref="CallCounters"/>; 0: there are none yet.</summary>
    [FieldOffset(0x18)]
    public ulong Counters;

    /// <summary>4-KiB frames of the SVSM in use, at the last return from a guest.</summary>
    [FieldOffset(0x20)]
    public uint FramesInUse;

    /// <summary>Its frames in all.</summary>
    [FieldOffset(0x24)]
    public uint FrameCount;
}

/// <summary>Text of a log entry: printable ASCII; anything else, and the backslash, as \x and two hexadecimal digits.</summary>
[InlineArray(LogEntry.TextLength)]
public struct LogText
{
    private byte _element0;
}

/// <summary>A line of the log, or a part of one. 128 bytes.</summary>
[StructLayout(LayoutKind.Explicit, Size = 128)]
public struct LogEntry
{
    /// <summary>Most bytes of text.</summary>
    public const int TextLength = 104;

    /// <summary>In <see cref="Flags"/>: the line goes on in the next entry.</summary>
    public const byte GoesOn = 1;

    /// <summary>Number from 1; 0: the entry is being written, or was never.</summary>
    [FieldOffset(0x00)]
    public ulong Number;

    /// <summary>Time-stamp counter; 0: in a panic.</summary>
    [FieldOffset(0x08)]
    public ulong Time;

    /// <summary>Number of the CPU.</summary>
    [FieldOffset(0x10)]
    public ushort Cpu;

    /// <summary>Level.</summary>
    [FieldOffset(0x12)]
    public LogLevel Level;

    /// <summary>Bytes of <see cref="Text"/>.</summary>
    [FieldOffset(0x13)]
    public byte Length;

    /// <summary><see cref="GoesOn"/>, or 0.</summary>
    [FieldOffset(0x14)]
    public byte Flags;

    /// <summary>The text.</summary>
    [FieldOffset(0x18)]
    public LogText Text;
}

/// <summary>
/// Answered calls of one CPU, by call and result: <see cref="Rows"/> times <see cref="Columns"/> numbers. Row 0 to 7: that call of the core protocol; 8: its
/// other calls; 9: other protocols. Column 0: SUCCESS; 1 to 8: the result 0x8000_0000 + column - 1; 9: FAIL_INPUT; 10: FAIL_INUSE; 11:
/// SIZE_MISMATCH; 12: NO_CHANGE; 15: any other.
/// </summary>
[InlineArray(CallCounters.Rows * CallCounters.Columns)]
public struct CallCounters
{
    /// <summary>Number of rows.</summary>
    public const int Rows = 10;

    /// <summary>Number of columns.</summary>
    public const int Columns = 16;

    private ulong _element0;
}
