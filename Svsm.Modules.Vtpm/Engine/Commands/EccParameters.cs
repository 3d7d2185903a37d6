// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Crypto;
using Svsm.Modules.Vtpm.Dispatch;
using Svsm.Modules.Vtpm.State;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Commands;

/// <summary>TPM2_ECC_Parameters: the numbers of a curve.</summary>
[TpmCommand(CommandCode.EccParameters)]
internal static partial class EccParameters
{
    internal readonly record struct Request(EccCurve CurveId);

    internal readonly record struct Response(CurveDetail Parameters);

    internal static TpmResponseCode Execute(CommandContext context, in Request request, out Response response)
    {
        response = new Response(new CurveDetail(context.Tpm.Cryptography.Curve(request.CurveId)));
        return TpmResponseCode.Success;
    }
}

/// <summary>TPMS_ALGORITHM_DETAIL_ECC.</summary>
internal readonly record struct CurveDetail(EllipticCurve Curve)
{
    internal void Write(ref TpmWriter writer)
    {
        writer.WriteUInt16((ushort)Curve.Id);
        writer.WriteUInt16((ushort)Curve.Bits);
        AlgorithmId hash = Curve.Id switch
        {
            EccCurve.NistP256 => AlgorithmId.Sha256,
            EccCurve.NistP384 => AlgorithmId.Sha384,
            EccCurve.NistP521 => AlgorithmId.Sha512,
            _ => AlgorithmId.Null,
        };
        writer.WriteUInt16((ushort)(hash == AlgorithmId.Null ? AlgorithmId.Null : AlgorithmId.Kdf1Sp80056A));
        if (hash != AlgorithmId.Null)
        {
            writer.WriteUInt16((ushort)hash);
        }

        AsymmetricScheme.None.Write(ref writer);
        foreach (byte[] number in (byte[][])[Curve.P, Curve.A, Curve.B, Curve.X, Curve.Y, Curve.N, [1]])
        {
            writer.WriteSized(number);
        }
    }
}
