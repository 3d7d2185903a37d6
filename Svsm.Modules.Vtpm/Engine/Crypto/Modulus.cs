// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Svsm.Modules.Vtpm.Crypto;

// Arithmetic modulo an odd number, for RSA and elliptic curves: Montgomery multiplication on little-endian arrays of 64-bit limbs.
//
// The modulus may be secret (a prime of an RSA key), so may be every operand and every exponent: what the code does, which addresses it
// touches and how many instructions it executes depends only on the number of limbs, on the length of exponents in bits and, for the
// constructor, on the modulus' highest bit. Carries are written `hi += lo < x ? 1UL : 0UL`, which compiles without a branch; a test
// disassembles the inner routines and finds no conditional jump but those of loops.
//
// An object is not for use by two threads at once: it keeps the room for a product. Operands are in Montgomery form (x * 2^(64 * limbs) mod n) and below the modulus unless said otherwise. Results may be operands.
//
// Source: P. Montgomery, "Modular multiplication without trial division"; the interleaved form is known as FIOS.
internal sealed class Modulus
{
    /// <summary>Limbs of the largest modulus: RSA-4096.</summary>
    internal const int MaxLimbs = 4096 / 64;

    private const int WindowBits = 5;
    private const int Entries = 1 << WindowBits;

    // From this length on half of the products are worth more than what it costs to leave them out.
    private const int SquareLimbs = 8;

    private readonly ulong[] _value;
    private readonly ulong[] _square;
    private readonly ulong[] _one;
    private readonly ulong[] _limbRadix;
    private readonly ulong[] _product;
    private readonly ulong[] _doubled;
    private readonly ulong _inverse;
    private readonly bool _isP256;
    private readonly LongNumbers? _long;
    private readonly ulong[] _first = [];
    private readonly ulong[] _second = [];

    /// <param name="value">Odd, above 1, without leading zero limbs. Copied.</param>
    /// <param name="isLong">Long numbers are multiplied as <see cref="LongNumbers"/> does; tests compare both.</param>
    internal Modulus(ReadOnlySpan<ulong> value, bool isLong = true)
    {
        if (value.IsEmpty || value.Length > MaxLimbs || (value[0] & 1) == 0 || value[^1] == 0)
        {
            throw new ArgumentException("an odd number without leading zeros of at most 64 limbs is wanted", nameof(value));
        }

        _value = value.ToArray();
        _product = new ulong[value.Length * 2];
        _doubled = new ulong[value.Length + 1];

        // -1 / n mod 2^64: each step doubles the good bits, n itself is good for three.
        ulong inverse = value[0];
        for (int i = 0; i < 5; i++)
        {
            inverse *= 2 - (value[0] * inverse);
        }

        _inverse = 0 - inverse;
        _isP256 = FourLimbs.IsP256(value);
        _one = new ulong[value.Length];
        SetToLimbRadix(_one);
        if (!isLong || !LongNumbers.Fits(value.Length))
        {
            _square = SquareOfRadix(Limbs * 64);
            _limbRadix = _square;
            return;
        }

        _long = new LongNumbers(value, _inverse);
        _first = new ulong[_long.Size];
        _second = new ulong[_long.Size];
        ulong[] limbRadix = (ulong[])_one.Clone();
        for (int i = Limbs * 64; i < _long.RadixBits; i++)
        {
            Add(_one, _one, _one);
        }

        _square = SquareOfRadix(_long.RadixBits);
        _limbRadix = limbRadix;
        Enter(_limbRadix, _limbRadix);
    }

    internal int Limbs => _value.Length;

    internal ReadOnlySpan<ulong> Value => _value;

    /// <summary>1 in Montgomery form.</summary>
    internal ReadOnlySpan<ulong> One => _one;

    internal void Clear()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_value.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_square.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_one.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_limbRadix.AsSpan()));
        _long?.Clear();
        ClearProduct();
    }

    /// <summary>Forgets the last product: at the end of work with secrets modulo a public number.</summary>
    internal void ClearProduct()
    {
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_product.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_doubled.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_first.AsSpan()));
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(_second.AsSpan()));
        _long?.ClearProduct();
    }

    /// <summary>result = a * b.</summary>
    internal void Multiply(ReadOnlySpan<ulong> a, ReadOnlySpan<ulong> b, Span<ulong> result)
    {
        CheckLength(a.Length);
        CheckLength(b.Length);
        CheckLength(result.Length);
        if (_isP256)
        {
            FourLimbs.MultiplyP256(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(b));
            return;
        }

        if (_long is not null)
        {
            _long.Split(a, _first);
            _long.Split(b, _second);
            _long.Multiply(_first, _second, _first);
            Join(_long, _first, result);
            return;
        }

        if (Limbs == 4)
        {
            FourLimbs.Multiply(
                ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(b), ref MemoryMarshal.GetArrayDataReference(_value), _inverse);
            return;
        }

        Span<ulong> product = _product.AsSpan(0, Limbs);
        product.Clear();
        ulong top = MultiplyReduce(
            ref MemoryMarshal.GetReference(product), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(b), ref MemoryMarshal.GetArrayDataReference(_value), _inverse, Limbs);
        SubtractOnce(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(product), ref MemoryMarshal.GetArrayDataReference(_value), top, Limbs);
    }

    /// <summary>result = a * a; for long numbers faster than <see cref="Multiply"/>.</summary>
    internal void Square(ReadOnlySpan<ulong> a, Span<ulong> result)
    {
        if (Limbs < SquareLimbs)
        {
            Multiply(a, a, result);
            return;
        }

        CheckLength(a.Length);
        CheckLength(result.Length);
        if (_long is not null)
        {
            _long.Split(a, _first);
            _long.Multiply(_first, _first, _first);
            Join(_long, _first, result);
            return;
        }

        Span<ulong> product = _product;
        product.Clear();
        Span<ulong> doubled = _doubled;
        ulong carry = AddLimbs(ref MemoryMarshal.GetReference(doubled), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(a), Limbs);
        doubled[Limbs] = carry;
        ulong top = SquareReduce(
            ref MemoryMarshal.GetReference(product),
            ref MemoryMarshal.GetReference(a),
            ref MemoryMarshal.GetReference(doubled),
            ref MemoryMarshal.GetArrayDataReference(_value),
            _inverse,
            Limbs);
        SubtractOnce(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(product[Limbs..]), ref MemoryMarshal.GetArrayDataReference(_value), top, Limbs);
    }

    /// <summary>result = a + b.</summary>
    internal void Add(ReadOnlySpan<ulong> a, ReadOnlySpan<ulong> b, Span<ulong> result)
    {
        CheckLength(a.Length);
        CheckLength(b.Length);
        CheckLength(result.Length);
        if (Limbs == 4)
        {
            FourLimbs.Add(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(b), ref MemoryMarshal.GetArrayDataReference(_value));
            return;
        }

        ulong carry = AddLimbs(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(b), Limbs);
        SubtractOnce(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetArrayDataReference(_value), carry, Limbs);
    }

    /// <summary>result = a - b.</summary>
    internal void Subtract(ReadOnlySpan<ulong> a, ReadOnlySpan<ulong> b, Span<ulong> result)
    {
        CheckLength(a.Length);
        CheckLength(b.Length);
        CheckLength(result.Length);
        if (Limbs == 4)
        {
            FourLimbs.Subtract(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(b), ref MemoryMarshal.GetArrayDataReference(_value));
            return;
        }

        ulong borrow = SubtractLimbs(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(a), ref MemoryMarshal.GetReference(b), Limbs);
        AddMasked(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetArrayDataReference(_value), 0 - borrow, Limbs);
    }

    /// <summary>Into Montgomery form.</summary>
    /// <param name="value">Any number of the modulus' limbs.</param>
    /// <param name="result">The form, below the modulus.</param>
    internal void Enter(ReadOnlySpan<ulong> value, Span<ulong> result) => Multiply(value, _square, result);

    /// <summary>Into Montgomery form from a number of any length: reduces it.</summary>
    internal void EnterWide(ReadOnlySpan<ulong> value, Span<ulong> result)
    {
        // Horner's rule in base 2^(64 * limbs).
        Span<ulong> part = stackalloc ulong[MaxLimbs];
        part = part[..Limbs];
        result.Clear();
        for (int end = (value.Length + Limbs - 1) / Limbs * Limbs; end > 0; end -= Limbs)
        {
            ReadOnlySpan<ulong> slice = value[(end - Limbs)..Math.Min(end, value.Length)];
            part.Clear();
            slice.CopyTo(part);
            Multiply(result, _limbRadix, result);
            Enter(part, part);
            Add(result, part, result);
        }

        part.Clear();
    }

    /// <summary>Out of Montgomery form.</summary>
    internal void Leave(ReadOnlySpan<ulong> value, Span<ulong> result)
    {
        Span<ulong> one = stackalloc ulong[MaxLimbs];
        one = one[..Limbs];
        one.Clear();
        one[0] = 1;
        Multiply(value, one, result);
    }

    /// <summary>result = value ^ exponent.</summary>
    /// <param name="value">The base.</param>
    /// <param name="exponent">Every limb of it counts for the time, none for anything else.</param>
    /// <param name="result">The power.</param>
    internal void Power(ReadOnlySpan<ulong> value, ReadOnlySpan<ulong> exponent, Span<ulong> result)
    {
        if (_long is not null)
        {
            PowerOfLong(_long, value, exponent, result);
            return;
        }

        int limbs = Limbs;
        Span<ulong> table = stackalloc ulong[Entries * limbs];
        _one.CopyTo(table);
        value.CopyTo(table[limbs..]);
        for (int i = 2; i < Entries; i++)
        {
            Multiply(table.Slice((i - 1) * limbs, limbs), value, table.Slice(i * limbs, limbs));
        }

        Span<ulong> power = stackalloc ulong[MaxLimbs];
        Span<ulong> factor = stackalloc ulong[MaxLimbs];
        power = power[..limbs];
        factor = factor[..limbs];
        _one.CopyTo(power);
        int windows = ((exponent.Length * 64) + WindowBits - 1) / WindowBits;
        for (int window = windows - 1; window >= 0; window--)
        {
            for (int i = 0; i < WindowBits; i++)
            {
                Square(power, power);
            }

            Select(table, limbs, Bits(exponent, window * WindowBits, WindowBits), factor);
            Multiply(power, factor, power);
        }

        power.CopyTo(result);
        power.Clear();
        factor.Clear();
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(table));
    }

    /// <summary>result = value ^ exponent for an exponent that is public.</summary>
    internal void PowerPublic(ReadOnlySpan<ulong> value, ulong exponent, Span<ulong> result)
    {
        if (_long is not null)
        {
            PowerPublicOfLong(_long, value, exponent, result);
            return;
        }

        Span<ulong> power = stackalloc ulong[MaxLimbs];
        power = power[..Limbs];
        _one.CopyTo(power);
        for (int bit = 63 - System.Numerics.BitOperations.LeadingZeroCount(exponent); bit >= 0; bit--)
        {
            Square(power, power);
            if ((exponent >> bit & 1) != 0)
            {
                Multiply(power, value, power);
            }
        }

        power.CopyTo(result);
        power.Clear();
    }

    /// <summary>result = 1 / value for a prime modulus; 0 for 0.</summary>
    internal void InvertPrime(ReadOnlySpan<ulong> value, Span<ulong> result)
    {
        Span<ulong> exponent = stackalloc ulong[MaxLimbs];
        exponent = exponent[..Limbs];
        Span<ulong> two = stackalloc ulong[MaxLimbs];
        two = two[..Limbs];
        two.Clear();
        two[0] = 2;
        SubtractLimbs(ref MemoryMarshal.GetReference(exponent), ref MemoryMarshal.GetArrayDataReference(_value), ref MemoryMarshal.GetReference(two), Limbs);
        Power(value, exponent, result);
        exponent.Clear();
    }

    /// <summary>result = 1 / value for a prime modulus and a value that is public: what is done depends on it. For numbers below 16 limbs.</summary>
    /// <param name="value">Not 0.</param>
    /// <param name="result">The inverse.</param>
    /// <remarks>Source: B. Kaliski, "The Montgomery inverse and its applications".</remarks>
    internal void InvertPublic(ReadOnlySpan<ulong> value, Span<ulong> result)
    {
        if (_long is not null)
        {
            throw new InvalidOperationException("for numbers below 16 limbs");
        }

        // u = n and v = value, halved and subtracted from each other; r and s follow so that value * r = -u 2^k and value * s = v 2^k modulo n.
        // When v is 0, u is 1. Numbers are at most 2 n, so one limb more.
        int size = Limbs + 1;
        Span<ulong> room = stackalloc ulong[4 * (MaxLimbs + 1)];
        room.Clear();
        Span<ulong> u = room[..size];
        Span<ulong> v = room.Slice(size, size);
        Span<ulong> r = room.Slice(2 * size, size);
        Span<ulong> s = room.Slice(3 * size, size);
        _value.CopyTo(u);
        value.CopyTo(v);
        s[0] = 1;
        int halvings = 0;
        for (; ZeroMask(v) == 0; halvings++)
        {
            if ((u[0] & 1) == 0)
            {
                Halve(u);
                BigIntegers.Add(s, s);
            }
            else if ((v[0] & 1) == 0)
            {
                Halve(v);
                BigIntegers.Add(r, r);
            }
            else if (IsBelow(v, u))
            {
                BigIntegers.Subtract(u, v);
                Halve(u);
                BigIntegers.Add(r, s);
                BigIntegers.Add(s, s);
            }
            else
            {
                BigIntegers.Subtract(v, u);
                Halve(v);
                BigIntegers.Add(s, r);
                BigIntegers.Add(r, r);
            }
        }

        // -r is 2^k / value. With value = x R it is 2^k / (x R), and R / x is wanted: a product with 2^(b - k) or, if that is none, with 2^(2 b - k)
        // where R is 2^b, and then the way into Montgomery form twice or once.
        if (!IsBelow(r, _value))
        {
            BigIntegers.Subtract(r, _value);
        }

        _value.CopyTo(u);
        u[Limbs] = 0;
        BigIntegers.Subtract(u, r);
        int bits = Limbs * 64;
        bool isOnce = halvings > bits;
        Span<ulong> inverse = u[..Limbs];
        Span<ulong> power = v[..Limbs];
        int bit = (isOnce ? 2 * bits : bits) - halvings;
        power[bit / 64] = 1UL << (bit % 64);
        Multiply(inverse, power, inverse);
        Enter(inverse, inverse);
        if (!isOnce)
        {
            Enter(inverse, inverse);
        }

        inverse.CopyTo(result);
    }

    /// <summary>All ones when the number is zero, else zero.</summary>
    internal static ulong ZeroMask(ReadOnlySpan<ulong> value)
    {
        ulong any = 0;
        foreach (ulong limb in value)
        {
            any |= limb;
        }

        // The highest bit of any | -any says whether a bit is set.
        return (((any | (0 - any)) >> 63) ^ 1) * ulong.MaxValue;
    }

    /// <summary>All ones when the numbers are the same, else zero.</summary>
    internal static ulong EqualMask(ReadOnlySpan<ulong> left, ReadOnlySpan<ulong> right)
    {
        ulong any = 0;
        for (int i = 0; i < left.Length; i++)
        {
            any |= left[i] ^ right[i];
        }

        return (((any | (0 - any)) >> 63) ^ 1) * ulong.MaxValue;
    }

    /// <summary>All ones when the number is below the modulus, else zero. Not in Montgomery form.</summary>
    internal ulong BelowMask(ReadOnlySpan<ulong> value)
    {
        CheckLength(value.Length);
        Span<ulong> difference = stackalloc ulong[MaxLimbs];
        return 0 - SubtractLimbs(
            ref MemoryMarshal.GetReference(difference), ref MemoryMarshal.GetReference(value), ref MemoryMarshal.GetArrayDataReference(_value), Limbs);
    }

    /// <summary>The entry of a table whose index is secret: all entries are read.</summary>
    internal static void Select(ReadOnlySpan<ulong> table, int size, uint index, Span<ulong> entry)
    {
        if (entry.Length != size || table.Length % size != 0)
        {
            throw new ArgumentException("the table does not consist of such entries", nameof(table));
        }

        SelectEntry(ref MemoryMarshal.GetReference(entry), ref MemoryMarshal.GetReference(table), index, size, table.Length / size);
    }

    /// <summary>Bits of a number from a public place; beyond its end they are zero.</summary>
    internal static uint Bits(ReadOnlySpan<ulong> value, int start, int count)
    {
        int limb = start / 64;
        int shift = start % 64;
        ulong bits = value[limb] >> shift;
        if (shift + count > 64 && limb + 1 < value.Length)
        {
            bits |= value[limb + 1] << (64 - shift);
        }

        return (uint)bits & ((1u << count) - 1);
    }

    // The inner routines. SAFETY: every reference is to the first of as many limbs as the last parameter says (for SelectEntry: entries
    // times size); the callers above have checked the lengths. References instead of spans keep range checks, hence jumps, out of them.

    /// <summary>product = a * b / 2^(64 * limbs) mod n, below 2 n; the limb above it is the result.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static ulong MultiplyReduce(ref ulong product, ref ulong a, ref ulong b, ref ulong n, ulong inverse, int limbs)
    {
        ulong top = 0;
        for (int i = 0; i < limbs; i++)
        {
            ulong factor = Unsafe.Add(ref b, i);
            ulong carryA = FourLimbs.Product(a, factor, out ulong low);
            low += product;
            carryA += low < product ? 1UL : 0UL;
            ulong quotient = low * inverse;
            ulong carryN = FourLimbs.Product(n, quotient, out ulong zero);
            zero += low;
            carryN += zero < low ? 1UL : 0UL;
            for (int j = 1; j < limbs; j++)
            {
                ulong high = FourLimbs.Product(Unsafe.Add(ref a, j), factor, out low);
                low += carryA;
                high += low < carryA ? 1UL : 0UL;
                ulong previous = Unsafe.Add(ref product, j);
                low += previous;
                carryA = high + (low < previous ? 1UL : 0UL);

                high = FourLimbs.Product(Unsafe.Add(ref n, j), quotient, out ulong reduced);
                reduced += carryN;
                high += reduced < carryN ? 1UL : 0UL;
                reduced += low;
                carryN = high + (reduced < low ? 1UL : 0UL);
                Unsafe.Add(ref product, j - 1) = reduced;
            }

            ulong sum = carryA + top;
            ulong carry = sum < top ? 1UL : 0UL;
            sum += carryN;
            top = carry + (sum < carryN ? 1UL : 0UL);
            Unsafe.Add(ref product, limbs - 1) = sum;
        }

        return top;
    }

    /// <summary>The upper half of product = a * a / 2^(64 * limbs) mod n, below 2 n; the limb above it is the result.</summary>
    /// <param name="product">Twice the limbs, zero.</param>
    /// <param name="a">The number.</param>
    /// <param name="doubled">2 a, one limb more; destroyed.</param>
    /// <param name="n">The modulus.</param>
    /// <param name="inverse">-1 / n modulo 2^64.</param>
    /// <param name="limbs">Limbs of the number.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static ulong SquareReduce(ref ulong product, ref ulong a, ref ulong doubled, ref ulong n, ulong inverse, int limbs)
    {
        ulong top = 0;
        for (int i = 0; i < limbs; i++)
        {
            // The square of the limb, at 2 i; what follows is the limb times all higher ones, doubled, without what the doubling moved
            // out of the limb itself. In the last round that clears the limb above, which is for the others.
            ulong factor = Unsafe.Add(ref a, i);
            ulong carryA = FourLimbs.Product(factor, factor, out ulong low);
            ref ulong place = ref Unsafe.Add(ref product, 2 * i);
            low += place;
            carryA += low < place ? 1UL : 0UL;
            place = low;
            Unsafe.Add(ref doubled, i + 1) &= ulong.MaxValue - 1;

            place = ref Unsafe.Add(ref product, i);
            ulong quotient = place * inverse;
            ulong carryN = 0;
            for (int j = 0; j <= i; j++)
            {
                ulong high = FourLimbs.Product(Unsafe.Add(ref n, j), quotient, out low);
                low += carryN;
                high += low < carryN ? 1UL : 0UL;
                ulong previous = Unsafe.Add(ref place, j);
                low += previous;
                carryN = high + (low < previous ? 1UL : 0UL);
                Unsafe.Add(ref place, j) = low;
            }

            for (int j = i + 1; j < limbs; j++)
            {
                ulong high = FourLimbs.Product(Unsafe.Add(ref doubled, j), factor, out low);
                low += carryA;
                high += low < carryA ? 1UL : 0UL;
                ulong previous = Unsafe.Add(ref place, j);
                low += previous;
                carryA = high + (low < previous ? 1UL : 0UL);

                high = FourLimbs.Product(Unsafe.Add(ref n, j), quotient, out ulong reduced);
                reduced += carryN;
                high += reduced < carryN ? 1UL : 0UL;
                reduced += low;
                carryN = high + (reduced < low ? 1UL : 0UL);
                Unsafe.Add(ref place, j) = reduced;
            }

            // In the last round 2 i + 1 is this place too: nothing else was put there.
            ulong above = factor & (0 - Unsafe.Add(ref doubled, limbs));
            ulong sum = carryA + top;
            top = sum < top ? 1UL : 0UL;
            sum += carryN;
            top += sum < carryN ? 1UL : 0UL;
            sum += above;
            top += sum < above ? 1UL : 0UL;
            Unsafe.Add(ref place, limbs) = sum;
        }

        return top;
    }

    /// <summary>result = value - n when value, with the limb above it, is not below n; else value.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void SubtractOnce(ref ulong result, ref ulong value, ref ulong n, ulong top, int limbs)
    {
        ulong borrow = 0;
        for (int i = 0; i < limbs; i++)
        {
            ulong limb = Unsafe.Add(ref value, i);
            ulong other = Unsafe.Add(ref n, i);
            ulong difference = limb - other;
            ulong next = limb < other ? 1UL : 0UL;
            next += difference < borrow ? 1UL : 0UL;
            borrow = next;
        }

        // Borrowed and nothing above: the value was below n.
        ulong keep = 0 - (borrow & (top ^ 1));
        borrow = 0;
        for (int i = 0; i < limbs; i++)
        {
            ulong limb = Unsafe.Add(ref value, i);
            ulong other = Unsafe.Add(ref n, i) & ~keep;
            ulong difference = limb - other;
            ulong next = limb < other ? 1UL : 0UL;
            next += difference < borrow ? 1UL : 0UL;
            Unsafe.Add(ref result, i) = difference - borrow;
            borrow = next;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static ulong AddLimbs(ref ulong result, ref ulong a, ref ulong b, int limbs)
    {
        ulong carry = 0;
        for (int i = 0; i < limbs; i++)
        {
            ulong other = Unsafe.Add(ref b, i);
            ulong sum = Unsafe.Add(ref a, i) + other;
            ulong next = sum < other ? 1UL : 0UL;
            sum += carry;
            next += sum < carry ? 1UL : 0UL;
            Unsafe.Add(ref result, i) = sum;
            carry = next;
        }

        return carry;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static ulong SubtractLimbs(ref ulong result, ref ulong a, ref ulong b, int limbs)
    {
        ulong borrow = 0;
        for (int i = 0; i < limbs; i++)
        {
            ulong limb = Unsafe.Add(ref a, i);
            ulong other = Unsafe.Add(ref b, i);
            ulong difference = limb - other;
            ulong next = limb < other ? 1UL : 0UL;
            next += difference < borrow ? 1UL : 0UL;
            Unsafe.Add(ref result, i) = difference - borrow;
            borrow = next;
        }

        return borrow;
    }

    /// <summary>result += n where the mask is all ones.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void AddMasked(ref ulong result, ref ulong n, ulong mask, int limbs)
    {
        ulong carry = 0;
        for (int i = 0; i < limbs; i++)
        {
            ulong other = Unsafe.Add(ref n, i) & mask;
            ulong sum = Unsafe.Add(ref result, i) + other;
            ulong next = sum < other ? 1UL : 0UL;
            sum += carry;
            next += sum < carry ? 1UL : 0UL;
            Unsafe.Add(ref result, i) = sum;
            carry = next;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void SelectEntry(ref ulong entry, ref ulong table, uint index, int size, int entries)
    {
        for (int i = 0; i < size; i++)
        {
            Unsafe.Add(ref entry, i) = 0;
        }

        for (int candidate = 0; candidate < entries; candidate++)
        {
            // All ones where the difference is zero.
            ulong difference = (ulong)(uint)candidate ^ index;
            ulong mask = 0 - ((difference - 1) >> 63);
            for (int i = 0; i < size; i++)
            {
                Unsafe.Add(ref entry, i) |= Unsafe.Add(ref table, (candidate * size) + i) & mask;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void CheckLength(int length)
    {
        if (length != _value.Length)
        {
            ThrowLength(length);
        }
    }

    private void ThrowLength(int length) => throw new ArgumentException($"{_value.Length} limbs are wanted, there are {length}");

    private void Join(LongNumbers numbers, ReadOnlySpan<ulong> number, Span<ulong> result)
    {
        ulong top = numbers.Join(number, result);
        SubtractOnce(ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetArrayDataReference(_value), top, Limbs);
    }

    private void PowerOfLong(LongNumbers numbers, ReadOnlySpan<ulong> value, ReadOnlySpan<ulong> exponent, Span<ulong> result)
    {
        int size = numbers.Size;
        Span<ulong> table = stackalloc ulong[Entries * size];
        numbers.Split(_one, table[..size]);
        numbers.Split(value, table.Slice(size, size));
        for (int i = 2; i < Entries; i++)
        {
            numbers.Multiply(table.Slice((i - 1) * size, size), table.Slice(size, size), table.Slice(i * size, size));
        }

        Span<ulong> power = _first;
        Span<ulong> factor = _second;
        table[..size].CopyTo(power);
        int windows = ((exponent.Length * 64) + WindowBits - 1) / WindowBits;
        for (int window = windows - 1; window >= 0; window--)
        {
            for (int i = 0; i < WindowBits; i++)
            {
                numbers.Multiply(power, power, power);
            }

            numbers.Select(table, Bits(exponent, window * WindowBits, WindowBits), factor);
            numbers.Multiply(power, factor, power);
        }

        Join(numbers, power, result);
        CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(table));
        ClearProduct();
    }

    private void PowerPublicOfLong(LongNumbers numbers, ReadOnlySpan<ulong> value, ulong exponent, Span<ulong> result)
    {
        numbers.Split(value, _second);
        numbers.Split(_one, _first);
        for (int bit = 63 - System.Numerics.BitOperations.LeadingZeroCount(exponent); bit >= 0; bit--)
        {
            numbers.Multiply(_first, _first, _first);
            if ((exponent >> bit & 1) != 0)
            {
                numbers.Multiply(_first, _second, _first);
            }
        }

        Join(numbers, _first, result);
    }

    private static void Halve(Span<ulong> number)
    {
        for (int i = 0; i < number.Length - 1; i++)
        {
            number[i] = (number[i] >> 1) | (number[i + 1] << 63);
        }

        number[^1] >>= 1;
    }

    // Of public numbers.
    private static bool IsBelow(ReadOnlySpan<ulong> number, ReadOnlySpan<ulong> other)
    {
        for (int i = number.Length - 1; i >= 0; i--)
        {
            ulong limb = i < other.Length ? other[i] : 0;
            if (number[i] != limb)
            {
                return number[i] < limb;
            }
        }

        return false;
    }

    // 2^(64 * limbs) mod n.
    private void SetToLimbRadix(ulong[] number)
    {
        if (_value[^1] >> 63 != 0)
        {
            // The modulus is above half of the radix: one subtraction.
            Span<ulong> zero = stackalloc ulong[MaxLimbs];
            zero.Clear();
            SubtractLimbs(ref MemoryMarshal.GetArrayDataReference(number), ref MemoryMarshal.GetReference(zero), ref MemoryMarshal.GetArrayDataReference(_value), Limbs);
            return;
        }

        number[0] = 1;
        for (int i = 0; i < Limbs * 64; i++)
        {
            Add(number, number, number);
        }
    }

    // The radix in Montgomery form: 2 to the power of its bits, squaring and doubling along the bits of the exponent.
    private ulong[] SquareOfRadix(int exponent)
    {
        var power = (ulong[])_one.Clone();
        for (int bit = 31 - System.Numerics.BitOperations.LeadingZeroCount((uint)exponent); bit >= 0; bit--)
        {
            Square(power, power);
            if ((exponent >> bit & 1) != 0)
            {
                Add(power, power, power);
            }
        }

        return power;
    }
}
