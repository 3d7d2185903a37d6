// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// A ticket lock: whoever asks first gets it first. For kernel, hypervisor and payload; also compiled and tested on .NET.
//
// Two counters: the next ticket to hand out, the ticket being served. Both wrap; 2^32 waiters would be needed to confuse them.
// Interrupts are the caller's business: a lock that an interrupt handler takes must be taken with interrupts off.

using System.Runtime.Intrinsics.X86;
using System.Threading;

namespace Svsm.Platform;

/// <summary>A fair spin lock. Must not be copied; the zeroed state is an open lock.</summary>
public struct SpinLock
{
    private uint _nextTicket;
    private uint _servedTicket;

    /// <summary>True while somebody holds the lock. Only good for assertions: it may change at any moment.</summary>
    public readonly bool IsHeld => Volatile.Read(in _nextTicket) != Volatile.Read(in _servedTicket);

    /// <summary>Takes the lock; spins until all earlier callers have released it. Not recursive.</summary>
    public void Acquire()
    {
        uint ticket = Interlocked.Increment(ref _nextTicket) - 1;
        while (Volatile.Read(ref _servedTicket) != ticket)
        {
            X86Base.Pause();
        }
    }

    /// <summary>Takes the lock if nobody holds it or waits for it.</summary>
    /// <returns>True: the caller holds it now.</returns>
    public bool TryAcquire()
    {
        uint served = Volatile.Read(ref _servedTicket);
        return Interlocked.CompareExchange(ref _nextTicket, served + 1, served) == served;
    }

    /// <summary>Releases the lock. Only its holder may.</summary>
    public void Release() => Volatile.Write(ref _servedTicket, _servedTicket + 1);
}
