// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_GlobalWriteLock: no writes any more to the indices that say so.</summary>
[TpmCommand(CommandCode.NvGlobalWriteLock, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class NvGlobalWriteLock
{
    internal readonly record struct Request([Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle AuthHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        foreach (NvIndex index in context.Tpm.Persistent.NvIndices)
        {
            if (index.Has(NvAttributes.GlobalLock))
            {
                index.Attributes |= NvAttributes.WriteLocked;
                context.Tpm.MarkDirty();
            }
        }

        return TpmResponseCode.Success;
    }
}
