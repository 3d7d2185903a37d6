// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Sign: signs a digest; with a restricted key only one that the TPM has made.</summary>
[TpmCommand(CommandCode.Sign)]
internal static partial class Sign
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyHandle,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> Digest,
        [OrNull] SignatureScheme InScheme,
        Ticket Validation);

    internal readonly record struct Response(Signature Signature);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (request.Validation.Tag != StructureTag.HashCheck)
        {
            return TpmResponseCode.Tag.At(At.Validation);
        }

        if (!Signing.TryFindSigner(tpm, request.KeyHandle, out KeyObject? key))
        {
            return TpmResponseCode.Key.At(At.KeyHandle);
        }

        if (key!.Public.Has(ObjectAttributes.X509Sign))
        {
            return TpmResponseCode.Attributes.At(At.KeyHandle);
        }

        if (!Signing.TrySelectScheme(key, request.InScheme.Scheme, out AsymmetricScheme scheme))
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        if (request.Validation.Digest.Length != 0 || key.Public.Has(ObjectAttributes.Restricted))
        {
            if (!Tickets.AreSame(request.Validation, Tickets.HashCheck(tpm, request.Validation.Hierarchy, scheme.Hash, request.Digest.Span)))
            {
                return TpmResponseCode.Ticket.At(At.Validation);
            }
        }
        else if (request.Digest.Length != Algorithms.DigestSize(scheme.Hash))
        {
            return TpmResponseCode.Size.At(At.Digest);
        }

        TpmResponseCode code = Signing.Sign(tpm, key, scheme, request.Digest.Span, out Signature signature);
        response = new Response(signature);
        return code;
    }
}
