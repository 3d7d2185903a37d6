// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_GetRandom: random bytes, at most those of the largest digest.</summary>
[TpmCommand(CommandCode.GetRandom)]
internal static partial class GetRandom
{
    internal readonly record struct Request(ushort BytesRequested);

    internal readonly record struct Response([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> RandomBytes);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = new Response(context.Tpm.Random.Generate(Math.Min(request.BytesRequested, (ushort)TpmLimits.MaxDigest)));
        return TpmResponseCode.Success;
    }
}
