// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Svsm.Kernel.Processes;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class EntropyTests
{
    private sealed class Source : IRandomInstructions
    {
        private readonly Queue<ulong> _words;

        public Source(bool hasSeed, params ulong[] words)
        {
            HasSeed = hasSeed;
            _words = new Queue<ulong>(words);
        }

        public bool HasSeed { get; }

        /// <summary>Failures before each word.</summary>
        public int Failures { get; set; }

        public int Tries { get; private set; }

        public int Left => _words.Count;

        private int _failed;

        public bool TryReadSeed(out ulong value)
        {
            Assert.True(HasSeed, "RDSEED on a processor that has none");
            return TryRead(out value);
        }

        public bool TryReadRandom(out ulong value)
        {
            Assert.False(HasSeed, "RDRAND on a processor that has RDSEED");
            return TryRead(out value);
        }

        // A failed instruction leaves zero, as the processor does.
        private bool TryRead(out ulong value)
        {
            Tries++;
            value = 0;
            if (_failed++ < Failures)
            {
                return false;
            }

            _failed = 0;
            return _words.TryDequeue(out value);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(9)]
    [InlineData(16)]
    [InlineData(256)]
    public void TryFill_AnyLength_IsTheWordsBehindTheFirst(int length)
    {
        ulong[] words = [.. Enumerable.Range(0, 40).Select(i => 0x0123_4567_89AB_CDEF * (ulong)(i + 1))];
        foreach (bool hasSeed in (bool[])[true, false])
        {
            var source = new Source(hasSeed, words);
            byte[] bytes = new byte[length + 1];
            bytes[length] = 0xEE;
            Assert.True(Entropy.TryFill(ref source, bytes.AsSpan(0, length)));
            Assert.Equal([.. words[1..].SelectMany(BitConverter.GetBytes).Take(length), 0xEE], bytes);
        }
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(10, true)]
    [InlineData(Entropy.MaxTries - 1, true)]
    [InlineData(Entropy.MaxTries, false)]
    public void TryFill_Failures_AreTriedAgainWithinBounds(int failures, bool expected)
    {
        var source = new Source(true, 1, 2, 3) { Failures = failures };
        byte[] bytes = [0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE];
        Assert.Equal(expected, Entropy.TryFill(ref source, bytes));
        Assert.Equal(expected ? (failures + 1) * 3 : Entropy.MaxTries, source.Tries);
        Assert.Equal(expected ? [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0] : new byte[16], bytes);
    }

    // The same word twice: nothing of what was drawn before is left.
    [Theory]
    [InlineData(1, 1, 2, 3)]
    [InlineData(1, 2, 2, 3)]
    [InlineData(1, 2, 3, 3)]
    [InlineData(0, 0, 1, 2)]
    [InlineData(ulong.MaxValue, ulong.MaxValue, ulong.MaxValue, ulong.MaxValue)]
    public void TryFill_Repetition_IsRefused(ulong first, ulong second, ulong third, ulong fourth)
    {
        var source = new Source(false, first, second, third, fourth);
        byte[] bytes = new byte[24];
        bytes.AsSpan().Fill(0xEE);
        Assert.False(Entropy.TryFill(ref source, bytes));
        Assert.Equal(new byte[24], bytes);
    }

    // Words that come back later are what chance does.
    [Fact]
    public void TryFill_SameWordLater_IsNoRepetition()
    {
        var source = new Source(false, 1, 2, 1, 2);
        Assert.True(Entropy.TryFill(ref source, new byte[24]));
    }

    [Fact]
    public void TryFill_EndsInTheMiddle_IsZero()
    {
        var source = new Source(true, 1, 2, 3);
        byte[] bytes = new byte[32];
        bytes.AsSpan().Fill(0xEE);
        Assert.False(Entropy.TryFill(ref source, bytes));
        Assert.Equal(new byte[32], bytes);
        Assert.Equal(0, source.Left);
    }
}
