// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PCR_Reset: sets a PCR to zero, from a locality that may do so.</summary>
[TpmCommand(CommandCode.PcrReset, Traits = CommandTraits.Nv)]
internal static partial class PcrReset
{
    internal readonly record struct Request([Handle(HandleKind.Pcr, Role = AuthorizationRole.User)] TpmHandle PcrHandle);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        int pcr = request.PcrHandle.Index;
        if (!PcrBanks.CanReset(pcr, context.Locality))
        {
            return TpmResponseCode.Locality;
        }

        context.Tpm.Pcrs.Reset(pcr);
        context.Tpm.CountPcrChange(pcr);
        return TpmResponseCode.Success;
    }
}
