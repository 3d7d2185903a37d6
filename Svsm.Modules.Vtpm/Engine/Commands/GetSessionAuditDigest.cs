// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_GetSessionAuditDigest: a statement about the commands that a session has audited.</summary>
[TpmCommand(CommandCode.GetSessionAuditDigest)]
internal static partial class GetSessionAuditDigest
{
    internal readonly record struct Request(
        [Handle(HandleKind.Endorsement, Role = AuthorizationRole.User)] TpmHandle PrivacyAdminHandle,
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle SignHandle,
        [Handle(HandleKind.HmacSession)] TpmHandle SessionHandle,
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

        Session session = tpm.Sessions.Find(request.SessionHandle)!;
        if (session.AuditDigest.Length == 0)
        {
            return TpmResponseCode.Type.At(At.SessionHandle);
        }

        TpmResponseCode code = Attestation.Make(
            tpm,
            signer,
            scheme,
            request.QualifyingData.Span,
            StructureTag.AttestSessionAudit,
            (ref TpmWriter writer) =>
            {
                writer.WriteYesNo(tpm.Sessions.ExclusiveAuditSession == session.Handle);
                writer.WriteSized(session.AuditDigest);
            },
            out byte[] attest,
            out Signature signature);
        response = new Response(attest, signature);
        return code;
    }
}
