// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyGetDigest: what the policy commands have put together.</summary>
[TpmCommand(CommandCode.PolicyGetDigest)]
internal static partial class PolicyGetDigest
{
    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle PolicySession);

    internal readonly record struct Response([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> PolicyDigest);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = new Response(context.Tpm.Sessions.Find(request.PolicySession)!.Policy.Digest);
        return TpmResponseCode.Success;
    }
}
