// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ZGen_2Phase: the points that a loaded key and an ephemeral one share with those of somebody else.</summary>
[TpmCommand(CommandCode.ZGen2Phase)]
internal static partial class ZGen2Phase
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle KeyA,
        [Sized] EccPoint InQsB,
        [Sized] EccPoint InQeB,
        [Algorithm(AlgorithmUse.KeyExchange)] AlgorithmId InScheme,
        ushort Counter);

    internal readonly record struct Response([Sized] EccPoint OutZ1, [Sized] EccPoint OutZ2);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.KeyA) is not KeyObject key || key.Public.Type != AlgorithmId.Ecc)
        {
            return TpmResponseCode.Key.At(At.KeyA);
        }

        if (key.Public.Has(ObjectAttributes.Restricted) || !key.Public.Has(ObjectAttributes.Decrypt))
        {
            return TpmResponseCode.Attributes.At(At.KeyA);
        }

        AlgorithmId own = key.Public.Parameters.Scheme;
        if (own != AlgorithmId.Null && own != request.InScheme)
        {
            return TpmResponseCode.Scheme.At(At.InScheme);
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key.Public.Parameters.Curve);
        if (!curve.TryDecode(request.InQsB, out _))
        {
            return TpmResponseCode.EccPoint.At(At.InQsB);
        }

        if (!curve.TryDecode(request.InQeB, out _))
        {
            return TpmResponseCode.EccPoint.At(At.InQeB);
        }

        if (Commitments.Find(tpm, curve, [], request.Counter) is not byte[] number)
        {
            return TpmResponseCode.Value.At(At.Counter);
        }

        TpmResponseCode code;
        code = curve.TryMultiply(key.Secret, request.InQsB, out EccPoint first);
        tpm.ClearAfterCommand(first);
        if (code != TpmResponseCode.Success || (code = curve.TryMultiply(number, request.InQeB, out EccPoint second)) != TpmResponseCode.Success)
        {
            return code;
        }

        tpm.ClearAfterCommand(second);
        Commitments.End(tpm, request.Counter);
        response = new Response(first, second);
        return TpmResponseCode.Success;
    }
}
