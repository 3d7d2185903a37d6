// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Which protocols there are: who serves them, and what QUERY_PROTOCOL says about them.

using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Protocols;

/// <summary>The protocols of this kernel.</summary>
internal static class ProtocolTable
{
    /// <summary>Lowest and highest version of the core protocol.</summary>
    public const uint CoreVersion = 1;

    /// <summary>Answers a call.</summary>
    /// <param name="request">The call; output registers are set in it.</param>
    /// <param name="context">State of the vCPU that calls.</param>
    /// <param name="table">The page states.</param>
    /// <param name="platform">The processor.</param>
    /// <param name="result">The result code for RAX.</param>
    public static CallOutcome Dispatch<TPlatform>(
        ref SvsmRequest request, in GuestContext context, in PageStateTable table, ref TPlatform platform, out SvsmResultCode result)
        where TPlatform : IGuestPlatform
    {
        if (request.Protocol == SvsmProtocol.Core)
        {
            return CoreProtocol.Handle(ref request, in context, table, ref platform, out result);
        }

        result = SvsmResultCode.UnsupportedProtocol;
        return CallOutcome.Answered;
    }

    /// <summary>Answer of QUERY_PROTOCOL.</summary>
    /// <param name="protocol">Protocol number. Untrusted.</param>
    /// <param name="version">Wanted version. Untrusted.</param>
    /// <returns>0 if there is no such protocol or version, else the highest version in bits 63:32, the lowest in bits 31:0.</returns>
    public static ulong Query(SvsmProtocol protocol, uint version) =>
        protocol == SvsmProtocol.Core && version == CoreVersion ? ((ulong)CoreVersion << 32) | CoreVersion : 0;
}
