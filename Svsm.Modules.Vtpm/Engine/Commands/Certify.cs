// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Certify: a statement that an object is loaded in this TPM.</summary>
[TpmCommand(CommandCode.Certify)]
internal static partial class Certify
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.Admin)] TpmHandle ObjectHandle,
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle SignHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> QualifyingData,
        [OrNull] SignatureScheme InScheme);

    internal readonly record struct Response([Size(Attestation.MaxSize)] byte[] CertifyInfo, Signature Signature);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (!Signing.TryFindSigner(tpm, request.SignHandle, out KeyObject? signer))
        {
            return TpmResponseCode.Key.At(At.SignHandle);
        }

        if (!Signing.TrySelectScheme(signer, request.InScheme.Scheme, out AsymmetricScheme scheme))
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        // An anonymous signature says nothing that tells objects of one hierarchy from those of another.
        TransientObject certified = tpm.Objects.Find(request.ObjectHandle)!;
        byte[] qualifiedName = scheme.Scheme == AlgorithmId.EcDaa ? [] : (certified as KeyObject)?.QualifiedName ?? [];
        TpmResponseCode code = Attestation.Make(
            tpm,
            signer,
            scheme,
            request.QualifyingData.Span,
            StructureTag.AttestCertify,
            (ref TpmWriter writer) =>
            {
                writer.WriteSized(certified.Name);
                writer.WriteSized(qualifiedName);
            },
            out byte[] attest,
            out Signature signature);
        response = new Response(attest, signature);
        return code;
    }
}
