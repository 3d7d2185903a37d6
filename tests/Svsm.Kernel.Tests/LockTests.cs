// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Threading;
using Svsm.Kernel.Locks;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class LockTests
{
    private static readonly LockRank[] s_ranks = Enum.GetValues<LockRank>();

    [Fact]
    public void TryEnter_AscendingRanks_AreAllowed()
    {
        LockOrder order = default;
        Assert.True(order.IsIdle);
        Assert.All(s_ranks, rank => Assert.True(order.TryEnter(rank)));
        Assert.All(s_ranks, rank => Assert.True(order.TryLeave(rank)));
        Assert.True(order.IsIdle);
    }

    [Fact]
    public void TryEnter_SameOrLowerRank_IsRefused()
    {
        foreach (LockRank held in s_ranks)
        {
            LockOrder order = default;
            Assert.True(order.TryEnter(held));
            Assert.All(s_ranks.Where(rank => rank <= held), rank => Assert.False(order.TryEnter(rank)));
            Assert.All(s_ranks.Where(rank => rank > held), rank =>
            {
                Assert.True(order.TryEnter(rank));
                Assert.True(order.TryLeave(rank));
            });
        }
    }

    [Fact]
    public void NoteTried_SecondLockOfARank_CountsUntilBothAreReleased()
    {
        LockOrder order = default;
        Assert.True(order.TryEnter(LockRank.GuestVcpu));
        order.NoteTried(LockRank.GuestVcpu);
        Assert.True(order.TryLeave(LockRank.GuestVcpu));
        Assert.False(order.TryEnter(LockRank.GuestVcpu));
        Assert.True(order.TryLeave(LockRank.GuestVcpu));
        Assert.True(order.IsIdle);
    }

    [Fact]
    public void TryLeave_LockThatIsNotHeld_IsRefused()
    {
        LockOrder order = default;
        Assert.True(order.TryEnter(LockRank.Frames));
        Assert.All(s_ranks.Where(rank => rank != LockRank.Frames), rank => Assert.False(order.TryLeave(rank)));
    }

    [Fact]
    public void TryAcquire_LockThatIsHeld_LeavesNoTrace()
    {
        KernelLock held = default;
        held.Acquire(LockRank.Console);
        Assert.False(held.TryAcquire(LockRank.Console));
        held.Release(LockRank.Console);
        Assert.True(CpuLocks.Current.IsIdle);
        Assert.True(held.TryAcquire(LockRank.Console));
        held.Release(LockRank.Console);
        Assert.True(CpuLocks.Current.IsIdle);
    }

    [Fact]
    public void Acquire_AgainstTheOrder_Throws()
    {
        KernelLock first = default;
        KernelLock second = default;
        first.Acquire(LockRank.Frames);
        Assert.Throws<InvalidOperationException>(() => second.Acquire(LockRank.AddressSpace));
        first.Release(LockRank.Frames);
        Assert.Throws<InvalidOperationException>(() => first.Release(LockRank.Frames));
    }

    [Fact]
    public void Acquire_ManyThreads_OneAtATime()
    {
        const int Rounds = 2000;
        var box = new Box();
        var threads = Enumerable.Range(0, 3).Select(_ => new Thread(() =>
        {
            for (int i = 0; i < Rounds; i++)
            {
                box.Lock.Acquire(LockRank.Frames);
                box.Count++;
                box.Lock.Release(LockRank.Frames);
                Thread.Yield();
            }
        })).ToArray();
        Array.ForEach(threads, thread => thread.Start());
        Array.ForEach(threads, thread => thread.Join());
        Assert.Equal(3 * Rounds, box.Count);
    }

    private sealed class Box
    {
        public KernelLock Lock;
        public int Count;
    }
}
