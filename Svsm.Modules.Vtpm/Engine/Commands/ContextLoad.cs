// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ContextLoad: takes back what TPM2_ContextSave gave out.</summary>
[TpmCommand(CommandCode.ContextLoad, Traits = CommandTraits.NoSessions)]
internal static partial class ContextLoad
{
    internal readonly record struct Request(SavedContext Context);

    internal readonly record struct Response([Handle(HandleKind.Context)] TpmHandle LoadedHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        TpmResponseCode code = SavedContexts.Load(context.Tpm, request.Context, out TpmHandle handle);
        response = new Response(handle);
        return code.At(At.Context);
    }
}
