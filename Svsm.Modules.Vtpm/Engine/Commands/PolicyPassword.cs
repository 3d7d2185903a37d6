// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyPassword: the authValue is needed too, as a password.</summary>
[TpmCommand(CommandCode.PolicyPassword)]
internal static partial class PolicyPassword
{
    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle PolicySession);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;

        // The two have one digest: how the authValue is shown does not change the policy.
        Policies.Extend(context.Tpm, session, CommandCode.PolicyAuthValue);
        session.Policy.Demands = (session.Policy.Demands & ~PolicyDemands.AuthValue) | PolicyDemands.Password;
        return TpmResponseCode.Success;
    }
}
