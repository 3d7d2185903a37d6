// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_GetTestResult: how the self tests went.</summary>
[TpmCommand(CommandCode.GetTestResult, Traits = CommandTraits.FailureMode)]
internal static partial class GetTestResult
{
    internal readonly record struct Response([Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> OutData, TpmResponseCode TestResult);

    internal static TpmResponseCode Execute(CommandContext context, out Response response)
    {
        Tpm tpm = context.Tpm;
        AlgorithmId failed = tpm.SelfTests.FailedAlgorithm;

        // The manufacturer's data: the algorithm whose test failed, or zero.
        response = new Response(
            new byte[] { (byte)((ushort)failed >> 8), (byte)failed },
            tpm.IsFailed ? TpmResponseCode.Failure : tpm.SelfTests.Untested().Length == 0 ? TpmResponseCode.Success : TpmResponseCode.NeedsTest);
        return TpmResponseCode.Success;
    }
}
