// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PP_Commands: which commands of the platform need physical presence.</summary>
[TpmCommand(CommandCode.PpCommands, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class PpCommands
{
    internal readonly record struct Request(
        [Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle Auth,
        [Count(TpmLimits.CommandListCount)] CommandCode[] SetList,
        [Count(TpmLimits.CommandListCount)] CommandCode[] ClearList);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        var required = new SortedSet<uint>(tpm.Persistent.PresenceCommands);
        foreach (CommandCode code in request.SetList)
        {
            // Of other commands nobody can ask it: the request for them has no effect.
            if (CommandTable.Find((uint)code)?.Traits.HasFlag(CommandTraits.PhysicalPresence) == true)
            {
                required.Add((uint)code);
            }
        }

        foreach (CommandCode code in request.ClearList)
        {
            // This command itself always needs it.
            if (code != CommandCode.PpCommands)
            {
                required.Remove((uint)code);
            }
        }

        tpm.Persistent.PresenceCommands = [.. required];
        tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
