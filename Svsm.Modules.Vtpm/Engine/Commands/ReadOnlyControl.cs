// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>
/// TPM2_ReadOnlyControl: from now on nothing is made or changed that the TPM keeps, or it may be again. A TPM Resume keeps the mode, other
/// startups end it.
/// </summary>
[TpmCommand(CommandCode.ReadOnlyControl)]
internal static partial class ReadOnlyControl
{
    internal readonly record struct Request([Handle(HandleKind.Platform, Role = AuthorizationRole.User)] TpmHandle AuthHandle, bool State);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        context.Tpm.ClearState.IsReadOnly = request.State;
        return TpmResponseCode.Success;
    }
}
