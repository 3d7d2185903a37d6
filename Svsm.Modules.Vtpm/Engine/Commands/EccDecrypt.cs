// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ECC_Decrypt: what TPM2_ECC_Encrypt encrypted.</summary>
[TpmCommand(CommandCode.EccDecrypt)]
internal static partial class EccDecrypt
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyHandle,
        [Sized] EccPoint C1,
        [Size(TpmLimits.MaxBuffer)] ReadOnlyMemory<byte> C2,
        [Size(TpmLimits.MaxDigest)] ReadOnlyMemory<byte> C3,
        [OrNull] KeyDerivationScheme InScheme);

    internal readonly record struct Response([Size(TpmLimits.MaxBuffer)] byte[] PlainText);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        TpmResponseCode code = EccEncrypt.Select(tpm, request.KeyHandle, request.InScheme, At.KeyHandle, At.InScheme, out KeyObject? key, out AlgorithmId hash);
        if (code != TpmResponseCode.Success)
        {
            return code;
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key!.Public.Parameters.Curve);
        code = curve.TryMultiply(key.Secret, request.C1, out EccPoint shared);
        if (code != TpmResponseCode.Success)
        {
            return code.At(At.C1);
        }

        tpm.ClearAfterCommand(shared);
        byte[] text = request.C2.ToArray();
        tpm.ClearAfterCommand(text);
        EccEncrypt.Mask(tpm.Cryptography, hash, shared, text);
        if (!TpmCryptography.AreEqual(request.C3.Span, EccEncrypt.Digest(tpm.Cryptography, hash, shared, text)))
        {
            return TpmResponseCode.Value.At(At.C3);
        }

        response = new Response(text);
        return TpmResponseCode.Success;
    }
}
