// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Threading;
using Xunit;
using SpinLock = Svsm.Platform.SpinLock;

namespace Svsm.CoreLib.Tests;

public class SpinLockTests
{
    private const int Threads = 3;
    private const int Rounds = 300;

    private SpinLock _lock;
    private int _counter;

    [Fact]
    public void Acquire_Uncontended_HoldsUntilRelease()
    {
        Assert.False(_lock.IsHeld);
        _lock.Acquire();
        Assert.True(_lock.IsHeld);
        _lock.Release();
        Assert.False(_lock.IsHeld);
    }

    [Fact]
    public void TryAcquire_Held_IsRefusedAndTakesNoTicket()
    {
        Assert.True(_lock.TryAcquire());
        Assert.False(_lock.TryAcquire());
        _lock.Release();
        Assert.False(_lock.IsHeld);
        Assert.True(_lock.TryAcquire());
    }

    [Fact]
    public void Acquire_ManyThreads_LosesNoUpdate()
    {
        var threads = new Thread[Threads];
        for (int i = 0; i < threads.Length; i++)
        {
            threads[i] = new Thread(Count);
            threads[i].Start();
        }

        foreach (Thread thread in threads)
        {
            thread.Join();
        }

        Assert.Equal(Threads * Rounds, _counter);
        Assert.False(_lock.IsHeld);
    }

    // A read and a write apart: lost updates show if two threads are inside at once. Half of the turns go through TryAcquire.
    private void Count()
    {
        for (int i = 0; i < Rounds; i++)
        {
            if ((i & 1) == 0)
            {
                _lock.Acquire();
            }
            else
            {
                while (!_lock.TryAcquire())
                {
                    Thread.Yield();
                }
            }

            int seen = _counter;
            if ((i & 0x3F) == 0)
            {
                Thread.Yield();
            }

            _counter = seen + 1;
            _lock.Release();
        }
    }
}
