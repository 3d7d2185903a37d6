// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_SetAlgorithmSet: a number that the platform remembers; this TPM has one set of algorithms.</summary>
[TpmCommand(CommandCode.SetAlgorithmSet, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class SetAlgorithmSet
{
    internal readonly record struct Request([Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle AuthHandle, uint AlgorithmSet);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        context.Tpm.Persistent.AlgorithmSet = request.AlgorithmSet;
        context.Tpm.MarkDirty();
        return TpmResponseCode.Success;
    }
}
