// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_Read: reads an NV index.</summary>
[TpmCommand(CommandCode.NvRead, Traits = CommandTraits.NvRead)]
internal static partial class NvRead
{
    internal readonly record struct Request(
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex,
        ushort Size,
        ushort Offset);

    internal readonly record struct Response([Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Data);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        NvIndex index = context.Tpm.Nv.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckRead(request.AuthHandle);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (request.Size > TpmLimits.MaxBuffer)
        {
            return TpmResponseCode.Value.At(At.Size);
        }

        if (request.Offset > index.Data.Length)
        {
            return TpmResponseCode.Value.At(At.Offset);
        }

        if (request.Size > index.Data.Length - request.Offset)
        {
            return TpmResponseCode.NvRange;
        }

        response = new Response(index.Data.AsMemory(request.Offset, request.Size));
        return TpmResponseCode.Success;
    }
}
