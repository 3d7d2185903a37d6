// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Tasks;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed unsafe class RunQueueTests : IDisposable
{
    private const int Count = 4;

    // SAFETY (whole class): zeroed tasks that live as long as the test.
    private readonly KernelTask* _tasks = (KernelTask*)NativeMemory.AllocZeroed(Count, (nuint)sizeof(KernelTask));
    private readonly WaitQueue* _waiters = (WaitQueue*)NativeMemory.AllocZeroed(1, (nuint)sizeof(WaitQueue));
    private RunQueue _queue;

    public void Dispose()
    {
        Assert.True(CpuLocks.Current.IsIdle);
        NativeMemory.Free(_tasks);
        NativeMemory.Free(_waiters);
    }

    [Fact]
    public void TakeNext_ReadyTasks_ComeInOrder()
    {
        Assert.True(_queue.IsEmpty);
        Assert.True(_queue.TakeNext(0) == null);
        for (int i = 0; i < Count; i++)
        {
            _queue.AddReady(_tasks + i);
        }

        for (int i = 0; i < Count; i++)
        {
            Assert.True(_queue.TakeNext(0) == _tasks + i);
        }

        Assert.True(_queue.IsEmpty);
    }

    [Fact]
    public void TakeNext_WaitingTask_ComesWhenItsDeadlineHasPassed()
    {
        Wait(0, 100);
        Wait(1, 50);
        Assert.True(_queue.TakeNext(49) == null);
        Assert.False(_queue.IsEmpty);
        Assert.True(_queue.TakeNext(50) == _tasks + 1);
        Assert.True(_queue.TakeNext(99) == null);
        Assert.True(_queue.TakeNext(ulong.MaxValue - 1) == _tasks);
        Assert.True(_queue.IsEmpty);
    }

    [Fact]
    public void TakeNext_WokenTask_ComesWithoutItsDeadline()
    {
        Wait(0, KernelTask.Forever);
        Wait(1, KernelTask.Forever);
        Assert.True(_queue.TakeNext(1) == null);
        Assert.True(_waiters->TryWake());
        Assert.True(_queue.TakeNext(1) == _tasks);
        Assert.True(_queue.TakeNext(1) == null);
        Assert.True(_waiters->TryWake());
        Assert.False(_waiters->TryWake());
        Assert.True(_queue.TakeNext(1) == _tasks + 1);
    }

    [Fact]
    public void HasWoken_WaitingTasks_KnowsThoseThatCanRun()
    {
        Assert.False(_queue.HasReady || _queue.HasDeadline || _queue.HasWoken(ulong.MaxValue));
        Wait(0, KernelTask.Forever);
        Assert.False(_queue.HasReady || _queue.HasDeadline || _queue.HasWoken(ulong.MaxValue - 1));
        Wait(1, 100);
        Assert.True(_queue.HasDeadline);
        Assert.False(_queue.HasWoken(99));
        Assert.True(_queue.HasWoken(100));
        Assert.True(_waiters->TryWake());
        Assert.True(_queue.HasWoken(0));
        Assert.True(_queue.TakeNext(0) == _tasks);
        Assert.False(_queue.HasWoken(0));
        _queue.AddReady(_tasks);
        Assert.True(_queue.HasReady);
    }

    [Fact]
    public void TryWake_TaskOfAnotherCpu_TellsThatCpu()
    {
        _tasks[0].Cpu = 7;
        _waiters->Enter(_tasks);
        Assert.True(_waiters->TryWake());
        Assert.Equal(7u, Wakeups.Last);
    }

    [Fact]
    public void Enter_Task_IsNotPreemptedUntilItWaits()
    {
        int holds = CpuLocks.Holds;
        _waiters->Enter(_tasks);
        Assert.Equal(holds + 1, CpuLocks.Holds);
        Assert.True(_waiters->TryLeave(_tasks));
        Assert.Equal(holds + 1, CpuLocks.Holds);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void TryLeave_AnyPlace_KeepsTheOthersInOrder(int leaver)
    {
        for (int i = 0; i < 3; i++)
        {
            _waiters->Enter(_tasks + i);
        }

        Assert.True(_waiters->TryLeave(_tasks + leaver));
        Assert.False(_waiters->TryLeave(_tasks + leaver));
        Assert.Equal(TaskState.Waiting, _tasks[leaver].State);
        for (int i = 0; i < 3; i++)
        {
            if (i != leaver)
            {
                Assert.Equal(TaskState.Waiting, _tasks[i].State);
                Assert.True(_waiters->TryWake());
                Assert.Equal(TaskState.Ready, _tasks[i].State);
                Assert.False(_waiters->TryLeave(_tasks + i));
            }
        }

        Assert.False(_waiters->TryWake());
    }

    private void Wait(int index, ulong deadline)
    {
        _waiters->Enter(_tasks + index);
        _tasks[index].Deadline = deadline;
        _queue.AddWaiting(_tasks + index);
    }
}
