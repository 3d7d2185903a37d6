// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_EvictControl: makes a copy of an object persistent, or removes a persistent object.</summary>
[TpmCommand(CommandCode.EvictControl, Traits = CommandTraits.Nv | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class EvictControl
{
    // The handles of the owner; those above are the platform's.
    private const uint FirstOfPlatform = 0x8180_0000;

    internal readonly record struct Request(
        [Handle(HandleKind.Provision, Role = AuthorizationRole.User)] TpmHandle Auth,
        [Handle(HandleKind.Object)] TpmHandle ObjectHandle,
        [HandleParameter(HandleKind.Persistent)] TpmHandle PersistentHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        if (tpm.Objects.Find(request.ObjectHandle) is not KeyObject { CanBePersistent: true } found)
        {
            return TpmResponseCode.Attributes.At(At.ObjectHandle);
        }

        bool isPersistent = request.ObjectHandle.Type == HandleType.Persistent;
        if (isPersistent && request.ObjectHandle != request.PersistentHandle)
        {
            return TpmResponseCode.Handle.At(At.ObjectHandle);
        }

        // The platform may remove everything, but keeps its own hierarchy in its own handles; so does the owner.
        bool isPlatform = request.Auth == TpmHandle.Platform;
        if (isPlatform != (found.Hierarchy == TpmHandle.Platform) && !(isPlatform && isPersistent))
        {
            return TpmResponseCode.Hierarchy.At(At.ObjectHandle);
        }

        if (!isPersistent && isPlatform != request.PersistentHandle.Value >= FirstOfPlatform)
        {
            return TpmResponseCode.Range.At(At.PersistentHandle);
        }

        if (!isPersistent)
        {
            return tpm.Objects.AddPersistent(request.PersistentHandle, found);
        }

        tpm.Objects.RemovePersistent(request.PersistentHandle);
        return TpmResponseCode.Success;
    }
}
