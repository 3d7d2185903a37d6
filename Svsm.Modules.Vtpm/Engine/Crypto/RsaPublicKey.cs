// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

/// <summary>The public operation of RSA.</summary>
internal static class RsaPublicKey
{
    /// <summary>TPM_ALG_RSA's exponent when none is given.</summary>
    internal const uint DefaultExponent = 65537;

    internal static uint ExponentOf(in PublicArea area) => area.Parameters.Exponent == 0 ? DefaultExponent : area.Parameters.Exponent;

    /// <summary>value ^ e mod n; null when the value is not below the modulus.</summary>
    /// <param name="area">The public area of an RSA key.</param>
    /// <param name="value">A number of any length.</param>
    internal static byte[]? Apply(in PublicArea area, ReadOnlySpan<byte> value)
    {
        var modulus = new Modulus(BigIntegers.Read(area.Unique));
        var number = new ulong[modulus.Limbs];
        if (!BigIntegers.TryRead(value, number) || modulus.BelowMask(number) == 0)
        {
            return null;
        }

        modulus.Enter(number, number);
        modulus.PowerPublic(number, ExponentOf(area), number);
        modulus.Leave(number, number);
        return BigIntegers.ToBytes(number, area.Unique.Length);
    }
}
