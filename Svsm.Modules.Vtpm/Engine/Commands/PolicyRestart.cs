// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyRestart: begins the policy anew.</summary>
[TpmCommand(CommandCode.PolicyRestart)]
internal static partial class PolicyRestart
{
    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle SessionHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.SessionHandle)!;
        session.Policy = PolicyState.Create(session.Hash);
        return TpmResponseCode.Success;
    }
}
