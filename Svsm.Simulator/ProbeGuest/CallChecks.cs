// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// QUERY_PROTOCOL, unknown protocols and calls, and returns to the SVSM that are no call.

using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static class CallChecks
{
    private const uint UnknownProtocol = 0x7FFF_FFFF;

    public static void Run()
    {
        Probe.Equal("query: core 1"u8, Query(SvsmProtocol.Core, 1), (1ul << 32) | 1);
        Probe.Equal("query: core 0"u8, Query(SvsmProtocol.Core, 0), 0);
        Probe.Equal("query: core 2"u8, Query(SvsmProtocol.Core, 2), 0);
        Module("module: attestation"u8, SvsmProtocol.Attestation);
        Module("module: vTPM"u8, SvsmProtocol.Vtpm);
        Module("module: APIC"u8, SvsmProtocol.Apic);
        Module("module: UEFI MM"u8, SvsmProtocol.UefiMm);
        Probe.Equal("query: unknown protocol"u8, Query((SvsmProtocol)UnknownProtocol, 1), 0);

        SvsmCall call = new() { Rcx = 1, Rdx = 0x1234_5678_9ABC_DEF0, R8 = 0x8888, R9 = 0x9999 };
        Probe.Result("registers: call"u8, Calls.Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref call), SvsmResultCode.Success);
        Probe.Equal("registers: RDX is kept"u8, call.Rdx, 0x1234_5678_9ABC_DEF0);
        Probe.Equal("registers: R8 is kept"u8, call.R8, 0x8888);
        Probe.Equal("registers: R9 is kept"u8, call.R9, 0x9999);

        Refused("unknown protocol"u8, UnknownProtocol, 0, SvsmResultCode.UnsupportedProtocol);
        Refused("core: unknown call 8"u8, (uint)SvsmProtocol.Core, 8, SvsmResultCode.UnsupportedCall);
        Refused("core: unknown call 0xffffffff"u8, (uint)SvsmProtocol.Core, uint.MaxValue, SvsmResultCode.UnsupportedCall);

        call = new SvsmCall { Rcx = 1 };
        Probe.Result("vtom: query"u8, Calls.Call(SvsmProtocol.Core, (uint)CoreCall.ConfigureVtom, ref call), SvsmResultCode.Success);
        Probe.Equal("vtom: is not supported"u8, call.Rcx, 0);
        Probe.Result("vtom: set"u8, Calls.Core(CoreCall.ConfigureVtom, 0x1_0000_0000), SvsmResultCode.InvalidRequest);

        Probe.True("exit without a call comes back"u8, Calls.ExitWithoutCall());
        Probe.Equal("query: core 1 afterwards"u8, Query(SvsmProtocol.Core, 1), (1ul << 32) | 1);
    }

    private static ulong Query(SvsmProtocol protocol, uint version)
    {
        SvsmCall call = new() { Rcx = ((ulong)protocol << 32) | version };
        return Calls.Call(SvsmProtocol.Core, (uint)CoreCall.QueryProtocol, ref call) == SvsmResultCode.Success ? call.Rcx : ulong.MaxValue;
    }

    // An image has the module or it has not; calls say the same as the query. A call that no module has is asked for: its answer is a module's own.
    private static void Module(System.ReadOnlySpan<byte> name, SvsmProtocol protocol)
    {
        ulong versions = Query(protocol, 1);
        Probe.True(name, versions == 0 || ((uint)versions <= 1 && versions >> 32 >= 1));
        Refused(name, (uint)protocol, uint.MaxValue, versions == 0 ? SvsmResultCode.UnsupportedProtocol : SvsmResultCode.UnsupportedCall);
    }

    private static void Refused(System.ReadOnlySpan<byte> name, uint protocol, uint call, SvsmResultCode wanted)
    {
        SvsmCall registers = default;
        Probe.Result(name, Calls.Call((SvsmProtocol)protocol, call, ref registers), wanted);
    }
}
