// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Curves P-384 and P-521, by their numbers: BouncyCastle's tables of named curves would bring all of them into the image.
//
// The arithmetic is BouncyCastle's for any curve, and takes a time that depends on the numbers. The one secret here is used for one multiplication, by a
// point that whoever has signed it knows, and is gone then: there is no second measurement to be had.
//
// Source: NIST SP 800-186, 3.2.1.4 and 3.2.1.5.

using System;
using System.Security.Cryptography;
using Org.BouncyCastle.Crypto.Parameters;
using Org.BouncyCastle.Math;
using Org.BouncyCastle.Math.EC;
using ECPoint = Org.BouncyCastle.Math.EC.ECPoint;

namespace Svsm.StoreKeys;

internal static class NistCurve
{
    private const int Hexadecimal = 16;

    public static ECDomainParameters P384() => Make(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFF0000000000000000FFFFFFFF",
        "B3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
        "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7",
        "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F");

    public static ECDomainParameters P521() => Make(
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
        "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00",
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
        "00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8DE3348B3C1856A429BF97E7E31C2E5BD66",
        "011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650");

    /// <summary>A public key: x and y, big-endian.</summary>
    /// <param name="curve">The curve.</param>
    /// <param name="bytes">The two numbers. Untrusted.</param>
    /// <returns>Null: it is no point on the curve.</returns>
    public static ECPublicKeyParameters? TryReadPoint(ECDomainParameters curve, ReadOnlySpan<byte> bytes)
    {
        try
        {
            int length = bytes.Length / 2;
            return new ECPublicKeyParameters(curve.Curve.ValidatePoint(new BigInteger(1, bytes[..length]), new BigInteger(1, bytes[length..])), curve);
        }
        catch (ArgumentException)
        {
            return null;
        }
    }

    /// <summary>x and y of a point, big-endian.</summary>
    public static byte[] ToBytes(ECPoint point)
    {
        ECPoint affine = point.Normalize();
        return [.. affine.AffineXCoord.GetEncoded(), .. affine.AffineYCoord.GetEncoded()];
    }

    /// <summary>A fresh private key.</summary>
    /// <exception cref="CryptographicException">There are no random bytes.</exception>
    public static BigInteger NewPrivateKey(ECDomainParameters curve)
    {
        // With 64 bits more than the order, so that the remainder is as good as even (FIPS 186-5, A.2.1).
        byte[] random = new byte[(curve.N.BitLength / 8) + 1 + sizeof(ulong)];
        RandomNumberGenerator.Fill(random);
        BigInteger key = new BigInteger(1, random).Mod(curve.N.Subtract(BigInteger.One)).Add(BigInteger.One);
        CryptographicOperations.ZeroMemory(random);
        return key;
    }

    private static ECDomainParameters Make(string p, string b, string n, string x, string y)
    {
        var prime = new BigInteger(p, Hexadecimal);
        var order = new BigInteger(n, Hexadecimal);
        var curve = new FpCurve(prime, prime.Subtract(BigInteger.Three), new BigInteger(b, Hexadecimal), order, BigInteger.One);
        return new ECDomainParameters(curve, curve.CreatePoint(new BigInteger(x, Hexadecimal), new BigInteger(y, Hexadecimal)), order, BigInteger.One);
    }
}
