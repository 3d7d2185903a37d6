// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using System.Security.Cryptography;

namespace Svsm.Modules.Vtpm.Crypto;

// Montgomery multiplication of long numbers with vectors: four products at once with AVX2, two with SSE2, of digits so short that hundreds of them
// add up without a carry. Where the compiler may use SSE2 only, as in a module, there is no other multiplication of more than 32 bits either.
//
// A number is `Digits` digits of 28 bits, lowest first, each in a 64-bit place, after four places of zeros (a vector of a number that is moved
// up by one to three digits begins there), and zeros follow up to whole vectors. The radix is 2^(28 * Digits), at least four times the
// modulus: then the product of two numbers below 2 n is below 2 n too, and nothing has to be subtracted in between. What adds up in a place
// is at most 2 * 110 products of 56 bits and a carry: below 2^64.
//
// Four digits of a factor are taken at a time. First what they and their quotients add to the lowest four digits, with ordinary arithmetic,
// because each quotient depends on the one before; then all higher digits, vector by vector, which moves them down by four places. The first
// four may begin below the factor's lowest digit, where its zeros are; they count for nothing.
//
// Source: P. Montgomery, "Modular multiplication without trial division"; C. Walter, "Montgomery exponentiation needs no final subtractions".
internal sealed class LongNumbers
{
    private const int DigitBits = 28;
    private const int Lanes = 4;
    private const int PairBytes = 7;
    private const ulong DigitMask = (1UL << DigitBits) - 1;

    private readonly int _limbs;
    private readonly int _digits;
    private readonly int _vectors;
    private readonly ulong _inverse;
    private readonly ulong[] _modulus;
    private readonly ulong[] _sum;
    private readonly ulong[] _bytes;

    /// <param name="modulus">Odd.</param>
    /// <param name="inverse">-1 / n modulo 2^64.</param>
    internal LongNumbers(ReadOnlySpan<ulong> modulus, ulong inverse)
    {
        _limbs = modulus.Length;
        _digits = ((_limbs * 64) + 2 + DigitBits - 1) / DigitBits;

        // Three digits more: a number is moved up by so many.
        _vectors = (_digits + 3 + Lanes - 1) / Lanes;
        _inverse = inverse & DigitMask;
        _sum = new ulong[_vectors * Lanes];
        _bytes = new ulong[_limbs + 2];
        _modulus = new ulong[Size];
        Split(modulus, _modulus);
    }

    /// <summary>Bits of the radix.</summary>
    internal int RadixBits => _digits * DigitBits;

    /// <summary>Places of a number.</summary>
    internal int Size => (1 + _vectors) * Lanes;

    /// <summary>Whether this machine can do it, and for numbers of so many limbs it is worth it.</summary>
    internal static bool Fits(int limbs) => Sse2.IsSupported && limbs is >= 16 and <= 48;

    internal void Clear()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_modulus.AsSpan()));
        ClearProduct();
    }

    /// <summary>Forgets what it did last.</summary>
    internal void ClearProduct()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_sum.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_bytes.AsSpan()));
    }

    /// <summary>Limbs into digits.</summary>
    internal void Split(ReadOnlySpan<ulong> limbs, Span<ulong> number)
    {
        CheckSize(number.Length);
        limbs.CopyTo(_bytes);
        _bytes.AsSpan(_limbs).Clear();
        number.Clear();
        SplitPairs(ref MemoryMarshal.GetArrayDataReference(_bytes), ref number[Lanes], (_digits + 1) / 2);
    }

    /// <summary>Digits into limbs.</summary>
    /// <param name="number">Below 2^(64 * limbs + 1).</param>
    /// <param name="limbs">The number but for its highest bit.</param>
    /// <returns>That bit.</returns>
    internal ulong Join(ReadOnlySpan<ulong> number, Span<ulong> limbs)
    {
        CheckSize(number.Length);
        JoinPairs(ref MemoryMarshal.GetArrayDataReference(_bytes), ref MemoryMarshal.GetReference(number[Lanes..]), (_digits + 1) / 2);
        _bytes.AsSpan(0, _limbs).CopyTo(limbs);
        return _bytes[_limbs];
    }

    /// <summary>result = a * b / radix mod n, below 2 n.</summary>
    /// <param name="a">Below 2 n.</param>
    /// <param name="b">Below 2 n.</param>
    /// <param name="result">Also one of the two; its places around the digits are zero already.</param>
    internal void Multiply(ReadOnlySpan<ulong> a, ReadOnlySpan<ulong> b, Span<ulong> result)
    {
        CheckSize(a.Length);
        CheckSize(b.Length);
        CheckSize(result.Length);
        _sum.AsSpan().Clear();
        MultiplyDigits(
            ref MemoryMarshal.GetArrayDataReference(_sum),
            ref MemoryMarshal.GetReference(a[Lanes..]),
            ref MemoryMarshal.GetReference(b[Lanes..]),
            ref _modulus[Lanes],
            ref result[Lanes],
            _inverse,
            _digits,
            _vectors);
    }

    /// <summary>The entry of a table whose index is secret: all entries are read.</summary>
    internal void Select(ReadOnlySpan<ulong> table, uint index, Span<ulong> entry)
    {
        CheckSize(entry.Length);
        SelectEntry(ref MemoryMarshal.GetReference(entry), ref MemoryMarshal.GetReference(table), index, Size, table.Length / Size);
    }

    // The inner routines. SAFETY: the callers have checked the lengths; numbers are given by their first digit, so four places before it and all
    // of the vectors' places from it on are theirs. `bytes` has more than seven bytes for every pair of digits.

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void MultiplyDigits(ref ulong sum, ref ulong a, ref ulong b, ref ulong n, ref ulong result, ulong inverse, int digits, int vectors)
    {
        ulong a0 = a;
        ulong a1 = Unsafe.Add(ref a, 1);
        ulong a2 = Unsafe.Add(ref a, 2);
        ulong a3 = Unsafe.Add(ref a, 3);
        ulong n0 = n;
        ulong n1 = Unsafe.Add(ref n, 1);
        ulong n2 = Unsafe.Add(ref n, 2);
        ulong n3 = Unsafe.Add(ref n, 3);
        ulong carry = 0;
        for (int i = -(-digits & 3); i < digits; i += Lanes)
        {
            ulong b0 = Unsafe.Add(ref b, i);
            ulong b1 = Unsafe.Add(ref b, i + 1);
            ulong b2 = Unsafe.Add(ref b, i + 2);
            ulong b3 = Unsafe.Add(ref b, i + 3);

            ulong place = sum + carry + (a0 * b0);
            ulong q0 = place * inverse & DigitMask;
            carry = (place + (n0 * q0)) >> DigitBits;
            place = Unsafe.Add(ref sum, 1) + (a1 * b0) + (a0 * b1) + (n1 * q0) + carry;
            ulong q1 = place * inverse & DigitMask;
            carry = (place + (n0 * q1)) >> DigitBits;
            place = Unsafe.Add(ref sum, 2) + (a2 * b0) + (a1 * b1) + (a0 * b2) + (n2 * q0) + (n1 * q1) + carry;
            ulong q2 = place * inverse & DigitMask;
            carry = (place + (n0 * q2)) >> DigitBits;
            place = Unsafe.Add(ref sum, 3) + (a3 * b0) + (a2 * b1) + (a1 * b2) + (a0 * b3) + (n3 * q0) + (n2 * q1) + (n1 * q2) + carry;
            ulong q3 = place * inverse & DigitMask;
            carry = (place + (n0 * q3)) >> DigitBits;

            if (Avx2.IsSupported)
            {
                Vector256<uint> factor0 = Vector256.Create(b0).AsUInt32();
                Vector256<uint> factor1 = Vector256.Create(b1).AsUInt32();
                Vector256<uint> factor2 = Vector256.Create(b2).AsUInt32();
                Vector256<uint> factor3 = Vector256.Create(b3).AsUInt32();
                Vector256<uint> quotient0 = Vector256.Create(q0).AsUInt32();
                Vector256<uint> quotient1 = Vector256.Create(q1).AsUInt32();
                Vector256<uint> quotient2 = Vector256.Create(q2).AsUInt32();
                Vector256<uint> quotient3 = Vector256.Create(q3).AsUInt32();
                for (int j = Lanes; j < vectors * Lanes; j += Lanes)
                {
                    ref ulong x = ref Unsafe.Add(ref a, j);
                    ref ulong y = ref Unsafe.Add(ref n, j);
                    Vector256<ulong> first = Vector256.LoadUnsafe(ref Unsafe.Add(ref sum, j)) + Avx2.Multiply(Vector256.LoadUnsafe(ref x).AsUInt32(), factor0);
                    Vector256<ulong> second = Avx2.Multiply(Vector256.LoadUnsafe(ref y).AsUInt32(), quotient0);
                    first += Avx2.Multiply(Vector256.LoadUnsafe(ref Unsafe.Add(ref x, -1)).AsUInt32(), factor1);
                    second += Avx2.Multiply(Vector256.LoadUnsafe(ref Unsafe.Add(ref y, -1)).AsUInt32(), quotient1);
                    first += Avx2.Multiply(Vector256.LoadUnsafe(ref Unsafe.Add(ref x, -2)).AsUInt32(), factor2);
                    second += Avx2.Multiply(Vector256.LoadUnsafe(ref Unsafe.Add(ref y, -2)).AsUInt32(), quotient2);
                    first += Avx2.Multiply(Vector256.LoadUnsafe(ref Unsafe.Add(ref x, -3)).AsUInt32(), factor3);
                    second += Avx2.Multiply(Vector256.LoadUnsafe(ref Unsafe.Add(ref y, -3)).AsUInt32(), quotient3);
                    (first + second).StoreUnsafe(ref Unsafe.Add(ref sum, j - Lanes));
                }
            }
            else
            {
                Vector128<uint> factor0 = Vector128.Create(b0).AsUInt32();
                Vector128<uint> factor1 = Vector128.Create(b1).AsUInt32();
                Vector128<uint> factor2 = Vector128.Create(b2).AsUInt32();
                Vector128<uint> factor3 = Vector128.Create(b3).AsUInt32();
                Vector128<uint> quotient0 = Vector128.Create(q0).AsUInt32();
                Vector128<uint> quotient1 = Vector128.Create(q1).AsUInt32();
                Vector128<uint> quotient2 = Vector128.Create(q2).AsUInt32();
                Vector128<uint> quotient3 = Vector128.Create(q3).AsUInt32();
                for (int j = Lanes; j < vectors * Lanes; j += Lanes / 2)
                {
                    ref ulong x = ref Unsafe.Add(ref a, j);
                    ref ulong y = ref Unsafe.Add(ref n, j);
                    Vector128<ulong> first = Vector128.LoadUnsafe(ref Unsafe.Add(ref sum, j)) + Sse2.Multiply(Vector128.LoadUnsafe(ref x).AsUInt32(), factor0);
                    Vector128<ulong> second = Sse2.Multiply(Vector128.LoadUnsafe(ref y).AsUInt32(), quotient0);
                    first += Sse2.Multiply(Vector128.LoadUnsafe(ref Unsafe.Add(ref x, -1)).AsUInt32(), factor1);
                    second += Sse2.Multiply(Vector128.LoadUnsafe(ref Unsafe.Add(ref y, -1)).AsUInt32(), quotient1);
                    first += Sse2.Multiply(Vector128.LoadUnsafe(ref Unsafe.Add(ref x, -2)).AsUInt32(), factor2);
                    second += Sse2.Multiply(Vector128.LoadUnsafe(ref Unsafe.Add(ref y, -2)).AsUInt32(), quotient2);
                    first += Sse2.Multiply(Vector128.LoadUnsafe(ref Unsafe.Add(ref x, -3)).AsUInt32(), factor3);
                    second += Sse2.Multiply(Vector128.LoadUnsafe(ref Unsafe.Add(ref y, -3)).AsUInt32(), quotient3);
                    (first + second).StoreUnsafe(ref Unsafe.Add(ref sum, j - Lanes));
                }
            }
        }

        for (int i = 0; i < digits; i++)
        {
            carry += Unsafe.Add(ref sum, i);
            Unsafe.Add(ref result, i) = carry & DigitMask;
            carry >>= DigitBits;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void SelectEntry(ref ulong entry, ref ulong table, uint index, int size, int entries)
    {
        Vector128<uint> wanted = Vector128.Create(index);
        for (int place = 0; place < size; place += Lanes / 2)
        {
            Vector128<uint> candidate = Vector128<uint>.Zero;
            Vector128<ulong> found = Vector128<ulong>.Zero;
            for (int i = 0; i < entries; i++)
            {
                found |= Vector128.LoadUnsafe(ref Unsafe.Add(ref table, (i * size) + place)) & Vector128.Equals(candidate, wanted).AsUInt64();
                candidate += Vector128<uint>.One;
            }

            found.StoreUnsafe(ref Unsafe.Add(ref entry, place));
        }
    }

    // Two digits are seven bytes.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void SplitPairs(ref ulong bytes, ref ulong digits, int pairs)
    {
        for (int i = 0; i < pairs; i++)
        {
            ulong pair = Unsafe.ReadUnaligned<ulong>(ref Unsafe.AddByteOffset(ref Unsafe.As<ulong, byte>(ref bytes), i * PairBytes));
            Unsafe.Add(ref digits, 2 * i) = pair & DigitMask;
            Unsafe.Add(ref digits, (2 * i) + 1) = (pair >> DigitBits) & DigitMask;
        }
    }

    // Each pair also writes the byte after it, which the next one writes again.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void JoinPairs(ref ulong bytes, ref ulong digits, int pairs)
    {
        for (int i = 0; i < pairs; i++)
        {
            ulong pair = Unsafe.Add(ref digits, 2 * i) | (Unsafe.Add(ref digits, (2 * i) + 1) << DigitBits);
            Unsafe.WriteUnaligned(ref Unsafe.AddByteOffset(ref Unsafe.As<ulong, byte>(ref bytes), i * PairBytes), pair);
        }
    }

    private void CheckSize(int size)
    {
        if (size != Size)
        {
            throw new ArgumentException($"a number of {Size} places is wanted, there are {size}");
        }
    }
}
