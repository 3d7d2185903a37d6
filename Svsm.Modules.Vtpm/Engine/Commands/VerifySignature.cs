// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_VerifySignature: whether a signature is good, with a ticket that says so.</summary>
[TpmCommand(CommandCode.VerifySignature)]
internal static partial class VerifySignature
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object)] TpmHandle KeyHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Digest,
        Signature Signature);

    internal readonly record struct Response(Ticket Validation);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.KeyHandle) is not KeyObject key || !key.Public.Has(ObjectAttributes.Sign))
        {
            return TpmResponseCode.Attributes.At(At.KeyHandle);
        }

        TpmResponseCode code = Signing.Verify(tpm, key, request.Digest.Span, request.Signature);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.Signature);
        }

        // A ticket that anybody could use is none.
        response = new Response(key.Hierarchy == TpmHandle.Null || key.Name.Length == 0
            ? new Ticket(StructureTag.Verified, TpmHandle.Null, default)
            : Tickets.Verified(tpm, key.Hierarchy, request.Digest.Span, key.Name));
        return TpmResponseCode.Success;
    }
}
