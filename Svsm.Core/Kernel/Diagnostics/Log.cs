// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The log. Lines are put together per CPU, in pieces, and go out whole: into the ring (LogRing.cs), and to the console if the image allows that
// for their level. The limit is measured (ImageConfiguration.ConsoleLevel). The console is public, so what may tell a secret has the level Debug.

using System;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Locks;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>Writes lines.</summary>
internal static unsafe class Log
{
    private static KernelLock s_console;
    private static LogLevel s_consoleLevel;

    /// <summary>Sets which lines the console gets: those of this level and the more important ones.</summary>
    public static void Initialize(LogLevel consoleLevel) => s_consoleLevel = consoleLevel;

    /// <summary>Adds text to the line.</summary>
    public static void Text(ReadOnlySpan<byte> text) => Text<Line>.Write(text);

    /// <summary>Adds UTF-16 text to the line.</summary>
    public static void Text(ReadOnlySpan<char> text) => Text<Line>.Write(text);

    /// <summary>Adds a number as 0x and hexadecimal digits.</summary>
    public static void Hex(ulong value, int minimumDigits = 1)
    {
        Text("0x"u8);
        Text<Line>.WriteHex(value, minimumDigits);
    }

    /// <summary>Adds a number in decimal.</summary>
    public static void Decimal(ulong value) => Text<Line>.WriteDecimal(value);

    /// <summary>Adds text and ends the line.</summary>
    public static void End(ReadOnlySpan<byte> text, LogLevel level = LogLevel.Information)
    {
        Text(text);
        ref PerCpu cpu = ref PerCpu.Current;
        bool isHeld = cpu.Line.Text.Length != 0 && !cpu.Panics;

        // In a panic nothing that could fail is asked for, and no lock waited for: another CPU, or this one, may hold it.
        ulong time = cpu.Panics ? 0 : X64.ReadTimeStampCounter();
        KernelRecords.Ring.Write(cpu.Index, time, level, cpu.Line.Text);
        if (level <= s_consoleLevel)
        {
            if (!cpu.Panics)
            {
                s_console.Acquire(LockRank.Console);
            }

            Devices.Console.WriteLine(cpu.Line.Text);
            if (!cpu.Panics)
            {
                s_console.Release(LockRank.Console);
            }
        }

        cpu.Line.Clear();
        if (isHeld)
        {
            CpuLocks.Release();
        }
    }

    /// <summary>Ends a line that something interrupted; nothing happens when there is none.</summary>
    public static void EndInterrupted()
    {
        if (PerCpu.Current.Line.Text.Length != 0)
        {
            End(default, LogLevel.Error);
        }
    }

    private struct Line : ITextSink
    {
        public static void Write(byte value)
        {
            // The line is the CPU's: whoever has begun one stays until its end.
            ref PerCpu cpu = ref PerCpu.Current;
            if (cpu.Line.Text.Length == 0 && !cpu.Panics)
            {
                CpuLocks.Hold();
            }

            cpu.Line.Append(value);
        }
    }
}
