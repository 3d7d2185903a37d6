// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Calls to the attestation protocol (Svsm.Modules.Attestation), as Linux makes them: all vCPUs at once, each with buffers and a nonce of its own. What a
// report is worth, the guest cannot know: it prints the answers, and the test verifies them.
//
//   structure   00 report, 08 size | 10 nonce, 18 size | 20 manifest, 28 size | 30 certificates, 38 size
//   lines       attest: CPU NAME HEX, of nonce, report, manifest, certificates
//
// Source: Secure VM Service Module specification (58019), "Attestation Protocol"; Linux arch/x86/include/asm/sev.h (struct svsm_attest_call).
//
// SAFETY (whole type): the job is a static method, which every vCPU can call; the pages are validated before they are used.

using System;
using System.Threading;
using Svsm.Platform;
using Svsm.Wire;

namespace Svsm.ProbeGuest;

internal static unsafe class AttestCalls
{
    private const SvsmProtocol Protocol = SvsmProtocol.Attestation;
    private const SvsmProtocol FailingProtocol = (SvsmProtocol)0x8000_0001;
    private const uint AllServices = 0;
    private const uint NoSuchCall = 2;
    private const ulong PageBytes = 0x1000;
    private const uint ReportLength = 0x4A0;
    private const uint CertificatesSize = 0x4000;
    private const int NonceLength = 64;

    // For each vCPU: structure and nonce, report, manifest, certificates.
    private const int PagesPerCpu = 7;
    private const ulong NonceOffset = 0x800;
    private const int BytesPerLine = 32;

    private static uint s_rounds;
    private static uint s_wrong;

    /// <summary>Asks for so many reports on all vCPUs, prints the last one of each, and ends the VM.</summary>
    public static void Run(uint rounds)
    {
        Probe.Result("attest: vCPUs"u8, Cpus.StartAll(), SvsmResultCode.Success);
        Prepare(PagesPerCpu * Cpus.Count);
        SvsmCall call = new() { Rcx = TestMemory.Base };
        Probe.Result("attest: no such call"u8, Calls.Call(Protocol, NoSuchCall, ref call), SvsmResultCode.UnsupportedCall);
        call = new SvsmCall { Rcx = TestMemory.PageAt(PagesPerCpu * Cpus.Count) };
        Probe.Result("attest: structure that is shared"u8, Calls.Call(Protocol, AllServices, ref call), SvsmResultCode.InvalidAddress);

        s_rounds = rounds;
        Cpus.RunOnAll(&Work);
        Probe.Equal("attest: wrong answers"u8, s_wrong, 0);
        for (int cpu = 0; cpu < Cpus.Count; cpu++)
        {
            Print(cpu);
        }

        Probe.Finish();
    }

    /// <summary>Asks as often, on one vCPU, for reports that there are not, and ends the VM.</summary>
    public static void ExpectNone(uint calls)
    {
        Prepare(PagesPerCpu);
        for (uint i = 0; i < calls; i++)
        {
            Probe.Result("attest: there are no reports"u8, Ask(0, i, out _), SvsmResultCode.InvalidRequest);
        }

        Probe.True("attest: nothing is written"u8, !new Span<byte>((void*)(TestMemory.Base + PageBytes), (int)PageBytes).ContainsAnyExcept((byte)0));
        Probe.Finish();
    }

    /// <summary>Has the module for tests (tests/Svsm.TestAttestation) end at each of so many steps, and ask again after that. Ends the VM.</summary>
    public static void Fail(uint steps)
    {
        for (uint step = 1; step <= steps; step++)
        {
            SvsmCall call = new() { Rcx = step, Rdx = step };
            Probe.Result("attest: the module fails"u8, Calls.Call(FailingProtocol, AllServices, ref call), SvsmResultCode.InvalidRequest);
            call = new SvsmCall { Rdx = 1000 + step };
            Probe.Result("attest: another one goes on"u8, Calls.Call(FailingProtocol, AllServices, ref call), SvsmResultCode.Success);
            Probe.Equal("attest: its report"u8, call.R8, ReportLength);
        }

        Probe.Finish();
    }

    private static void Prepare(int pageCount)
    {
        Probe.True("attest: memory"u8, TestMemory.TryTake(TestMemory.Base, pageCount));
    }

    private static void Work(int cpu)
    {
        for (uint round = 0; round < s_rounds; round++)
        {
            SvsmResultCode result = Ask(cpu, round, out SvsmCall call);
            Interlocked.Add(ref s_wrong, result == SvsmResultCode.Success && call.R8 == ReportLength && call.Rcx != 0 && call.Rdx is not 0 and <= CertificatesSize ? 0u : 1);
            Sizes(cpu)[0] = call.Rcx;
            Sizes(cpu)[1] = call.Rdx;
        }
    }

    private static SvsmResultCode Ask(int cpu, uint round, out SvsmCall call)
    {
        ulong structure = TestMemory.PageAt(PagesPerCpu * cpu);
        ulong* fields = (ulong*)structure;
        new Span<byte>(fields, (int)PageBytes).Clear();
        fields[0] = structure + PageBytes;
        fields[1] = PageBytes;
        fields[2] = structure + NonceOffset;
        fields[3] = NonceLength;
        fields[4] = structure + (2 * PageBytes);
        fields[5] = PageBytes;
        fields[6] = structure + (3 * PageBytes);
        fields[7] = CertificatesSize;
        new Span<byte>((void*)(structure + NonceOffset), NonceLength).Fill((byte)(0xA0 + cpu));
        *(uint*)(structure + NonceOffset) = round;
        call = new SvsmCall { Rcx = structure, Rdx = ulong.MaxValue, R8 = ulong.MaxValue };
        return Calls.Call(Protocol, AllServices, ref call);
    }

    // Sizes of the last answer: behind the nonce.
    private static ulong* Sizes(int cpu) => (ulong*)(TestMemory.PageAt(PagesPerCpu * cpu) + NonceOffset + NonceLength);

    private static void Print(int cpu)
    {
        ulong structure = TestMemory.PageAt(PagesPerCpu * cpu);
        Print(cpu, "nonce"u8, structure + NonceOffset, NonceLength);
        Print(cpu, "report"u8, structure + PageBytes, ReportLength);
        Print(cpu, "manifest"u8, structure + (2 * PageBytes), Math.Min(Sizes(cpu)[0], PageBytes));
        Print(cpu, "certificates"u8, structure + (3 * PageBytes), Math.Min(Sizes(cpu)[1], CertificatesSize));
    }

    private static void Print(int cpu, ReadOnlySpan<byte> name, ulong address, ulong length)
    {
        ReadOnlySpan<byte> bytes = new((void*)address, (int)length);
        for (int i = 0; i < bytes.Length; i++)
        {
            if (i % BytesPerLine == 0)
            {
                Text<Com1>.Write("attest: "u8);
                Text<Com1>.WriteDecimal(cpu);
                Text<Com1>.Write(" "u8);
                Text<Com1>.Write(name);
                Text<Com1>.Write(" "u8);
            }

            Text<Com1>.WriteHex(bytes[i], 2);
            if (i % BytesPerLine == BytesPerLine - 1 || i == bytes.Length - 1)
            {
                Text<Com1>.WriteLine();
            }
        }
    }
}
