// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyNvWritten: the policy is for an NV index that was written, or that was not.</summary>
[TpmCommand(CommandCode.PolicyNvWritten)]
internal static partial class PolicyNvWritten
{
    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle PolicySession, bool WrittenSet);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        PolicyState policy = session.Policy;
        if (policy.Demand(PolicyDemands.NvWrittenState) && policy.Demand(PolicyDemands.NvWritten) != request.WrittenSet)
        {
            return TpmResponseCode.Value.At(At.WrittenSet);
        }

        policy.Demands |= PolicyDemands.NvWrittenState | (request.WrittenSet ? PolicyDemands.NvWritten : 0);
        Policies.Extend(context.Tpm, session, CommandCode.PolicyNvWritten, new[] { request.WrittenSet ? (byte)1 : (byte)0 });
        return TpmResponseCode.Success;
    }
}
