// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Numerics;
using System.Runtime.Intrinsics.X86;
using Svsm.Modules.Vtpm.Crypto;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

// Against other arithmetic, System.Numerics.BigInteger: random numbers, and those at the ends of every range.
public sealed class ModulusTests
{
    private static readonly ulong[] s_p256 = [ulong.MaxValue, 0xFFFF_FFFF, 0, 0xFFFF_FFFF_0000_0001];

    public static TheoryData<int, bool> Lengths => new()
    {
        { 1, true }, { 2, true }, { 4, true }, { 6, true }, { 9, true }, { 16, true }, { 16, false }, { 24, true }, { 24, false }, { 32, true }, { 32, false }, { 48, true }, { 64, true },
    };

    [Theory]
    [MemberData(nameof(Lengths))]
    public void Arithmetic_AnyNumbers_IsThatOfBigInteger(int limbs, bool isLong)
    {
        var random = new Random(limbs);
        foreach (ulong[] value in (ulong[][])[Ones(limbs), Power(limbs, 3), Power(limbs, 1, 1UL << 63), Odd(random, limbs), Odd(random, limbs), .. limbs == 4 ? [s_p256] : Array.Empty<ulong[]>()])
        {
            var modulus = new Modulus(value, isLong);
            BigInteger n = Number(value);
            ulong[] less = (ulong[])value.Clone();
            less[0]--;
            foreach ((ulong[] a, ulong[] b) in ((ulong[], ulong[])[])
                [(new ulong[limbs], Ones(limbs)), (Ones(limbs), Ones(limbs)), (less, less), (Power(limbs, 1), less), (Any(random, limbs), Any(random, limbs)), (Any(random, limbs), Any(random, limbs))])
            {
                Check(modulus, n, a, b, random);
            }
        }
    }

    // What ProcessorTests relies on.
    [Fact]
    public void Instructions_SwitchedOff_AreNotUsed()
    {
        Assert.False((IsOff("AVX2") || IsOff("AVX")) && Avx2.IsSupported);
        Assert.False(IsOff("AES") && AesBlocks.IsSupported);

        static bool IsOff(string name) => Environment.GetEnvironmentVariable("DOTNET_Enable" + name) == "0";
    }

    private static void Check(Modulus modulus, BigInteger n, ulong[] a, ulong[] b, Random random)
    {
        int limbs = modulus.Limbs;
        var x = new ulong[limbs];
        var y = new ulong[limbs];
        var z = new ulong[limbs];
        modulus.Enter(a, x);
        modulus.Enter(b, y);
        modulus.Multiply(x, y, z);
        Assert.Equal(Number(a) * Number(b) % n, Left(z));
        modulus.Square(x, z);
        Assert.Equal(BigInteger.Pow(Number(a), 2) % n, Left(z));
        modulus.Add(x, y, z);
        Assert.Equal((Number(a) + Number(b)) % n, Left(z));
        modulus.Subtract(x, y, z);
        Assert.Equal(((Number(a) - Number(b)) % n + n) % n, Left(z));
        ulong[] wide = Any(random, (2 * limbs) + 1);
        modulus.EnterWide(wide, z);
        Assert.Equal(Number(wide) % n, Left(z));
        ulong[] exponent = Any(random, 1);
        modulus.Power(x, exponent, z);
        Assert.Equal(BigInteger.ModPow(Number(a), exponent[0], n), Left(z));
        modulus.PowerPublic(x, 65537, z);
        Assert.Equal(BigInteger.ModPow(Number(a), 65537, n), Left(z));

        // Result and operand in one place.
        modulus.Multiply(x, y, y);
        Assert.Equal(Number(a) * Number(b) % n, Left(y));
        modulus.Square(x, x);
        Assert.Equal(BigInteger.Pow(Number(a), 2) % n, Left(x));

        BigInteger Left(ulong[] number)
        {
            Assert.True(Number(number) < n);
            var left = new ulong[limbs];
            modulus.Leave(number, left);
            return Number(left);
        }
    }

    private static ulong[] Ones(int limbs)
    {
        var ones = new ulong[limbs];
        ones.AsSpan().Fill(ulong.MaxValue);
        return ones;
    }

    // low + high * 2^(64 * (limbs - 1)).
    private static ulong[] Power(int limbs, ulong low, ulong high = 1)
    {
        var power = new ulong[limbs];
        power[^1] = high;
        power[0] |= low;
        return limbs == 1 ? [low | 1] : power;
    }

    private static ulong[] Odd(Random random, int limbs)
    {
        ulong[] odd = Any(random, limbs);
        odd[0] |= 3;
        odd[^1] |= 1UL << 63;
        return odd;
    }

    private static ulong[] Any(Random random, int limbs)
    {
        var number = new ulong[limbs];
        random.NextBytes(System.Runtime.InteropServices.MemoryMarshal.AsBytes(number.AsSpan()));
        return number;
    }

    private static BigInteger Number(ReadOnlySpan<ulong> limbs) => new(System.Runtime.InteropServices.MemoryMarshal.AsBytes(limbs), isUnsigned: true);
}
