// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_SelfTest: tests every algorithm, or those that were not tested since power-on.</summary>
[TpmCommand(CommandCode.SelfTest, Traits = CommandTraits.Nv)]
internal static partial class SelfTest
{
    internal readonly record struct Request(bool FullTest);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
        => context.Tpm.SelfTests.RunAll(request.FullTest) ? TpmResponseCode.Success : TpmResponseCode.Failure;
}
