// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// vCPUs on processors of their own, which run at the same time: vCPU n always on processor n. Only guests do: every exit takes one lock before
// any of the model's code runs, and lets go of it just before the entry, so that the model has one thread at a time, as when vCPUs take turns.
//
//   IsInGuest   set under the lock, before it is let go for the entry; cleared behind the exit, before the lock is taken
//   Recall      under the lock: interrupts the processors that are in their guest, and waits until they have cleared IsInGuest. They cannot
//               enter again before the lock is free. One that is still on its way in has the interrupt pending: it leaves at once.
//
//   _recaller   who halts until the others are out, plus 1: they interrupt it. QEMU up to 10.1 can lose an interrupt of a processor that enters a guest
//               with a virtual interrupt (helper_vmrun writes the processor's requests without a lock), so who halts repeats it after a while
//
// So what a guest may have cached can be changed after a recall: the emulator keeps no translation across an exit. Once the others are out they
// stay out, so that a change of many pages under one lock recalls once.
//
//   IsQueued    set by who waits for the lock, before it tries for the last time and halts; who lets go of the lock clears it of one and
//               interrupts that one. A processor that happens to come by may be faster.
//
// Whoever halts here takes what interrupts come, the timer's as well (HasTakenInterrupts): they are looked at when the lock is held.
// Nobody spins for long: the processors are threads of a PC that may have fewer.
//
// With turns (Enabled is false) nobody takes the lock, and there is nobody to recall.

using System.Threading;

namespace Svsm.Hypervisor;

/// <summary>The lock of the model, and who is in a guest.</summary>
internal sealed class VcpuThreads
{
    // A few microseconds each: about as long as an exit, and as an interrupt takes to end a guest's run.
    private const int Spins = 500;
    private const int Pauses = 20;

    // Longer than an interrupt takes on a busy PC, mostly: one too many does no harm.
    private const ulong RepeatNanoseconds = 10_000_000;

    private readonly HostProcessor _processor;
    private VirtualCpu? _owner;
    private int _held;
    private int _recaller;
    private int _lastWoken;

    /// <summary>Makes the threads of a machine, which does not use them yet.</summary>
    public VcpuThreads(HostProcessor processor)
    {
        _processor = processor;
    }

    /// <summary>Whether each vCPU has a processor.</summary>
    public bool Enabled { get; set; }

    /// <summary>The vCPUs.</summary>
    public VirtualCpu[] Cpus { get; set; } = [];

    /// <summary>Takes the lock.</summary>
    /// <param name="cpu">The vCPU of this processor.</param>
    public void Acquire(VirtualCpu cpu)
    {
        for (int i = 0; i < Spins; i++)
        {
            if (TryAcquire(cpu))
            {
                return;
            }
        }

        while (true)
        {
            Interlocked.Exchange(ref cpu.IsQueued, 1);
            if (TryAcquire(cpu))
            {
                Volatile.Write(ref cpu.IsQueued, 0);
                return;
            }

            Halt(cpu);
        }
    }

    /// <summary>Lets go of the lock.</summary>
    public void Release()
    {
        int first = _lastWoken;
        Interlocked.Exchange(ref _held, 0);
        for (int i = 1; i <= Cpus.Length; i++)
        {
            VirtualCpu cpu = Cpus[(first + i) % Cpus.Length];
            if (Volatile.Read(ref cpu.IsQueued) != 0 && Interlocked.Exchange(ref cpu.IsQueued, 0) != 0)
            {
                // Only a hint where to begin, so it may be written without the lock.
                Volatile.Write(ref _lastWoken, cpu.Id);
                _processor.Interrupt(cpu.Id);
                return;
            }
        }
    }

    /// <summary>Lets go of the lock until the processor is interrupted.</summary>
    public void Wait(VirtualCpu cpu)
    {
        Release();
        Halt(cpu);
        Acquire(cpu);
    }

    /// <summary>Lets go of the lock for the entry.</summary>
    public void Enter(VirtualCpu cpu)
    {
        Volatile.Write(ref cpu.IsInGuest, 1);
        Release();
    }

    /// <summary>Takes the lock behind an exit.</summary>
    public void Exit(VirtualCpu cpu)
    {
        Interlocked.Exchange(ref cpu.IsInGuest, 0);
        int recaller = Volatile.Read(ref _recaller);
        if (recaller != 0)
        {
            _processor.Interrupt(recaller - 1);
        }

        Acquire(cpu);
    }

    /// <summary>Drives the vCPUs that run certain VMPLs out of their guest. The lock is held.</summary>
    /// <param name="vmpls">Bit n = VMPL n.</param>
    public void Recall(int vmpls)
    {
        if (!Enabled)
        {
            return;
        }

        for (int i = 0; i < Cpus.Length; i++)
        {
            if (Volatile.Read(ref Cpus[i].IsInGuest) != 0 && (vmpls >> Cpus[i].Vmpl & 1) != 0)
            {
                _processor.Interrupt(i);
            }
        }

        for (int i = 0; i < Cpus.Length; i++)
        {
            if ((vmpls >> Cpus[i].Vmpl & 1) != 0)
            {
                Await(Cpus[i]);
            }
        }
    }

    /// <summary>Drives every vCPU out of its guest. The lock is held.</summary>
    public void RecallAll() => Recall((1 << NestedPageTables.VmplCount) - 1);

    /// <summary>Drives a vCPU out of its guest. The lock is held.</summary>
    public void Recall(VirtualCpu cpu)
    {
        if (Enabled && Volatile.Read(ref cpu.IsInGuest) != 0)
        {
            _processor.Interrupt(cpu.Id);
            Await(cpu);
        }
    }

    private void Await(VirtualCpu cpu)
    {
        for (int i = 0; i < Pauses; i++)
        {
            if (Volatile.Read(ref cpu.IsInGuest) == 0)
            {
                return;
            }

            _processor.Relax();
        }

        Interlocked.Exchange(ref _recaller, _owner!.Id + 1);
        while (Volatile.Read(ref cpu.IsInGuest) != 0)
        {
            _processor.SetTimer(RepeatNanoseconds);
            Halt(_owner);
            if (Volatile.Read(ref cpu.IsInGuest) != 0)
            {
                _processor.Interrupt(cpu.Id);
            }
        }

        Volatile.Write(ref _recaller, 0);

        // The timer may have been set for an APIC's: it interrupts at once, and is set anew then.
        _processor.SetTimer(1);
    }

    private void Halt(VirtualCpu cpu)
    {
        _processor.WaitForInterrupt();
        cpu.HasTakenInterrupts = true;
    }

    private bool TryAcquire(VirtualCpu cpu)
    {
        if (Volatile.Read(ref _held) != 0 || Interlocked.CompareExchange(ref _held, 1, 0) != 0)
        {
            return false;
        }

        _owner = cpu;
        return true;
    }
}
