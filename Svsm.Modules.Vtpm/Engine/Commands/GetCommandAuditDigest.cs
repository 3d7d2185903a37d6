// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_GetCommandAuditDigest: a statement about the audited commands; a signed one ends the log.</summary>
[TpmCommand(CommandCode.GetCommandAuditDigest, Traits = CommandTraits.Nv)]
internal static partial class GetCommandAuditDigest
{
    internal readonly record struct Request(
        [Handle(HandleKind.Endorsement, Role = AuthorizationRole.User)] TpmHandle PrivacyHandle,
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle SignHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> QualifyingData,
        [OrNull] SignatureScheme InScheme);

    internal readonly record struct Response([Size(Attestation.MaxSize)] byte[] AuditInfo, Signature Signature);

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

        TpmResponseCode code = Attestation.Make(
            tpm,
            signer,
            scheme,
            request.QualifyingData.Span,
            StructureTag.AttestCommandAudit,
            (ref TpmWriter writer) =>
            {
                writer.WriteUInt64(tpm.Persistent.AuditCounter);
                writer.WriteUInt16((ushort)tpm.Persistent.AuditHash);
                writer.WriteSized(tpm.ResetState.CommandAuditDigest);
                writer.WriteSized(tpm.CommandAudit.ListDigest());
            },
            out byte[] attest,
            out Signature signature);
        if (code == TpmResponseCode.Success && signer is not null)
        {
            tpm.ResetState.CommandAuditDigest = [];
        }

        response = new Response(attest, signature);
        return code;
    }
}
