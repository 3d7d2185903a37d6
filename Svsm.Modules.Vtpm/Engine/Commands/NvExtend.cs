// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_Extend: extends a digest.</summary>
[TpmCommand(CommandCode.NvExtend, Traits = CommandTraits.Nv | CommandTraits.NvWrite | CommandTraits.TemporaryIndexOnly)]
internal static partial class NvExtend
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Data);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckWrite(request.AuthHandle);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (index.Type != NvType.Extend)
        {
            return TpmResponseCode.Attributes.At(At.NvIndex);
        }

        IHashState state = context.Tpm.Cryptography.StartHash(index.Public.NameHash);
        state.Update(index.Has(NvAttributes.Written) ? index.Data : new byte[index.Data.Length]);
        state.Update(request.Data.Span);
        state.Finish(index.Data);
        context.Tpm.Nv.MarkWritten(index);
        return TpmResponseCode.Success;
    }
}
