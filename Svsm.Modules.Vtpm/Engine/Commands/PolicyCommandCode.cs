// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyCommandCode: the policy is good for one command.</summary>
[TpmCommand(CommandCode.PolicyCommandCode)]
internal static partial class PolicyCommandCode
{
    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle PolicySession, CommandCode Code);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        if (session.Policy.Command != 0 && session.Policy.Command != (uint)request.Code)
        {
            return TpmResponseCode.Value.At(At.Code);
        }

        if (CommandTable.Find((uint)request.Code) is null)
        {
            return TpmResponseCode.PolicyCommandCode.At(At.Code);
        }

        var writer = new TpmWriter(new byte[sizeof(uint)]);
        writer.WriteUInt32((uint)request.Code);
        Policies.Extend(context.Tpm, session, CommandCode.PolicyCommandCode, writer.Written.ToArray());
        session.Policy.Command = (uint)request.Code;
        return TpmResponseCode.Success;
    }
}
