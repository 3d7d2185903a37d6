// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Security.Cryptography;
using Svsm.Modules.Vtpm.Wire;

namespace Svsm.Modules.Vtpm.Crypto;

// Signatures over an elliptic curve: ECDSA, the TPM's form of Schnorr's, and the last step of ECDAA. Signing does the same for every key and
// every random number; a result that cannot be used (0) is thrown away and the work begun anew.
//
// Sources: FIPS 186-4, 6; TCG TPM 2.0 Library, Part 1, annex C.4 ("Signing").
internal static class EccSignatures
{
    /// <summary>ECDSA.</summary>
    /// <param name="curve">The curve.</param>
    /// <param name="key">The private key.</param>
    /// <param name="digest">The digest.</param>
    /// <param name="random">For the ephemeral key.</param>
    /// <param name="r">First number, as long as the order.</param>
    /// <param name="s">Second number.</param>
    internal static void SignEcdsa(EllipticCurve curve, ReadOnlySpan<byte> key, ReadOnlySpan<byte> digest, IRandomSource random, out byte[] r, out byte[] s)
    {
        r = new byte[curve.Size];
        s = new byte[curve.Size];
        Span<ulong> ephemeral = stackalloc ulong[curve.Limbs];
        do
        {
            NewScalar(curve, random, ephemeral);
        }
        while (!TrySignEcdsa(curve, key, digest, ephemeral, r, s));

        ephemeral.Clear();
    }

    /// <summary>ECDSA with a given ephemeral key.</summary>
    /// <param name="curve">The curve.</param>
    /// <param name="key">The private key.</param>
    /// <param name="digest">The digest.</param>
    /// <param name="ephemeral">From 1 to the order less 1.</param>
    /// <param name="r">First number, as long as the order.</param>
    /// <param name="s">Second number.</param>
    /// <returns>False when one of the numbers is 0: another ephemeral key is wanted.</returns>
    internal static bool TrySignEcdsa(
        EllipticCurve curve, ReadOnlySpan<byte> key, ReadOnlySpan<byte> digest, ReadOnlySpan<ulong> ephemeral, Span<byte> r, Span<byte> s)
    {
        Modulus order = curve.Order;
        Span<ulong> point = stackalloc ulong[3 * curve.Limbs];
        Span<ulong> first = stackalloc ulong[curve.Limbs];
        Span<ulong> second = stackalloc ulong[curve.Limbs];
        Span<ulong> number = stackalloc ulong[curve.Limbs];
        curve.MultiplyGenerator(ephemeral, point);
        bool isGood = curve.TryEncode(point, r, s);
        BigIntegers.Read(r, number);
        order.Enter(number, first);

        // (e + r d) / k.
        BigIntegers.Read(key, number);
        order.Enter(number, number);
        order.Multiply(first, number, second);
        ReadDigest(curve, digest, number);
        order.Enter(number, number);
        order.Add(second, number, second);
        order.Enter(ephemeral, number);
        order.InvertPrime(number, number);
        order.Multiply(second, number, second);
        isGood &= (Modulus.ZeroMask(first) | Modulus.ZeroMask(second)) == 0;
        order.Leave(first, first);
        order.Leave(second, second);
        BigIntegers.Write(first, r);
        BigIntegers.Write(second, s);
        point.Clear();
        number.Clear();
        order.ClearProduct();
        return isGood;
    }

    /// <summary>Whether an ECDSA signature is good. All of it is public.</summary>
    internal static bool VerifyEcdsa(EllipticCurve curve, ReadOnlySpan<ulong> key, ReadOnlySpan<byte> digest, ReadOnlySpan<byte> r, ReadOnlySpan<byte> s)
    {
        Modulus order = curve.Order;
        var first = new ulong[curve.Limbs];
        var inverse = new ulong[curve.Limbs];
        if (!TryReadScalar(curve, r, first) || !TryReadScalar(curve, s, inverse))
        {
            return false;
        }

        order.Enter(inverse, inverse);
        order.InvertPublic(inverse, inverse);
        var u1 = new ulong[curve.Limbs];
        ReadDigest(curve, digest, u1);
        order.Enter(u1, u1);
        order.Multiply(u1, inverse, u1);
        order.Leave(u1, u1);
        var u2 = new ulong[curve.Limbs];
        order.Enter(first, u2);
        order.Multiply(u2, inverse, u2);
        order.Leave(u2, u2);
        return curve.HasCoordinate(curve.SumOfMultiples(u1, u2, key), first);
    }

    /// <summary>Schnorr's signature: r = H(x || digest), cut to the order's length; s = k + r d.</summary>
    internal static void SignSchnorr(
        ICryptography cryptography, EllipticCurve curve, AlgorithmId hash, ReadOnlySpan<byte> key, ReadOnlySpan<byte> digest, IRandomSource random, out byte[] r, out byte[] s)
    {
        Span<ulong> ephemeral = stackalloc ulong[curve.Limbs];
        Span<byte> addend = stackalloc byte[curve.Size];
        s = new byte[curve.Size];
        do
        {
            NewScalar(curve, random, ephemeral);
            r = SchnorrHash(cryptography, curve, hash, curve.Encode(curve.MultiplyGenerator(ephemeral))!.Value.X.Span, digest);
            BigIntegers.Write(ephemeral, addend);
        }
        while (!TryAddProduct(curve, addend, r, key, s));

        ephemeral.Clear();
        CryptographicOperations.ZeroMemory(addend);
    }

    /// <summary>Whether a signature of Schnorr's kind is good.</summary>
    internal static bool VerifySchnorr(
        ICryptography cryptography, EllipticCurve curve, AlgorithmId hash, ReadOnlySpan<ulong> key, ReadOnlySpan<byte> digest, ReadOnlySpan<byte> r, ReadOnlySpan<byte> s)
    {
        Modulus order = curve.Order;
        var first = new ulong[curve.Limbs];
        var second = new ulong[curve.Limbs];
        if (!TryReadScalar(curve, r, first) || !TryReadScalar(curve, s, second))
        {
            return false;
        }

        // s G - r Q.
        var negated = order.Value.ToArray();
        BigIntegers.Subtract(negated, first);
        return curve.Encode(curve.SumOfMultiples(second, negated, key)) is EccPoint sum
            && SchnorrHash(cryptography, curve, hash, sum.X.Span, digest).AsSpan().TrimStart((byte)0).SequenceEqual(r.TrimStart((byte)0));
    }

    /// <summary>addend + factor * key modulo the order; null when that is 0.</summary>
    internal static byte[]? AddProduct(EllipticCurve curve, ReadOnlySpan<byte> addend, ReadOnlySpan<byte> factor, ReadOnlySpan<byte> key)
    {
        var sum = new byte[curve.Size];
        return TryAddProduct(curve, addend, factor, key, sum) ? sum : null;
    }

    /// <summary>addend + factor * key modulo the order.</summary>
    /// <param name="curve">The curve.</param>
    /// <param name="addend">Below the order.</param>
    /// <param name="factor">Public, of any length.</param>
    /// <param name="key">A private key.</param>
    /// <param name="sum">Room for a number of the order's length.</param>
    /// <returns>False when the sum is 0.</returns>
    internal static bool TryAddProduct(EllipticCurve curve, ReadOnlySpan<byte> addend, ReadOnlySpan<byte> factor, ReadOnlySpan<byte> key, Span<byte> sum)
    {
        Modulus order = curve.Order;
        Span<ulong> wide = stackalloc ulong[BigIntegers.LimbsFor(factor.Length)];
        Span<ulong> result = stackalloc ulong[curve.Limbs];
        Span<ulong> number = stackalloc ulong[curve.Limbs];
        BigIntegers.Read(key, number);
        order.Enter(number, number);
        BigIntegers.Read(factor, wide);
        order.EnterWide(wide, result);
        order.Multiply(result, number, result);
        BigIntegers.Read(addend, number);
        order.Enter(number, number);
        order.Add(result, number, result);
        order.Leave(result, result);
        BigIntegers.Write(result, sum);
        bool isGood = Modulus.ZeroMask(result) == 0;
        number.Clear();
        order.ClearProduct();
        return isGood;
    }

    private static byte[] SchnorrHash(ICryptography cryptography, EllipticCurve curve, AlgorithmId hash, ReadOnlySpan<byte> x, ReadOnlySpan<byte> digest)
    {
        IHashState state = cryptography.StartHash(hash);
        state.Update(x);
        state.Update(digest);
        byte[] result = state.Finish();
        return result.Length > curve.Size ? result[..curve.Size] : result;
    }

    private static void NewScalar(EllipticCurve curve, IRandomSource random, Span<ulong> scalar)
    {
        Span<byte> bytes = stackalloc byte[curve.Size + 8];
        random.Fill(bytes);
        byte[] key = curve.PrivateKeyFrom(bytes);
        BigIntegers.Read(key, scalar);
        CryptographicOperations.ZeroMemory(key);
        CryptographicOperations.ZeroMemory(bytes);
    }

    // From 1 to the order less 1.
    private static bool TryReadScalar(EllipticCurve curve, ReadOnlySpan<byte> bytes, ulong[] scalar) => curve.IsPrivateKey(bytes) && BigIntegers.TryRead(bytes, scalar);

    // The digest's highest bits, as many as the order has bytes.
    private static void ReadDigest(EllipticCurve curve, ReadOnlySpan<byte> digest, Span<ulong> number)
        => BigIntegers.Read(digest.Length > curve.Size ? digest[..curve.Size] : digest, number);
}
