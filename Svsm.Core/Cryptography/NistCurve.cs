// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Curves P-384 and P-521: a public key from a private one, agreement, and verification of signatures, with the class library's numbers. BouncyCastle's curves are not
// used: they test primes and blind inversions with random numbers that begin with the time of day, which a module does not have, and their tables are 200 KB
// of an image.
//
// Points are in Jacobian coordinates (x = X/Z^2, y = Y/Z^3; Z = 0: infinity), multiplication is a Montgomery ladder: behind its leading zeroes, what is done is the same for all
// bits of a number; how long it takes is not, as intermediate numbers have the length that they have. A secret here is used for two multiplications, by the generator and
// by a point of the peer's, and is gone then: there is no second measurement to be had. Whoever can stop the processor at every instruction of a process, as a
// host can, may see more in one: nothing here answers that.
//
// The virtual TPM has curves of its own (Svsm.Modules.Vtpm/Engine/Crypto), of 64-bit words and constant time, up to P-384 and with its engine around them; modules need
// P-521 as well, and a key or two at the start. Compiled into the modules that need it.
//
// Source: NIST SP 800-186, 3.2.1.4 and 3.2.1.5; formulas dbl-2001-b and add-2007-bl of the Explicit-Formulas Database; ECDSA: FIPS 186-5, 6.4.2.

using System;
using System.Numerics;
using System.Security.Cryptography;

namespace Svsm.Cryptography;

/// <summary>A point that is not infinity.</summary>
internal readonly record struct CurvePoint(BigInteger X, BigInteger Y);

internal sealed class NistCurve
{
    private const int BitsPerByte = 8;

    private readonly BigInteger _prime;
    private readonly BigInteger _b;
    private readonly BigInteger _order;
    private readonly int _length;

    private NistCurve(string prime, string b, string order, string x, string y)
    {
        _prime = Parse(prime);
        _b = Parse(b);
        _order = Parse(order);
        _length = _prime.GetByteCount(isUnsigned: true);
        Generator = new(Parse(x), Parse(y));
    }

    public CurvePoint Generator { get; }

    public static NistCurve P384() => new(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEFFFFFFFF0000000000000000FFFFFFFF",
        "B3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF",
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
        "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B9859F741E082542A385502F25DBF55296C3A545E3872760AB7",
        "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147CE9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F");

    public static NistCurve P521() => new(
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF",
        "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00",
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
        "00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBAA14B5E77EFE75928FE1DC127A2FFA8DE3348B3C1856A429BF97E7E31C2E5BD66",
        "011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C97EE72995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650");

    /// <summary>Reads a point: x and y, big-endian.</summary>
    /// <param name="bytes">The two numbers. Untrusted.</param>
    /// <returns>Null: it is no point on the curve.</returns>
    public CurvePoint? TryReadPoint(ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length != 2 * _length)
        {
            return null;
        }

        BigInteger x = Read(bytes[.._length]);
        BigInteger y = Read(bytes[_length..]);
        return x < _prime && y < _prime && Square(y) == Reduce(((Square(x) - 3) * x) + _b) ? new CurvePoint(x, y) : null;
    }

    /// <summary>x and y of a point, big-endian.</summary>
    public byte[] ToBytes(CurvePoint point) => [.. Write(point.X), .. Write(point.Y)];

    /// <summary>x of a point, big-endian.</summary>
    public byte[] XOf(CurvePoint point) => Write(point.X);

    /// <summary>A fresh private key.</summary>
    /// <exception cref="CryptographicException">There are no random bytes.</exception>
    public BigInteger NewPrivateKey()
    {
        // With 64 bits more than the order, so that the remainder is as good as even (FIPS 186-5, A.2.1).
        byte[] random = new byte[_length + sizeof(ulong)];
        RandomNumberGenerator.Fill(random);
        BigInteger key = (Read(random) % (_order - 1)) + 1;
        CryptographicOperations.ZeroMemory(random);
        return key;
    }

    /// <summary>Multiplies a point.</summary>
    /// <param name="point">The point, on the curve.</param>
    /// <param name="number">The number, from 1 and below the order: the result is never infinity, for the curve has no points of another order.</param>
    public CurvePoint Multiply(CurvePoint point, BigInteger number) => ToAffine(Ladder(point, number))!.Value;

    /// <summary>Whether a signature is that of a key.</summary>
    /// <param name="key">The public key.</param>
    /// <param name="hash">Hash of what was signed, not longer than the order.</param>
    /// <param name="signature">r and s, big-endian. Untrusted.</param>
    public bool Verifies(CurvePoint key, ReadOnlySpan<byte> hash, ReadOnlySpan<byte> signature)
    {
        if (signature.Length != 2 * _length)
        {
            return false;
        }

        BigInteger r = Read(signature[.._length]);
        BigInteger s = Read(signature[_length..]);
        if (r.IsZero || s.IsZero || r >= _order || s >= _order)
        {
            return false;
        }

        // Order and prime are primes: x^(p-2) is the inverse of x.
        BigInteger inverse = BigInteger.ModPow(s, _order - 2, _order);
        Jacobian sum = Add(Ladder(Generator, Read(hash) * inverse % _order), Ladder(key, r * inverse % _order));
        return ToAffine(sum) is CurvePoint point && point.X % _order == r;
    }

    private Jacobian Ladder(CurvePoint point, BigInteger number)
    {
        byte[] bytes = Write(number);
        Jacobian low = default;
        var high = new Jacobian(point.X, point.Y, BigInteger.One);
        for (int bit = (bytes.Length * BitsPerByte) - 1; bit >= 0; bit--)
        {
            bool isSet = (bytes[bytes.Length - 1 - (bit / BitsPerByte)] >> (bit % BitsPerByte) & 1) != 0;
            Jacobian sum = Add(low, high);
            (low, high) = isSet ? (sum, Double(high)) : (Double(low), sum);
        }

        CryptographicOperations.ZeroMemory(bytes);
        return low;
    }

    private CurvePoint? ToAffine(in Jacobian point)
    {
        if (point.Z.IsZero)
        {
            return null;
        }

        BigInteger inverse = BigInteger.ModPow(point.Z, _prime - 2, _prime);
        BigInteger square = Square(inverse);
        return new CurvePoint(Reduce(point.X * square), Reduce(point.Y * Reduce(square * inverse)));
    }

    // Of infinity: infinity.
    private Jacobian Double(in Jacobian point)
    {
        BigInteger delta = Square(point.Z);
        BigInteger gamma = Square(point.Y);
        BigInteger beta = Reduce(point.X * gamma);
        BigInteger alpha = Reduce((point.X - delta) * (point.X + delta) * 3);
        BigInteger x = Reduce((alpha * alpha) - (beta << 3));
        BigInteger y = Reduce((alpha * ((beta << 2) - x)) - (gamma * gamma << 3));
        BigInteger sum = point.Y + point.Z;
        return new Jacobian(x, y, Reduce((sum * sum) - gamma - delta));
    }

    private Jacobian Add(in Jacobian one, in Jacobian other)
    {
        if (one.Z.IsZero || other.Z.IsZero)
        {
            return one.Z.IsZero ? other : one;
        }

        BigInteger oneSquare = Square(one.Z);
        BigInteger otherSquare = Square(other.Z);
        BigInteger u = Reduce(one.X * otherSquare);
        BigInteger s = Reduce(one.Y * Reduce(other.Z * otherSquare));
        BigInteger h = Reduce((other.X * oneSquare) - u);
        BigInteger r = Reduce(((other.Y * Reduce(one.Z * oneSquare)) - s) << 1);
        if (h.IsZero)
        {
            return r.IsZero ? Double(one) : default;
        }

        BigInteger i = Square(h << 1);
        BigInteger j = Reduce(h * i);
        BigInteger v = Reduce(u * i);
        BigInteger x = Reduce((r * r) - j - (v << 1));
        BigInteger y = Reduce((r * (v - x)) - (s * j << 1));
        return new Jacobian(x, y, Reduce((Reduce(one.Z * other.Z) << 1) * h));
    }

    private BigInteger Square(BigInteger value) => Reduce(value * value);

    private BigInteger Reduce(BigInteger value)
    {
        BigInteger remainder = value % _prime;
        return remainder.Sign < 0 ? remainder + _prime : remainder;
    }

    private byte[] Write(BigInteger value)
    {
        byte[] bytes = new byte[_length];
        int count = value.GetByteCount(isUnsigned: true);
        _ = value.TryWriteBytes(bytes.AsSpan(_length - count), out _, isUnsigned: true, isBigEndian: true);
        return bytes;
    }

    private static BigInteger Read(ReadOnlySpan<byte> bytes) => new(bytes, isUnsigned: true, isBigEndian: true);

    private static BigInteger Parse(string digits) => Read(Convert.FromHexString(digits));

    // Infinity: all zero.
    private readonly record struct Jacobian(BigInteger X, BigInteger Y, BigInteger Z);
}
