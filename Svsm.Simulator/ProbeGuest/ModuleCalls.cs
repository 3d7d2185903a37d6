// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls to a module: the test module (tests/Svsm.TestModule), whose calls these are. All vCPUs at once; each has a page of its own and one that it
// shares with the others.
//
// SAFETY (whole type): the jobs are static methods, which every vCPU can call; the pages are validated before they are used.

using System;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class ModuleCalls
{
    private const SvsmProtocol Protocol = (SvsmProtocol)0x8000_0001;
    private const SvsmProtocol LibraryProtocol = (SvsmProtocol)0x8000_0002;
    private const uint Reverse = 1;
    private const uint Increment = 2;
    private const uint Copy = 3;
    private const uint Say = 4;
    private const SvsmProtocol Neighbour = (SvsmProtocol)0x8000_0002;
    private const uint Keep = 1;
    private const uint Look = 2;
    private const uint Peek = 13;
    private const uint Misbehave = 8;
    private const uint Compute = 9;
    private const ulong Milliseconds = 20;
    private const uint NoSuchCall = 77;
    private const ulong Page = 0x1000;
    private const int BenchCalls = 1000;

    private static uint s_rounds;
    private static uint s_wrong;
    private static bool s_isOver;

    /// <summary>Makes so many rounds on all vCPUs, and ends the VM.</summary>
    public static void Run(uint rounds)
    {
        SvsmCall query = new() { Rcx = ((ulong)Protocol << 32) | 1 };
        Probe.Result("module: query"u8, Calls.Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref query), SvsmResultCode.Success);
        Probe.Equal("module: versions"u8, query.Rcx, (1ul << 32) | 1);
        Probe.Result("module: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        Probe.True("module: memory"u8, TestMemory.TryTake(TestMemory.Base, 2 * Cpus.Count));

        SvsmCall call = default;
        Probe.Result("module: no such call"u8, Calls.Call(Protocol, NoSuchCall, ref call), SvsmResultCode.UnsupportedCall);
        Span<byte> text = new((void*)TestMemory.Base, 5);
        "hello"u8.CopyTo(text);
        call = new SvsmCall { Rcx = TestMemory.Base, Rdx = 5 };
        Probe.Result("module: say"u8, Calls.Call(Protocol, Say, ref call), SvsmResultCode.Success);
        text.Clear();
        call = new SvsmCall { Rcx = TestMemory.Base + TestMemory.Length };
        Probe.Result("module: address that is not the guest's"u8, Calls.Call(Protocol, Increment, ref call), SvsmResultCode.InvalidAddress);

        s_rounds = rounds;
        Cpus.RunOnAll(&Work);
        Probe.Equal("module: wrong answers"u8, s_wrong, 0);
        Probe.Finish();
    }

    /// <summary>Makes a call that the module fails in, again and again, and looks each time whether another one is served. Ends the VM.</summary>
    public static void Abuse(ulong misdeed, uint rounds)
    {
        uint wrong = 0;
        for (uint round = 0; round < rounds; round++)
        {
            SvsmCall call = new() { Rcx = misdeed };
            wrong += Calls.Call(Protocol, Misbehave, ref call) == SvsmResultCode.InvalidRequest ? 0u : 1;
            call = new SvsmCall { Rcx = round };
            wrong += Calls.Call(Protocol, Reverse, ref call) == SvsmResultCode.Success && call.R9 == round + 1 ? 0u : 1;
        }

        Probe.Equal("module: wrong answers"u8, wrong, 0);
        Machine.Exit(Probe.HasFailed ? ExitStatus.Failed : ExitStatus.Passed);
    }

    /// <summary>Makes calls that take several turns, and does not ask for their answers as it should. Ends the VM.</summary>
    public static void Order()
    {
        // Other calls in between are served.
        SvsmCall call = new() { Rcx = Milliseconds };
        Probe.Result("order: begins"u8, Once(Compute, ref call), SvsmResultCode.Incomplete);
        SvsmCall query = new() { Rcx = 1 };
        Probe.Result("order: the core protocol meanwhile"u8, Calls.Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref query), SvsmResultCode.Success);
        call = new SvsmCall { Rcx = Milliseconds };
        Probe.Result("order: is not there at once"u8, Once(Compute, ref call), SvsmResultCode.Incomplete);
        call = new SvsmCall { Rcx = Milliseconds };
        Probe.Result("order: asked again"u8, Calls.Call(Protocol, Compute, ref call), SvsmResultCode.Success);

        // With other registers it is another call, and the first one is forgotten.
        call = new SvsmCall { Rcx = Milliseconds };
        Probe.Result("order: begins again"u8, Once(Compute, ref call), SvsmResultCode.Incomplete);
        call = new SvsmCall { Rcx = 7 };
        Probe.Result("order: another call"u8, Calls.Call(Protocol, Reverse, ref call), SvsmResultCode.Success);
        Probe.Equal("order: has its own answer"u8, call.R9, 8);
        call = new SvsmCall { Rcx = Milliseconds };
        Probe.Result("order: the first one begins anew"u8, Once(Compute, ref call), SvsmResultCode.Incomplete);

        // Nobody asks for that any more; the others' calls are served behind it.
        Probe.Result("order: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        Cpus.RunOnAll(&Ask);
        Probe.Equal("order: wrong answers"u8, s_wrong, 0);
        Probe.Finish();
    }

    /// <summary>Compares the clock of the test module with the guest's own, in a machine whose counter counts nanoseconds. Ends the VM.</summary>
    public static void Clock()
    {
        const ulong Long = 200;
        const ulong NanosecondsPerMillisecond = 1_000_000;
        SvsmCall call = new() { Rcx = Long };
        ulong start = X64.ReadTimeStampCounter();
        Probe.Result("clock: the call"u8, Calls.Call(Protocol, Compute, ref call), SvsmResultCode.Success);
        ulong elapsed = (X64.ReadTimeStampCounter() - start) / NanosecondsPerMillisecond;

        // What the guest and the kernel need in between is a part of it; the measurement is of a few ticks.
        Probe.True("clock: not too fast"u8, elapsed >= Long * 9 / 10);
        Probe.True("clock: not too slow"u8, elapsed <= Long * 3 / 2);
        Probe.Finish();
    }

    /// <summary>Makes a call that takes two seconds, with interrupts in between; the other vCPUs make calls of the core protocol meanwhile. Ends the VM.</summary>
    public static void Wait()
    {
        const uint Tick = 1_000_000;
        const ulong Long = 2000;
        const uint FewestTurns = 100;
        Probe.Result("wait: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        Cpus.Begin(&AskWhileWaiting);
        Machine.StartTimer(Tick);
        SvsmResultCode result;
        uint turns = 0;
        do
        {
            SvsmCall call = new() { Rcx = Long };
            result = Once(Compute, ref call);
            turns++;
            Machine.TakeInterrupts();
        }
        while (result == SvsmResultCode.Incomplete);

        uint ticks = Machine.Ticks;
        Machine.StartTimer(0);
        System.Threading.Volatile.Write(ref s_isOver, true);
        for (int cpu = 1; cpu < Cpus.Count; cpu++)
        {
            Cpus.WaitFor(cpu);
        }

        Text<Com1>.Write("probe: turns, ticks, other calls: "u8);
        Text<Com1>.WriteDecimal(turns);
        Text<Com1>.Write(", "u8);
        Text<Com1>.WriteDecimal(ticks);
        Text<Com1>.Write(", "u8);
        Text<Com1>.WriteDecimal(s_rounds);
        Text<Com1>.WriteLine();
        Probe.Result("wait: the answer"u8, result, SvsmResultCode.Success);
        Probe.True("wait: the call took many turns"u8, turns >= FewestTurns);
        Probe.True("wait: the timer ticked all the time"u8, ticks + 1 >= turns);
        Probe.True("wait: the other vCPUs were served"u8, s_rounds >= turns);
        Probe.Finish();
    }

    private static void AskWhileWaiting(int cpu)
    {
        while (!System.Threading.Volatile.Read(ref s_isOver))
        {
            _ = Calls.Core(CoreCall.QueryProtocol, 1);
            System.Threading.Interlocked.Increment(ref s_rounds);
        }
    }

    private static void Ask(int cpu)
    {
        if (cpu != 0)
        {
            SvsmCall call = new() { Rcx = (ulong)(uint)cpu };
            bool isRight = Calls.Call(Protocol, Reverse, ref call) == SvsmResultCode.Success && call.R9 == (ulong)(uint)cpu + 1;
            System.Threading.Interlocked.Add(ref s_wrong, isRight ? 0u : 1);
        }
    }

    private static SvsmResultCode Once(uint number, ref SvsmCall call)
    {
        call.Rax = ((ulong)Protocol << 32) | number;
        Calls.CallOnce(ref call);
        return (SvsmResultCode)call.Rax;
    }

    /// <summary>Has the neighbour keep numbers, and the test module look for them at the same addresses. Ends the VM.</summary>
    public static void Spy(uint rounds)
    {
        uint seen = 0;
        uint lost = 0;
        for (ulong round = 1; round <= rounds; round++)
        {
            ulong secret = round * 0x9E37_79B9_7F4A_7C15;
            SvsmCall call = new() { Rdx = secret };
            lost += Calls.Call(Neighbour, Keep, ref call) == SvsmResultCode.Success ? 0u : 1;
            ulong address = call.Rcx;
            call = new SvsmCall { Rcx = address };
            seen += Calls.Call(Protocol, Peek, ref call) == SvsmResultCode.Success && call.Rcx == secret ? 1u : 0;
            call = new SvsmCall { Rcx = address };
            lost += Calls.Call(Neighbour, Look, ref call) == SvsmResultCode.Success && call.Rcx == secret ? 0u : 1;
        }

        Probe.Equal("spy: numbers of the neighbour that the module has seen"u8, seen, 0);
        Probe.Equal("spy: numbers that the neighbour has lost"u8, lost, 0);
        Machine.Exit(Probe.HasFailed ? ExitStatus.Failed : ExitStatus.Passed);
    }

    /// <summary>Makes one call with RCX, and ends the VM.</summary>
    public static void One(uint number, ulong rcx)
    {
        SvsmCall call = new() { Rcx = rcx };
        Probe.Result("module: the call"u8, Calls.Call(Protocol, number, ref call), SvsmResultCode.Success);
        Machine.Exit(Probe.HasFailed ? ExitStatus.Failed : ExitStatus.Passed);
    }

    /// <summary>Has the module tests/Svsm.TestModule/LibraryModule.cs try a part of the class library, prints the outcome, and ends the VM.</summary>
    public static void Library(ReadOnlySpan<byte> name)
    {
        Probe.True("library: memory"u8, TestMemory.TryTake(TestMemory.Base, 1));
        Span<byte> page = new((void*)TestMemory.Base, (int)Page);
        name.CopyTo(page);
        SvsmCall call = new() { Rcx = TestMemory.Base, Rdx = (uint)name.Length, R8 = TestMemory.Base + (Page / 2) };
        SvsmResultCode code = Calls.Call(LibraryProtocol, 0, ref call);
        Text<Com1>.Write("library: "u8);
        Text<Com1>.WriteLine(code != SvsmResultCode.Success ? "no answer"u8 : page.Slice((int)Page / 2, (int)call.Rcx));
        Machine.Exit(Probe.HasFailed ? ExitStatus.Failed : ExitStatus.Passed);
    }

    /// <summary>Makes calls that need as little as can be, and ends the VM.</summary>
    public static void Bench()
    {
        for (ulong i = 0; i < BenchCalls; i++)
        {
            SvsmCall call = new() { Rcx = i };
            if (Calls.Call(Protocol, Reverse, ref call) != SvsmResultCode.Success || call.R9 != i + 1)
            {
                Machine.Exit(ExitStatus.Failed);
            }
        }

        Machine.Exit(ExitStatus.Passed);
    }

    private static void Work(int cpu)
    {
        ulong page = TestMemory.PageAt(2 * cpu);
        uint wrong = 0;
        for (uint round = 0; round < s_rounds; round++)
        {
            ulong mark = ((ulong)(uint)cpu << 32) | round;
            SvsmCall call = new() { Rcx = mark, Rdx = mark + 1, R8 = mark + 2, R9 = mark + 3 };
            wrong += Calls.Call(Protocol, Reverse, ref call) == SvsmResultCode.Success && call.Rcx == mark + 4 && call.Rdx == mark + 3 && call.R8 == mark + 2 && call.R9 == mark + 1 ? 0u : 1;

            // Over the end of a page.
            ulong* first = (ulong*)(page + Page - 16);
            ulong* second = (ulong*)page;
            first[0] = mark;
            first[1] = mark + 1;
            first[2] = mark + 2;
            second[0] = 0;
            call = new SvsmCall { Rcx = (ulong)first, Rdx = 24, R8 = page };
            wrong += Calls.Call(Protocol, Copy, ref call) == SvsmResultCode.Success && call.Rcx == 24 && second[0] == mark && second[1] == mark + 1 && second[2] == mark + 2 ? 0u : 1;

            call = new SvsmCall { Rcx = page };
            uint low = (uint)mark;
            wrong += Calls.Call(Protocol, Increment, ref call) == SvsmResultCode.Success && *(uint*)page == low + 1 ? 0u : 1;
        }

        System.Threading.Interlocked.Add(ref s_wrong, wrong);
    }
}
