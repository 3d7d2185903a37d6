// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The tasks of one CPU, apart from the one that runs: those that are ready, in order, and those that wait. Only that CPU changes the lists. A
// wake-up, also from another CPU, changes nothing but the task's state; the next look at the waiting ones finds it.

using System.Threading;

namespace Svsm.Kernel.Tasks;

/// <summary>Lists of tasks of a CPU. The zeroed state is empty.</summary>
internal unsafe struct RunQueue
{
    // SAFETY (whole struct): a task exists until it is joined, which is after it has left the lists.

    private KernelTask* _firstReady;
    private KernelTask* _lastReady;
    private KernelTask* _waiting;

    /// <summary>There is no task.</summary>
    public readonly bool IsEmpty => _firstReady == null && _waiting == null;

    /// <summary>A task is in the ready list.</summary>
    public readonly bool HasReady => _firstReady != null;

    /// <summary>A task waits for a time.</summary>
    public readonly bool HasDeadline
    {
        get
        {
            KernelTask* task = _waiting;
            while (task != null && task->Deadline == KernelTask.Forever)
            {
                task = task->Next;
            }

            return task != null;
        }
    }

    /// <summary>Whether a task that waited can run: it was woken, or its deadline has passed.</summary>
    /// <param name="now">Time-stamp counter.</param>
    public readonly bool HasWoken(ulong now)
    {
        KernelTask* task = _waiting;
        while (task != null && !CanRun(task, now))
        {
            task = task->Next;
        }

        return task != null;
    }

    /// <summary>Adds a task behind the others that are ready.</summary>
    public void AddReady(KernelTask* task)
    {
        task->Next = null;
        task->State = TaskState.Ready;
        if (_firstReady == null)
        {
            _firstReady = task;
        }
        else
        {
            _lastReady->Next = task;
        }

        _lastReady = task;
    }

    /// <summary>Adds a task that waits, or was woken meanwhile.</summary>
    public void AddWaiting(KernelTask* task)
    {
        task->Next = _waiting;
        _waiting = task;
    }

    /// <summary>Takes the task that is to run next.</summary>
    /// <param name="now">Time-stamp counter.</param>
    /// <returns>Null: none can run.</returns>
    public KernelTask* TakeNext(ulong now)
    {
        KernelTask* previous = null;
        for (KernelTask* task = _waiting; task != null;)
        {
            KernelTask* next = task->Next;
            if (CanRun(task, now))
            {
                if (previous == null)
                {
                    _waiting = next;
                }
                else
                {
                    previous->Next = next;
                }

                AddReady(task);
            }
            else
            {
                previous = task;
            }

            task = next;
        }

        KernelTask* first = _firstReady;
        if (first != null)
        {
            _firstReady = first->Next;
            first->Next = null;
        }

        return first;
    }

    private static bool CanRun(KernelTask* task, ulong now) => Volatile.Read(ref *(uint*)&task->State) == (uint)TaskState.Ready || now >= task->Deadline;
}
