// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ChangePPS: a new platform seed.</summary>
[TpmCommand(CommandCode.ChangePps, Traits = CommandTraits.Nv | CommandTraits.Extensive | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class ChangePps
{
    internal readonly record struct Request([Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle AuthHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        tpm.ClearAfterCommand(tpm.Persistent.PlatformSeed);
        tpm.ClearAfterCommand(tpm.Persistent.PlatformProof);
        tpm.Persistent.PlatformSeed = tpm.NewSecret();
        tpm.Persistent.PlatformProof = tpm.NewSecret();
        tpm.ClearState.PlatformPolicy = AuthPolicy.None;
        tpm.Objects.RemoveHierarchy(TpmHandle.Platform);
        tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
