// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls to a module for tests that has to ask another one, which has to ask a third one (tests/Svsm.TestModule/PeerModules.cs): on all vCPUs at once.

using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class PeerCalls
{
    private const SvsmProtocol Asking = (SvsmProtocol)0x8000_0005;
    private const SvsmProtocol Keeping = (SvsmProtocol)0x8000_0006;
    private const uint Ask = 1;
    private const ulong Fail = 0xFA;
    private const ulong Wait = 0xAA;
    private const ulong Key = 8;
    private const ulong Longest = 0x1_0000;

    private static uint s_rounds;
    private static uint s_wrong;

    /// <summary>Makes so many rounds on all vCPUs, then has the modules fail, and ends the VM.</summary>
    public static void Run(uint rounds)
    {
        SvsmCall call = default;
        Probe.Result("peers: the call"u8, Calls.Call(Asking, 0, ref call), SvsmResultCode.Success);
        Probe.Equal("peers: before the guest"u8, call.R9, Sum(3, 1));
        Probe.Result("peers: the store is not the guest's"u8, Calls.Call(Keeping, 0, ref call), SvsmResultCode.UnsupportedProtocol);
        Probe.Result("peers: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        s_rounds = rounds;

        // SAFETY: a static method, which every vCPU can call.
        Cpus.RunOnAll(&Work);
        Probe.Equal("peers: wrong answers"u8, s_wrong, 0);
        for (int i = 0; i < 3; i++)
        {
            Probe.Equal("peers: the store fails"u8, Request(10, Fail), ulong.MaxValue);
            Probe.Equal("peers: the store is there again"u8, Request(10, 2), Sum(10, 2));
        }

        Probe.Finish();
    }

    private static void Work(int cpu)
    {
        uint wrong = 0;
        for (uint round = 0; round < s_rounds; round++)
        {
            wrong += Request(0, 0) == 0 ? 0u : 1;
            wrong += Request(100, (ulong)cpu) == Sum(100, (ulong)cpu) ? 0u : 1;
            wrong += Request(Longest, 3) == Sum(Longest, 3) ? 0u : 1;
            wrong += Request(20, Wait) == Sum(20, Wait) ? 0u : 1;
        }

        System.Threading.Interlocked.Add(ref s_wrong, wrong);
    }

    private static ulong Sum(ulong length, ulong filler) => length | ((length * (filler + Key)) << 32);

    private static ulong Request(ulong length, ulong filler)
    {
        SvsmCall call = new() { Rcx = length, Rdx = filler };
        return Calls.Call(Asking, Ask, ref call) == SvsmResultCode.Success ? call.R9 : ulong.MaxValue;
    }
}
