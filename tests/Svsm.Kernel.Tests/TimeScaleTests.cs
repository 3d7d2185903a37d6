// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Numerics;
using Svsm.Kernel.Snp;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class TimeScaleTests
{
    [Theory]
    [InlineData(900_000_000ul)]
    [InlineData(1_000_000_000ul)]
    [InlineData(2_445_000_000ul)]
    [InlineData(6_000_000_000ul)]
    public void ToNanoseconds_IsTheTimeToATenMillionth(ulong frequency)
    {
        TimeScale scale = TimeScale.OfFrequency(frequency);
        var random = new Random(1);
        for (int i = 0; i < 10_000; i++)
        {
            // Up to 36 years of the fastest one.
            ulong counts = (ulong)random.NextInt64() >> random.Next(1, 63);
            BigInteger exact = new BigInteger(counts) * 1_000_000_000 / frequency;
            BigInteger error = BigInteger.Abs(exact - scale.ToNanoseconds(counts));
            Assert.True(error <= 2 + (exact / 10_000_000), $"{counts}: {exact}, off by {error}");
            Assert.True(scale.ToNanoseconds(counts) <= scale.ToNanoseconds(counts + 1));
        }
    }
}
