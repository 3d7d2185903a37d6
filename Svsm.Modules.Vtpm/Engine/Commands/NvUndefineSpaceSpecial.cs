// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_UndefineSpaceSpecial: removes an NV index that its policy and the platform have to remove.</summary>
[TpmCommand(CommandCode.NvUndefineSpaceSpecial, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class NvUndefineSpaceSpecial
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvIndex, Role = AuthorizationRole.Admin)] TpmHandle NvIndex,
        [Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle Platform);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        if (!index.Has(NvAttributes.PolicyDelete))
        {
            return TpmResponseCode.Attributes.At(At.NvIndex);
        }

        context.Tpm.Nv.Remove(i => i == index);
        return TpmResponseCode.Success;
    }
}
