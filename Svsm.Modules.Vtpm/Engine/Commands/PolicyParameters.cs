// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyParameters: the policy is good for these parameters, whatever the handles.</summary>
[TpmCommand(CommandCode.PolicyParameters)]
internal static partial class PolicyParameters
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession, [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Hash);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        if (request.Hash.Length != session.Policy.Digest.Length)
        {
            return TpmResponseCode.Size.At(At.Hash);
        }

        if (!Policies.CanBind(session, PolicyBinding.Parameters, request.Hash.Span))
        {
            return TpmResponseCode.CpHash;
        }

        Policies.Extend(context.Tpm, session, CommandCode.PolicyParameters, request.Hash);
        Policies.Bind(session, PolicyBinding.Parameters, request.Hash.Span);
        return TpmResponseCode.Success;
    }
}
