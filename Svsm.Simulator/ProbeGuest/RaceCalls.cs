// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// All vCPUs want the same at the same time, over and over.
//
//   race    to validate one page, then to rescind it: one of them must get it, and the others must be told that nothing changed
//   sum     to add one to a number: as they should, or torn into a read and a write, which loses what others add in between. That is for the
//           machine's tests: it shows whether they would see such a race, a few instructions long
//   fxrstor the first to call the SVSM, the others meanwhile to load their x87 and SSE state, without a pause. For the machine's tests as well:
//           emulated processors share some of that state
//
// SAFETY (whole type): the jobs are static methods, which every vCPU can call; a state is 512 bytes on the stack of its vCPU, 16-byte aligned.

using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class RaceCalls
{
    // Between two additions, so that few turns end within one: some hundred instructions.
    private const int Apart = 64;

    private static bool s_validate;
    private static uint s_changed;
    private static uint s_unchanged;
    private static uint s_rounds;
    private static uint s_sum;
    private static uint s_mixed;
    private static uint s_seen;
    private static bool s_done;

    /// <summary>Makes so many rounds on all vCPUs, and ends the VM.</summary>
    public static void Run(uint rounds)
    {
        Probe.True("race: page made private"u8, TestMemory.MakePrivate(TestMemory.Base, 1));
        Probe.Result("race: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        uint wrong = 0;
        for (uint round = 0; round < rounds; round++)
        {
            s_validate = (round & 1) == 0;
            s_changed = 0;
            s_unchanged = 0;
            Cpus.RunOnAll(&Change);
            wrong += s_changed == 1 && s_unchanged == (uint)Cpus.Count - 1 ? 0u : 1;
        }

        Probe.Equal("race: rounds in which not exactly one vCPU changed the page"u8, wrong, 0);
        Probe.Finish();
    }

    /// <summary>Adds up on all vCPUs, and ends the VM.</summary>
    public static void Sum(uint rounds, bool torn)
    {
        Probe.Result("sum: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        s_rounds = rounds;
        Cpus.RunOnAll(torn ? &AddTorn : &AddWhole);
        Probe.Equal("sum: nothing is lost"u8, s_sum, rounds * (uint)Cpus.Count);
        Probe.Finish();
    }

    /// <summary>Makes so many calls on the first vCPU while the others load their state, and ends the VM.</summary>
    public static void RestoreState(uint calls)
    {
        Probe.Result("fxrstor: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        s_rounds = calls;
        Cpus.RunOnAll(&CallOrRestore);
        Probe.Equal("fxrstor: calls that were not answered"u8, s_unchanged, 0);
        Probe.Finish();
    }

    private static void CallOrRestore(int cpu)
    {
        const ulong Alignment = 16;
        byte* room = stackalloc byte[512 + (int)Alignment];
        var state = (byte*)(((ulong)room + Alignment - 1) & ~(Alignment - 1));
        X64.SaveExtendedState(state);
        while (cpu != 0 && !Volatile.Read(ref s_done))
        {
            X64.RestoreExtendedState(state);
        }

        for (uint i = 0; cpu == 0 && i < s_rounds; i++)
        {
            s_unchanged += Calls.Core(CoreCall.QueryProtocol, 1) == SvsmResultCode.Success ? 0u : 1;
        }

        Volatile.Write(ref s_done, true);
    }

    private static void AddTorn(int cpu)
    {
        for (uint i = 0; i < s_rounds; i++)
        {
            KeepApart(i);
            uint sum = Volatile.Read(ref s_sum);
            Volatile.Write(ref s_seen, sum);
            Volatile.Write(ref s_sum, sum + 1);
        }
    }

    private static void AddWhole(int cpu)
    {
        for (uint i = 0; i < s_rounds; i++)
        {
            KeepApart(i);
            Interlocked.Increment(ref s_sum);
        }
    }

    // The pause ends a turn of any kind, so that the next one begins at a known distance.
    private static void KeepApart(uint round)
    {
        X64.Pause();
        uint mixed = round;
        for (int i = 0; i < Apart; i++)
        {
            mixed = (mixed * 5) + 1;
        }

        Volatile.Write(ref s_mixed, mixed);
    }

    private static void Change(int cpu)
    {
        SvsmResultCode result = Calls.PValidateOne(TestMemory.Base, s_validate, ignoreNoChange: false, large: false);
        if (result == SvsmResultCode.Success)
        {
            Interlocked.Increment(ref s_changed);
        }
        else if (result == SvsmResultCode.PValidateNoChange)
        {
            Interlocked.Increment(ref s_unchanged);
        }
    }
}
