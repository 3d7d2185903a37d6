// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_GetTime: a statement about time and clock.</summary>
[TpmCommand(CommandCode.GetTime)]
internal static partial class GetTime
{
    internal readonly record struct Request(
        [Handle(HandleKind.Endorsement, Role = AuthorizationRole.User)] TpmHandle PrivacyAdminHandle,
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle SignHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> QualifyingData,
        [OrNull] SignatureScheme InScheme);

    internal readonly record struct Response([Size(Attestation.MaxSize)] byte[] TimeInfo, Signature Signature);

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
            StructureTag.AttestTime,
            (ref TpmWriter writer) =>
            {
                new Wire.TimeInfo(tpm.Time, tpm.ClockInfo()).Write(ref writer);
                writer.WriteUInt32(Attestation.FirmwareVersion1);
                writer.WriteUInt32(Attestation.FirmwareVersion2(tpm));
            },
            out byte[] attest,
            out Signature signature);
        response = new Response(attest, signature);
        return code;
    }
}
