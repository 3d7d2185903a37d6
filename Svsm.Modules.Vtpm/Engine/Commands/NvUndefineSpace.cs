// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_UndefineSpace: removes an NV index.</summary>
[TpmCommand(CommandCode.NvUndefineSpace, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class NvUndefineSpace
{
    internal readonly record struct Request(
        [Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle AuthHandle, [Handle(HandleKind.NvIndex)] TpmHandle NvIndex);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        NvIndex index = tpm.Nv.Find(request.NvIndex)!;
        if (index.Has(NvAttributes.PolicyDelete))
        {
            return TpmResponseCode.Attributes.At(At.NvIndex);
        }

        if (request.AuthHandle == TpmHandle.Owner && index.Has(NvAttributes.PlatformCreate))
        {
            return TpmResponseCode.NvAuthorization;
        }

        tpm.Nv.Remove(i => i == index);
        return TpmResponseCode.Success;
    }
}
