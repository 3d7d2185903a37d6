// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ACT_SetTimeout: sets the countdown timer.</summary>
[TpmCommand(CommandCode.ActSetTimeout)]
internal static partial class ActSetTimeout
{
    internal readonly record struct Request(
        [Handle(HandleKind.CountdownTimer, Role = AuthorizationRole.User)] TpmHandle ActHandle, uint StartTimeout);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        TpmResponseCode code = context.Tpm.Countdown.Set(request.StartTimeout);
        return code == TpmResponseCode.Success ? code : code.At(At.StartTimeout);
    }
}
