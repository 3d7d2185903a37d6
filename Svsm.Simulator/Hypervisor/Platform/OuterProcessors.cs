// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The processors that run vCPUs, when each vCPU has one (Model/VcpuThreads.cs). They are started one after the other by INIT and
// start-up interrupts, come in through a page below 1 MiB (Entry.S), and get a stack and a host save area of their own.
//
// vCPU n has processor n + 1. The first processor starts the others and halts for good: QEMU 7.2 and those after it have every FXRSTOR,
// FRSTOR and FLDENV, on whatever processor, clear a flag of the first one (IGNNE#) by a read and a write that nothing makes atomic. What the first one
// changes of the flags beside it in between is undone: GIF, and whether it walks nested page tables. Each entry has an FXRSTOR, so a vCPU there would
// sooner or later run its guest by the hypervisor's page tables, or the hypervisor by the guest's. One that halts changes no flag.

using System;
using System.Runtime;
using System.Threading;
using Svsm.Platform;

namespace Svsm.Hypervisor;

/// <summary>Starts the processors of vCPUs.</summary>
internal static unsafe class OuterProcessors
{
    // SAFETY (whole type): the start page is RAM of every PC, and nothing of the outer firmware is needed any more; stacks come from the pool.

    private const uint StartPage = 0x8000;
    private const ulong StackFrames = 16;
    private const ulong StartNanoseconds = 10_000_000_000;
    private const ulong RepeatNanoseconds = 100_000_000;

    private static VirtualMachine? s_machine;
    private static VirtualCpu? s_starting;
    private static byte* s_hostSave;
    private static int s_started;

    /// <summary>The processor of a vCPU.</summary>
    /// <param name="cpu">Number of the vCPU.</param>
    public static int Of(int cpu) => cpu + 1;

    /// <summary>Starts a processor for each vCPU. They wait for the lock, which this processor has.</summary>
    /// <param name="machine">The machine.</param>
    /// <param name="startCode">Code of Entry.S.</param>
    /// <param name="stackPointer">Where that finds its stack.</param>
    /// <returns>Number of the processor that does not start, or 0.</returns>
    public static int Start(VirtualMachine machine, ReadOnlySpan<byte> startCode, ulong* stackPointer)
    {
        startCode.CopyTo(new Span<byte>((byte*)StartPage, startCode.Length));
        s_machine = machine;
        for (int i = 0; i < machine.Cpus.Length; i++)
        {
            s_starting = machine.Cpus[i];
            s_hostSave = machine.Pool.AllocateZeroed();
            *stackPointer = (ulong)machine.Pool.AllocateContiguous(StackFrames) + (StackFrames * Amd64.PageSize);
            if (!TryStart(machine, Of(i)))
            {
                return Of(i);
            }
        }

        return 0;
    }

    private static bool TryStart(VirtualMachine machine, int number)
    {
        ulong begin = X64.ReadTimeStampCounter();
        OuterApic.Reset(number);
        while (X64.ReadTimeStampCounter() - begin < machine.Clock.ToTicks(StartNanoseconds))
        {
            // One that has started already ignores this.
            OuterApic.StartUp(number, StartPage);
            ulong sent = X64.ReadTimeStampCounter();
            while (X64.ReadTimeStampCounter() - sent < machine.Clock.ToTicks(RepeatNanoseconds))
            {
                if (Volatile.Read(ref s_started) == number)
                {
                    return true;
                }

                X64.Pause();
            }
        }

        return false;
    }

    [RuntimeExport("svsm_hypervisor_processor_main")]
    private static void Main()
    {
        VirtualMachine machine = s_machine!;
        VirtualCpu cpu = s_starting!;
        ExceptionTable.LoadOnThisProcessor();
        OuterApic.Enable();
        Program.EnableSvm(s_hostSave);
        Volatile.Write(ref s_started, Of(cpu.Id));
        machine.Threads.Acquire(cpu);
        Program.RunOnOwnProcessor(machine, cpu);
    }
}
