// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ContextSave: gives an object or session out, encrypted. A session is not loaded afterwards.</summary>
[TpmCommand(CommandCode.ContextSave, Traits = CommandTraits.NoSessions)]
internal static partial class ContextSave
{
    internal readonly record struct Request([Handle(HandleKind.Context)] TpmHandle SaveHandle);

    internal readonly record struct Response(SavedContext Context);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        if (tpm.Objects.Find(request.SaveHandle) is TransientObject found)
        {
            response = new Response(SavedContexts.Save(tpm, found));
            return TpmResponseCode.Success;
        }

        TpmResponseCode code = SavedContexts.Save(tpm, tpm.Sessions.Find(request.SaveHandle)!, out SavedContext saved);
        response = new Response(saved);
        return code;
    }
}
