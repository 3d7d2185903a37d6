// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PCR_Read: the values of up to eight PCRs.</summary>
[TpmCommand(CommandCode.PcrRead)]
internal static partial class PcrRead
{
    internal readonly record struct Request([Count(TpmLimits.HashCount)] PcrSelection[] PcrSelectionIn);

    internal readonly record struct Response(uint PcrUpdateCounter, PcrSelection[] PcrSelectionOut, Digest[] PcrValues);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        PcrBanks pcrs = context.Tpm.Pcrs;
        var values = new List<Digest>();
        var selections = new PcrSelection[request.PcrSelectionIn.Length];
        for (int i = 0; i < selections.Length; i++)
        {
            PcrSelection wanted = pcrs.Filter(request.PcrSelectionIn[i]);
            uint given = 0;
            for (int pcr = 0; pcr < TpmLimits.PcrCount && values.Count < TpmLimits.DigestListCount; pcr++)
            {
                if ((wanted.Map & (1u << pcr)) != 0)
                {
                    values.Add(new Digest(pcrs.Read(wanted.Hash, pcr)));
                    given |= 1u << pcr;
                }
            }

            selections[i] = wanted with { Map = given };
        }

        response = new Response(context.Tpm.ResetState.PcrCounter, selections, [.. values]);
        return TpmResponseCode.Success;
    }
}
