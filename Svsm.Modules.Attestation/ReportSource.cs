// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Reports of the security processor about VMPL0.
//
//   request   00 report data (64) | 40 u32 VMPL | 44 u32 key: 0, as the platform prefers | 48 zero (24)
//   answer    00 u32 status | 04 u32 bytes | 08 zero (24) | 20 report
//
// Source: AMD SEV-SNP ABI specification (56860), MSG_REPORT_REQ and MSG_REPORT_RSP, as collected from COCONUT-SVSM kernel/src/greq/pld_report.rs and
// Linux include/uapi/linux/sev-guest.h.

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Svsm.Wire;

namespace Svsm.Modules.Attestation;

internal sealed class ReportSource(GuestRequests requests)
{
    public const int ReportLength = KeyAnswer.ReportLength;
    public const int ReportDataLength = 64;
    public const byte RequestType = 5;

    private const int RequestLength = 96;
    private const int ReportOffset = 0x20;
    private const int ReportVmplOffset = 0x30;
    private const int ReportDataOffset = 0x50;

    /// <summary>Gets a report.</summary>
    /// <param name="reportData">What it is to have as REPORT_DATA, 64 bytes.</param>
    /// <param name="withCertificates">The host is asked for certificates as well.</param>
    /// <param name="report">The report: authentic.</param>
    /// <param name="certificates">What the host gave for certificates: untrusted. Empty: nothing.</param>
    public GuestRequestResult TryGet(ReadOnlySpan<byte> reportData, bool withCertificates, out byte[] report, out byte[] certificates)
    {
        report = [];
        certificates = [];
        Span<byte> payload = stackalloc byte[RequestLength];
        payload.Clear();
        reportData.CopyTo(payload);
        BinaryPrimitives.WriteUInt32LittleEndian(payload[ReportDataLength..], GuestRequests.Vmpl0);
        GuestRequestResult result = requests.TryExchange(RequestType, payload, withCertificates, out byte[] answer, out byte[] untrustedCertificates);
        if (result != GuestRequestResult.Success)
        {
            return result;
        }

        // What it says is no secret, but what nobody asked for goes nowhere.
        try
        {
            uint status = answer.Length < sizeof(uint) ? uint.MaxValue : BinaryPrimitives.ReadUInt32LittleEndian(answer);
            if (status != 0)
            {
                return requests.Refuse("report", status);
            }

            if (answer.Length < ReportOffset + ReportLength || BinaryPrimitives.ReadUInt32LittleEndian(answer.AsSpan(sizeof(uint))) != ReportLength)
            {
                return requests.GiveUp("an answer has no report");
            }

            ReadOnlySpan<byte> made = answer.AsSpan(ReportOffset, ReportLength);
            if (BinaryPrimitives.ReadUInt32LittleEndian(made[ReportVmplOffset..]) != GuestRequests.Vmpl0)
            {
                return requests.GiveUp("a report is not about VMPL0");
            }

            if (!made.Slice(ReportDataOffset, ReportDataLength).SequenceEqual(reportData))
            {
                return requests.GiveUp("a report is not the one that was asked for");
            }

            report = made.ToArray();
            certificates = untrustedCertificates;
            return GuestRequestResult.Success;
        }
        finally
        {
            CryptographicOperations.ZeroMemory(answer);
        }
    }
}
