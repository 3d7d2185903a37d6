// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_EventSequenceComplete: ends an event sequence and extends a PCR with its digests.</summary>
[TpmCommand(CommandCode.EventSequenceComplete, Traits = CommandTraits.Nv | CommandTraits.Flushed)]
internal static partial class EventSequenceComplete
{
    internal readonly record struct Request(
        [Handle(HandleKind.Pcr, Role = AuthorizationRole.User), OrNull] TpmHandle PcrHandle,
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle SequenceHandle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Buffer);

    internal readonly record struct Response(HashValue[] Results);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        if (context.Tpm.Objects.Find(request.SequenceHandle) is not SequenceObject { Kind: SequenceKind.Event } sequence)
        {
            return TpmResponseCode.Mode.At(At.SequenceHandle);
        }

        bool extends = request.PcrHandle != TpmHandle.Null;
        if (extends && !PcrBanks.CanExtend(request.PcrHandle.Index, context.Locality))
        {
            return TpmResponseCode.Locality;
        }

        sequence.Update(request.Buffer.Span);
        var results = new HashValue[sequence.States.Length];
        int next = 0;
        foreach (AlgorithmRow row in Algorithms.Rows)
        {
            if ((row.Uses & AlgorithmUse.Hash) == 0)
            {
                continue;
            }

            byte[] digest = sequence.States[next].Finish();
            results[next++] = new HashValue(row.Id, digest);
            if (extends)
            {
                context.Tpm.ExtendPcr(row.Id, request.PcrHandle.Index, digest);
            }
        }

        response = new Response(results);
        context.FlushAfterResponse = request.SequenceHandle;
        return TpmResponseCode.Success;
    }
}
