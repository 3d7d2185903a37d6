// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_CertifyX509: an X.509 certificate about an object that is loaded in this TPM, without its names and extensions, which the caller has.</summary>
[TpmCommand(CommandCode.CertifyX509)]
internal static partial class CertifyX509
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.Admin)] TpmHandle ObjectHandle,
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle SignHandle,
        [Size(TpmLimits.MaxData)] ReadOnlyMemory<byte> Reserved,
        [OrNull] SignatureScheme InScheme,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> PartialCertificate);

    internal readonly record struct Response(
        [Size(TpmLimits.MaxBuffer)] byte[] AddedToCertificate, [Size(TpmLimits.MaxDigest)] byte[] TbsDigest, Signature Signature);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        // The serial number is made with the signer's Name and its hash.
        if (!Signing.TryFindSigner(tpm, request.SignHandle, out KeyObject? signer) || signer is null || signer.Name.Length == 0)
        {
            return TpmResponseCode.Key.At(At.SignHandle);
        }

        if (!Signing.TrySelectScheme(signer, request.InScheme.Scheme, out AsymmetricScheme scheme))
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        if (tpm.Objects.Find(request.ObjectHandle) is not KeyObject subject || !CertificateBody.CanEncode(subject.Public))
        {
            return TpmResponseCode.Asymmetric.At(At.ObjectHandle);
        }

        TpmResponseCode code = CertificateBody.Read(request.PartialCertificate, out CertificateBody body);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.PartialCertificate);
        }

        if (body.NeedsSignatureAlgorithm && CertificateBody.SignatureAlgorithm(scheme) is null)
        {
            return TpmResponseCode.Scheme.At(At.SignHandle);
        }

        code = body.CheckExtensions(subject.Public.Attributes);
        if (code != TpmResponseCode.Success)
        {
            return code.At(code == TpmResponseCode.Attributes ? At.ObjectHandle : At.PartialCertificate);
        }

        byte[] digest = tpm.Cryptography.Hash(scheme.Hash, body.Complete(tpm.Cryptography, signer, scheme, subject, out byte[] added));
        code = Signing.Sign(tpm, signer, scheme, digest, out Signature signature);
        response = new Response(added, digest, signature);
        return code;
    }
}
