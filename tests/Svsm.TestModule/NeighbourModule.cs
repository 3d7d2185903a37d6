// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Core;
using Svsm.Wire;

namespace Svsm.TestModule;

/// <summary>A module beside the test module, with something to hide.</summary>
[SvsmProtocol(0x8000_0002)]
public sealed class NeighbourModule : SvsmModule
{
    /// <summary>Keeps RDX in memory of its own; RCX: where.</summary>
    public const uint Keep = 1;

    /// <summary>RCX: what is at RCX.</summary>
    public const uint Look = 2;

    protected override SvsmResult Handle(in SvsmRequest request) => request.Call switch
    {
        Keep => new SvsmResult(SvsmResultCode.Success) { Rcx = Misdeeds.Keep(request.Rdx) },
        Look => new SvsmResult(SvsmResultCode.Success) { Rcx = Misdeeds.Peek(request.Rcx) },
        _ => SvsmResultCode.UnsupportedCall,
    };
}
