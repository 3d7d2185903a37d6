// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyOR: one of several policies.</summary>
[TpmCommand(CommandCode.PolicyOr)]
internal static partial class PolicyOr
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession, [Count(TpmLimits.DigestListCount, 2)] Digest[] Hashes);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Session session = context.Tpm.Sessions.Find(request.PolicySession)!;
        if (session.Type != SessionType.Trial && !Array.Exists(request.Hashes, h => TpmCryptography.AreEqual(h.Value.Span, session.Policy.Digest)))
        {
            return TpmResponseCode.Value.At(At.Hashes);
        }

        Policies.Reset(session);
        Policies.Extend(context.Tpm, session, CommandCode.PolicyOr, Array.ConvertAll(request.Hashes, h => h.Value));
        return TpmResponseCode.Success;
    }
}
