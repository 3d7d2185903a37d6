// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>A module that may attest, and tells the guest what comes of it. Answers: R9.</summary>
[SvsmProtocol(1)]
public sealed class AttestingModule : SvsmModule
{
    /// <summary>How many services there are.</summary>
    public const uint Count = 1;

    /// <summary>Length, and sum of the bytes above bit 32, of the manifest of version RCX of <see cref="NeighbourModule"/>.</summary>
    public const uint Manifest = 2;

    /// <summary>Number that is due, and flags above bit 32, of the messages to the security processor.</summary>
    public const uint State = 3;

    /// <summary>Result of a request that the security processor cannot decrypt, with number RCX and first byte RDX; R8 not 0: with certificates.</summary>
    public const uint Send = 4;

    /// <summary>Fails; with RCX not 0 while it waits for a manifest.</summary>
    public const uint Fail = 5;

    /// <summary>First byte of the payload of the request that was sent last.</summary>
    public const uint Sent = 6;

    protected override SvsmResult Handle(in SvsmRequest request)
    {
        switch (request.Call)
        {
            case Count:
                return Answer((ulong)Services.List().Count);
            case Manifest:
                return ReadManifest((uint)request.Rcx);
            case State:
                if (!SecurityProcessor.TryGetState(out SecurityProcessorState state))
                {
                    return SvsmResultCode.InvalidRequest;
                }

                // There is a key as long as the flag says so.
                bool hasKey = ((ReadOnlySpan<byte>)state.Key).IndexOfAnyExcept((byte)0) >= 0;
                CryptographicOperations.ZeroMemory(state.Key);
                return hasKey == state.Flags.HasFlag(SecurityProcessorFlags.HasKey) ? Answer(state.Sequence | ((ulong)state.Flags << 32)) : SvsmResultCode.InvalidFormat;
            case Send:
                byte[] page = new byte[SecurityProcessor.PageLength];
                BitConverter.TryWriteBytes(page.AsSpan(0x20), request.Rcx);
                page[0x30] = page[0x31] = page[0x35] = 1;
                page[0x32] = 0x60;
                page[0x34] = 5;
                page[0x36] = 0x60;
                page[0x60] = (byte)request.Rdx;
                return Answer((ulong)SecurityProcessor.Send(page, request.R8 != 0));
            case Fail:
                throw new NotSupportedException(request.Rcx == 0 ? "as asked" : "after " + ReadManifest(NeighbourModule.SlowManifest).Code);
            case Sent:
                byte[] sent = new byte[SecurityProcessor.PageLength];
                SecurityProcessor.ReadRequest(sent);
                return Answer(sent[0x60]);
            default:
                return SvsmResultCode.UnsupportedCall;
        }
    }

    private static SvsmResult Answer(ulong value) => new(SvsmResultCode.Success) { R9 = value };

    private SvsmResult ReadManifest(uint version)
    {
        switch (Services.TryRead(NeighbourModule.Service, version, out byte[] manifest))
        {
            case ManifestResult.Success:
                ulong sum = 0;
                foreach (byte part in manifest)
                {
                    sum += part;
                }

                return Answer((uint)manifest.Length | (sum << 32));
            case ManifestResult.NotFound:
                return SvsmResultCode.InvalidParameter;
            case ManifestResult.Failed:
                return SvsmResultCode.InvalidAddress;
            default:
                return SvsmResultCode.InvalidRequest;
        }
    }
}
