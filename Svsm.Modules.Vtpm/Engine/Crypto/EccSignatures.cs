// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.InteropServices;
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
        Modulus order = curve.Order;
        Span<ulong> first = stackalloc ulong[curve.Limbs];
        Span<ulong> second = stackalloc ulong[curve.Limbs];
        Span<ulong> number = stackalloc ulong[curve.Limbs];
        do
        {
            ulong[] ephemeral = NewScalar(curve, random);
            order.EnterWide(BigIntegers.Read(curve.Encode(curve.MultiplyGenerator(ephemeral))!.Value.X.Span), first);

            // (e + r d) / k.
            BigIntegers.Read(key, number);
            order.Enter(number, number);
            order.Multiply(first, number, second);
            order.EnterWide(DigestNumber(curve, digest), number);
            order.Add(second, number, second);
            order.Enter(ephemeral, number);
            order.InvertPrime(number, number);
            order.Multiply(second, number, second);
            Clear(ephemeral);
        }
        while ((Modulus.ZeroMask(first) | Modulus.ZeroMask(second)) != 0);

        order.Leave(first, first);
        order.Leave(second, second);
        r = BigIntegers.ToBytes(first, curve.Size);
        s = BigIntegers.ToBytes(second, curve.Size);
        number.Clear();
        order.ClearProduct();
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
        order.InvertPrime(inverse, inverse);
        var u1 = new ulong[curve.Limbs];
        order.EnterWide(DigestNumber(curve, digest), u1);
        order.Multiply(u1, inverse, u1);
        order.Leave(u1, u1);
        var u2 = new ulong[curve.Limbs];
        order.Enter(first, u2);
        order.Multiply(u2, inverse, u2);
        order.Leave(u2, u2);
        if (SumOfMultiples(curve, u1, u2, key) is not EccPoint sum)
        {
            return false;
        }

        var x = new ulong[curve.Limbs];
        order.EnterWide(BigIntegers.Read(sum.X.Span), x);
        order.Leave(x, x);
        return Modulus.EqualMask(x, first) != 0;
    }

    /// <summary>Schnorr's signature: r = H(x || digest), cut to the order's length; s = k + r d.</summary>
    internal static void SignSchnorr(
        ICryptography cryptography, EllipticCurve curve, AlgorithmId hash, ReadOnlySpan<byte> key, ReadOnlySpan<byte> digest, IRandomSource random, out byte[] r, out byte[] s)
    {
        byte[]? second;
        do
        {
            ulong[] ephemeral = NewScalar(curve, random);
            r = SchnorrHash(cryptography, curve, hash, curve.Encode(curve.MultiplyGenerator(ephemeral))!.Value.X.Span, digest);
            second = AddProduct(curve, BigIntegers.ToBytes(ephemeral, curve.Size), r, key);
            Clear(ephemeral);
        }
        while (second is null);

        s = second;
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
        return SumOfMultiples(curve, second, negated, key) is EccPoint sum
            && SchnorrHash(cryptography, curve, hash, sum.X.Span, digest).AsSpan().TrimStart((byte)0).SequenceEqual(r.TrimStart((byte)0));
    }

    /// <summary>addend + factor * key modulo the order; null when that is 0.</summary>
    internal static byte[]? AddProduct(EllipticCurve curve, ReadOnlySpan<byte> addend, ReadOnlySpan<byte> factor, ReadOnlySpan<byte> key)
    {
        Modulus order = curve.Order;
        Span<ulong> result = stackalloc ulong[curve.Limbs];
        Span<ulong> number = stackalloc ulong[curve.Limbs];
        BigIntegers.Read(key, number);
        order.Enter(number, number);
        order.EnterWide(BigIntegers.Read(factor), result);
        order.Multiply(result, number, result);
        BigIntegers.Read(addend, number);
        order.Enter(number, number);
        order.Add(result, number, result);
        order.Leave(result, result);
        byte[]? sum = Modulus.ZeroMask(result) != 0 ? null : BigIntegers.ToBytes(result, curve.Size);
        number.Clear();
        order.ClearProduct();
        return sum;
    }

    private static byte[] SchnorrHash(ICryptography cryptography, EllipticCurve curve, AlgorithmId hash, ReadOnlySpan<byte> x, ReadOnlySpan<byte> digest)
    {
        IHashState state = cryptography.StartHash(hash);
        state.Update(x);
        state.Update(digest);
        byte[] result = state.Finish();
        return result.Length > curve.Size ? result[..curve.Size] : result;
    }

    private static EccPoint? SumOfMultiples(EllipticCurve curve, ReadOnlySpan<ulong> generatorFactor, ReadOnlySpan<ulong> keyFactor, ReadOnlySpan<ulong> key)
    {
        ulong[] sum = curve.MultiplyGenerator(generatorFactor);
        curve.Add(sum, curve.Multiply(keyFactor, key), sum);
        return curve.Encode(sum);
    }

    private static ulong[] NewScalar(EllipticCurve curve, IRandomSource random)
    {
        Span<byte> bytes = stackalloc byte[curve.Size + 8];
        random.Fill(bytes);
        byte[] key = curve.PrivateKeyFrom(bytes);
        ulong[] scalar = BigIntegers.Read(key, curve.Limbs);
        CryptographicOperations.ZeroMemory(key);
        CryptographicOperations.ZeroMemory(bytes);
        return scalar;
    }

    // From 1 to the order less 1.
    private static bool TryReadScalar(EllipticCurve curve, ReadOnlySpan<byte> bytes, ulong[] scalar) => curve.IsPrivateKey(bytes) && BigIntegers.TryRead(bytes, scalar);

    // The digest's highest bits, as many as the order has.
    private static ulong[] DigestNumber(EllipticCurve curve, ReadOnlySpan<byte> digest)
        => BigIntegers.Read(digest.Length > curve.Size ? digest[..curve.Size] : digest);

    private static void Clear(ulong[] limbs) => CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(limbs.AsSpan()));
}
