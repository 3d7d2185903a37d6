// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Asks for reports as Svsm.Modules.Attestation does, and ends at a step of it: before or after one of its calls of the kernel. In the machine the kernel
// starts another process then, which has to go on with what the kernel has kept.

using System;
using Svsm.Core;
using Svsm.Modules.Attestation;
using Svsm.Wire;

namespace Svsm.TestAttestation;

/// <summary>Call 0: RCX step to end at, from 1, or 0; RDX a number that is in the report data. R8: bytes of the report.</summary>
[SvsmProtocol(0x8000_0001)]
public sealed class FailingAttestationModule : SvsmModule
{
    protected override SvsmResult Handle(in SvsmRequest request)
    {
        byte[] reportData = new byte[ReportSource.ReportDataLength];
        BitConverter.TryWriteBytes(reportData, request.Rdx);
        var reports = new ReportSource(new GuestRequests(new FailingProcessor(SecurityProcessor, request.Rcx), Log));
        return reports.TryGet(reportData, withCertificates: true, out byte[] report, out _) switch
        {
            GuestRequestResult.Success => new SvsmResult(SvsmResultCode.Success) { R8 = (ulong)report.Length },
            GuestRequestResult.Busy => SvsmResultCode.Busy,
            _ => SvsmResultCode.InvalidFormat,
        };
    }

    private sealed class FailingProcessor(SecurityProcessor processor, ulong step) : SecurityProcessor
    {
        private ulong _left = step;

        public override bool TryGetState(out SecurityProcessorState state)
        {
            Step();
            bool result = processor.TryGetState(out state);
            Step();
            return result;
        }

        public override SecurityProcessorResult Send(ReadOnlySpan<byte> request, bool withCertificates)
        {
            Step();
            SecurityProcessorResult result = processor.Send(request, withCertificates);
            Step();
            return result;
        }

        public override void ReadRequest(Span<byte> page)
        {
            Step();
            processor.ReadRequest(page);
            Step();
        }

        public override void ReadResponse(Span<byte> page)
        {
            Step();
            processor.ReadResponse(page);
            Step();
        }

        public override byte[] ReadCertificates()
        {
            Step();
            byte[] certificates = processor.ReadCertificates();
            Step();
            return certificates;
        }

        public override void WipeKey() => processor.WipeKey();

        private void Step()
        {
            if (_left != 0 && --_left == 0)
            {
                throw new InvalidOperationException("as asked");
            }
        }
    }
}
