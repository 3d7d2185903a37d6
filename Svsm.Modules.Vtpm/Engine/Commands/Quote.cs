// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Quote: a statement about the values of PCRs.</summary>
[TpmCommand(CommandCode.Quote)]
internal static partial class Quote
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle SignHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> QualifyingData,
        [OrNull] SignatureScheme InScheme,
        [Count(TpmLimits.HashCount)] PcrSelection[] PcrSelect);

    internal readonly record struct Response([Size(Attestation.MaxSize)] byte[] Quoted, Signature Signature);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (!Signing.TryFindSigner(tpm, request.SignHandle, out KeyObject? signer))
        {
            return TpmResponseCode.Key.At(At.SignHandle);
        }

        // Without a signer there is no hash for the PCRs either.
        if (!Signing.TrySelectScheme(signer, request.InScheme.Scheme, out AsymmetricScheme scheme) || scheme.Hash == AlgorithmId.Null)
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        PcrSelection[] selection = Array.ConvertAll(request.PcrSelect, tpm.Pcrs.Filter);
        byte[] digest = tpm.Pcrs.Digest(selection, scheme.Hash);
        TpmResponseCode code = Attestation.Make(
            tpm,
            signer,
            scheme,
            request.QualifyingData.Span,
            StructureTag.AttestQuote,
            (ref TpmWriter writer) =>
            {
                writer.WriteUInt32((uint)selection.Length);
                foreach (PcrSelection bank in selection)
                {
                    bank.Write(ref writer);
                }

                writer.WriteSized(digest);
            },
            out byte[] attest,
            out Signature signature);
        response = new Response(attest, signature);
        return code;
    }
}
