// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ClockSet: sets the clock forward.</summary>
[TpmCommand(CommandCode.ClockSet, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class ClockSet
{
    // Beyond this the clock would end within the life of a platform.
    private const ulong Limit = 0xFFFF_0000_0000_0000;

    internal readonly record struct Request([Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle Auth, ulong NewTime);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        if (request.NewTime > Limit || request.NewTime < context.Tpm.Persistent.Clock)
        {
            return TpmResponseCode.Value.At(At.NewTime);
        }

        context.Tpm.SetClock(request.NewTime);
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
