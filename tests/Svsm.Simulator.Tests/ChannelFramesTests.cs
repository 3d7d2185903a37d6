// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class ChannelFramesTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(100_000)]
    public void TryPush_InPieces_GivesWholeFrames(int piece)
    {
        byte[][] sent = [ChannelFrames.Make(1, RandomNumberGenerator.GetBytes(20)), ChannelFrames.Make(3, []), ChannelFrames.Make(4, new byte[ChannelFrames.MaxContents])];
        byte[] all = [.. sent.SelectMany(frame => frame)];
        var frames = new ChannelFrames();
        var got = new List<byte[]>();
        for (int at = 0; at < all.Length; at += piece)
        {
            Assert.True(frames.TryPush(all.AsSpan(at, Math.Min(piece, all.Length - at)), got));
        }

        Assert.Equal(sent, got);
    }

    // Rows: the eight bytes of the header.
    [Theory]
    [InlineData("0110010001000000")]
    [InlineData("ffffffff01000000")]
    [InlineData("0000000000000000")]
    [InlineData("0000000005000000")]
    [InlineData("0000000001010000")]
    [InlineData("0000000001000001")]
    public void TryPush_BrokenHeader_IsRefusedAndTheNextBytesBeginAnew(string header)
    {
        var frames = new ChannelFrames();
        var got = new List<byte[]>();
        Assert.False(frames.TryPush([.. ChannelFrames.Make(1, [1, 2]), .. Convert.FromHexString(header), 1, 2, 3], got));
        Assert.Single(got);
        Assert.True(frames.TryPush(ChannelFrames.Make(2, [9]), got));
        Assert.Equal([0x01, 0, 0, 0, 0x02, 0, 0, 0, 9], got[1]);
    }

    [Fact]
    public void Clear_ForgetsWhatIsIncomplete()
    {
        var frames = new ChannelFrames();
        var got = new List<byte[]>();
        Assert.True(frames.TryPush([5, 0, 0], got));
        frames.Clear();
        Assert.True(frames.TryPush(ChannelFrames.Make(3, [1]), got));
        Assert.Equal((byte)3, ChannelFrames.KindOf(Assert.Single(got)));
    }
}
