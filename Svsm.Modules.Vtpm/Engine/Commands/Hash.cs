// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Hash: the digest of a piece of data, with a ticket.</summary>
[TpmCommand(CommandCode.Hash)]
internal static partial class Hash
{
    internal readonly record struct Request(
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> Data,
        [Algorithm(AlgorithmUse.Hash)] AlgorithmId HashAlg,
        [HandleParameter(HandleKind.Hierarchy), OrNull] TpmHandle Hierarchy);

    internal readonly record struct Response([Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> OutHash, Ticket Validation);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        byte[] digest = context.Tpm.Cryptography.Hash(request.HashAlg, request.Data.Span);

        bool isSafe = request.Hierarchy != TpmHandle.Null && Tickets.IsSafe(request.Data.Span);
        response = new Response(digest, isSafe ? Tickets.HashCheck(context.Tpm, request.Hierarchy, request.HashAlg, digest) : Tickets.EmptyHashCheck);
        return TpmResponseCode.Success;
    }
}
