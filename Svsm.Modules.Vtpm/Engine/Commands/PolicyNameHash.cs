// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyNameHash: the policy is good for these handles.</summary>
[TpmCommand(CommandCode.PolicyNameHash)]
internal static partial class PolicyNameHash
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession, [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> NameHash);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        if (request.NameHash.Length != session.Policy.Digest.Length)
        {
            return TpmResponseCode.Size.At(At.NameHash);
        }

        if (session.Policy.Binding != PolicyBinding.None)
        {
            return TpmResponseCode.CpHash;
        }

        Policies.Extend(context.Tpm, session, CommandCode.PolicyNameHash, request.NameHash);
        Policies.Bind(session, PolicyBinding.Names, request.NameHash.Span);
        return TpmResponseCode.Success;
    }
}
