// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reports of the security processor about VMPL0, for AttestationModule.
//
// A key and a message number that encrypt two messages give the key away, and with it everything that VMPL0 says. So:
//
//   the kernel takes the number of a request before the request leaves, and lets no other bytes out with it
//   a request that has no answer yet is sent again as it is, byte by byte. The process that made it may be gone: the kernel has the bytes
//   an answer is good for the request whose report data it has; what was asked for by a call that nobody waits for any more is thrown away
//   an answer that is not the security processor's means that the host is between: the key is given up, for the life of the VM
//
// While the host is busy the guest is told so, and asks again; the request stays where it is.
//
//   request   00 report data (64) | 40 u32 VMPL | 44 u32 key: 0, as the platform prefers | 48 zero (24)
//   answer    00 u32 status | 04 u32 bytes | 08 zero (24) | 20 report
//
// Source: AMD SEV-SNP ABI specification (56860), MSG_REPORT_REQ and MSG_REPORT_RSP, as collected from COCONUT-SVSM kernel/src/greq/pld_report.rs and
// Linux include/uapi/linux/sev-guest.h.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.Modules.Attestation;

internal enum ReportResult
{
    Success,

    // The same call later.
    Busy,

    // There is no report, and the log says why.
    Failed,
}

internal sealed class ReportSource(SecurityProcessor processor, ModuleLog log)
{
    public const int ReportLength = 0x4A0;
    public const int ReportDataLength = 64;

    // How often a busy host is asked within one call of the guest. Hosts limit how often guests ask, and mean seconds: the guest waits better.
    public const int MaxSends = 4;

    public const byte RequestType = 5;
    private const byte ResponseType = 6;
    private const int RequestLength = 96;
    private const int ReportOffset = 0x20;
    private const int ReportVmplOffset = 0x30;
    private const int ReportDataOffset = 0x50;
    private const uint Vmpl0 = 0;

    private bool _toldWhy;

    /// <summary>Gets a report.</summary>
    /// <param name="reportData">What it is to have as REPORT_DATA, 64 bytes.</param>
    /// <param name="withCertificates">The host is asked for certificates as well.</param>
    /// <param name="report">The report: authentic.</param>
    /// <param name="certificates">What the host gave for certificates: untrusted. Empty: nothing.</param>
    public ReportResult TryGet(ReadOnlySpan<byte> reportData, bool withCertificates, out byte[] report, out byte[] certificates)
    {
        report = [];
        certificates = [];

        // At first the request that is under way, if there is one; afterwards none is.
        ReportResult result = TryExchange(reportData, withCertificates, out bool wasUnderWay, ref report, ref certificates);
        return result == ReportResult.Success && report.Length == 0 && wasUnderWay
            ? TryExchange(reportData, withCertificates, out _, ref report, ref certificates)
            : result;
    }

    // Success without a report: the answer was to a request that nobody waits for.
    private ReportResult TryExchange(ReadOnlySpan<byte> reportData, bool withCertificates, out bool wasUnderWay, ref byte[] report, ref byte[] certificates)
    {
        wasUnderWay = false;
        byte[] page = new byte[SecurityProcessor.PageLength];
        SecurityProcessorState state = default;
        try
        {
            if (!processor.TryGetState(out state))
            {
                return Fail("it may not attest: its image has to permit it");
            }

            if ((state.Flags & SecurityProcessorFlags.HasKey) == 0)
            {
                return Fail("no reports: the key of VMPL0 is lost");
            }

            wasUnderWay = (state.Flags & SecurityProcessorFlags.InFlight) != 0;
            if (wasUnderWay)
            {
                processor.ReadRequest(page);
            }
            else
            {
                Span<byte> payload = stackalloc byte[RequestLength];
                payload.Clear();
                reportData.CopyTo(payload);
                GuestMessage.Seal(state.Key, state.Sequence, RequestType, payload, page);
            }

            switch (Send(page, withCertificates))
            {
                case SecurityProcessorResult.Answered:
                    break;
                case SecurityProcessorResult.Busy:
                    return ReportResult.Busy;
                case SecurityProcessorResult.Refused:
                    return Fail("no reports: the host or the security processor refused a request, and the key of VMPL0 is lost");
                case SecurityProcessorResult.NoKey:
                    return Fail("no reports: the key of VMPL0 is lost");
                case SecurityProcessorResult.NotSent:
                    log.Error("the kernel did not send a request");
                    return ReportResult.Failed;
                default:
                    return Fail("it may not attest: its image has to permit it");
            }

            processor.ReadResponse(page);
            return Read(state.Key, state.Sequence + 1, page, reportData, wasUnderWay, withCertificates, ref report, ref certificates);
        }
        finally
        {
            CryptographicOperations.ZeroMemory(state.Key);
        }
    }

    private SecurityProcessorResult Send(byte[] page, bool withCertificates)
    {
        var result = SecurityProcessorResult.Busy;
        for (int i = 0; i < MaxSends && result == SecurityProcessorResult.Busy; i++)
        {
            result = processor.Send(page, withCertificates);
        }

        return result;
    }

    private ReportResult Read(
        ReadOnlySpan<byte> key, ulong sequence, byte[] page, ReadOnlySpan<byte> reportData, bool wasUnderWay, bool withCertificates, ref byte[] report, ref byte[] certificates)
    {
        if (!GuestMessage.TryOpen(key, sequence, ResponseType, page, out byte[] payload))
        {
            return GiveUp("an answer is not the security processor's");
        }

        // From here on it is the security processor that speaks; what it says is no secret, but what nobody asked for goes nowhere.
        try
        {
            uint status = payload.Length < sizeof(uint) ? uint.MaxValue : BinaryPrimitives.ReadUInt32LittleEndian(payload);
            if (status != 0)
            {
                if (wasUnderWay)
                {
                    return ReportResult.Success;
                }

                log.Error($"the security processor gives no report: status 0x{status:X}");
                return ReportResult.Failed;
            }

            if (payload.Length < ReportOffset + ReportLength || BinaryPrimitives.ReadUInt32LittleEndian(payload.AsSpan(sizeof(uint))) != ReportLength)
            {
                return GiveUp("an answer has no report");
            }

            ReadOnlySpan<byte> answer = payload.AsSpan(ReportOffset, ReportLength);
            if (BinaryPrimitives.ReadUInt32LittleEndian(answer[ReportVmplOffset..]) != Vmpl0)
            {
                return GiveUp("a report is not about VMPL0");
            }

            if (answer.Slice(ReportDataOffset, ReportDataLength).SequenceEqual(reportData))
            {
                report = answer.ToArray();
                certificates = withCertificates ? CertificateTable.Trim(processor.ReadCertificates()) : [];
                return ReportResult.Success;
            }

            return wasUnderWay ? ReportResult.Success : GiveUp("a report is not the one that was asked for");
        }
        finally
        {
            CryptographicOperations.ZeroMemory(payload);
        }
    }

    private ReportResult GiveUp(string why)
    {
        processor.WipeKey();
        return Fail($"no reports: {why}, and the key of VMPL0 was given up");
    }

    // What will not change any more is told once.
    private ReportResult Fail(string why)
    {
        if (!_toldWhy)
        {
            _toldWhy = true;
            log.Error(why);
        }

        return ReportResult.Failed;
    }
}
