// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ClearControl: whether TPM2_Clear is served. Lockout may only forbid it.</summary>
[TpmCommand(CommandCode.ClearControl, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class ClearControl
{
    internal readonly record struct Request([Handle(HandleKind.Clear, Role = AuthorizationRole.User)] TpmHandle Auth, bool Disable);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        if (request.Auth == TpmHandle.Lockout && !request.Disable)
        {
            return TpmResponseCode.AuthFail;
        }

        context.Tpm.Persistent.IsClearDisabled = request.Disable;
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
