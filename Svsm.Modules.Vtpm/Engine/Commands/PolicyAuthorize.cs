// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_PolicyAuthorize: whoever has a key has approved what was stated so far.</summary>
[TpmCommand(CommandCode.PolicyAuthorize)]
internal static partial class PolicyAuthorize
{
    internal readonly record struct Request(
        [Handle(HandleKind.PolicySession)] TpmHandle PolicySession,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> ApprovedPolicy,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> PolicyRef,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> KeySign,
        Ticket CheckTicket);

    internal static TpmResponseCode Execute(CommandContext context, in Request request)
    {
        Tpm tpm = context.Tpm;
        Session session = tpm.Sessions.Find(request.PolicySession)!;
        if (request.CheckTicket.Tag != StructureTag.Verified)
        {
            return TpmResponseCode.Tag.At(At.CheckTicket);
        }

        var reader = new TpmReader(request.KeySign);
        if (reader.ReadAlgorithm(AlgorithmUse.Hash, false, out AlgorithmId hash) != TpmResponseCode.Success)
        {
            return TpmResponseCode.Hash.At(At.KeySign);
        }

        if (reader.Remaining != Algorithms.DigestSize(hash))
        {
            return TpmResponseCode.Size.At(At.KeySign);
        }

        if (session.Type != SessionType.Trial)
        {
            if (!TpmCryptography.AreEqual(request.ApprovedPolicy.Span, session.Policy.Digest))
            {
                return TpmResponseCode.Value.At(At.ApprovedPolicy);
            }

            byte[] signed = tpm.Cryptography.Hash(hash, [.. request.ApprovedPolicy.Span, .. request.PolicyRef.Span]);
            Ticket right = Tickets.Verified(tpm, request.CheckTicket.Hierarchy, signed, request.KeySign.Span);
            if (!TpmCryptography.AreEqual(right.Digest.Span, request.CheckTicket.Digest.Span))
            {
                return TpmResponseCode.Value.At(At.CheckTicket);
            }
        }

        Policies.Reset(session);
        Policies.Update(tpm, session, CommandCode.PolicyAuthorize, request.KeySign, request.PolicyRef);
        return TpmResponseCode.Success;
    }
}
