// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PCR_Event: hashes data with every algorithm and extends a PCR with the digests.</summary>
[TpmCommand(CommandCode.PcrEvent, Traits = CommandTraits.Nv)]
internal static partial class PcrEvent
{
    internal readonly record struct Request(
        [Handle(HandleKind.Pcr, Role = AuthorizationRole.User), OrNull] TpmHandle PcrHandle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> EventData);

    internal readonly record struct Response(HashValue[] Digests);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        bool extends = request.PcrHandle != TpmHandle.Null;
        if (extends && !PcrBanks.CanExtend(request.PcrHandle.Index, context.Locality))
        {
            return TpmResponseCode.Locality;
        }

        var digests = new List<HashValue>();
        foreach (AlgorithmRow row in Algorithms.Rows)
        {
            if ((row.Uses & AlgorithmUse.Hash) == 0)
            {
                continue;
            }

            byte[] digest = context.Tpm.Cryptography.Hash(row.Id, request.EventData.Span);
            digests.Add(new HashValue(row.Id, digest));
            if (extends)
            {
                context.Tpm.ExtendPcr(row.Id, request.PcrHandle.Index, digest);
            }
        }

        response = new Response([.. digests]);
        return TpmResponseCode.Success;
    }
}
