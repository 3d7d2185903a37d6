// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Tasks;

namespace Svsm.Kernel.Locks;

/// <summary>The locks of the current CPU. The tests have another one, for their threads.</summary>
internal static class CpuLocks
{
    /// <summary>Which locks the current CPU holds. Kept up to date by debug builds only.</summary>
    public static ref LockOrder Current => ref PerCpu.Current.Locks;

    /// <summary>Keeps the current task on the CPU until <see cref="Release"/>: it uses something that belongs to the CPU, or others wait for it.</summary>
    public static void Hold() => PerCpu.Current.Turn.Holds++;

    /// <summary>Ends a <see cref="Hold"/>. After the last one the task may have to make room for others at once.</summary>
    public static void Release()
    {
        ref TurnState turn = ref PerCpu.Current.Turn;
        if (--turn.Holds == 0 && Volatile.Read(ref turn.HasEvents) && turn.StackSize != 0)
        {
            Scheduler.Preempt();
        }
    }
}
