// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_CertifyCreation: a statement that this TPM made an object, and under which circumstances.</summary>
[TpmCommand(CommandCode.CertifyCreation)]
internal static partial class CertifyCreation
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle SignHandle,
        [Handle(HandleKind.Object)] TpmHandle ObjectHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> QualifyingData,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> CreationHash,
        [OrNull] SignatureScheme InScheme,
        Ticket CreationTicket);

    internal readonly record struct Response([Size(Attestation.MaxSize)] byte[] CertifyInfo, Signature Signature);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (request.CreationTicket.Tag != StructureTag.Creation)
        {
            return TpmResponseCode.Tag.At(At.CreationTicket);
        }

        if (!Signing.TryFindSigner(tpm, request.SignHandle, out KeyObject? signer))
        {
            return TpmResponseCode.Key.At(At.SignHandle);
        }

        if (!Signing.TrySelectScheme(signer, request.InScheme.Scheme, out AsymmetricScheme scheme))
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        byte[] name = tpm.Objects.Find(request.ObjectHandle)!.Name;
        if (!Tickets.AreSame(request.CreationTicket, Tickets.Creation(tpm, request.CreationTicket.Hierarchy, name, request.CreationHash.Span)))
        {
            return TpmResponseCode.Ticket.At(At.CreationTicket);
        }

        ReadOnlyMemory<byte> creationHash = request.CreationHash;
        TpmResponseCode code = Attestation.Make(
            tpm,
            signer,
            scheme,
            request.QualifyingData.Span,
            StructureTag.AttestCreation,
            (ref TpmWriter writer) =>
            {
                writer.WriteSized(name);
                writer.WriteSized(creationHash.Span);
            },
            out byte[] attest,
            out Signature signature);
        response = new Response(attest, signature);
        return code;
    }
}
