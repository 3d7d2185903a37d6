// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Xunit;

namespace Svsm.Measurement.Tests;

public sealed class LaunchDigestTests
{
    private const string Text = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f";

    [Fact]
    public void Parse_TextOfToString_GivesTheSameDigest()
    {
        byte[] bytes = [.. Enumerable.Range(0, 48).Select(i => (byte)i)];
        var digest = new LaunchDigest(bytes);

        Assert.Equal(Text, digest.ToString());
        Assert.Equal(digest, LaunchDigest.Parse(Text));
        Assert.Equal(digest, LaunchDigest.Parse(Text.ToUpperInvariant()));
        Assert.Equal(bytes, digest.ToArray());
    }

    [Theory]
    [InlineData("")]
    [InlineData("00")]
    [InlineData("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2")]
    [InlineData("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f0")]
    [InlineData("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2g")]
    [InlineData(" 00102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f")]
    public void TryParse_OtherText_Fails(string text)
    {
        Assert.False(LaunchDigest.TryParse(text, out LaunchDigest digest));
        Assert.Equal(default, digest);
        Assert.Throws<FormatException>(() => LaunchDigest.Parse(text));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(47)]
    [InlineData(49)]
    public void Constructor_OtherLength_Throws(int length) => Assert.Throws<ArgumentException>(() => new LaunchDigest(new byte[length]));

    [Fact]
    public void Equals_DigestsThatDifferInOneByte_AreDifferent()
    {
        LaunchDigest digest = LaunchDigest.Parse(Text);
        byte[] bytes = digest.ToArray();
        for (int i = 0; i < bytes.Length; i++)
        {
            byte[] other = (byte[])bytes.Clone();
            other[i] ^= 0x80;

            Assert.True(new LaunchDigest(other) != digest);
            Assert.False(digest.Equals((object)new LaunchDigest(other)));
        }

        Assert.True(new LaunchDigest(bytes) == digest);
        Assert.Equal(digest.GetHashCode(), new LaunchDigest(bytes).GetHashCode());
        Assert.False(digest.Equals("digest"));
    }

    [Fact]
    public void CopyTo_ShortDestination_Throws() => Assert.Throws<ArgumentException>(() => LaunchDigest.Parse(Text).CopyTo(new byte[47]));
}
