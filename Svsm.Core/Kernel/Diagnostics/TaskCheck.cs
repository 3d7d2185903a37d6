// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

#if SVSM_SELF_CHECK

// Tasks on the running CPU, in images made for tests (SelfCheck.cs): turns, control words of the FPU, waiting, deadlines, joining; with a #HV
// doorbell page also preemption, with all registers, by both ways of keeping FPU state. The simulated machine's CPUID page has no XSAVE, but its
// processor does: so both ways run there.
//
// Tasks that stay for a while: one on CPU 0 that loops and one that sleeps until the guest runs, and one on CPU 1 that waits for that one.

using System;
using System.Runtime;
using System.Runtime.CompilerServices;
using System.Threading;
using Svsm.Kernel.Arch;
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
    private const ulong WhileTheGuestRuns = 20_000_000;
    private const ulong LegacyAndHeader = 576;

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
    private static WaitQueue s_otherCpu;
    private static bool s_stop;
    private static ulong s_lost;

    /// <summary>Runs the checks; ends the VM when something is wrong. One CPU at a time.</summary>
    public static void Run()
    {
        // As on a host that does not ring: a tick would change the order.
        bool hasDoorbell = PerCpu.Current.HasDoorbell;
        PerCpu.Current.HasDoorbell = false;
        TakeTurns();
        int used = FrameAllocator.Used;
        TakeTurns();
        Wait();
        Expect(FrameAllocator.Used == used, "self-check: tasks leave frames behind"u8);
        Log.End("svsm: self-check: tasks take turns, wait, and end"u8);
        PerCpu.Current.HasDoorbell = hasDoorbell;
        PerCpu.Current.Turn.HasEvents = true;
        if (!hasDoorbell)
        {
            Log.End("svsm: self-check: tasks are not preempted: the host does not ring"u8);
            return;
        }

        Preempt();
        ExtendedState.Use(new ExtendedStatePlan(ExtendedStatePlan.X87 | ExtendedStatePlan.Sse, LegacyAndHeader));
        ExtendedState.Enable();
        Preempt();
        ExtendedState.Use(new ExtendedStatePlan(0, LegacyAndHeader));
        Expect(FrameAllocator.Used == used, "self-check: preempted tasks leave frames behind"u8);
        Log.End("svsm: self-check: tasks that loop are preempted, and lose nothing"u8);

        s_stop = false;
        Expect(Scheduler.Create(&Loop, 0, out _) == MemoryError.None, "self-check: no memory for tasks"u8);
        Expect(Scheduler.Create(&SleepWhileTheGuestRuns, 0, out _) == MemoryError.None, "self-check: no memory for tasks"u8);
    }

    /// <summary>Leaves a task on the running CPU that waits for one of another CPU.</summary>
    public static void WaitForOtherCpu() =>
        Expect(Scheduler.Create(&BeWoken, 0, out _) == MemoryError.None, "self-check: no memory for tasks"u8);

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

    // Neither of them yields: to get back here takes the timer, twice.
    private static void Preempt()
    {
        s_stop = false;
        s_lost = 0;
        Expect(Scheduler.Create(&Loop, 0x1234_5678_0000_0001, out KernelTask* one) == MemoryError.None, "self-check: no memory for tasks"u8);
        Expect(Scheduler.Create(&Loop, 0x0765_4321_0000_0002, out KernelTask* other) == MemoryError.None, "self-check: no memory for tasks"u8);
        for (int i = 0; i < Rounds; i++)
        {
            Scheduler.Yield();
        }

        Volatile.Write(ref s_stop, true);
        Scheduler.Join(one);
        Scheduler.Join(other);
        Expect(s_lost == 0, "self-check: a preempted task lost a register"u8);
    }

    private static void Loop(ulong seed)
    {
        // SAFETY: a static field of a freestanding image never moves.
        ulong lost = CheckRegisters(seed, (byte*)Unsafe.AsPointer(ref s_stop));
        s_lost |= lost;
    }

    private static void SleepWhileTheGuestRuns(ulong argument)
    {
        Scheduler.Sleep(WhileTheGuestRuns);
        Log.End("svsm: self-check: a deadline passed, whoever had the CPU"u8);
        Volatile.Write(ref s_stop, true);
        _ = s_otherCpu.TryWake();
    }

    private static void BeWoken(ulong argument)
    {
        s_otherCpu.Enter(Scheduler.Current);
        _ = Scheduler.TryWait(ref s_otherCpu, KernelTask.Forever);
        Log.Text("svsm: self-check: a task was woken on CPU "u8);
        Log.Decimal(PerCpu.Current.Index);
        Log.End(default);
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

    [RuntimeImport("*", "svsm_check_registers")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong CheckRegisters(ulong seed, byte* stop);

    private static void Expect(bool condition, ReadOnlySpan<byte> text)
    {
        if (!condition)
        {
            Panic.Stop(TerminationReason.Internal, text);
        }
    }
}

#endif
