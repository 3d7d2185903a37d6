// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyCpHash: the policy is good for one command with these parameters.</summary>
[TpmCommand(CommandCode.PolicyCpHash)]
internal static partial class PolicyCpHash
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession, [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> CpHashA);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        if (request.CpHashA.Length != session.Policy.Digest.Length)
        {
            return TpmResponseCode.Size.At(At.CpHashA);
        }

        if (!Policies.CanBind(session, PolicyBinding.Command, request.CpHashA.Span))
        {
            return TpmResponseCode.CpHash;
        }

        Policies.Extend(context.Tpm, session, CommandCode.PolicyCpHash, request.CpHashA);
        Policies.Bind(session, PolicyBinding.Command, request.CpHashA.Span);
        return TpmResponseCode.Success;
    }
}
