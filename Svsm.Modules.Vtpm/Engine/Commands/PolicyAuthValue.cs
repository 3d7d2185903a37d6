// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyAuthValue: an HMAC with the authValue is needed too.</summary>
[TpmCommand(CommandCode.PolicyAuthValue)]
internal static partial class PolicyAuthValue
{
    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle PolicySession);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;

        // The two have one digest: how the authValue is shown does not change the policy.
        Policies.Extend(context.Tpm, session, CommandCode.PolicyAuthValue);
        session.Policy.Demands = (session.Policy.Demands & ~PolicyDemands.Password) | PolicyDemands.AuthValue;
        return TpmResponseCode.Success;
    }
}
