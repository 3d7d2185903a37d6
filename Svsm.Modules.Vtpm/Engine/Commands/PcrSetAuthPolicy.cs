// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PCR_SetAuthPolicy: the policy of the PCRs that have one.</summary>
[TpmCommand(CommandCode.PcrSetAuthPolicy, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class PcrSetAuthPolicy
{
    internal readonly record struct Request(
        [Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Size(TpmLimits.MaxDigest)] byte[] AuthPolicy,
        [Algorithm(AlgorithmUse.Hash), OrNull] AlgorithmId HashAlg,
        [HandleParameter(HandleKind.Pcr)] TpmHandle PcrNum);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        if (request.AuthPolicy.Length != Algorithms.DigestSize(request.HashAlg))
        {
            return TpmResponseCode.Size.At(At.AuthPolicy);
        }

        if (!PcrBanks.HasAuthorization(request.PcrNum))
        {
            return TpmResponseCode.Value.At(At.PcrNum);
        }

        context.Tpm.Persistent.PcrPolicy = new AuthPolicy(request.HashAlg, request.AuthPolicy);
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
