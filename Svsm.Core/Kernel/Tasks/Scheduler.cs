// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Tasks of the kernel, per CPU and by turns: a task runs until it yields, waits or ends, or the timer ticks (CpuTimer.cs). The request loop is the
// CPU's first task and yields before each entry of the guest; it is not preempted, as each of its steps has an end. The guest is preempted
// by a tick as well: a CPU whose tasks have work divides its time between them and the guest.
//
// A tick comes as #HV, and has the task go on in svsm_preempted (Doorbell.S), which ends in OnPreempt. Whoever holds a lock, or uses what there
// is one of on a CPU, must not be preempted: CpuLocks.Hold. At every switch there is exactly one hold, that of the switch.
//
// FPU state: a switch is a call, so that the compiler has saved every register but the control words; those the switch saves. A task that is
// preempted has all of its state on its stack: by XSAVE where the CPUID page has it, else by FXSAVE (ExtendedState.cs).

using System.Diagnostics;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
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
                tasks.Current->Cpu = PerCpu.Current.Index;
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
        task->Cpu = PerCpu.Current.Index;

        // A word to keep the stack aligned as after a call, then what the switch takes.
        ulong* words = (ulong*)stack.End - 1 - SwitchWords;
        words[0] = ControlWords;
        words[SwitchWords - 1] = StartAddress();
        task->StackPointer = (ulong)words;
        CpuLocks.Hold();
        Tasks.Queue.AddReady(task);
        CpuLocks.Release();
        return MemoryError.None;
    }

    /// <summary>Lets the other tasks of this CPU run, each until it yields or waits, or its turn is over.</summary>
    public static void Yield()
    {
        CpuLocks.Hold();
        if (Volatile.Read(ref PerCpu.Current.Turn.HasEvents))
        {
            // Whether it was a tick does not matter: others are let run in any case.
            _ = Doorbell.Attend();
        }

        GiveWay();
        CpuLocks.Release();
    }

    /// <summary>To be called before the first task halts the CPU or runs the guest.</summary>
    /// <param name="halt">It wants to halt.</param>
    /// <returns>False: there is work; it has to yield first. True: it calls <see cref="Return"/> afterwards.</returns>
    public static bool TryLeave(bool halt)
    {
        ref CpuTasks tasks = ref Tasks;
        if (tasks.Queue.IsEmpty)
        {
            // The timer is left on for a module that is called again and again: turning it on and off is a request to the host each.
            CpuTimer.Tick(PerCpu.Current.RanProcess);
            return true;
        }

        Wakeups.Leave();
        if (tasks.Queue.HasWoken(X64.ReadTimeStampCounter()) || (halt && tasks.Queue.HasReady))
        {
            Wakeups.Return();
            return false;
        }

        CpuTimer.Tick(tasks.Queue.HasReady || tasks.Queue.HasDeadline);
        return true;
    }

    /// <summary>The first task is back.</summary>
    public static void Return() => Wakeups.Return();

    /// <summary>Ends the turn of a task that was held when an event came, if it was a tick.</summary>
    public static void Preempt()
    {
        ref TurnState turn = ref PerCpu.Current.Turn;
        do
        {
            turn.Holds = 1;
            OnEvents();
            turn.Holds = 0;
        }
        while (Volatile.Read(ref turn.HasEvents));
    }

    /// <summary>Does not wait, after <see cref="WaitQueue.Enter"/>.</summary>
    /// <param name="queue">The queue.</param>
    public static void DoNotWait(ref WaitQueue queue)
    {
        // Woken or not: the task goes on either way.
        _ = queue.TryLeave(Current);
        Current->State = TaskState.Running;
        CpuLocks.Release();
    }

    // Ends the hold of WaitQueue.Enter.
    private static void Block(ulong deadline)
    {
        KernelTask* current = Current;
        current->Deadline = deadline;
        Tasks.Queue.AddWaiting(current);
        SwitchTo(WaitForNext());
        CpuLocks.Release();
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
        CpuLocks.Hold();
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
            DoNotWait(ref task->Joiners);
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
        CpuLocks.Release();
        KernelTask* task = Current;
        task->Entry(task->Argument);

        CpuLocks.Hold();
        Volatile.Write(ref *(uint*)&task->State, (uint)TaskState.Finished);
        while (task->Joiners.TryWake())
        {
        }

        // The first task of the CPU is in the queue: it waits for a call at most.
        SwitchTo(WaitForNext());
    }

    // From svsm_preempted: the stack has all registers of the task, there is one hold.
    [UnmanagedCallersOnly(EntryPoint = "svsm_preempt")]
    private static void OnPreempt() => OnEvents();

    private static void OnEvents()
    {
        if (Doorbell.Attend())
        {
            GiveWay();
        }
    }

    private static void GiveWay()
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

    // The CPU has nothing to do until a task can run: it halts if an event can end that.
    private static KernelTask* WaitForNext()
    {
        ref CpuTasks tasks = ref Tasks;
        KernelTask* next = tasks.Queue.TakeNext(X64.ReadTimeStampCounter());
        while (next == null)
        {
            if (!PerCpu.Current.HasDoorbell)
            {
                X64.Pause();
            }
            else if (TryLeave(halt: true))
            {
                Doorbell.Halt();
                Return();
            }

            _ = Doorbell.Attend();
            next = tasks.Queue.TakeNext(X64.ReadTimeStampCounter());
        }

        return next;
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

        ref TurnState turn = ref PerCpu.Current.Turn;
        Debug.Assert(turn.Holds == 1);
        if (next->StackEnd != 0)
        {
            CpuTimer.Tick(on: true);
        }

        next->IsOnStack = true;
        turn.StackBottom = next->StackBottom;
        turn.StackSize = next->StackEnd - next->StackBottom;
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
