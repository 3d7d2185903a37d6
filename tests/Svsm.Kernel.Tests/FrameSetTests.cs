// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System.Collections.Generic;
using CsCheck;
using Svsm.Kernel.Memory;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class FrameSetTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(63)]
    [InlineData(64)]
    [InlineData(65)]
    [InlineData(130)]
    public void TryTake_UntilEmpty_GivesEachFrameOnce(int count)
    {
        int hint = 0;
        FrameSet set = new(new ulong[3], count, ref hint);
        var taken = new HashSet<int>();
        for (int i = 0; i < count; i++)
        {
            Assert.True(set.TryTake(out int frame));
            Assert.InRange(frame, 0, count - 1);
            Assert.True(taken.Add(frame));
        }

        Assert.False(set.TryTake(out _));
    }

    [Fact]
    public void TryReturn_FrameThatIsNotTaken_IsFalse()
    {
        int hint = 0;
        FrameSet set = new(new ulong[1], 10, ref hint);
        Assert.False(set.TryReturn(0));
        Assert.False(set.TryReturn(10));
        Assert.False(set.TryReturn(-1));
        Assert.True(set.TryTake(out int frame));
        Assert.True(set.TryReturn(frame));
        Assert.False(set.TryReturn(frame));
    }

    [Fact]
    public void TryTake_AfterReturn_FindsTheFrameAgain()
    {
        int hint = 0;
        FrameSet set = new(new ulong[2], 128, ref hint);
        for (int i = 0; i < 128; i++)
        {
            Assert.True(set.TryTake(out _));
        }

        Assert.True(set.TryReturn(3));
        Assert.True(set.TryTake(out int frame));
        Assert.Equal(3, frame);
    }

    [Fact]
    public void TakeAndReturn_InAnyOrder_MatchASet() =>
        Gen.Int[-1, 70].Array[0, 200].Sample(steps =>
        {
            int hint = 0;
            ulong[] words = new ulong[2];
            var taken = new HashSet<int>();
            foreach (int step in steps)
            {
                FrameSet set = new(words, 70, ref hint);
                if (step < 0)
                {
                    bool any = set.TryTake(out int frame);
                    Assert.Equal(taken.Count < 70, any);
                    Assert.True(!any || taken.Add(frame));
                }
                else
                {
                    Assert.Equal(taken.Remove(step), set.TryReturn(step));
                }
            }
        });
}
