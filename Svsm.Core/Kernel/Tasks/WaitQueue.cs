// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Tasks that wait for something, of any CPU, first come first served.
//
// To wait without missing a wake-up: Enter, look whether the thing has happened, then Scheduler.TryWait, or Scheduler.DoNotWait if it has. A
// wake-up after Enter makes TryWait return at once. In between the task is not preempted: it is neither running nor waiting.

using System.Threading;
using Svsm.Kernel.Locks;

namespace Svsm.Kernel.Tasks;

/// <summary>A list of waiting tasks. Must not be copied; the zeroed state is empty.</summary>
internal unsafe struct WaitQueue
{
    // SAFETY (whole struct): a task waits in one queue, and exists until it is joined, which is after it has left that.

    private KernelLock _lock;
    private KernelTask* _first;

    /// <summary>Puts a task at the end; it keeps its CPU until it waits, or does not want to.</summary>
    /// <param name="task">A task that runs, and is in no queue.</param>
    public void Enter(KernelTask* task)
    {
        CpuLocks.Hold();
        _lock.Acquire(LockRank.Tasks);
        task->NextWaiter = null;
        Volatile.Write(ref *(uint*)&task->State, (uint)TaskState.Waiting);
        KernelTask** end = FindEnd();
        *end = task;
        _lock.Release(LockRank.Tasks);
    }

    /// <summary>Takes a task out that does not want to wait any more.</summary>
    /// <returns>False: it was woken.</returns>
    public bool TryLeave(KernelTask* task)
    {
        _lock.Acquire(LockRank.Tasks);
        bool isFound = false;
        KernelTask* previous = null;
        for (KernelTask* each = _first; each != null; previous = each, each = each->NextWaiter)
        {
            if (each == task)
            {
                if (previous == null)
                {
                    _first = task->NextWaiter;
                }
                else
                {
                    previous->NextWaiter = task->NextWaiter;
                }

                isFound = true;
                break;
            }
        }

        _lock.Release(LockRank.Tasks);
        return isFound;
    }

    /// <summary>Wakes the task that has waited longest.</summary>
    /// <returns>False: none waits.</returns>
    public bool TryWake()
    {
        _lock.Acquire(LockRank.Tasks);
        KernelTask* task = _first;
        uint cpu = 0;
        if (task != null)
        {
            // Once it is ready, it may end and be gone.
            _first = task->NextWaiter;
            cpu = task->Cpu;
            Volatile.Write(ref *(uint*)&task->State, (uint)TaskState.Ready);
        }

        _lock.Release(LockRank.Tasks);
        if (task != null)
        {
            Wakeups.Tell(cpu);
        }

        return task != null;
    }

    // SAFETY: the queue does not move while a task is in it; its lock is held.
    private KernelTask** FindEnd()
    {
        fixed (KernelTask** first = &_first)
        {
            KernelTask** end = first;
            while (*end != null)
            {
                end = &(*end)->NextWaiter;
            }

            return end;
        }
    }
}
