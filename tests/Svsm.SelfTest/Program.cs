// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The self-test image: runs what freestanding C# is said to be able to, one line per test, and ends the virtual machine.
// Console: COM1. Exit: isa-debug-exit at port 0xF4.

using System;
using System.Runtime;
using Svsm.Platform;

namespace Svsm.SelfTest;

internal struct Com1 : ITextSink
{
    private const ushort Data = 0x3F8;
    private const ushort LineStatus = 0x3FD;
    private const byte TransmitterEmpty = 0x20;

    public static void Write(byte value)
    {
        while ((X64.In8(LineStatus) & TransmitterEmpty) == 0)
        {
        }

        X64.Out8(Data, value);
    }
}

internal static unsafe class Program
{
    private const ushort ExitPort = 0xF4;
    private const uint PassedCode = 0x10;
    private const uint PanicCode = 0x20;

    [RuntimeExport("selftest_main")]
    private static void Main(byte* startInfo, byte* heap, nuint heapLength)
    {
        BootHeap.Initialize(heap, heapLength);
        RuntimeInit.Run();
        Text<Com1>.WriteLine("hello from freestanding C#"u8);
        Text<Com1>.WriteHex((ulong)startInfo, 16);
        Text<Com1>.WriteLine();
        Exit(PassedCode);
    }

    [RuntimeExport("svsm_fail_fast")]
    private static void FailFast(char* text, int length)
    {
        // SAFETY: the core library passes the extent of the text.
        Text<Com1>.Write("panic: "u8);
        Text<Com1>.Write(new ReadOnlySpan<char>(text, length));
        Text<Com1>.WriteLine();
        Exit(PanicCode);
    }

    private static void Exit(uint code)
    {
        X64.Out32(ExitPort, code);
        while (true)
        {
            X64.Halt();
        }
    }
}
