// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_NV_Certify: attests what an NV index has; of no bytes at offset 0 the digest of all of it.</summary>
[TpmCommand(CommandCode.NvCertify, Traits = CommandTraits.NvRead)]
internal static partial class NvCertify
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User), OrNull] TpmHandle SignHandle,
        [Handle(HandleKind.NvAuth, Role = AuthorizationRole.User)] TpmHandle AuthHandle,
        [Handle(HandleKind.NvIndex)] TpmHandle NvIndex,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> QualifyingData,
        [OrNull] SignatureScheme InScheme,
        ushort Size,
        ushort Offset);

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

        NvIndex index = tpm.Nv.Find(request.NvIndex)!;
        TpmResponseCode code = index.CheckRead(request.AuthHandle);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        if (request.Size > TpmLimits.MaxBuffer)
        {
            return TpmResponseCode.Value.At(At.Size);
        }

        if (request.Offset > index.Data.Length)
        {
            return TpmResponseCode.Value.At(At.Offset);
        }

        if (request.Size > index.Data.Length - request.Offset)
        {
            return TpmResponseCode.NvRange;
        }

        byte[] name = context.Names[2];
        ushort offset = request.Offset;
        bool isDigest = request.Size == 0 && offset == 0;
        AlgorithmId hash = scheme.Hash == AlgorithmId.Null ? index.Public.NameHash : scheme.Hash;
        byte[] content = isDigest ? tpm.Cryptography.Hash(hash, index.Data) : index.Data.AsSpan(offset, request.Size).ToArray();
        code = Attestation.Make(
            tpm,
            signer,
            scheme,
            request.QualifyingData.Span,
            isDigest ? StructureTag.AttestNvDigest : StructureTag.AttestNv,
            (ref TpmWriter writer) =>
            {
                writer.WriteSized(name);
                if (!isDigest)
                {
                    writer.WriteUInt16(offset);
                }

                writer.WriteSized(content);
            },
            out byte[] attest,
            out Signature signature);
        response = new Response(attest, signature);
        return code;
    }
}
