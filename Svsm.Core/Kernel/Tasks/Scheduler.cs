// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Tasks of the kernel, per CPU and by turns: a task runs until it yields, waits or ends. The request loop is the CPU's first task and yields
// before each entry of the guest. Nothing takes the CPU away from a task: that needs a timer, which the host delivers as #HV.
//
// FPU state: a switch is a call, so that the compiler has saved every register but the control words; those the switch saves. An exception
// keeps all of it on the stack of the task that it interrupts (Svsm.Platform.Exceptions.inc, FXSAVE). The kernel leaves CR4.OSXSAVE clear: there
// is no other state.

using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;
using Svsm.Platform;

namespace Svsm.Kernel.Tasks;

/// <summary>Runs the current CPU's tasks.</summary>
internal static unsafe class Scheduler
{
    private const int StackPages = 4;

    // What svsm_task_switch takes from a stack: control words, r15 to r12, rbx, rbp, return address.
    private const int SwitchWords = 8;
    private const ulong ControlWords = 0x037F_0000_1F80;

    // SAFETY (whole class): per-CPU data does not move, and a task lies in a page of its own until it is freed.
    private static ref CpuTasks Tasks => ref PerCpu.Current.Tasks;

    /// <summary>The task that runs.</summary>
    public static KernelTask* Current
    {
        get
        {
            ref CpuTasks tasks = ref Tasks;
            if (tasks.Current == null)
            {
                tasks.Current = (KernelTask*)Unsafe.AsPointer(ref tasks.First);
                tasks.Current->State = TaskState.Running;
            }

            return tasks.Current;
        }
    }

    /// <summary>Makes a task of the current CPU. It runs when the current one yields or waits.</summary>
    /// <param name="entry">What it runs; the task ends when it returns.</param>
    /// <param name="argument">Given to <paramref name="entry"/>.</param>
    /// <param name="task">The task; somebody has to join it.</param>
    /// <returns>What was lacking: nothing was made then.</returns>
    public static MemoryError Create(delegate*<ulong, void> entry, ulong argument, out KernelTask* task)
    {
        task = null;
        MemoryError error = KernelPages.Allocate(1, out KernelPages own);
        if (error != MemoryError.None)
        {
            return error;
        }

        error = KernelPages.Allocate(StackPages, out KernelPages stack);
        if (error != MemoryError.None)
        {
            own.Dispose();
            return error;
        }

        task = (KernelTask*)own.Address;
        MemoryOf(task)->Own = own;
        MemoryOf(task)->Stack = stack;
        task->StackBottom = stack.Address;
        task->StackEnd = stack.End;
        task->Entry = entry;
        task->Argument = argument;

        // A word to keep the stack aligned as after a call, then what the switch takes.
        ulong* words = (ulong*)stack.End - 1 - SwitchWords;
        words[0] = ControlWords;
        words[SwitchWords - 1] = StartAddress();
        task->StackPointer = (ulong)words;
        Tasks.Queue.AddReady(task);
        return MemoryError.None;
    }

    /// <summary>Lets the other tasks of this CPU run, each until it yields or waits.</summary>
    public static void Yield()
    {
        ref CpuTasks tasks = ref Tasks;
        if (tasks.Queue.IsEmpty)
        {
            return;
        }

        KernelTask* current = Current;
        KernelTask* next = tasks.Queue.TakeNext(X64.ReadTimeStampCounter());
        if (next != null)
        {
            tasks.Queue.AddReady(current);
            SwitchTo(next);
        }
    }

    /// <summary>Waits, after <see cref="WaitQueue.Enter"/> or for time alone.</summary>
    /// <param name="deadline">Time-stamp counter at which the wait ends, or <see cref="KernelTask.Forever"/>.</param>
    public static void Block(ulong deadline)
    {
        ref CpuTasks tasks = ref Tasks;
        KernelTask* current = Current;
        current->Deadline = deadline;
        tasks.Queue.AddWaiting(current);
        KernelTask* next = tasks.Queue.TakeNext(X64.ReadTimeStampCounter());
        while (next == null)
        {
            X64.Pause();
            next = tasks.Queue.TakeNext(X64.ReadTimeStampCounter());
        }

        SwitchTo(next);
    }

    /// <summary>Waits in a queue.</summary>
    /// <param name="queue">The queue, which was entered.</param>
    /// <param name="deadline">Time-stamp counter at which the wait ends, or <see cref="KernelTask.Forever"/>.</param>
    /// <returns>False: the deadline has passed, and the task has left the queue.</returns>
    public static bool TryWait(ref WaitQueue queue, ulong deadline)
    {
        Block(deadline);
        return !queue.TryLeave(Current);
    }

    /// <summary>Waits for some time.</summary>
    /// <param name="ticks">Ticks of the time-stamp counter.</param>
    public static void Sleep(ulong ticks)
    {
        ulong now = X64.ReadTimeStampCounter();
        Current->State = TaskState.Waiting;
        Block(ticks < KernelTask.Forever - now ? now + ticks : KernelTask.Forever);
    }

    /// <summary>Waits until a task has ended, and frees it. One task does so.</summary>
    public static void Join(KernelTask* task)
    {
        task->Joiners.Enter(Current);
        if (Volatile.Read(ref *(uint*)&task->State) == (uint)TaskState.Finished)
        {
            // Woken or not: the end has come either way.
            _ = task->Joiners.TryLeave(Current);
            Current->State = TaskState.Running;
        }
        else
        {
            // Without a deadline it ends by a wake-up only.
            _ = TryWait(ref task->Joiners, KernelTask.Forever);
        }

        // Its last steps away from its stack may still be under way on another CPU.
        while (Volatile.Read(ref task->IsOnStack))
        {
            X64.Pause();
        }

        TaskMemory memory = *MemoryOf(task);
        memory.Stack.Dispose();
        memory.Own.Dispose();
    }

    /// <summary>Finds the stack of the task that runs.</summary>
    /// <param name="address">A virtual address. Untrusted.</param>
    /// <param name="end">First byte after that stack.</param>
    /// <returns>False: it does not hold the address, or is the CPU's own.</returns>
    public static bool TryFindStack(ulong address, out ulong end)
    {
        KernelTask* task = Tasks.Current;
        end = task == null ? 0 : task->StackEnd;
        return end != 0 && address >= task->StackBottom && address < end;
    }

    [UnmanagedCallersOnly(EntryPoint = "svsm_task_main")]
    private static void Main()
    {
        FinishSwitch();
        KernelTask* task = Current;
        task->Entry(task->Argument);

        Volatile.Write(ref *(uint*)&task->State, (uint)TaskState.Finished);
        while (task->Joiners.TryWake())
        {
        }

        // The first task of the CPU is in the queue: it waits for a call at most.
        ref CpuTasks tasks = ref Tasks;
        KernelTask* next = tasks.Queue.TakeNext(X64.ReadTimeStampCounter());
        while (next == null)
        {
            X64.Pause();
            next = tasks.Queue.TakeNext(X64.ReadTimeStampCounter());
        }

        SwitchTo(next);
    }

    // Behind the task, in the same page.
    private static TaskMemory* MemoryOf(KernelTask* task) => (TaskMemory*)(task + 1);

    private static void SwitchTo(KernelTask* next)
    {
        ref CpuTasks tasks = ref Tasks;
        KernelTask* previous = tasks.Current;
        next->State = TaskState.Running;
        if (next == previous)
        {
            return;
        }

        next->IsOnStack = true;
        tasks.Previous = previous;
        tasks.Current = next;
        Switch(&previous->StackPointer, next->StackPointer);
        FinishSwitch();
    }

    // On the stack of the task that was switched to: the other one is left now.
    private static void FinishSwitch() => Volatile.Write(ref Tasks.Previous->IsOnStack, false);

    [RuntimeImport("*", "svsm_task_switch")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern void Switch(ulong* saved, ulong stackPointer);

    [RuntimeImport("*", "svsm_task_start_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong StartAddress();
}

/// <summary>What <see cref="Scheduler.Create"/> made a task of.</summary>
internal struct TaskMemory
{
    /// <summary>The page with the task.</summary>
    public KernelPages Own;

    /// <summary>Its stack.</summary>
    public KernelPages Stack;
}

/// <summary>What a CPU knows of its tasks; in <see cref="PerCpu"/>.</summary>
internal unsafe struct CpuTasks
{
    /// <summary>The task that runs; null until it is asked for.</summary>
    public KernelTask* Current;

    /// <summary>The task that ran before.</summary>
    public KernelTask* Previous;

    /// <summary>The others.</summary>
    public RunQueue Queue;

    /// <summary>What ran before there were tasks.</summary>
    public KernelTask First;
}
