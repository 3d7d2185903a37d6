// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Wire;

namespace Svsm.Kernel.Diagnostics;

/// <summary>Where a call is counted: <see cref="CallCounters"/> has the rows and columns.</summary>
internal static class CallIndex
{
    private const int OtherCall = 8;
    private const int OtherProtocol = 9;
    private const uint CommonResults = 8;

    /// <summary>The index of a counter.</summary>
    /// <param name="protocol">Protocol of the call. Untrusted.</param>
    /// <param name="call">Its number. Untrusted.</param>
    /// <param name="result">What it was answered.</param>
    public static int Of(SvsmProtocol protocol, uint call, SvsmResultCode result)
    {
        int row = protocol != SvsmProtocol.Core ? OtherProtocol : call < OtherCall ? (int)call : OtherCall;
        ulong common = (ulong)result - (ulong)SvsmResultCode.Incomplete;
        int column = result == SvsmResultCode.Success ? 0
            : common < CommonResults ? (int)common + 1
            : result switch
            {
                SvsmResultCode.PValidateFailInput => 9,
                SvsmResultCode.VmsaInUse => 10,
                SvsmResultCode.PValidateSizeMismatch => 11,
                SvsmResultCode.PValidateNoChange => 12,
                _ => CallCounters.Columns - 1,
            };
        return (row * CallCounters.Columns) + column;
    }
}
