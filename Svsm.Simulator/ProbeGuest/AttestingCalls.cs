// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls to the module for tests that may attest (tests/Svsm.TestModule/AttestingModule.cs), with its neighbour behind it: manifests, on all vCPUs at
// once with calls to the neighbour between them; messages to the security processor that outlive the module.

using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static class AttestingCalls
{
    private const SvsmProtocol Attesting = SvsmProtocol.Attestation;
    private const SvsmProtocol Neighbour = (SvsmProtocol)0x8000_0002;
    private const uint Count = 1;
    private const uint Manifest = 2;
    private const uint State = 3;
    private const uint Send = 4;
    private const uint Fail = 5;
    private const uint Sent = 6;
    private const uint Keep = 1;
    private const uint Look = 2;
    private const ulong Kept = 0x1234;
    private const ulong Large = 0;
    private const ulong Empty = 1;
    private const ulong Slow = 2;
    private const ulong Bad = 3;
    private const ulong TooLarge = 4;
    private const ulong HasKey = 1ul << 32;
    private const ulong InFlight = 2ul << 32;
    private const ulong Busy = 1;
    private const ulong Refused = 2;
    private const ulong NotSent = 3;
    private const ulong NoKey = 4;

    private static uint s_rounds;
    private static uint s_wrong;
    private static ulong s_kept;

    /// <summary>Asks for manifests of all kinds on all vCPUs, and ends the VM.</summary>
    public static unsafe void Manifests(uint rounds)
    {
        Probe.Equal("manifests: services"u8, Ask(Count, 0), 1);
        Probe.Equal("manifests: the module's own service"u8, (ulong)Result(Manifest, 5), (ulong)SvsmResultCode.InvalidParameter);
        Probe.Result("manifests: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        SvsmCall call = new() { Rdx = Kept };
        Probe.Result("manifests: the neighbour keeps a number"u8, Calls.Call(Neighbour, Keep, ref call), SvsmResultCode.Success);
        s_kept = call.Rcx;
        s_rounds = rounds;

        // SAFETY: a static method, which every vCPU can call.
        Cpus.RunOnAll(&Work);
        Probe.Equal("manifests: wrong answers"u8, s_wrong, 0);

        // A failure of the neighbour is one of its answer; the wish of a module that fails goes with it.
        Probe.Equal("manifests: the neighbour fails"u8, (ulong)Result(Manifest, Bad), (ulong)SvsmResultCode.InvalidAddress);
        Probe.Equal("manifests: too large"u8, (ulong)Result(Manifest, TooLarge), (ulong)SvsmResultCode.InvalidAddress);
        Probe.Equal("manifests: the module fails"u8, (ulong)Result(Fail, 1), (ulong)SvsmResultCode.InvalidRequest);
        Probe.Equal("manifests: afterwards"u8, Ask(Manifest, Slow), 5 | (10ul << 32));
        Probe.Finish();
    }

    /// <summary>Has a host that is busy and then refuses, and a module that fails in between. Ends the VM.</summary>
    public static void Messages()
    {
        Probe.Equal("messages: at first"u8, Ask(State, 0), 1 | HasKey);
        Probe.Equal("messages: a number that is not due"u8, Ask(Send, 2, 7), NotSent);
        Probe.Equal("messages: busy"u8, Ask(Send, 1, 7), Busy);
        Probe.Equal("messages: the module fails"u8, (ulong)Result(Fail, 0), (ulong)SvsmResultCode.InvalidRequest);
        Probe.Equal("messages: the request is in flight"u8, Ask(State, 0), 1 | HasKey | InFlight);
        Probe.Equal("messages: it is kept"u8, Ask(Sent, 0), 7);
        Probe.Equal("messages: other bytes"u8, Ask(Send, 1, 8), NotSent);
        Probe.Equal("messages: the next number"u8, Ask(Send, 3, 7), NotSent);
        Probe.Equal("messages: the same bytes, refused"u8, Ask(Send, 1, 7), Refused);
        Probe.Equal("messages: the key is gone"u8, Ask(State, 0), 1);
        Probe.Equal("messages: nothing is sent"u8, Ask(Send, 1, 7), NoKey);
        Probe.Equal("messages: the module fails again"u8, (ulong)Result(Fail, 0), (ulong)SvsmResultCode.InvalidRequest);
        Probe.Equal("messages: the key is gone for good"u8, Ask(State, 0), 1);
        Probe.Finish();
    }

    private static void Work(int cpu)
    {
        for (uint round = 0; round < s_rounds; round++)
        {
            uint wrong = Ask(Manifest, Large) == (0x1_0000 | (0x1_0000ul << 32)) ? 0u : 1;
            wrong += Ask(Manifest, Empty) == 0 ? 0u : 1;
            SvsmCall call = new() { Rcx = s_kept };
            wrong += Calls.Call(Neighbour, Look, ref call) == SvsmResultCode.Success && call.Rcx == Kept ? 0u : 1;
            wrong += Ask(Manifest, Slow) == (5 | (10ul << 32)) ? 0u : 1;
            wrong += Result(Manifest, 5) == SvsmResultCode.InvalidParameter ? 0u : 1;
            System.Threading.Interlocked.Add(ref s_wrong, wrong);
        }
    }

    private static SvsmResultCode Result(uint number, ulong rcx)
    {
        SvsmCall call = new() { Rcx = rcx };
        return Calls.Call(Attesting, number, ref call);
    }

    private static ulong Ask(uint number, ulong rcx, ulong rdx = 0)
    {
        SvsmCall call = new() { Rcx = rcx, Rdx = rdx };
        return Calls.Call(Attesting, number, ref call) == SvsmResultCode.Success ? call.R9 : ulong.MaxValue;
    }
}
