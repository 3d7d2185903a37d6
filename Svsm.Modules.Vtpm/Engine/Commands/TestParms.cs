// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_TestParms: whether the TPM has the algorithm with the parameters. Reading them is the test.</summary>
[TpmCommand(CommandCode.TestParms)]
internal static partial class TestParms
{
    internal readonly record struct Request(PublicParameters Parameters);

    internal static TpmResponseCode Execute(CommandContext context, in Request request) => TpmResponseCode.Success;
}
