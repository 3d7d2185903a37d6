// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Security.Cryptography;
using Xunit;

namespace Svsm.Modules.Vtpm.Tests;

public sealed class CountdownTimerTests
{
    private const uint Timer = 0x4000_0110;

    [Fact]
    public void Timer_Set_RunsOutInTimeAndIsSignaled()
    {
        var tpm = new TestTpm();
        Assert.Equal((0u, 0u), Read(tpm));
        Set(tpm, 3);
        tpm.Milliseconds += 2999;
        Assert.Equal((1u, 0u), Read(tpm));
        Assert.False(tpm.Engine.CheckCountdown());
        tpm.Milliseconds++;
        Assert.True(tpm.Engine.CheckCountdown());
        Assert.Equal((0u, 1u), Read(tpm));
        tpm.Milliseconds += 100_000;
        Assert.Equal((0u, 1u), Read(tpm));

        // Set anew; set to run out at once.
        Set(tpm, 5);
        Assert.Equal((5u, 0u), Read(tpm));
        Assert.False(tpm.Engine.CheckCountdown());
        Set(tpm, 0);
        Assert.Equal((0u, 1u), Read(tpm));
    }

    [Fact]
    public void Timer_Stopped_OnlyWhenSignaled()
    {
        var tpm = new TestTpm();
        Assert.Equal(0x1C4u, tpm.Try(0x198, [Timer], TestTpm.U32(uint.MaxValue), TestTpm.PasswordSession()));
        Set(tpm, 1);
        tpm.Milliseconds += 1000;
        Set(tpm, uint.MaxValue);
        Assert.Equal((0u, 0u), Read(tpm));
    }

    [Fact]
    public void Timer_OtherHandleOrAuthorization_IsRefused()
    {
        var tpm = new TestTpm();
        Assert.Equal(0x184u, tpm.Try(0x198, [Timer + 1], TestTpm.U32(1), TestTpm.PasswordSession()));
        Assert.Equal(0x9A2u, tpm.Try(0x198, [Timer], TestTpm.U32(1), TestTpm.PasswordSession(1)));
        tpm.Do(0x129, [TestTpm.Platform], TestTpm.Sized(7), TestTpm.PasswordSession());
        Assert.Equal(0x9A2u, tpm.Try(0x198, [Timer], TestTpm.U32(1), TestTpm.PasswordSession()));
        tpm.Do(0x198, [Timer], TestTpm.U32(1), TestTpm.PasswordSession(7));
    }

    [Fact]
    public void Timer_Policy_AuthorizesIt()
    {
        var tpm = new TestTpm();
        uint session = Start(tpm);
        byte[] digest = SHA256.HashData([.. new byte[32], .. TestTpm.U32(0x16C), .. TestTpm.U32(0x198)]);
        tpm.Do(0x12E, [Timer], [.. TestTpm.Sized(digest), 0, 0x0B], TestTpm.PasswordSession());
        tpm.Do(0x16C, [session], TestTpm.U32(0x198));
        tpm.Do(0x198, [Timer], TestTpm.U32(9), [.. TestTpm.U32(session), 0, 0, 1, 0, 0]);
        Assert.Equal((9u, 0u), Read(tpm));

        // TPM_CAP_AUTH_POLICIES has it; another startup ends it.
        byte[] policies = tpm.Do(0x17A, [], [.. TestTpm.U32(9), .. TestTpm.U32(Timer), .. TestTpm.U32(1)]);
        Assert.Equal([.. TestTpm.U32(1), .. TestTpm.U32(Timer), 0, 0x0B, .. digest], policies[5..]);
        Restart(tpm, shutdown: 1, startup: 0);
        policies = tpm.Do(0x17A, [], [.. TestTpm.U32(9), .. TestTpm.U32(Timer), .. TestTpm.U32(1)]);
        Assert.Equal([.. TestTpm.U32(1), .. TestTpm.U32(Timer), 0, 0x10], policies[5..]);
    }

    [Fact]
    public void Timer_AcrossStartups_GoesOnAfterResumeOnly()
    {
        var tpm = new TestTpm();
        Set(tpm, 100);
        Restart(tpm, shutdown: 1, startup: 1);
        Assert.Equal((100u, 0u), Read(tpm));

        // Not set since: half of it; a shutdown that is taken back leaves it as it is.
        tpm.Do(0x145, [], TestTpm.U16(1));
        Assert.Equal((100u, 0u), Read(tpm));
        Restart(tpm, shutdown: 1, startup: 1);
        Assert.Equal((50u, 0u), Read(tpm));
        tpm.Milliseconds += 50_000;
        Assert.Equal((0u, 1u), Read(tpm));

        // The signal goes on too, and is known to be from before.
        Restart(tpm, shutdown: 1, startup: 1);
        Assert.Equal((0u, 3u), Read(tpm));
        Set(tpm, 10);
        Assert.Equal((10u, 0u), Read(tpm));
        Restart(tpm, shutdown: 1, startup: 0);
        Assert.Equal((0u, 0u), Read(tpm));
        Set(tpm, 10);
        Restart(tpm, shutdown: 0, startup: 0);
        Assert.Equal((0u, 0u), Read(tpm));
    }

    [Theory]
    [InlineData(Timer - 1, 0x2C4u)]
    [InlineData(Timer + 0x10, 0x2C4u)]
    [InlineData(Timer + 0xF, 0u)]
    public void Capability_Property_HasToBeATimer(uint property, uint code)
        => Assert.Equal(code, new TestTpm().Try(0x17A, [], [.. TestTpm.U32(10), .. TestTpm.U32(property), .. TestTpm.U32(1)]));

    private static void Set(TestTpm tpm, uint seconds) => tpm.Do(0x198, [Timer], TestTpm.U32(seconds), TestTpm.PasswordSession());

    private static (uint Seconds, uint Attributes) Read(TestTpm tpm)
    {
        byte[] answer = tpm.Do(0x17A, [], [.. TestTpm.U32(10), .. TestTpm.U32(Timer), .. TestTpm.U32(1)]);
        Assert.Equal([0, .. TestTpm.U32(10), .. TestTpm.U32(1), .. TestTpm.U32(Timer)], answer[..13]);
        return (BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(13)), BinaryPrimitives.ReadUInt32BigEndian(answer.AsSpan(17)));
    }

    private static uint Start(TestTpm tpm)
        => BinaryPrimitives.ReadUInt32BigEndian(tpm.Do(0x176, [TestTpm.Null, TestTpm.Null], [.. TestTpm.Sized(new byte[16]), 0, 0, 1, 0, 0x10, 0, 0x0B]));

    private static void Restart(TestTpm tpm, int shutdown, int startup)
    {
        tpm.Do(0x145, [], TestTpm.U16(shutdown));
        tpm.PowerCycle();
        tpm.Startup(startup);
    }
}
