// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyTemplate: the policy is good for making objects of this template.</summary>
[TpmCommand(CommandCode.PolicyTemplate)]
internal static partial class PolicyTemplate
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession, [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> TemplateHash);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        if (!Policies.CanBind(session, PolicyBinding.Template, request.TemplateHash.Span))
        {
            return session.Policy.Binding == PolicyBinding.Template ? TpmResponseCode.Value.At(At.TemplateHash) : TpmResponseCode.CpHash;
        }

        if (request.TemplateHash.Length != session.Policy.Digest.Length)
        {
            return TpmResponseCode.Size.At(At.TemplateHash);
        }

        Policies.Extend(context.Tpm, session, CommandCode.PolicyTemplate, request.TemplateHash);
        Policies.Bind(session, PolicyBinding.Template, request.TemplateHash.Span);
        return TpmResponseCode.Success;
    }
}
