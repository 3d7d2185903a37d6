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
// A vCPU is quiet when its VMSA is closed, and no module works for it. With all of them quiet, nothing of the guest changes. Whether it is, its CPU says under
// the lock of its record, under which it opens the VMSA as well: so a record that says so while the gate is closed is right.

using System;
using System.Threading;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Locks;
using Svsm.Kernel.Snp;
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

    /// <summary>Stops all vCPUs; to be called again until all are quiet.</summary>
    /// <param name="vcpus">The records.</param>
    /// <returns>All are.</returns>
    public static bool TryStop(Span<GuestVcpu> vcpus)
    {
        _ = Interlocked.CompareExchange(ref s_state, (int)MoveState.Stopped, (int)MoveState.Running);
        bool isQuiet = State != MoveState.Running;
        for (int i = 0; i < vcpus.Length; i++)
        {
            ref GuestVcpu vcpu = ref vcpus[i];
            bool isThis = vcpu.Lock.TryAcquire(LockRank.GuestVcpu);
            if (isThis)
            {
                isThis = vcpu.IsQuiet;
                vcpu.Lock.Release(LockRank.GuestVcpu);
            }

            if (!isThis)
            {
                // It may run the guest, or halt because it had nothing to do, or because the guest runs elsewhere.
                isQuiet = false;
                Interrupt((uint)i);
            }
        }

        return isQuiet;
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

        for (int i = 0; i < vcpus.Length; i++)
        {
            vcpus[i].Lock.Acquire(LockRank.GuestVcpu);
            vcpus[i].IsQuiet = false;
            vcpus[i].Lock.Release(LockRank.GuestVcpu);
        }

        Volatile.Write(ref s_state, (int)MoveState.Running);
        for (int i = 0; i < vcpus.Length; i++)
        {
            Interrupt((uint)i);
        }

        return true;
    }

    // A CPU without tasks runs the guest, or halts, without having said so (Tasks/Wakeups.cs).
    private static void Interrupt(uint cpu)
    {
        if (cpu != PerCpu.Current.Index)
        {
            _ = Host.TryInterrupt(cpu, DoorbellEvents.Wake);
        }
    }

    /// <summary>The guest never runs again. All vCPUs are quiet.</summary>
    public static void GiveUp() => Volatile.Write(ref s_state, (int)MoveState.Gone);
}
