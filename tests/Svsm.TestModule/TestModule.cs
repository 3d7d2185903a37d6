// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>A module with a call for each thing that a module can do.</summary>
[SvsmProtocol(0x8000_0001)]
public sealed class TestModule : SvsmModule
{
    /// <summary>Answers with the registers in reverse order, plus one.</summary>
    public const uint Reverse = 1;

    /// <summary>Adds one to the 32-bit number at RCX.</summary>
    public const uint Increment = 2;

    /// <summary>Copies RDX bytes (at most 64 KiB) from RCX to R8.</summary>
    public const uint Copy = 3;

    /// <summary>Writes the RDX bytes at RCX into the log.</summary>
    public const uint Say = 4;

    /// <summary>Throws.</summary>
    public const uint Throw = 5;

    public List<string> Steps { get; } = [];

    protected override void Start() => Steps.Add("start");

    protected override SvsmResult Handle(in SvsmRequest request)
    {
        Steps.Add($"call {request.Call} of vCPU {request.Vcpu}");
        switch (request.Call)
        {
            case Reverse:
                return new SvsmResult(SvsmResultCode.Success) { Rcx = request.R9 + 1, Rdx = request.R8 + 1, R8 = request.Rdx + 1, R9 = request.Rcx + 1 };

            case Increment:
                var address = new PhysicalAddress(request.Rcx);
                if (!Guest.TryRead(address, out uint number))
                {
                    return SvsmResultCode.InvalidAddress;
                }

                Span<byte> bytes = stackalloc byte[sizeof(uint)];
                BinaryPrimitives.WriteUInt32LittleEndian(bytes, number + 1);
                return Guest.TryWrite(address, bytes) ? SvsmResultCode.Success : SvsmResultCode.InvalidAddress;

            case Copy when request.Rdx <= 0x1_0000:
                byte[] buffer = new byte[request.Rdx];
                return Guest.TryRead(new(request.Rcx), buffer) && Guest.TryWrite(new(request.R8), buffer)
                    ? new SvsmResult(SvsmResultCode.Success) { Rcx = request.Rdx }
                    : SvsmResultCode.InvalidAddress;

            case Say when request.Rdx <= 0x1000:
                byte[] text = new byte[request.Rdx];
                if (!Guest.TryRead(new(request.Rcx), text))
                {
                    return SvsmResultCode.InvalidAddress;
                }

                Log.Information(System.Text.Encoding.Latin1.GetString(text));
                return SvsmResultCode.Success;

            case Throw:
                throw new NotSupportedException("as asked\nfor");

            default:
                return SvsmResultCode.UnsupportedCall;
        }
    }

    protected override bool TryGetManifest(uint version, out ReadOnlyMemory<byte> manifest)
    {
        manifest = new byte[version];
        return version != 0;
    }

    protected override void Reset() => Steps.Add("reset");

    protected override void Dispose(bool disposing)
    {
        Steps.Add("end");
        base.Dispose(disposing);
    }
}
