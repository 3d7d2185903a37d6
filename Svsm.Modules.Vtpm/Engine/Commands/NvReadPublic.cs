// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_ReadPublic: public area and Name of an NV index.</summary>
[TpmCommand(CommandCode.NvReadPublic)]
internal static partial class NvReadPublic
{
    internal readonly record struct Request([Handle(HandleKind.NvIndex)] TpmHandle NvIndex);

    internal readonly record struct Response([Sized] NvPublic NvPublic, [Size(TpmLimits.MaxData)] byte[] NvName);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = new Response(context.Tpm.Nv.Find(request.NvIndex)!.Public, context.Names[0]);
        return TpmResponseCode.Success;
    }
}
