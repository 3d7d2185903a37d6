// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// How a wake-up gets to a task of another CPU. A CPU that runs tasks looks for itself. One that halts, or runs the guest, has said so (IsAway)
// before its last look; so whoever wakes a task of it either was in time for that look, or sees that it is away and sends it an interrupt.
//
// Translations need none: INVLPGB and TLBSYNC reach every processor (Arch/X64/Translations.cs).

using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Snp;

namespace Svsm.Kernel.Tasks;

/// <summary>Wake-ups between CPUs.</summary>
internal static class Wakeups
{
    private const int MaxCpus = 512;

    [InlineArray(MaxCpus)]
    private struct Flags
    {
        private int _element0;
    }

    private static Flags s_isAway;

    /// <summary>The current CPU is about to halt or to run the guest. It looks for tasks that were woken after this.</summary>
    public static void Leave() => Interlocked.Exchange(ref s_isAway[(int)PerCpu.Current.Index], 1);

    /// <summary>The current CPU is back.</summary>
    public static void Return() => Volatile.Write(ref s_isAway[(int)PerCpu.Current.Index], 0);

    /// <summary>A task of a CPU can run again.</summary>
    /// <param name="cpu">Number of the CPU.</param>
    public static void Tell(uint cpu)
    {
        // What made the task ready is visible before this looks.
        Interlocked.MemoryBarrier();
        if (PerCpu.Current.HasDoorbell && Volatile.Read(ref s_isAway[(int)cpu]) != 0)
        {
            // If the host refuses, the CPU finds out when it comes back.
            Interrupt(cpu);
        }
    }

    /// <summary>Interrupts another CPU that may run the guest, or halt, without a task to say so for.</summary>
    /// <param name="cpu">Number of the CPU. Nothing happens if it is the current one.</param>
    public static void Interrupt(uint cpu)
    {
        if (cpu != PerCpu.Current.Index)
        {
            _ = Host.TryInterrupt(cpu, DoorbellEvents.Wake);
        }
    }
}
