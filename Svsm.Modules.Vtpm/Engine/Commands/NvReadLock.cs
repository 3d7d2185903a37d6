// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_ReadLock: no reads any more until the next TPM Reset or Restart.</summary>
[TpmCommand(CommandCode.NvReadLock, Traits = CommandTraits.Nv | CommandTraits.NvRead | CommandTraits.TemporaryIndexOnly)]
internal static partial class NvReadLock
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckRead(request.AuthHandle);
        if (code is not (TpmResponseCode.Success or TpmResponseCode.NvUninitialized))
        {
            // Locked already is as good.
            return code == TpmResponseCode.NvLocked ? TpmResponseCode.Success : code;
        }

        if (!index.Has(NvAttributes.ReadStClear))
        {
            return TpmResponseCode.Attributes.At(At.NvIndex);
        }

        index.Attributes |= NvAttributes.ReadLocked;
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
