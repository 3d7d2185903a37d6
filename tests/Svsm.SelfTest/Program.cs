// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The self-test image: runs what freestanding C# is said to be able to, one line per test, and ends the virtual machine.
// Command line "panic=<name>" runs one failure of PanicTests instead.
// Console: COM1. Exit: isa-debug-exit at port 0xF4; QEMU's exit code is twice the value plus one.

using System;
using System.Runtime;
using Svsm.Platform;

namespace Svsm.SelfTest;

internal static unsafe class Program
{
    private const ushort ExitPort = 0xF4;
    private const uint PassedCode = 0x10;
    private const uint FailedCode = 0x11;
    private const uint PanicCode = 0x20;

    private const ulong VirtualBase = 0xFFFF_FF80_0000_0000;
    private const uint StartInfoMagic = 0x336E_C578;
    private const int CommandLineOffset = 24;
    private const int MaximumCommandLine = 256;

    [RuntimeExport("selftest_main")]
    private static void Main(byte* startInfo, byte* heap, nuint heapLength)
    {
        Exceptions.Install();
        BootHeap.Initialize(heap, heapLength);
        RuntimeInit.Run();

        ReadOnlySpan<byte> commandLine = CommandLine(startInfo);
        ReadOnlySpan<byte> panic = "panic="u8;
        if (commandLine.StartsWith(panic))
        {
            PanicTests.Run(commandLine[panic.Length..]);
            Text<Com1>.WriteLine("no panic came"u8);
            Exit(FailedCode);
        }

        LanguageTests.Run();
        DispatchTests.Run();
        StaticsTests.Run();
        InteropTests.Run();
        MemoryTests.Run();
        CoreLibTests.Run();
        PlatformTests.Run();

        Text<Com1>.Write("pass="u8);
        Text<Com1>.WriteDecimal(Check.Passed);
        Text<Com1>.Write(" fail="u8);
        Text<Com1>.WriteDecimal(Check.Failed);
        Text<Com1>.WriteLine();
        Exit(Check.Failed == 0 ? PassedCode : FailedCode);
    }

    // SAFETY: the loader passes hvm_start_info; it and the zero-terminated command line lie in the first GiB, which is mapped.
    private static ReadOnlySpan<byte> CommandLine(byte* startInfo)
    {
        if (*(uint*)startInfo != StartInfoMagic)
        {
            Environment.FailFast("the start info has no magic number");
        }

        ulong address = *(ulong*)(startInfo + CommandLineOffset);
        if (address == 0)
        {
            return default;
        }

        var text = new ReadOnlySpan<byte>((byte*)(VirtualBase + address), MaximumCommandLine);
        int end = text.IndexOf((byte)0);
        return end < 0 ? text : text[..end];
    }

    /// <summary>Prints why, and ends the machine.</summary>
    [RuntimeExport("svsm_fail_fast")]
    internal static void FailFast(char* text, int length)
    {
        // SAFETY: the core library passes the extent of the text.
        Text<Com1>.Write("panic: "u8);
        Text<Com1>.Write(new ReadOnlySpan<char>(text, length));
        Text<Com1>.WriteLine();
        Exit(PanicCode);
    }

    internal static void ExitAfterException() => Exit(PanicCode);

    private static void Exit(uint code)
    {
        X64.Out32(ExitPort, code);
        while (true)
        {
            X64.Halt();
        }
    }
}
