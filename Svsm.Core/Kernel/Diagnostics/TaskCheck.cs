// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

#if SVSM_SELF_CHECK

// Tasks on the running CPU, in images made for tests (SelfCheck.cs): turns, control words of the FPU, waiting, deadlines, joining.

using System;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Tasks;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>Checks of tasks.</summary>
internal static unsafe class TaskCheck
{
    // SAFETY (whole class): arrays on the stack have as many elements as are used, and 512 bytes for FXSAVE are there after aligning.

    private const int TaskCount = 3;
    private const int Rounds = 4;
    private const ulong ShortTime = 10_000;
    private const int MxcsrOffset = 24;
    private const int RoundingShift = 13;

    [InlineArray(TaskCount * Rounds)]
    private struct Order
    {
        private byte _element0;
    }

    private static Order s_order;
    private static int s_count;
    private static int s_wrong;
    private static bool s_hasHappened;
    private static WaitQueue s_queue;

    /// <summary>Runs the checks; ends the VM when something is wrong. One CPU at a time.</summary>
    public static void Run()
    {
        TakeTurns();
        int used = FrameAllocator.Used;
        TakeTurns();
        Wait();
        Expect(FrameAllocator.Used == used, "self-check: tasks leave frames behind"u8);
        Log.Line("svsm: self-check: tasks take turns, wait, and end"u8);
    }

    /// <summary>Makes a task and waits for its end.</summary>
    public static MemoryError RunOne()
    {
        MemoryError error = Scheduler.Create(&Nothing, 0, out KernelTask* task);
        if (error == MemoryError.None)
        {
            Scheduler.Join(task);
        }

        return error;
    }

    private static void TakeTurns()
    {
        KernelTask** tasks = stackalloc KernelTask*[TaskCount];
        s_count = 0;
        s_wrong = 0;
        for (int i = 0; i < TaskCount; i++)
        {
            Expect(Scheduler.Create(&Turn, (ulong)i, out tasks[i]) == MemoryError.None, "self-check: no memory for tasks"u8);
        }

        for (int i = 0; i < TaskCount; i++)
        {
            Scheduler.Join(tasks[i]);
        }

        Expect(s_wrong == 0, "self-check: a task has another's control words"u8);
        Expect(s_count == TaskCount * Rounds, "self-check: a task did not do its work"u8);
        for (int i = 0; i < TaskCount * Rounds; i++)
        {
            Expect(s_order[i] == i % TaskCount, "self-check: tasks do not take turns"u8);
        }
    }

    private static void Wait()
    {
        s_hasHappened = false;
        Expect(Scheduler.Create(&WaitForIt, KernelTask.Forever, out KernelTask* patient) == MemoryError.None, "self-check: no memory for tasks"u8);
        Expect(Scheduler.Create(&WaitForIt, ShortTime, out KernelTask* impatient) == MemoryError.None, "self-check: no memory for tasks"u8);
        s_count = 0;
        Scheduler.Join(impatient);
        Expect(s_count == 1, "self-check: a deadline ends another wait"u8);
        ulong start = X64.ReadTimeStampCounter();
        Scheduler.Sleep(ShortTime);
        Expect(X64.ReadTimeStampCounter() - start >= ShortTime, "self-check: a sleep is too short"u8);
        s_hasHappened = true;
        Expect(s_queue.TryWake() && !s_queue.TryWake(), "self-check: not one task waits"u8);
        Scheduler.Join(patient);
        Expect(s_count == 2, "self-check: a task was not woken"u8);
    }

    private static void Turn(ulong number)
    {
        byte* area = stackalloc byte[512 + 16];
        area = (byte*)(((ulong)area + 15) & ~15ul);
        X64.SaveExtendedState(area);
        uint own = (*(uint*)(area + MxcsrOffset) & ~(3u << RoundingShift)) | ((uint)number << RoundingShift);
        *(uint*)(area + MxcsrOffset) = own;
        X64.RestoreExtendedState(area);
        for (int i = 0; i < Rounds; i++)
        {
            s_order[s_count++] = (byte)number;
            Scheduler.Yield();
            X64.SaveExtendedState(area);
            s_wrong += (*(uint*)(area + MxcsrOffset) & (3u << RoundingShift)) == (own & (3u << RoundingShift)) ? 0 : 1;
        }
    }

    private static void WaitForIt(ulong ticks)
    {
        s_queue.Enter(Scheduler.Current);
        ulong deadline = ticks == KernelTask.Forever ? ticks : X64.ReadTimeStampCounter() + ticks;
        bool isWoken = Scheduler.TryWait(ref s_queue, deadline);
        Expect(isWoken == (ticks == KernelTask.Forever) && isWoken == Volatile.Read(ref s_hasHappened), "self-check: a wait ended for the wrong reason"u8);
        s_count++;
    }

    private static void Nothing(ulong argument)
    {
    }

    private static void Expect(bool condition, ReadOnlySpan<byte> text)
    {
        if (!condition)
        {
            Panic.Stop(TerminationReason.Internal, text);
        }
    }
}

#endif
