// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;

namespace Svsm.Modules.Vtpm.Crypto;

// The inner routines of Modulus for numbers of 256 bits, without loops: the curves that are used most.
//
// SAFETY: every reference is to the first of four limbs; Modulus has checked the lengths.
internal static class FourLimbs
{
    private const ulong P256Top = 0xFFFF_FFFF_0000_0001;

    /// <summary>result = a * b / 2^256 mod n.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply(ref ulong result, ref ulong a, ref ulong b, ref ulong n, ulong inverse)
    {
        ulong a0 = a;
        ulong a1 = Unsafe.Add(ref a, 1);
        ulong a2 = Unsafe.Add(ref a, 2);
        ulong a3 = Unsafe.Add(ref a, 3);
        ulong n0 = n;
        ulong n1 = Unsafe.Add(ref n, 1);
        ulong n2 = Unsafe.Add(ref n, 2);
        ulong n3 = Unsafe.Add(ref n, 3);
        ulong t0 = 0;
        ulong t1 = 0;
        ulong t2 = 0;
        ulong t3 = 0;
        ulong top = 0;
        for (int i = 0; i < 4; i++)
        {
            ulong factor = Unsafe.Add(ref b, i);
            ulong carry = 0;
            t0 = MultiplyAdd(a0, factor, t0, ref carry);
            t1 = MultiplyAdd(a1, factor, t1, ref carry);
            t2 = MultiplyAdd(a2, factor, t2, ref carry);
            t3 = MultiplyAdd(a3, factor, t3, ref carry);
            ulong t4 = top + carry;
            top = t4 < carry ? 1UL : 0UL;

            ulong quotient = t0 * inverse;
            carry = 0;
            MultiplyAdd(n0, quotient, t0, ref carry);
            t0 = MultiplyAdd(n1, quotient, t1, ref carry);
            t1 = MultiplyAdd(n2, quotient, t2, ref carry);
            t2 = MultiplyAdd(n3, quotient, t3, ref carry);
            t3 = t4 + carry;
            top += t3 < carry ? 1UL : 0UL;
        }

        SubtractOnce(ref result, t0, t1, t2, t3, top, n0, n1, n2, n3);
    }

    /// <summary>Whether a modulus is p = 2^256 - 2^224 + 2^192 + 2^96 - 1, the prime of P-256.</summary>
    internal static bool IsP256(ReadOnlySpan<ulong> modulus) => modulus is [ulong.MaxValue, 0xFFFF_FFFF, 0, P256Top];

    /// <summary>result = a * b / 2^256 mod p. -1 / p modulo 2^64 is 1, so quotients are there already, and their products with p but one are shifts.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void MultiplyP256(ref ulong result, ref ulong a, ref ulong b)
    {
        ulong a0 = a;
        ulong a1 = Unsafe.Add(ref a, 1);
        ulong a2 = Unsafe.Add(ref a, 2);
        ulong a3 = Unsafe.Add(ref a, 3);
        ulong t0 = 0;
        ulong t1 = 0;
        ulong t2 = 0;
        ulong t3 = 0;
        ulong top = 0;
        for (int i = 0; i < 4; i++)
        {
            ulong factor = Unsafe.Add(ref b, i);
            ulong carry = 0;
            t0 = MultiplyAdd(a0, factor, t0, ref carry);
            t1 = MultiplyAdd(a1, factor, t1, ref carry);
            t2 = MultiplyAdd(a2, factor, t2, ref carry);
            t3 = MultiplyAdd(a3, factor, t3, ref carry);
            ulong t4 = top + carry;
            top = t4 < carry ? 1UL : 0UL;

            // t0 + t0 p = t0 2^96 + t0 (2^64 - 2^32 + 1) 2^192.
            carry = 0;
            ulong quotient = t0;
            t0 = AddCarry(t1, quotient << 32, ref carry);
            t1 = AddCarry(t2, quotient >> 32, ref carry);
            ulong high = Product(quotient, P256Top, out ulong low);
            t2 = AddCarry(t3, low, ref carry);
            t3 = AddCarry(t4, high, ref carry);
            top += carry;
        }

        SubtractOnce(ref result, t0, t1, t2, t3, top, ulong.MaxValue, 0xFFFF_FFFF, 0, P256Top);
    }

    /// <summary>result = a + b mod n.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Add(ref ulong result, ref ulong a, ref ulong b, ref ulong n)
    {
        ulong carry = 0;
        ulong t0 = AddCarry(a, b, ref carry);
        ulong t1 = AddCarry(Unsafe.Add(ref a, 1), Unsafe.Add(ref b, 1), ref carry);
        ulong t2 = AddCarry(Unsafe.Add(ref a, 2), Unsafe.Add(ref b, 2), ref carry);
        ulong t3 = AddCarry(Unsafe.Add(ref a, 3), Unsafe.Add(ref b, 3), ref carry);
        SubtractOnce(ref result, t0, t1, t2, t3, carry, n, Unsafe.Add(ref n, 1), Unsafe.Add(ref n, 2), Unsafe.Add(ref n, 3));
    }

    /// <summary>result = a - b mod n.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Subtract(ref ulong result, ref ulong a, ref ulong b, ref ulong n)
    {
        ulong borrow = 0;
        ulong t0 = SubtractBorrow(a, b, ref borrow);
        ulong t1 = SubtractBorrow(Unsafe.Add(ref a, 1), Unsafe.Add(ref b, 1), ref borrow);
        ulong t2 = SubtractBorrow(Unsafe.Add(ref a, 2), Unsafe.Add(ref b, 2), ref borrow);
        ulong t3 = SubtractBorrow(Unsafe.Add(ref a, 3), Unsafe.Add(ref b, 3), ref borrow);
        ulong mask = 0 - borrow;
        ulong carry = 0;
        result = AddCarry(t0, n & mask, ref carry);
        Unsafe.Add(ref result, 1) = AddCarry(t1, Unsafe.Add(ref n, 1) & mask, ref carry);
        Unsafe.Add(ref result, 2) = AddCarry(t2, Unsafe.Add(ref n, 2) & mask, ref carry);
        Unsafe.Add(ref result, 3) = AddCarry(t3, Unsafe.Add(ref n, 3) & mask, ref carry);
    }

    // The number, or the number less n when it is not below.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void SubtractOnce(
        ref ulong result, ulong t0, ulong t1, ulong t2, ulong t3, ulong top, ulong n0, ulong n1, ulong n2, ulong n3)
    {
        ulong borrow = 0;
        ulong d0 = SubtractBorrow(t0, n0, ref borrow);
        ulong d1 = SubtractBorrow(t1, n1, ref borrow);
        ulong d2 = SubtractBorrow(t2, n2, ref borrow);
        ulong d3 = SubtractBorrow(t3, n3, ref borrow);
        ulong keep = 0 - (borrow & (top ^ 1));
        result = d0 ^ ((d0 ^ t0) & keep);
        Unsafe.Add(ref result, 1) = d1 ^ ((d1 ^ t1) & keep);
        Unsafe.Add(ref result, 2) = d2 ^ ((d2 ^ t2) & keep);
        Unsafe.Add(ref result, 3) = d3 ^ ((d3 ^ t3) & keep);
    }

    /// <summary>The upper half of a * b, and the lower. Two multiplications, because what .NET makes of Math.BigMul takes the lower half through memory.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static ulong Product(ulong a, ulong b, out ulong low)
    {
        if (Bmi2.X64.IsSupported)
        {
            low = a * b;
            return Bmi2.X64.MultiplyNoFlags(a, b);
        }

        // .NET has no other instruction for it; Math.BigMul would call what follows.
        ulong lowA = (uint)a;
        ulong highA = a >> 32;
        ulong lowB = (uint)b;
        ulong highB = b >> 32;
        ulong first = lowA * lowB;
        ulong middle = (highA * lowB) + (first >> 32);
        ulong other = (lowA * highB) + (uint)middle;
        low = (other << 32) | (uint)first;
        return (highA * highB) + (middle >> 32) + (other >> 32);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong MultiplyAdd(ulong a, ulong b, ulong addend, ref ulong carry)
    {
        ulong high = Product(a, b, out ulong low);
        low += addend;
        high += low < addend ? 1UL : 0UL;
        low += carry;
        carry = high + (low < carry ? 1UL : 0UL);
        return low;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong AddCarry(ulong a, ulong b, ref ulong carry)
    {
        ulong sum = a + b;
        ulong next = sum < b ? 1UL : 0UL;
        sum += carry;
        carry = next + (sum < carry ? 1UL : 0UL);
        return sum;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong SubtractBorrow(ulong a, ulong b, ref ulong borrow)
    {
        ulong difference = a - b;
        ulong next = a < b ? 1UL : 0UL;
        ulong result = difference - borrow;
        borrow = next + (difference < borrow ? 1UL : 0UL);
        return result;
    }
}
