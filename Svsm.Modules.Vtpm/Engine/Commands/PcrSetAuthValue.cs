// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PCR_SetAuthValue: the authValue of the PCRs that have one, until the next TPM Reset or Restart.</summary>
[TpmCommand(CommandCode.PcrSetAuthValue, Traits = CommandTraits.NotReadOnly)]
internal static partial class PcrSetAuthValue
{
    internal readonly record struct Request(
        [Handle(HandleKind.Pcr, Role = AuthorizationRole.User)] TpmHandle PcrHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Auth);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        if (!PcrBanks.HasAuthorization(request.PcrHandle))
        {
            return TpmResponseCode.Value;
        }

        context.Tpm.ClearState.PcrAuth = TpmCryptography.TrimAuth(request.Auth.Span).ToArray();
        return TpmResponseCode.Success;
    }
}
