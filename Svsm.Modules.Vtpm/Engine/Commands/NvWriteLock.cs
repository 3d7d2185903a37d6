// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_WriteLock: no writes any more, for good or until the next TPM Reset or Restart.</summary>
[TpmCommand(CommandCode.NvWriteLock, Traits = CommandTraits.Nv | CommandTraits.NvWrite | CommandTraits.TemporaryIndexOnly)]
internal static partial class NvWriteLock
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckWrite(request.AuthHandle);
        if (code != TpmResponseCode.Success)
        {
            // Locked already is as good.
            return code == TpmResponseCode.NvLocked ? TpmResponseCode.Success : code;
        }

        if (!index.Has(NvAttributes.WriteDefine | NvAttributes.WriteStClear))
        {
            return TpmResponseCode.Attributes.At(At.NvIndex);
        }

        index.Attributes |= NvAttributes.WriteLocked;
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
