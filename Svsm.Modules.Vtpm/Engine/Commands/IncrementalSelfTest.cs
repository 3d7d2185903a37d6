// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_IncrementalSelfTest: tests the given algorithms and tells which are left.</summary>
[TpmCommand(CommandCode.IncrementalSelfTest, Traits = CommandTraits.Nv)]
internal static partial class IncrementalSelfTest
{
    internal readonly record struct Request([Count(SelfTests.MaxList)] AlgorithmId[] ToTest);

    internal readonly record struct Response([Count(SelfTests.MaxList)] AlgorithmId[] ToDoList);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        bool passed = context.Tpm.SelfTests.Run(request.ToTest);
        response = new Response(context.Tpm.SelfTests.Untested());
        return passed ? TpmResponseCode.Success : TpmResponseCode.Failure;
    }
}
