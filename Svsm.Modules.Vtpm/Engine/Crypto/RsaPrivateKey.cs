// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Svsm.Modules.Vtpm.Crypto;

// The private operation of RSA: by the Chinese remainder theorem, blinded, and checked with the public operation before anybody sees the
// result, because a wrong half of it gives the primes away.
//
// Blinding: the input is multiplied by a number A of which nobody knows the power; the output by A^-d. A pair (A, A^-d) is made when the key
// is used first and every 64 uses, and squared in between. A^-d is a private operation with the exponents p - 1 - dP and q - 1 - dQ.
//
// Source: PKCS #1 (RFC 8017), 5.1; P. Kocher, "Timing attacks".
internal sealed class RsaPrivateKey
{
    private const int UsesOfBlinding = 64;

    private readonly Modulus _n;
    private readonly Modulus _p;
    private readonly Modulus _q;
    private readonly ulong[] _exponentP;
    private readonly ulong[] _exponentQ;
    private readonly ulong[] _inverseQ;
    private readonly ulong[] _blinding;
    private readonly ulong[] _unblinding;
    private readonly uint _exponent;
    private int _usesLeft;

    private RsaPrivateKey(ulong[] n, ulong[] p, ulong[] q, uint exponent)
    {
        _n = new Modulus(n);
        _p = new Modulus(p);
        _q = new Modulus(q);
        _exponent = exponent;
        _exponentP = PrivateExponent(p, exponent);
        _exponentQ = PrivateExponent(q, exponent);
        _inverseQ = new ulong[p.Length];
        _p.EnterWide(q, _inverseQ);
        _p.InvertPrime(_inverseQ, _inverseQ);
        _blinding = new ulong[n.Length];
        _unblinding = new ulong[n.Length];
    }

    /// <summary>Bytes of the modulus.</summary>
    internal int Size => _n.Limbs * 8;

    /// <summary>Puts a key together from its modulus and one prime.</summary>
    /// <param name="modulus">The modulus; its highest bit is set.</param>
    /// <param name="prime">One prime, half as long; its highest bit is set.</param>
    /// <param name="exponent">The public exponent, a prime.</param>
    /// <returns>Null when the number does not divide the modulus, or the exponent has no inverse.</returns>
    internal static RsaPrivateKey? Create(ReadOnlySpan<byte> modulus, ReadOnlySpan<byte> prime, uint exponent)
    {
        ulong[] n = BigIntegers.Read(modulus);
        ulong[] p = BigIntegers.Read(prime);
        ulong[] q = new ulong[p.Length];
        RsaPrivateKey? key = TryDivide(n, p, q, exponent) ? new RsaPrivateKey(n, p, q, exponent) : null;
        Clear(p);
        Clear(q);
        return key;
    }

    /// <summary>Whether <see cref="Create"/> would put a key together.</summary>
    internal static bool IsPrimeOf(ReadOnlySpan<byte> prime, ReadOnlySpan<byte> modulus, uint exponent)
    {
        ulong[] p = BigIntegers.Read(prime);
        ulong[] q = new ulong[p.Length];
        bool divides = TryDivide(BigIntegers.Read(modulus), p, q, exponent);
        Clear(p);
        Clear(q);
        return divides;
    }

    internal void Clear()
    {
        _p.Clear();
        _q.Clear();
        _n.ClearProduct();
        Clear(_exponentP);
        Clear(_exponentQ);
        Clear(_inverseQ);
        Clear(_blinding);
        Clear(_unblinding);
    }

    /// <summary>output = input ^ d mod n.</summary>
    /// <param name="input">A number of the modulus' size, below it.</param>
    /// <param name="output">Room for the same.</param>
    /// <param name="random">For blinding.</param>
    /// <returns>False when the result does not verify: the "primes" are none, or the computation went wrong.</returns>
    internal bool TryApply(ReadOnlySpan<byte> input, Span<byte> output, IRandomSource random)
    {
        if (_usesLeft-- == 0)
        {
            NewBlinding(random);
        }
        else
        {
            _n.Multiply(_blinding, _blinding, _blinding);
            _n.Multiply(_unblinding, _unblinding, _unblinding);
        }

        int limbs = _n.Limbs;
        Span<ulong> value = stackalloc ulong[limbs];
        Span<ulong> check = stackalloc ulong[limbs];
        Span<ulong> expected = stackalloc ulong[limbs];
        BigIntegers.Read(input, value);
        _n.Enter(value, value);
        value.CopyTo(expected);
        _n.Multiply(value, _blinding, value);
        PowerByPrimes(value, _exponentP, _exponentQ);
        _n.Multiply(value, _unblinding, value);
        _n.PowerPublic(value, _exponent, check);
        bool verified = Modulus.EqualMask(check, expected) != 0;
        _n.Leave(value, value);
        if (verified)
        {
            BigIntegers.Write(value, output);
        }

        value.Clear();
        _n.ClearProduct();
        return verified;
    }

    private static bool TryDivide(ulong[] n, ulong[] p, ulong[] q, uint exponent)
    {
        if (p.Length == 0 || p.Length * 2 != n.Length || (p[0] & 1) == 0 || (n[0] & 1) == 0 || p[^1] >> 63 == 0)
        {
            return false;
        }

        BigIntegers.DivideExactly(n, p, q);
        var product = new ulong[n.Length];
        BigIntegers.Multiply(p, q, product);
        return Modulus.EqualMask(product, n) != 0 && q[^1] >> 63 != 0 && IsInvertible(p, exponent) && IsInvertible(q, exponent);
    }

    private static void Clear(ulong[] limbs) => CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(limbs.AsSpan()));

    private static bool IsInvertible(ulong[] prime, uint exponent) => BigIntegers.Remainder(prime, exponent) is not (0 or 1);

    // 1 / e mod (p - 1), as (1 + k (p - 1)) / e with the k below e that makes it whole.
    private static ulong[] PrivateExponent(ulong[] prime, uint exponent)
    {
        var lessOne = (ulong[])prime.Clone();
        lessOne[0] ^= 1;
        ulong negated = exponent - BigIntegers.Remainder(lessOne, exponent);
        ulong factor = 1;
        for (uint power = exponent - 2; power != 0; power >>= 1)
        {
            // The exponent is public and prime: Fermat.
            factor = (power & 1) != 0 ? factor * negated % exponent : factor;
            negated = negated * negated % exponent;
        }

        var product = new ulong[prime.Length + 1];
        BigIntegers.Multiply(lessOne, [factor], product);
        BigIntegers.Add(product, [1]);
        BigIntegers.Divide(product, exponent);
        ulong[] result = product[..prime.Length];
        Clear(lessOne);
        Clear(product);
        return result;
    }

    private void NewBlinding(IRandomSource random)
    {
        _usesLeft = UsesOfBlinding - 1;
        Span<byte> bytes = stackalloc byte[Size];
        random.Fill(bytes);
        BigIntegers.Read(bytes, _blinding);
        _n.Enter(_blinding, _blinding);
        _blinding.CopyTo(_unblinding, 0);

        // p - 1 - dP, where p - 1 is p with its lowest bit cleared; the same for q.
        Span<ulong> exponentP = stackalloc ulong[_p.Limbs];
        Span<ulong> exponentQ = stackalloc ulong[_p.Limbs];
        _p.Value.CopyTo(exponentP);
        exponentP[0] ^= 1;
        BigIntegers.Subtract(exponentP, _exponentP);
        _q.Value.CopyTo(exponentQ);
        exponentQ[0] ^= 1;
        BigIntegers.Subtract(exponentQ, _exponentQ);
        PowerByPrimes(_unblinding, exponentP, exponentQ);
        exponentP.Clear();
        exponentQ.Clear();
        CryptographicOperations.ZeroMemory(bytes);
    }

    // value = value ^ x, in Montgomery form modulo n, where the two exponents are x modulo p - 1 and q - 1.
    private void PowerByPrimes(Span<ulong> value, ReadOnlySpan<ulong> exponentP, ReadOnlySpan<ulong> exponentQ)
    {
        int half = _p.Limbs;
        Span<ulong> resultP = stackalloc ulong[half];
        Span<ulong> resultQ = stackalloc ulong[half];
        Span<ulong> reduced = stackalloc ulong[half];
        _n.Leave(value, value);
        _p.EnterWide(value, resultP);
        _p.Power(resultP, exponentP, resultP);
        _q.EnterWide(value, resultQ);
        _q.Power(resultQ, exponentQ, resultQ);
        _q.Leave(resultQ, resultQ);

        // resultQ + q * ((resultP - resultQ) / q mod p); a number of as many limbs may be above p and is reduced by entering.
        _p.Enter(resultQ, reduced);
        _p.Subtract(resultP, reduced, resultP);
        _p.Multiply(resultP, _inverseQ, resultP);
        _p.Leave(resultP, resultP);
        BigIntegers.Multiply(resultP, _q.Value, value);
        BigIntegers.Add(value, resultQ);
        _n.Enter(value, value);
        resultP.Clear();
        resultQ.Clear();
        reduced.Clear();
        _p.ClearProduct();
        _q.ClearProduct();
    }
}
