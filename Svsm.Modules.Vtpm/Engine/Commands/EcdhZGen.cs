// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ECDH_ZGen: the point that a loaded key shares with another one.</summary>
[TpmCommand(CommandCode.EcdhZGen)]
internal static partial class EcdhZGen
{
    internal readonly record struct Request([Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyHandle, [Sized] EccPoint InPoint);

    internal readonly record struct Response([Sized] EccPoint OutPoint);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.KeyHandle) is not KeyObject key || key.Public.Type != AlgorithmId.Ecc)
        {
            return TpmResponseCode.Key.At(At.KeyHandle);
        }

        if (key.Public.Has(ObjectAttributes.Restricted) || !key.Public.Has(ObjectAttributes.Decrypt))
        {
            return TpmResponseCode.Attributes.At(At.KeyHandle);
        }

        if (key.Public.Parameters.Scheme is not (AlgorithmId.EcDh or AlgorithmId.Null))
        {
            return TpmResponseCode.Scheme.At(At.KeyHandle);
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key.Public.Parameters.Curve);
        TpmResponseCode code = curve.TryMultiply(key.Secret, request.InPoint, out EccPoint shared);
        tpm.ClearAfterCommand(shared);
        response = new Response(shared);
        return code.At(At.InPoint);
    }
}
