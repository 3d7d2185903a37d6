// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_HierarchyControl: switches a hierarchy on or off.</summary>
[TpmCommand(CommandCode.HierarchyControl, Traits = CommandTraits.Nv | CommandTraits.Extensive | CommandTraits.PhysicalPresence | CommandTraits.NotReadOnly)]
internal static partial class HierarchyControl
{
    internal readonly record struct Request(
        [Handle(HandleKind.Hierarchy, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [HandleParameter(HandleKind.Enables)] TpmHandle Enable,
        bool State);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        ClearState state = tpm.ClearState;
        TpmHandle enable = request.Enable;
        bool isPlatformAuth = request.AuthHandle == TpmHandle.Platform;

        // The platform may do everything; the owner of a hierarchy may switch it off, not on.
        bool isOwn = request.AuthHandle == enable && !request.State;
        if (enable == TpmHandle.Platform || enable == TpmHandle.PlatformNv ? !isPlatformAuth : !isPlatformAuth && !isOwn)
        {
            return TpmResponseCode.AuthType;
        }

        // Only a startup switches the platform hierarchy on.
        if (enable == TpmHandle.Platform && request.State)
        {
            return TpmResponseCode.AuthType;
        }

        if (enable == TpmHandle.Platform)
        {
            state.IsPlatformEnabled = false;
        }
        else if (enable == TpmHandle.PlatformNv)
        {
            state.IsPlatformNvEnabled = request.State;
        }
        else if (enable == TpmHandle.Owner)
        {
            state.IsOwnerEnabled = request.State;
        }
        else
        {
            state.IsEndorsementEnabled = request.State;
        }

        if (!request.State)
        {
            tpm.Objects.RemoveAll(o => o.Hierarchy == enable);
        }

        return TpmResponseCode.Success;
    }
}
