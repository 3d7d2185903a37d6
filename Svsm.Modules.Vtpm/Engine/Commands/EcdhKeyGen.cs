// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ECDH_KeyGen: an ephemeral key and the point that it shares with the public part of a loaded one.</summary>
[TpmCommand(CommandCode.EcdhKeyGen)]
internal static partial class EcdhKeyGen
{
    internal readonly record struct Request([Handle(HandleKind.Object)] TpmHandle KeyHandle);

    internal readonly record struct Response([Sized] EccPoint ZPoint, [Sized] EccPoint PubPoint);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        response = default;
        if (tpm.Objects.Find(request.KeyHandle) is not KeyObject key || key.Public.Type != AlgorithmId.Ecc)
        {
            return TpmResponseCode.Key.At(At.KeyHandle);
        }

        EllipticCurve curve = tpm.Cryptography.Curve(key.Public.Parameters.Curve);
        if (!curve.TryDecode(key.Public.Point, out ulong[] point))
        {
            return TpmResponseCode.Key.At(At.KeyHandle);
        }

        byte[] number = ObjectCreation.NewEccKey(curve, tpm.Random);
        ulong[] ephemeral = BigIntegers.Read(number, curve.Limbs);
        CryptographicOperations.ZeroMemory(number);
        EccPoint shared = curve.Encode(curve.Multiply(ephemeral, point))!.Value;
        tpm.ClearAfterCommand(shared);
        response = new Response(shared, curve.Encode(curve.MultiplyGenerator(ephemeral))!.Value);
        ephemeral.AsSpan().Clear();
        return TpmResponseCode.Success;
    }
}
