// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_EC_Ephemeral: the public part of an ephemeral key for a key exchange in two commands.</summary>
[TpmCommand(CommandCode.EcEphemeral)]
internal static partial class EcEphemeral
{
    internal readonly record struct Request(EccCurve CurveId);

    internal readonly record struct Response([Sized] EccPoint Q, ushort Counter);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        Tpm tpm = context.Tpm;
        EllipticCurve curve = tpm.Cryptography.Curve(request.CurveId);
        byte[] number = Commitments.Next(tpm, curve, []);
        TpmResponseCode code = curve.TryMultiply(number, new EccPoint(curve.X, curve.Y), out EccPoint point);
        response = new Response(point, Commitments.Begin(tpm));
        return code;
    }
}
