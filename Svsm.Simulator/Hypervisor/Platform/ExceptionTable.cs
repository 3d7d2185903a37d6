// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The hypervisor's interrupt descriptor table: every exception of its own ends the run with a log line. Interrupts come only where Entry.S
// lets them.

using System.Runtime.InteropServices;
using Svsm.Platform;

namespace Svsm.Hypervisor;

/// <summary>The interrupt descriptor table.</summary>
internal static unsafe class ExceptionTable
{
    /// <summary>Number of exceptions; the vectors behind them are the outer timer's and the spurious one (OuterApic.cs).</summary>
    public const int Exceptions = 32;

    private const int Pins = 4;
    private const int Vectors = Exceptions + 2 + Pins;
    private const int BytesPerStub = 16;
    private const ushort CodeSelector = 8;
    private const byte PresentInterruptGate = 0x8E;

    private static Gates s_gates;

    /// <summary>Builds and loads the table.</summary>
    /// <param name="stubs">Address of the first stub of Entry.S.</param>
    public static void Load(ulong stubs)
    {
        fixed (Gates* gates = &s_gates)
        {
            // SAFETY: the static has room for all vectors and does not move.
            var gate = (Gate*)gates;
            for (int vector = 0; vector < Vectors; vector++)
            {
                ulong stub = stubs + (ulong)(vector * BytesPerStub);
                gate[vector] = new Gate
                {
                    OffsetLow = (ushort)stub,
                    Selector = CodeSelector,
                    Type = PresentInterruptGate,
                    OffsetMiddle = (ushort)(stub >> 16),
                    OffsetHigh = (uint)(stub >> 32),
                };
            }

        }

        LoadOnThisProcessor();
    }

    /// <summary>Loads the table, which was built already, on another processor.</summary>
    public static void LoadOnThisProcessor()
    {
        fixed (Gates* gates = &s_gates)
        {
            // SAFETY: the static does not move.
            var pointer = new DescriptorTable { Limit = (ushort)((Vectors * sizeof(Gate)) - 1), Base = (ulong)gates };
            X64.LoadIdt(&pointer);
        }
    }

    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct Gate
    {
        public ushort OffsetLow;
        public ushort Selector;
        public byte InterruptStack;
        public byte Type;
        public ushort OffsetMiddle;
        public uint OffsetHigh;
        public uint Reserved;
    }

    [System.Runtime.CompilerServices.InlineArray(Vectors * 2)]
    private struct Gates
    {
        private ulong _element0;
    }
}
