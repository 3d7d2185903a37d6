// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// GDT, TSS and IDT.
//
// The IDT ends after vector 31. A vector beyond it, whoever raises it (the host by injection, an INT instruction), becomes a
// general-protection fault whose error code names the vector, and ends in a panic: there is no handler that could act on it.
// All gates are interrupt gates of privilege level 0. #DF, #VC, #HV, NMI and #MC switch to stacks of their own, because each may come
// when the current stack is not to be trusted. #HV has an entry of its own (Doorbell.S).

using System.Runtime;
using System.Runtime.CompilerServices;
using Svsm.Platform;

namespace Svsm.Kernel.Arch;

/// <summary>Vectors that the kernel names.</summary>
internal static class Vector
{
    /// <summary>Divide error.</summary>
    public const int DivideError = 0;

    /// <summary>Debug.</summary>
    public const int Debug = 1;

    /// <summary>Non-maskable interrupt.</summary>
    public const int Nmi = 2;

    /// <summary>Breakpoint.</summary>
    public const int Breakpoint = 3;

    /// <summary>Invalid opcode.</summary>
    public const int InvalidOpcode = 6;

    /// <summary>Double fault.</summary>
    public const int DoubleFault = 8;

    /// <summary>Stack fault.</summary>
    public const int StackFault = 12;

    /// <summary>General protection.</summary>
    public const int GeneralProtection = 13;

    /// <summary>Page fault.</summary>
    public const int PageFault = 14;

    /// <summary>x87 floating point.</summary>
    public const int FloatingPoint = 16;

    /// <summary>Alignment check.</summary>
    public const int AlignmentCheck = 17;

    /// <summary>Machine check.</summary>
    public const int MachineCheck = 18;

    /// <summary>SSE floating point.</summary>
    public const int SimdFloatingPoint = 19;

    /// <summary>Hypervisor injection: the host has something to tell.</summary>
    public const int Hypervisor = 28;

    /// <summary>VMM communication.</summary>
    public const int VmmCommunication = 29;

    /// <summary>Number of vectors with a gate.</summary>
    public const int Count = 32;
}

/// <summary>Loads the descriptor tables.</summary>
internal static unsafe class DescriptorTables
{
    private const ulong CodeDescriptor = 0x00AF_9B00_0000_FFFF;
    private const ulong DataDescriptor = 0x00CF_9300_0000_FFFF;
    private const ulong UserCodeDescriptor = 0x00AF_FB00_0000_FFFF;
    private const ulong UserDataDescriptor = 0x00CF_F300_0000_FFFF;
    private const ulong TaskDescriptorAttributes = 0x89ul << 40;
    private const ulong InterruptGate = 0x8Eul << 40;
    private const int StubLength = 16;
    private const int IstDoubleFault = 1;
    private const int IstVc = 2;
    private const int IstNmi = 3;
    private const int IstHv = 4;

    [InlineArray(Vector.Count * 2)]
    private struct Gates
    {
        private ulong _element0;
    }

    private static Gates s_idt;

    /// <summary>Builds the IDT, which all CPUs share. Once, before <see cref="Load"/>.</summary>
    public static void Build()
    {
        ulong stub = ExceptionStubs();
        for (int vector = 0; vector < Vector.Count; vector++)
        {
            int stack = vector switch
            {
                Vector.DoubleFault => IstDoubleFault,
                Vector.VmmCommunication => IstVc,
                Vector.Nmi or Vector.MachineCheck => IstNmi,
                Vector.Hypervisor => IstHv,
                _ => 0,
            };
            ulong handler = vector == Vector.Hypervisor ? HvEntry() : stub + ((ulong)vector * StubLength);
            s_idt[vector * 2] =
                (handler & 0xFFFF) | ((ulong)KernelLayout.CodeSelector << 16) | ((ulong)stack << 32) | InterruptGate | ((handler >> 16 & 0xFFFF) << 48);
            s_idt[(vector * 2) + 1] = handler >> 32;
        }
    }

    /// <summary>Builds the current CPU's GDT and TSS, and loads them and the IDT.</summary>
    public static void Load()
    {
        ref PerCpu cpu = ref PerCpu.Current;
        cpu.Tss.Ist[IstDoubleFault - 1] = KernelLayout.DoubleFaultStackTop;
        cpu.Tss.Ist[IstVc - 1] = KernelLayout.VcStackTop;
        cpu.Tss.Ist[IstNmi - 1] = KernelLayout.NmiStackTop;
        cpu.Tss.Ist[IstHv - 1] = KernelLayout.HvStackTop;
        cpu.Tss.IOMapBase = (ushort)sizeof(TaskStateSegment);

        // SAFETY: the per-CPU page does not move, and the tables stay in it as long as the CPU runs.
        ulong taskBase = (ulong)Unsafe.AsPointer(ref cpu.Tss);
        cpu.Gdt[1] = CodeDescriptor;
        cpu.Gdt[2] = DataDescriptor;
        cpu.Gdt[3] = ((uint)sizeof(TaskStateSegment) - 1) | ((taskBase & 0xFF_FFFF) << 16) | TaskDescriptorAttributes | ((taskBase >> 24 & 0xFF) << 56);
        cpu.Gdt[4] = taskBase >> 32;
        cpu.Gdt[5] = UserDataDescriptor;
        cpu.Gdt[6] = UserCodeDescriptor;

        DescriptorTable table;
        table.Limit = (7 * sizeof(ulong)) - 1;
        table.Base = (ulong)Unsafe.AsPointer(ref cpu.Gdt[0]);
        LoadGdt(&table, KernelLayout.CodeSelector, KernelLayout.DataSelector);
        X64.LoadTaskRegister(KernelLayout.TaskSelector);

        table.Limit = (Vector.Count * 2 * sizeof(ulong)) - 1;

        // SAFETY: a static field of a freestanding image never moves.
        table.Base = (ulong)Unsafe.AsPointer(ref s_idt);
        X64.LoadIdt(&table);
    }

    [RuntimeImport("*", "svsm_load_gdt")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void LoadGdt(DescriptorTable* table, ulong codeSelector, ulong dataSelector);

    [RuntimeImport("*", "svsm_exception_stubs_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong ExceptionStubs();

    [RuntimeImport("*", "svsm_hv_entry_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong HvEntry();
}
