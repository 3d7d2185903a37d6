// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_SequenceComplete: ends a hash or HMAC sequence; the sequence is gone afterwards.</summary>
[TpmCommand(CommandCode.SequenceComplete, Traits = CommandTraits.Flushed)]
internal static partial class SequenceComplete
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle SequenceHandle,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Buffer,
        [HandleParameter(HandleKind.Hierarchy), OrNull] TpmHandle Hierarchy);

    internal readonly record struct Response([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Result, Ticket Validation);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = default;
        if (context.Tpm.Objects.Find(request.SequenceHandle) is not SequenceObject sequence || sequence.Kind == SequenceKind.Event)
        {
            return TpmResponseCode.Mode.At(At.SequenceHandle);
        }

        sequence.Update(request.Buffer.Span);
        byte[] result = sequence.States[0].Finish();
        bool hasTicket = sequence.Kind == SequenceKind.Hash && sequence.IsSafeForTicket && request.Hierarchy != TpmHandle.Null;
        response = new Response(result, hasTicket ? Tickets.HashCheck(context.Tpm, request.Hierarchy, sequence.Algorithm, result) : Tickets.EmptyHashCheck);
        context.FlushAfterResponse = request.SequenceHandle;
        return TpmResponseCode.Success;
    }
}
