// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Time for the module that moves the guest: a task of the boot CPU, because no call of the guest runs that module. It gives the module a request to work
// (ModuleMessageKind.Work) when the host says that there is something for it, or when the time has come that the module wants, and runs its process for a turn
// after the other until there is an answer. A turn is a tick long, and so is that of the guest in between.
//
// A module that ends in the middle has not given the guest up, or all of it: a guest that it has stopped goes on, and one that it has paced is not any more.
//
// The host says so by an event at the boot CPU's doorbell page (DoorbellEvents.Channel). If it withholds that, nothing is moved.

using System.Threading;
using Svsm.Kernel.Diagnostics;
using Svsm.Kernel.Guest;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Snp;
using Svsm.Kernel.Tasks;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Modules;

/// <summary>Has the module that moves the guest work.</summary>
internal static unsafe class MoveTask
{
    // SAFETY (whole class): a process exists as long as nobody but this task runs it, and this task looks.
    private const ulong NanosecondsPerMillisecond = 1_000_000;

    private static WaitQueue s_queue;
    private static int s_hasNews;
    private static int s_module;

    /// <summary>Starts the task, on the current CPU. While booting, once, if the image has such a module.</summary>
    /// <param name="module">Index of the module.</param>
    /// <returns>What was lacking.</returns>
    public static MemoryError Start(int module)
    {
        s_module = module;
        s_hasNews = 1;
        return Scheduler.Create(&Main, 0, out _);
    }

    /// <summary>There may be something for the module.</summary>
    public static void Wake()
    {
        Volatile.Write(ref s_hasNews, 1);
        _ = s_queue.TryWake();
    }

    private static void Main(ulong argument)
    {
        ref ModuleRecord record = ref ModuleTable.Modules[s_module];
        int call = InternalCalls.WorkCall;
        ulong wait = 0;
        while (!record.IsRetired)
        {
            Wait(wait);
            Volatile.Write(ref s_hasNews, 0);
            if (!TryWork(ref record, call, out wait))
            {
                wait = ulong.MaxValue;
                DirtyPages.Pace(false);
                if (GuestGate.State == MoveState.Stopped)
                {
                    _ = GuestGate.TryRun(GuestVcpus.All);
                }
            }
        }

        if (GuestGate.State == MoveState.Held)
        {
            Panic.Stop(TerminationReason.NoGuestCame, "the module that was to get a guest from another machine is retired"u8);
        }
    }

    private static void Wait(ulong milliseconds)
    {
        if (milliseconds == 0)
        {
            Scheduler.Yield();
            return;
        }

        ulong deadline = KernelTask.Forever;
        if (milliseconds < uint.MaxValue)
        {
            deadline = X64.ReadTimeStampCounter() + KernelClock.CountsOf(milliseconds * NanosecondsPerMillisecond);
        }

        s_queue.Enter(Scheduler.Current);
        if (Volatile.Read(ref s_hasNews) != 0)
        {
            Scheduler.DoNotWait(ref s_queue);
        }
        else
        {
            _ = Scheduler.TryWait(ref s_queue, deadline);
        }
    }

    // Gives the request, and runs the process until it is answered. Returns false when the process was over, or the module is retired.
    private static bool TryWork(ref ModuleRecord record, int number, out ulong milliseconds)
    {
        ref PendingCall call = ref ModuleTable.Calls[number];
        milliseconds = ulong.MaxValue;
        record.Lock.Acquire(LockRank.Modules);
        bool isQueued = !record.IsRetired;
        if (isQueued)
        {
            call = new PendingCall { State = PendingState.Queued, Module = s_module, Next = ModuleRecord.NoCall };
            ModuleService.Append(ref record, number);
        }

        record.Lock.Release(LockRank.Modules);
        while (isQueued && !IsAnswered(ref record, in call))
        {
            ModuleService.Push(ref record, number);
            ulong now = KernelClock.Now;
            if (record.Process != null && record.Process->Deadline > now)
            {
                Scheduler.Sleep(KernelClock.CountsOf(record.Process->Deadline - now));
            }
            else
            {
                Scheduler.Yield();
            }
        }

        // The call is this task's alone from here on.
        bool isDone = isQueued && call.Result == SvsmResultCode.Success;
        milliseconds = isDone ? call.Answer.Rcx : ulong.MaxValue;
        call.State = PendingState.None;
        return isDone;
    }

    private static bool IsAnswered(ref ModuleRecord record, in PendingCall call)
    {
        record.Lock.Acquire(LockRank.Modules);
        bool isAnswered = call.State == PendingState.Answered;
        record.Lock.Release(LockRank.Modules);
        return isAnswered;
    }
}
