// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_SetBits: sets bits, for good.</summary>
[TpmCommand(CommandCode.NvSetBits, Traits = CommandTraits.Nv | CommandTraits.NvWrite | CommandTraits.TemporaryIndexOnly)]
internal static partial class NvSetBits
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex,
        ulong Bits);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckWrite(request.AuthHandle);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (index.Type != NvType.Bits)
        {
            return TpmResponseCode.Attributes.At(At.NvIndex);
        }

        index.Value = (index.Has(NvAttributes.Written) ? index.Value : 0) | request.Bits;
        context.Tpm.Nv.MarkWritten(index);
        return TpmResponseCode.Success;
    }
}
