// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_StirRandom: adds to the state of the random number generator.</summary>
[TpmCommand(CommandCode.StirRandom, Traits = CommandTraits.Nv)]
internal static partial class StirRandom
{
    internal readonly record struct Request([Size(128)] ReadOnlyMemory<byte> InData);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        // The old state is an input too, so that what comes from outside can add but not replace.
        context.Tpm.Random.Reseed(context.Tpm.Random.Generate(48), request.InData.ToArray());
        return TpmResponseCode.Success;
    }
}
