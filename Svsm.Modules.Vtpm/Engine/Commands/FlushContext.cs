// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_FlushContext: removes an object or a session. Its handle is a parameter.</summary>
[TpmCommand(CommandCode.FlushContext, Traits = CommandTraits.NoSessions)]
internal static partial class FlushContext
{
    internal readonly record struct Request([HandleParameter(HandleKind.Context)] TpmHandle FlushHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        if (request.FlushHandle.Type == HandleType.Transient)
        {
            if (tpm.Objects.Find(request.FlushHandle) is null)
            {
                return TpmResponseCode.Handle.At(At.FlushHandle);
            }

            tpm.Objects.Remove(request.FlushHandle);
            return TpmResponseCode.Success;
        }

        // Both types of session handles name the same sessions.
        if (tpm.Sessions.Find(request.FlushHandle) is Session session)
        {
            tpm.Sessions.Remove(session);
            return TpmResponseCode.Success;
        }

        if (!tpm.Sessions.IsSaved(request.FlushHandle))
        {
            return TpmResponseCode.Handle.At(At.FlushHandle);
        }

        tpm.Sessions.RemoveSaved(request.FlushHandle);
        return TpmResponseCode.Success;
    }
}
