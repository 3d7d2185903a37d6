// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Svsm.Modules.Vtpm.Crypto;

// Large numbers between the TPM's form (big-endian bytes) and that of Modulus (little-endian limbs), and what is needed of plain integer
// arithmetic. Time depends on lengths only.
internal static class BigIntegers
{
    internal static int LimbsFor(int bytes) => (bytes + 7) / 8;

    /// <summary>Reads a big-endian number into exactly the given limbs.</summary>
    /// <exception cref="ArgumentException">Bytes beyond the limbs are not zero.</exception>
    internal static void Read(ReadOnlySpan<byte> bytes, Span<ulong> limbs)
    {
        if (!TryRead(bytes, limbs))
        {
            throw new ArgumentException($"the number of {bytes.Length} bytes has no room in {limbs.Length} limbs", nameof(bytes));
        }
    }

    /// <summary>Reads a big-endian number; false when it has no room.</summary>
    internal static bool TryRead(ReadOnlySpan<byte> bytes, Span<ulong> limbs)
    {
        limbs.Clear();
        int limb = 0;
        int rest = bytes.Length;
        for (; rest >= 8 && limb < limbs.Length; rest -= 8)
        {
            limbs[limb++] = BinaryPrimitives.ReadUInt64BigEndian(bytes[(rest - 8)..]);
        }

        byte over = 0;
        for (int i = 0; i < rest; i++)
        {
            int place = rest - 1 - i;
            if (limb < limbs.Length)
            {
                limbs[limb] |= (ulong)bytes[place] << (8 * i);
            }
            else
            {
                over |= bytes[place];
            }
        }

        return over == 0;
    }

    internal static ulong[] Read(ReadOnlySpan<byte> bytes)
    {
        var limbs = new ulong[LimbsFor(bytes.Length)];
        Read(bytes, limbs);
        return limbs;
    }

    /// <summary>Reads a big-endian number into a new array of the given size.</summary>
    internal static ulong[] Read(ReadOnlySpan<byte> bytes, int limbCount)
    {
        var limbs = new ulong[limbCount];
        Read(bytes, limbs);
        return limbs;
    }

    /// <summary>Writes a number big-endian; what has no room is cut off.</summary>
    internal static void Write(ReadOnlySpan<ulong> limbs, Span<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            int limb = i / 8;
            bytes[^(i + 1)] = limb < limbs.Length ? (byte)(limbs[limb] >> (i % 8 * 8)) : (byte)0;
        }
    }

    internal static byte[] ToBytes(ReadOnlySpan<ulong> limbs, int size)
    {
        var bytes = new byte[size];
        Write(limbs, bytes);
        return bytes;
    }

    /// <summary>product = a * b, in as many limbs as both have.</summary>
    internal static void Multiply(ReadOnlySpan<ulong> a, ReadOnlySpan<ulong> b, Span<ulong> product)
    {
        product.Clear();
        for (int i = 0; i < b.Length; i++)
        {
            ulong carry = 0;
            for (int j = 0; j < a.Length; j++)
            {
                ulong high = FourLimbs.Product(a[j], b[i], out ulong low);
                low += carry;
                high += low < carry ? 1UL : 0UL;
                ulong previous = product[i + j];
                low += previous;
                high += low < previous ? 1UL : 0UL;
                product[i + j] = low;
                carry = high;
            }

            product[i + a.Length] = carry;
        }
    }

    /// <summary>value += other, which may be shorter; the carry out of the highest limb is the result.</summary>
    internal static ulong Add(Span<ulong> value, ReadOnlySpan<ulong> other)
    {
        ulong carry = 0;
        for (int i = 0; i < value.Length; i++)
        {
            ulong addend = i < other.Length ? other[i] : 0;
            ulong sum = value[i] + addend;
            ulong next = sum < addend ? 1UL : 0UL;
            sum += carry;
            next += sum < carry ? 1UL : 0UL;
            value[i] = sum;
            carry = next;
        }

        return carry;
    }

    /// <summary>value -= other, which may be shorter; the borrow is the result.</summary>
    internal static ulong Subtract(Span<ulong> value, ReadOnlySpan<ulong> other)
    {
        ulong borrow = 0;
        for (int i = 0; i < value.Length; i++)
        {
            ulong limb = value[i];
            ulong subtrahend = i < other.Length ? other[i] : 0;
            ulong difference = limb - subtrahend;
            ulong next = limb < subtrahend ? 1UL : 0UL;
            next += difference < borrow ? 1UL : 0UL;
            value[i] = difference - borrow;
            borrow = next;
        }

        return borrow;
    }

    /// <summary>result = value mod modulus, bit by bit; the modulus is any number above 1 with the limbs of the result.</summary>
    internal static void Reduce(ReadOnlySpan<ulong> value, ReadOnlySpan<ulong> modulus, Span<ulong> result)
    {
        result.Clear();
        for (int bit = (value.Length * 64) - 1; bit >= 0; bit--)
        {
            ulong carry = value[bit / 64] >> (bit % 64) & 1;
            for (int i = 0; i < result.Length; i++)
            {
                ulong limb = result[i];
                result[i] = (limb << 1) | carry;
                carry = limb >> 63;
            }

            Modulus.SubtractOnce(
                ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(result), ref MemoryMarshal.GetReference(modulus), carry, modulus.Length);
        }
    }

    /// <summary>The remainder of a division by a small number.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static uint Remainder(ReadOnlySpan<ulong> value, uint divisor)
    {
        ulong remainder = 0;
        for (int i = value.Length - 1; i >= 0; i--)
        {
            remainder = ((remainder << 32) | (value[i] >> 32)) % divisor;
            remainder = ((remainder << 32) | (uint)value[i]) % divisor;
        }

        return (uint)remainder;
    }

    /// <summary>value /= divisor.</summary>
    internal static void Divide(Span<ulong> value, uint divisor)
    {
        ulong remainder = 0;
        for (int i = value.Length - 1; i >= 0; i--)
        {
            ulong high = (remainder << 32) | (value[i] >> 32);
            ulong low = ((high % divisor) << 32) | (uint)value[i];
            value[i] = (high / divisor << 32) | (low / divisor);
            remainder = low % divisor;
        }
    }

    /// <summary>The quotient of a division that leaves no remainder, by an odd number: limb by limb from the lowest.</summary>
    /// <param name="dividend">The dividend.</param>
    /// <param name="divisor">Odd.</param>
    /// <param name="quotient">As many of the quotient's lowest limbs as it has room for.</param>
    internal static void DivideExactly(ReadOnlySpan<ulong> dividend, ReadOnlySpan<ulong> divisor, Span<ulong> quotient)
    {
        ulong inverse = divisor[0];
        for (int i = 0; i < 5; i++)
        {
            inverse *= 2 - (divisor[0] * inverse);
        }

        Span<ulong> rest = stackalloc ulong[Modulus.MaxLimbs];
        rest = rest[..quotient.Length];
        dividend[..quotient.Length].CopyTo(rest);
        for (int i = 0; i < quotient.Length; i++)
        {
            ulong digit = rest[i] * inverse;
            quotient[i] = digit;
            ulong carry = 0;
            for (int j = 0; j < divisor.Length && i + j < rest.Length; j++)
            {
                ulong high = FourLimbs.Product(divisor[j], digit, out ulong low);
                low += carry;
                high += low < carry ? 1UL : 0UL;
                ulong limb = rest[i + j];
                high += limb < low ? 1UL : 0UL;
                rest[i + j] = limb - low;
                carry = high;
            }

            for (int j = i + divisor.Length; j < rest.Length; j++)
            {
                ulong limb = rest[j];
                rest[j] = limb - carry;
                carry = limb < carry ? 1UL : 0UL;
            }
        }

        rest.Clear();
    }

    /// <summary>Bits of a number without its leading zeros; the number is public.</summary>
    internal static int BitLength(ReadOnlySpan<ulong> value)
    {
        for (int i = value.Length - 1; i >= 0; i--)
        {
            if (value[i] != 0)
            {
                return (i * 64) + 64 - System.Numerics.BitOperations.LeadingZeroCount(value[i]);
            }
        }

        return 0;
    }
}
