// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Processor exceptions: what compiled code leaves to the hardware (division by zero, null references) must arrive here.

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Platform;

namespace Svsm.SelfTest;

internal static unsafe class Exceptions
{
    private const int VectorCount = 32;
    private const int EntryStride = 16;
    private const int PageFault = 14;
    private const ushort CodeSelector = 8;
    private const byte PresentInterruptGate = 0x8E;

    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct Gate
    {
        internal ushort OffsetLow;
        internal ushort Selector;
        internal byte Stack;
        internal byte Attributes;
        internal ushort OffsetMiddle;
        internal uint OffsetHigh;
        internal uint Reserved;
    }

    [InlineArray(VectorCount)]
    private struct GateTable
    {
        private Gate _gate0;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct Frame
    {
        internal ulong Vector;
        internal ulong ErrorCode;
        internal ulong InstructionPointer;
    }

    private static GateTable s_gates;

    internal static void Install()
    {
        ulong entry = (ulong)EntryTable();
        for (int i = 0; i < VectorCount; i++, entry += EntryStride)
        {
            s_gates[i] = new Gate
            {
                OffsetLow = (ushort)entry,
                OffsetMiddle = (ushort)(entry >> 16),
                OffsetHigh = (uint)(entry >> 32),
                Selector = CodeSelector,
                Attributes = PresentInterruptGate,
            };
        }

        // SAFETY: statics do not move.
        DescriptorTable table;
        table.Limit = (ushort)(sizeof(GateTable) - 1);
        table.Base = (ulong)Unsafe.AsPointer(ref s_gates);
        X64.LoadIdt(&table);
    }

    [RuntimeExport("selftest_exception")]
    private static void Handle(Frame* frame)
    {
        Text<Com1>.Write("panic: exception "u8);
        Text<Com1>.WriteDecimal(frame->Vector);
        if (frame->Vector == PageFault)
        {
            Text<Com1>.Write(" at address "u8);
            Text<Com1>.WriteHex(X64.ReadCr2());
        }

        Text<Com1>.WriteLine();
        Program.ExitAfterException();
    }

    [RuntimeImport("*", "selftest_exception_entry_table")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void* EntryTable();
}
