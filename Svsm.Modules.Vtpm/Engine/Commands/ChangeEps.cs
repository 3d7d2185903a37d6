// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ChangeEPS: a new endorsement seed.</summary>
[TpmCommand(CommandCode.ChangeEps, Traits = CommandTraits.Nv | CommandTraits.Extensive | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class ChangeEps
{
    internal readonly record struct Request([Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle AuthHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        tpm.ClearAfterCommand(tpm.Persistent.EndorsementSeed);
        tpm.ClearAfterCommand(tpm.Persistent.EndorsementProof);
        tpm.ClearAfterCommand(tpm.Persistent.EndorsementAuth);
        tpm.Persistent.EndorsementSeed = tpm.NewSecret();
        tpm.Persistent.EndorsementProof = tpm.NewSecret();
        tpm.Persistent.EndorsementAuth = [];
        tpm.Persistent.EndorsementPolicy = AuthPolicy.None;
        tpm.ClearState.IsEndorsementEnabled = true;
        tpm.Objects.RemoveHierarchy(TpmHandle.Endorsement);
        tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
