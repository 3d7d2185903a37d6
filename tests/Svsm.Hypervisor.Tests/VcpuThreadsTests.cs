// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The lock of the model and the recall of guests: who is interrupted, and that nobody uses what was taken while he was in his guest. The
// processors are threads of .NET here, and a guest is a loop that ends when its processor is interrupted.

using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Simulator.Shared;
using Svsm.Wire;
using Xunit;

namespace Svsm.Hypervisor.Tests;

public sealed class VcpuThreadsTests
{
    private const int Guest = 2;

    [Fact]
    public void Recall_InterruptsThoseWhoRunTheVmpl_AndWaitsForThem()
    {
        using var machine = new ThreadedMachine(4);
        machine.Threads.Acquire(machine.Cpus[0]);
        machine.Cpus[1].IsInGuest = 1;
        machine.Cpus[2].IsInGuest = 1;
        machine.Cpus[2].Vmpl = Guest;
        machine.Cpus[3].Vmpl = Guest;
        machine.Processor.OnRelax = () => machine.Cpus[2].IsInGuest = 0;

        machine.Threads.Recall(1 << Guest);

        Assert.Equal([2], machine.Processor.Interrupted);
        Assert.Equal(1, machine.Cpus[1].IsInGuest);
        Assert.Equal(0, machine.Cpus[2].IsInGuest);
    }

    // The emulator may lose an interrupt that comes while a processor enters its guest.
    [Fact]
    public void Recall_InterruptIsLost_IsRepeated()
    {
        using var machine = new ThreadedMachine(2);
        machine.Threads.Acquire(machine.Cpus[0]);
        machine.Cpus[1].IsInGuest = 1;
        machine.Processor.OnInterrupt = () =>
        {
            if (machine.Processor.Interrupted.Count == 3)
            {
                machine.Cpus[1].IsInGuest = 0;
            }
        };

        machine.Threads.RecallAll();

        Assert.Equal([1, 1, 1], machine.Processor.Interrupted);

        // Whoever's deadline this processor had in its timer, it is looked at.
        Assert.Equal(1ul, machine.Processor.Timer);
        Assert.True(machine.Cpus[0].HasTakenInterrupts);
    }

    [Fact]
    public void Recall_WithTurns_DoesNothing()
    {
        using var machine = new ThreadedMachine(2) { Threads = { Enabled = false } };
        machine.Cpus[1].IsInGuest = 1;

        machine.Threads.RecallAll();
        machine.Threads.Recall(machine.Cpus[1]);

        Assert.Empty(machine.Processor.Interrupted);
    }

    [Fact]
    public void Release_InterruptsOneOfThoseWhoWait()
    {
        using var machine = new ThreadedMachine(3);
        machine.Threads.Acquire(machine.Cpus[0]);
        machine.Cpus[1].IsQueued = 1;
        machine.Cpus[2].IsQueued = 1;

        machine.Threads.Release();

        Assert.Equal([1], machine.Processor.Interrupted);
        Assert.Equal((0, 1), (machine.Cpus[1].IsQueued, machine.Cpus[2].IsQueued));
    }

    // What each kind of change recalls: a page that a VMPL may have cached, once, and none that nobody has.
    [Fact]
    public unsafe void Unmap_OfAPageThatIsMapped_RecallsItsVmpl()
    {
        using var machine = new ThreadedMachine(2);
        machine.Threads.Acquire(machine.Cpus[0]);
        machine.Test.Private(TestMachine.Free);
        GuestPage* page = machine.Test.Page(TestMachine.Free);
        machine.Cpus[1].Vmpl = Guest;
        machine.Cpus[1].IsInGuest = 1;
        machine.Processor.OnRelax = () => machine.Cpus[1].IsInGuest = 0;

        machine.Test.Memory.MapNested(page, TestMachine.Free, 0, isPrivate: true, out _);
        machine.Test.Memory.Unmap(page, TestMachine.Free);
        Assert.Empty(machine.Processor.Interrupted);

        machine.Test.Memory.MapNested(page, TestMachine.Free, Guest, isPrivate: true, out _);
        machine.Test.Memory.Unmap(page, TestMachine.Free);
        Assert.Equal([1], machine.Processor.Interrupted);

        machine.Test.Memory.Unmap(page, TestMachine.Free);
        Assert.Equal([1], machine.Processor.Interrupted);
    }

    [Fact]
    public void TlbSync_RecallsEveryGuest()
    {
        using var machine = new ThreadedMachine(2);
        machine.Threads.Acquire(machine.Cpus[0]);
        machine.Cpus[1].Vmpl = Guest;
        machine.Cpus[1].IsInGuest = 1;
        machine.Processor.OnRelax = () => machine.Cpus[1].IsInGuest = 0;

        machine.Test.Memory.Stale.Synchronize(machine.Cpus[0]);

        Assert.Equal([1], machine.Processor.Interrupted);
    }

    // What is asked for until the release is of one moment, of whatever VMPL runs elsewhere.
    [Fact]
    public void Hold_RecallsEveryGuest()
    {
        using var machine = new ThreadedMachine(3);
        machine.Threads.Acquire(machine.Cpus[0]);
        machine.Cpus[1].IsInGuest = 1;
        machine.Cpus[2].IsInGuest = 1;
        machine.Cpus[2].Vmpl = Guest;
        machine.Processor.OnRelax = () => machine.Cpus[1].IsInGuest = machine.Cpus[2].IsInGuest = 0;
        var hold = new CommandHeader { Kind = CommandKind.Hold };

        machine.Test.Machine.Commands.Execute(machine.Cpus[0], MemoryMarshal.AsBytes(new Span<CommandHeader>(ref hold)));

        Assert.Equal([1, 2], machine.Processor.Interrupted);
    }

    // What a guest flushes from now on counts, so it has to be seen.
    [Fact]
    public unsafe void LossOfRights_RecallsWhoHasToFlush()
    {
        using var machine = new ThreadedMachine(2);
        machine.Threads.Acquire(machine.Cpus[0]);
        machine.Test.Private(TestMachine.Free);
        machine.Cpus[1].Vmpl = Guest;
        machine.Test.Memory.Stale.Enter(machine.Cpus[1]);
        machine.Cpus[1].IsInGuest = 1;
        machine.Processor.OnRelax = () => machine.Cpus[1].IsInGuest = 0;

        machine.Test.Memory.Stale.Lose(machine.Test.Page(TestMachine.Free), Guest);

        Assert.Equal([1], machine.Processor.Interrupted);
    }

    // The vector that a guest has taken and not reported yet is requested again: both are delivered.
    [Fact]
    public unsafe void Deliver_OfAVectorThatTheGuestHasJustTaken_IsNotLost()
    {
        const int Vector = 0x41;
        const uint SpuriousMsr = 0x80F;
        using var machine = new ThreadedMachine(2);
        machine.Threads.Acquire(machine.Cpus[0]);
        VirtualCpu target = machine.Cpus[1];
        Interrupts interrupts = machine.Test.Machine.Interrupts;
        Assert.True(target.Current.Apic.TryWrite(SpuriousMsr, 0x1FF, machine.Test.Machine.Clock, 0));
        interrupts.Deliver(target, 0, DeliveryMode.Fixed, Vector, level: false);
        interrupts.Offer(target);
        target.IsUnsettled = true;
        target.IsInGuest = 1;
        machine.Processor.OnRelax = () =>
        {
            // It was taken, and its handler runs.
            target.Vmcb->VirtualInterrupt &= ~(1ul << 8);
            target.IsInGuest = 0;
        };

        interrupts.Deliver(target, 0, DeliveryMode.Fixed, Vector, level: false);
        Interrupts.SettleOnce(target);
        target.Current.Apic.EndInterrupt();

        Assert.Equal(Vector, target.Current.Apic.Pending);
    }

    // Guests use a frame for as long as they run. The owner of the lock takes it from them, over and over.
    [Fact]
    public async Task Recall_WhileGuestsRun_NobodyUsesWhatWasTaken()
    {
        const int Changes = 3000;
        using var machine = new ThreadedMachine(4);
        var taken = new int[Changes + 1];
        int current = 0;
        int wrong = 0;
        int end = 0;
        var guests = new List<Task>();
        for (int i = 1; i < machine.Cpus.Length; i++)
        {
            VirtualCpu cpu = machine.Cpus[i];
            guests.Add(Task.Factory.StartNew(
                () =>
                {
                    ThreadProcessor.BeProcessor(cpu.Id);
                    machine.Threads.Acquire(cpu);
                    while (end == 0)
                    {
                        machine.Threads.Enter(cpu);
                        int held = Volatile.Read(ref current);
                        while (!machine.Processor.TakeInterrupt())
                        {
                            Interlocked.Add(ref wrong, Volatile.Read(ref taken[held]));
                        }

                        machine.Threads.Exit(cpu);
                    }

                    machine.Threads.Release();
                },
                TestContext.Current.CancellationToken,
                TaskCreationOptions.LongRunning,
                TaskScheduler.Default));
        }

        ThreadProcessor.BeProcessor(0);
        for (int i = 0; i < Changes; i++)
        {
            machine.Threads.Acquire(machine.Cpus[0]);
            Volatile.Write(ref current, i + 1);
            machine.Threads.RecallAll();
            Volatile.Write(ref taken[i], 1);
            machine.Threads.Release();
        }

        machine.Threads.Acquire(machine.Cpus[0]);
        end = 1;
        machine.Threads.RecallAll();
        machine.Threads.Release();
        await Task.WhenAll(guests);
        Assert.Equal(0, wrong);
    }

    [Fact]
    public void Turns_OfASeed_Repeat_AndHaveEveryLength()
    {
        var one = new TurnLengths(7);
        var other = new TurnLengths(7);
        var lengths = new int[TurnLengths.Bits];
        for (int i = 0; i < 10_000; i++)
        {
            ulong length = one.NextLength();
            Assert.Equal(length, other.NextLength());
            Assert.InRange(length, 1ul, (1ul << TurnLengths.Bits) - 1);
            lengths[63 - System.Numerics.BitOperations.LeadingZeroCount(length)]++;
        }

        // Each power of two is as likely: 500 of 10,000.
        Assert.All(lengths, count => Assert.InRange(count, 350, 650));
        Assert.NotEqual(new TurnLengths(8).NextLength(), new TurnLengths(7).NextLength());
    }

    private sealed class ThreadedMachine : IDisposable
    {
        public ThreadedMachine(int vcpuCount)
        {
            Processor = new ThreadProcessor(vcpuCount);
            Test = new TestMachine(Processor);
            Cpus = new VirtualCpu[vcpuCount];
            for (int i = 0; i < vcpuCount; i++)
            {
                Cpus[i] = i == 0 ? Test.Cpu : new VirtualCpu(Test.Pool, i) { Features = SevFeatures.SnpActive };
            }

            Test.Machine.Cpus = Cpus;
            Threads.Enabled = true;
        }

        public ThreadProcessor Processor { get; }

        public TestMachine Test { get; }

        public VcpuThreads Threads => Test.Machine.Threads;

        public VirtualCpu[] Cpus { get; }

        public void Dispose() => Test.Dispose();
    }

    /// <summary>Each thread is a processor, and can be interrupted.</summary>
    private sealed class ThreadProcessor(int count) : FakeProcessor
    {
        [ThreadStatic]
        private static int t_id;

        [ThreadStatic]
        private static bool t_timer;

        private readonly SemaphoreSlim[] _pending = Create(count);

        public Action? OnRelax { get; set; }

        public Action? OnInterrupt { get; set; }

        public static void BeProcessor(int id) => t_id = id;

        public bool TakeInterrupt() => _pending[t_id].Wait(0);

        public override void Interrupt(int processor)
        {
            lock (Interrupted)
            {
                base.Interrupt(processor);
            }

            OnInterrupt?.Invoke();
            _pending[processor].Release();
        }

        // A timer has interrupted by then.
        public override void WaitForInterrupt()
        {
            if (!t_timer)
            {
                _pending[t_id].Wait();
            }

            t_timer = false;
        }

        public override void SetTimer(ulong nanoseconds)
        {
            base.SetTimer(nanoseconds);
            t_timer = nanoseconds != 0;
        }

        public override void Relax() => OnRelax?.Invoke();

        private static SemaphoreSlim[] Create(int count)
        {
            var pending = new SemaphoreSlim[count];
            for (int i = 0; i < count; i++)
            {
                pending[i] = new SemaphoreSlim(0);
            }

            return pending;
        }
    }
}
