// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_Write: writes ordinary data or a PIN's count and limit.</summary>
[TpmCommand(CommandCode.NvWrite, Traits = CommandTraits.Nv | CommandTraits.NvWrite | CommandTraits.TemporaryIndexOnly)]
internal static partial class NvWrite
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Data,
        ushort Offset);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckWrite(request.AuthHandle);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (index.Type != NvType.Ordinary && !index.IsPin)
        {
            return TpmResponseCode.Attributes;
        }

        if (request.Offset > index.Data.Length)
        {
            return TpmResponseCode.Value.At(At.Offset);
        }

        if (request.Data.Length > index.Data.Length - request.Offset
            || (index.Has(NvAttributes.WriteAll) && request.Data.Length < index.Data.Length))
        {
            return TpmResponseCode.NvRange;
        }

        request.Data.Span.CopyTo(index.Data.AsSpan(request.Offset));
        context.Tpm.Nv.MarkWritten(index);
        return TpmResponseCode.Success;
    }
}
