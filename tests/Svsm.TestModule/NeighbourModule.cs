// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Diagnostics;
using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>A module beside another one, with something to hide and manifests to show.</summary>
[SvsmProtocol(0x8000_0002, Service = ServiceText)]
public sealed class NeighbourModule : SvsmModule
{
    private const string ServiceText = "5d1f3a52-7b0c-4c8e-9a8b-0f6c2d1e4b7a";

    /// <summary>Its service.</summary>
    public static readonly Guid Service = new(ServiceText);

    /// <summary>Keeps RDX in memory of its own; RCX: where.</summary>
    public const uint Keep = 1;

    /// <summary>RCX: what is at RCX.</summary>
    public const uint Look = 2;

    /// <summary>A manifest of 64 KiB of 1.</summary>
    public const uint LargeManifest = 0;

    /// <summary>An empty manifest.</summary>
    public const uint EmptyManifest = 1;

    /// <summary>A manifest of 5 bytes of 2 that takes 20 ms.</summary>
    public const uint SlowManifest = 2;

    /// <summary>A manifest over which the module fails.</summary>
    public const uint BadManifest = 3;

    /// <summary>A manifest that is larger than may be.</summary>
    public const uint TooLargeManifest = 4;

    protected override SvsmResult Handle(in SvsmRequest request) => request.Call switch
    {
        Keep => new SvsmResult(SvsmResultCode.Success) { Rcx = Misdeeds.Keep(request.Rdx) },
        Look => new SvsmResult(SvsmResultCode.Success) { Rcx = Misdeeds.Peek(request.Rcx) },
        _ => SvsmResultCode.UnsupportedCall,
    };

    protected override bool TryGetManifest(uint version, out ReadOnlyMemory<byte> manifest)
    {
        byte[] bytes = new byte[version switch { LargeManifest => ModuleMessage.MaxPayload, TooLargeManifest => ModuleMessage.MaxPayload + 1, SlowManifest => 5, _ => 0 }];
        Array.Fill(bytes, version == SlowManifest ? (byte)2 : (byte)1);
        manifest = bytes;
        if (version == BadManifest)
        {
            throw new NotSupportedException("as asked");
        }

        for (long start = Stopwatch.GetTimestamp(); version == SlowManifest && Stopwatch.GetElapsedTime(start).TotalMilliseconds < 20;)
        {
        }

        return version <= TooLargeManifest;
    }
}
