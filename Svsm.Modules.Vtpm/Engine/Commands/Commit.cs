// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_Commit: the first half of an anonymous signature (ECDAA).</summary>
[TpmCommand(CommandCode.Commit)]
internal static partial class Commit
{
    internal readonly record struct Request(
        [Handle(HandleKind.Object, Role = AuthorizationRole.User)] TpmHandle SignHandle,
        [Sized] EccPoint P1,
        [Size(TpmLimits.MaxSensitiveData)] ReadOnlyMemory<byte> S2,
        [Size(TpmLimits.MaxEccKey)] ReadOnlyMemory<byte> Y2);

    internal readonly record struct Response([Sized] EccPoint K, [Sized] EccPoint L, [Sized] EccPoint E, ushort Counter);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.SignHandle) is not KeyObject key || key.Public.Type != AlgorithmId.Ecc)
        {
            return TpmResponseCode.Key.At(At.SignHandle);
        }

        if (key.Public.Parameters.Scheme != AlgorithmId.EcDaa)
        {
            return TpmResponseCode.Scheme.At(At.SignHandle);
        }

        if ((request.S2.Length == 0) != (request.Y2.Length == 0))
        {
            return TpmResponseCode.Size.At(At.Y2);
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key.Public.Parameters.Curve);
        byte[] number = Commitments.Next(tpm, curve, key.Name);
        EccPoint k = default;
        EccPoint l = default;
        EccPoint e = default;
        TpmResponseCode code;
        if (request.S2.Length != 0)
        {
            if (key.Public.NameHash == AlgorithmId.Null)
            {
                return TpmResponseCode.Hash.At(At.SignHandle);
            }

            // The base point of the signature: x is the digest of s2.
            byte[] x = curve.ReduceToField(tpm.Cryptography.Hash(key.Public.NameHash, request.S2.Span));
            var second = new EccPoint(x, request.Y2);
            if ((code = curve.TryMultiply(key.Secret, second, out k)) != TpmResponseCode.Success
                || (code = curve.TryMultiply(number, second, out l)) != TpmResponseCode.Success)
            {
                return code.At(At.S2);
            }
        }

        bool hasFirst = request.P1.X.Length != 0 || request.P1.Y.Length != 0;
        if (hasFirst || request.S2.Length == 0)
        {
            code = hasFirst ? curve.TryMultiply(number, request.P1, out e) : curve.TryMultiply(number, new EccPoint(curve.X, curve.Y), out e);
            if (code != TpmResponseCode.Success)
            {
                return code.At(At.P1);
            }
        }

        response = new Response(k, l, e, Commitments.Begin(tpm));
        return TpmResponseCode.Success;
    }
}
