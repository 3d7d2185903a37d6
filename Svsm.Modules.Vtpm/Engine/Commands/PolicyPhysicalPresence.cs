// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyPhysicalPresence: somebody is at the machine when the policy is used.</summary>
[TpmCommand(CommandCode.PolicyPhysicalPresence)]
internal static partial class PolicyPhysicalPresence
{
    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle PolicySession);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        Policies.Extend(context.Tpm, session, CommandCode.PolicyPhysicalPresence);
        session.Policy.Demands |= PolicyDemands.PhysicalPresence;
        return TpmResponseCode.Success;
    }
}
