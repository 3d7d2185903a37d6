// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyLocality: the command comes from one of these localities.</summary>
[TpmCommand(CommandCode.PolicyLocality)]
internal static partial class PolicyLocality
{
    // From here on the value is one locality, not a set.
    private const byte FirstExtended = 32;

    internal readonly record struct Request([Handle(HandleKind.PolicySession)] TpmHandle PolicySession, byte Locality);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        byte before = session.Policy.Locality;
        byte after = request.Locality;
        if (before != 0)
        {
            // What was stated before still holds: sets are cut, an extended locality stays the same one.
            after = before >= FirstExtended || after >= FirstExtended ? (before == after ? after : (byte)0) : (byte)(before & after);
        }

        if (after == 0)
        {
            return TpmResponseCode.Range.At(At.Locality);
        }

        Policies.Extend(context.Tpm, session, CommandCode.PolicyLocality, new[] { request.Locality });
        session.Policy.Locality = after;
        return TpmResponseCode.Success;
    }
}
