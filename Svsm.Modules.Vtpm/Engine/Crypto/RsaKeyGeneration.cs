// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Security.Cryptography;

namespace Svsm.Modules.Vtpm.Crypto;

// Finding the two primes of an RSA key, in steps of some milliseconds: the caller goes on whenever it likes, or never.
//
//   Candidate   random bits, scaled into the upper (1 - 1/sqrt 2) of the range, so that the product of two has all its bits
//   Sieve       16384 odd numbers from there on without those that a small prime divides
//   Test        one of them, chosen by the candidate's low bits: one round of Miller-Rabin per step; until one is prime, or none is left
//   Done        after the second prime
//
// For keys from seeds every bit of this counts: the same seed has to give the key that it gives on the TCG reference implementation.
//
// Sources: FIPS 186-4, B.3.3 and C.3.1; the scaling, the sieve and the order of choice were established from the published reference
// implementation and by re-computing keys of a TPM with known seeds (tests: PrimaryVectors).
internal sealed class RsaKeyGeneration
{
    private const int FieldBits = 16384;

    private readonly IRandomSource _random;
    private readonly uint _exponent;
    private readonly ulong[] _base;
    private readonly ulong[] _tested;
    private readonly ulong[] _field = new ulong[FieldBits / 64];
    private readonly int _bytes;
    private ulong[]? _first;
    private ulong[]? _second;
    private Modulus? _modulus;
    private uint _choice;
    private int _left;
    private int _chosen;
    private int _rounds;

    /// <param name="random">Where candidates and witnesses come from.</param>
    /// <param name="bits">Bits of the modulus, a multiple of 128.</param>
    /// <param name="exponent">The public exponent, a prime.</param>
    internal RsaKeyGeneration(IRandomSource random, int bits, uint exponent)
    {
        _random = random;
        _exponent = exponent;
        _bytes = bits / 16;
        _base = new ulong[_bytes / 8];
        _tested = new ulong[_bytes / 8];
    }

    /// <summary>The modulus, once it is done.</summary>
    internal byte[] Product
    {
        get
        {
            var product = new ulong[_base.Length * 2];
            BigIntegers.Multiply(_first, _second, product);
            return BigIntegers.ToBytes(product, _bytes * 2);
        }
    }

    /// <summary>The prime that was found last, once it is done.</summary>
    internal byte[] Prime => BigIntegers.ToBytes(_second, _bytes);

    /// <summary>Exponentiations that were done.</summary>
    internal int Exponentiations { get; private set; }

    /// <summary>Does a step.</summary>
    /// <returns>True when both primes are found.</returns>
    internal bool Step()
    {
        if (_modulus is not null)
        {
            return Test();
        }

        if (_left == 0)
        {
            NewCandidate();
            Sieve();
            return false;
        }

        Choose();
        return false;
    }

    internal void Clear()
    {
        foreach (ulong[]? limbs in (ulong[]?[])[_base, _tested, _first, _second, _field])
        {
            CryptographicOperations.ZeroMemory(MemoryMarshal.AsBytes(limbs.AsSpan()));
        }

        _modulus?.Clear();
    }

    private void NewCandidate()
    {
        Span<byte> bytes = stackalloc byte[_bytes];
        _random.Fill(bytes);
        BigIntegers.Read(bytes, _base);
        CryptographicOperations.ZeroMemory(bytes);

        // In 32-bit fixed point: 0xB505 / 2^16 is the square root of one half, 0x4AFB / 2^16 what is above it.
        uint high = (uint)(_base[^1] >> 32);
        uint scaled = ((high >> 16) * 0x4AFB) + (((high & 0xFFFF) * 0x4AFB) >> 16) + 0xB505_0000;
        _base[^1] = (uint)_base[^1] | ((ulong)scaled << 32);
        _base[0] |= 1;
    }

    private void Sieve()
    {
        _choice = (uint)_base[0] | 0x8000_0000;

        // The field begins at an odd multiple of 105.
        uint adjust = BigIntegers.Remainder(_base, 105);
        BigIntegers.Subtract(_base, [(adjust & 1) != 0 ? adjust + 105 : adjust]);
        _field.AsSpan().Fill(ulong.MaxValue);
        uint limit = _bytes <= 64 ? 8167u : _bytes <= 128 ? 38891u : 65535u;
        uint product = 1;
        Span<uint> group = stackalloc uint[10];
        int count = 0;
        foreach (ushort prime in SmallPrimes.Odd)
        {
            if (prime > limit)
            {
                break;
            }

            if ((ulong)product * prime > uint.MaxValue)
            {
                Strike(product, group[..count]);
                product = 1;
                count = 0;
            }

            product *= prime;
            group[count++] = prime;
        }

        Strike(product, group[..count]);
        _left = 0;
        foreach (ulong word in _field)
        {
            _left += BitOperations.PopCount(word);
        }
    }

    // Takes the multiples of some primes out of the field; one long division for all.
    private void Strike(uint product, ReadOnlySpan<uint> primes)
    {
        uint remainder = BigIntegers.Remainder(_base, product);
        foreach (uint prime in primes)
        {
            uint rest = remainder % prime;
            uint start = (rest & 1) != 0 ? (prime - rest) / 2 : rest == 0 ? 0 : prime - (rest / 2);
            for (uint bit = start; bit < FieldBits; bit += prime)
            {
                _field[bit / 64] &= ~(1UL << (int)(bit % 64));
            }
        }
    }

    private void Choose()
    {
        int number = (int)(_choice % (uint)_left);
        int word = 0;
        for (int count; (count = BitOperations.PopCount(_field[word])) <= number; word++)
        {
            number -= count;
        }

        ulong bits = _field[word];
        for (; number > 0; number--)
        {
            bits &= bits - 1;
        }

        _chosen = (word * 64) + BitOperations.TrailingZeroCount(bits);
        _base.CopyTo(_tested, 0);
        BigIntegers.Add(_tested, [(ulong)_chosen * 2]);
        if (BigIntegers.Remainder(_tested, _exponent) is 0 or 1)
        {
            StrikeChosen();
            return;
        }

        _modulus = new Modulus(_tested);

        // Rounds for a probability of error below 2^-100 and 2^-112 (FIPS 186-4, table C.2).
        _rounds = _bytes < 192 ? 5 : 4;
    }

    private void StrikeChosen()
    {
        _field[_chosen / 64] &= ~(1UL << (_chosen % 64));
        _left--;
    }

    // One round of Miller-Rabin.
    private bool Test()
    {
        bool passes = PassesRound(_modulus!);
        if (passes && --_rounds > 0)
        {
            return false;
        }

        _modulus!.Clear();
        _modulus = null;
        if (!passes)
        {
            StrikeChosen();
            return false;
        }

        // The next prime begins with a new candidate.
        _left = 0;
        if (_first is null)
        {
            _first = (ulong[])_tested.Clone();
            return false;
        }

        if (IsTooClose(_first, _tested))
        {
            return false;
        }

        _second = (ulong[])_tested.Clone();
        return true;
    }

    private bool PassesRound(Modulus modulus)
    {
        Exponentiations++;
        int limbs = modulus.Limbs;
        Span<ulong> lessOne = stackalloc ulong[limbs];
        _tested.CopyTo(lessOne);
        lessOne[0] ^= 1;
        int shift = 0;
        while ((lessOne[shift / 64] >> (shift % 64) & 1) == 0)
        {
            shift++;
        }

        Span<ulong> odd = stackalloc ulong[limbs];
        int words = shift / 64;
        for (int i = 0; i + words < limbs; i++)
        {
            odd[i] = lessOne[i + words] >> (shift % 64);
            if (shift % 64 != 0 && i + words + 1 < limbs)
            {
                odd[i] |= lessOne[i + words + 1] << (64 - (shift % 64));
            }
        }

        Span<ulong> power = stackalloc ulong[limbs];
        Witness(modulus, lessOne, power);
        modulus.Enter(power, power);
        modulus.Power(power, odd, power);
        Span<ulong> minusOne = stackalloc ulong[limbs];
        minusOne.Clear();
        modulus.Subtract(minusOne, modulus.One, minusOne);
        bool passes = Modulus.EqualMask(power, modulus.One) != 0 || Modulus.EqualMask(power, minusOne) != 0;
        for (int i = 1; i < shift && !passes; i++)
        {
            modulus.Multiply(power, power, power);
            passes = Modulus.EqualMask(power, minusOne) != 0;
        }

        lessOne.Clear();
        odd.Clear();
        return passes;
    }

    // A number from 2 to the candidate less 2.
    private void Witness(Modulus modulus, ReadOnlySpan<ulong> lessOne, Span<ulong> witness)
    {
        Span<byte> bytes = stackalloc byte[_bytes];
        ulong isBelow;
        ulong isSmall;
        do
        {
            _random.Fill(bytes);
            BigIntegers.Read(bytes, witness);
            isBelow = modulus.BelowMask(witness) & ~Modulus.EqualMask(witness, lessOne);
            isSmall = Modulus.ZeroMask(witness[1..]) & (witness[0] <= 1 ? ulong.MaxValue : 0);
        }
        while ((isBelow & ~isSmall) == 0);
    }

    // Primes that agree in all but their 100 lowest bits can be found from the modulus.
    private static bool IsTooClose(ReadOnlySpan<ulong> first, ReadOnlySpan<ulong> second)
    {
        Span<ulong> difference = stackalloc ulong[first.Length];
        first.CopyTo(difference);
        if (BigIntegers.Subtract(difference, second) != 0)
        {
            second.CopyTo(difference);
            BigIntegers.Subtract(difference, first);
        }

        return BigIntegers.BitLength(difference) < 100;
    }
}

/// <summary>The odd primes below 2^16.</summary>
internal static class SmallPrimes
{
    private static readonly ushort[] s_odd = Find();

    internal static ReadOnlySpan<ushort> Odd => s_odd;

    /// <summary>Whether a number is prime, by division.</summary>
    internal static bool IsPrime(uint number)
    {
        foreach (ushort prime in s_odd)
        {
            if ((uint)prime * prime > number)
            {
                break;
            }

            if (number % prime == 0)
            {
                return false;
            }
        }

        return number > 2 && (number & 1) != 0;
    }

    private static ushort[] Find()
    {
        var isComposite = new bool[65536];
        var primes = new System.Collections.Generic.List<ushort>(6541);
        for (int number = 3; number < isComposite.Length; number += 2)
        {
            if (isComposite[number])
            {
                continue;
            }

            primes.Add((ushort)number);
            for (long multiple = (long)number * number; multiple < isComposite.Length; multiple += 2 * number)
            {
                isComposite[multiple] = true;
            }
        }

        return [.. primes];
    }
}
