// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Whether vCPUs of the guest may run: all of them, or none. The request loop of a CPU asks before it makes its vCPU's VMSA one that can run, and
// leaves it closed otherwise (VmsaGate.cs). So a host that would like to run the guest all the same has nothing to run.
//
//   Held      a guest of another machine is to come             -> Running
//   Running                                                     -> Stopped
//   Stopped   to be copied as it is                             -> Running, Gone
//   Gone      it runs on another machine now                    -> nothing
//
// A vCPU is quiet when its VMSA is closed, and no module works for it: nothing of it changes any more. It stays so while the gate is closed: its CPU does not
// even look at what it may have called, for another vCPU that still runs can write that. With all of them quiet, nothing of the guest changes.
//
// One look at each of them is enough, because of this: a record becomes quiet, or not quiet, under its own lock, and not quiet only by someone who finds the
// gate open while holding it (the CPU that opens the VMSA, RequestLoop.cs; CREATE_VCPU, VcpuCalls.cs). Stopping closes the gate, and then takes each lock. The
// closing is visible to whoever has the lock afterwards, for a release of it is behind the closing; and what was done under it before is visible here. So a
// vCPU that was created, or let run, while the others were looked at, does not exist.

using System;
using System.Threading;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Tasks;
using Svsm.Wire;

namespace Svsm.Kernel.Guest;

/// <summary>Stops and starts all vCPUs of the guest.</summary>
internal static class GuestGate
{
    private static int s_state;
    private static bool s_hasRun;

    /// <summary>vCPUs may run.</summary>
    public static bool IsOpen => Volatile.Read(ref s_state) == (int)MoveState.Running;

    /// <summary>What the guest does.</summary>
    public static MoveState State => (MoveState)Volatile.Read(ref s_state);

    /// <summary>A vCPU may be served: it may run, or is on its way to be quiet. Under the lock of its record.</summary>
    public static bool Serves(in GuestVcpu vcpu) => IsOpen || !vcpu.IsQuiet;

    /// <summary>The guest is about to run, unless it is held. While booting, once.</summary>
    public static void Begin() => s_hasRun = true;

    /// <summary>Does not let the guest run, which has not run yet.</summary>
    /// <returns>False: it has.</returns>
    public static bool TryHold()
    {
        if (s_hasRun)
        {
            return false;
        }

        Volatile.Write(ref s_state, (int)MoveState.Held);
        return true;
    }

    /// <summary>Stops all vCPUs of a guest that runs; to be called again until all are quiet.</summary>
    /// <param name="vcpus">The records.</param>
    /// <returns>All are.</returns>
    public static bool TryStop(Span<GuestVcpu> vcpus)
    {
        // A full barrier: no lock is taken before.
        _ = Interlocked.CompareExchange(ref s_state, (int)MoveState.Stopped, (int)MoveState.Running);
        bool areQuiet = true;
        for (int i = 0; i < vcpus.Length; i++)
        {
            ref GuestVcpu vcpu = ref vcpus[i];
            bool isQuiet = vcpu.Lock.TryAcquire(LockRank.GuestVcpu);
            if (isQuiet)
            {
                isQuiet = vcpu.IsQuiet;
                vcpu.Lock.Release(LockRank.GuestVcpu);
            }

            if (!isQuiet)
            {
                // It may run the guest, or halt because it had nothing to do.
                areQuiet = false;
                Wakeups.Interrupt((uint)i);
            }
        }

        return areQuiet;
    }

    /// <summary>Lets the guest run.</summary>
    /// <param name="vcpus">The records.</param>
    /// <returns>False: it was given up.</returns>
    public static bool TryRun(Span<GuestVcpu> vcpus)
    {
        if (State == MoveState.Gone)
        {
            return false;
        }

        Volatile.Write(ref s_state, (int)MoveState.Running);
        for (int i = 0; i < vcpus.Length; i++)
        {
            Wakeups.Interrupt((uint)i);
        }

        return true;
    }

    /// <summary>The guest never runs again. All vCPUs are quiet.</summary>
    public static void GiveUp() => Volatile.Write(ref s_state, (int)MoveState.Gone);
}
