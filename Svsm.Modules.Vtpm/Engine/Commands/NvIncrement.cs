// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_Increment: counts.</summary>
[TpmCommand(CommandCode.NvIncrement, Traits = CommandTraits.Nv | CommandTraits.NvWrite | CommandTraits.NotReadOnly)]
internal static partial class NvIncrement
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndices indices = context.Tpm.Nv;
        NvIndex index = indices.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckWrite(request.AuthHandle);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (index.Type != NvType.Counter)
        {
            return TpmResponseCode.Attributes.At(At.NvIndex);
        }

        // A counter that is removed and defined again must not have a value twice.
        index.Value = (index.Has(NvAttributes.Written) ? index.Value : context.Tpm.Persistent.NvMaxCount) + 1;
        indices.MarkWritten(index);
        return TpmResponseCode.Success;
    }
}
