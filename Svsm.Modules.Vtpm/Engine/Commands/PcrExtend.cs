// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PCR_Extend: extends a PCR in the banks that there are digests for.</summary>
[TpmCommand(CommandCode.PcrExtend, Traits = CommandTraits.Nv)]
internal static partial class PcrExtend
{
    internal readonly record struct Request(
        [Handle(HandleKind.Pcr, Role = AuthorizationRole.User), OrNull] TpmHandle PcrHandle,
        [Count(TpmLimits.HashCount)] HashValue[] Digests);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        if (request.PcrHandle == TpmHandle.Null)
        {
            return TpmResponseCode.Success;
        }

        int pcr = request.PcrHandle.Index;
        if (!PcrBanks.CanExtend(pcr, context.Locality))
        {
            return TpmResponseCode.Locality;
        }

        foreach (HashValue digest in request.Digests)
        {
            context.Tpm.ExtendPcr(digest.Algorithm, pcr, digest.Digest.Span);
        }

        return TpmResponseCode.Success;
    }
}
