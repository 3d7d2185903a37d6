// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using Xunit;

namespace Svsm.Hypervisor.Tests;

/// <summary>Registers, priorities and timer of the virtual x2APIC.</summary>
public sealed class LocalApicTests
{
    private const uint Timer = 0x832;
    private const uint InitialCount = 0x838;
    private const uint CurrentCount = 0x839;
    private const uint Divide = 0x83E;
    private const uint DivideByOne = 0xB;

    // Two ticks per nanosecond.
    private static readonly GuestClock s_clock = new(2, 1);

    [Fact]
    public void Request_Off_IsLost()
    {
        var apic = new LocalApic(0);
        apic.Request(0x41);
        Assert.False(apic.HasRequests);
        Assert.Equal(-1, apic.Pending);
    }

    [Theory]
    [InlineData(16)]
    [InlineData(63)]
    [InlineData(64)]
    [InlineData(127)]
    [InlineData(128)]
    [InlineData(191)]
    [InlineData(192)]
    [InlineData(255)]
    public void Request_AnyVector_GoesFromRequestedToInServiceToDone(int vector)
    {
        LocalApic apic = Make();
        apic.Request(vector, level: true);
        Assert.Equal(vector, apic.Pending);
        Assert.Equal(1ul << (vector % 32), Read(apic, 0x820 + (uint)(vector / 32)));
        Assert.Equal(1ul << (vector % 32), Read(apic, 0x818 + (uint)(vector / 32)));
        apic.Accept(vector);
        Assert.False(apic.HasRequests);
        Assert.Equal(0ul, Read(apic, 0x820 + (uint)(vector / 32)));
        Assert.Equal(1ul << (vector % 32), Read(apic, 0x810 + (uint)(vector / 32)));
        Assert.Equal((ulong)vector & 0xF0, Read(apic, 0x80A));
        Assert.Equal(vector, apic.EndInterrupt());
        Assert.Equal(-1, apic.EndInterrupt());
        Assert.Equal(0ul, Read(apic, 0x80A));
    }

    [Fact]
    public void Pending_SeveralRequests_HigherClassInterruptsLower()
    {
        LocalApic apic = Make();
        apic.Request(0x51);
        apic.Request(0x62);
        Assert.Equal(0x62, apic.Pending);
        apic.Accept(0x62);
        apic.Request(0x6F);
        Assert.Equal(-1, apic.Pending);
        apic.Request(0x70);
        Assert.Equal(0x70, apic.Pending);
        apic.Accept(0x70);
        Assert.Equal(-1, apic.EndInterrupt());
        Assert.Equal(-1, apic.Pending);
        Assert.Equal(-1, apic.EndInterrupt());
        Assert.Equal(0x6F, apic.Pending);
    }

    [Theory]
    [InlineData(0x50, -1)]
    [InlineData(0x5F, -1)]
    [InlineData(0x4F, 0x51)]
    public void Pending_TaskPriority_HoldsItsClassBack(byte priority, int expected)
    {
        LocalApic apic = Make();
        Assert.True(Write(apic, 0x808, priority));
        apic.Request(0x51);
        Assert.Equal(expected, apic.Pending);
    }

    [Fact]
    public void Request_VectorOfAnException_IsAnError()
    {
        LocalApic apic = Make();
        apic.Request(15);
        Assert.False(apic.HasRequests);
        Assert.Equal(0ul, Read(apic, 0x828));
        Assert.True(Write(apic, 0x828, 0));
        Assert.Equal(0x40ul, Read(apic, 0x828));
    }

    [Theory]
    [InlineData(0u, 0x1u)]
    [InlineData(15u, 0x8000u)]
    [InlineData(16u, 0x1_0001u)]
    [InlineData(63u, 0x3_8000u)]
    public void LogicalId_FollowsTheId(uint id, uint logical)
    {
        var apic = new LocalApic(id);
        Assert.Equal(id, (uint)Read(apic, 0x802));
        Assert.Equal(logical, (uint)Read(apic, 0x80D));
        Assert.True(Destinations.Matches(id, logical, logical: true));
        Assert.True(Destinations.Matches(id, id, logical: false));
        Assert.True(Destinations.Matches(id, uint.MaxValue, logical: false));
        Assert.False(Destinations.Matches(id, id + 1, logical: false));
        Assert.False(Destinations.Matches(id, logical ^ 0x10_0000, logical: true));
    }

    [Fact]
    public void Timer_OneShot_CountsDownOnceAndInterrupts()
    {
        LocalApic apic = Make();
        Assert.True(Write(apic, Divide, 0x3));
        Assert.True(Write(apic, Timer, 0x44));
        Assert.True(Write(apic, InitialCount, 100, now: 1000));

        // Divided by 16: 1600 ns, 3200 ticks.
        Assert.Equal(4200ul, apic.Deadline);
        Assert.True(apic.TimerArmed);
        Assert.Equal(50ul, Read(apic, CurrentCount, now: 2600));
        Assert.False(apic.Expire(s_clock, 4199));
        Assert.True(apic.Expire(s_clock, 4200));
        Assert.Equal(0x44, apic.Pending);
        Assert.Equal(ulong.MaxValue, apic.Deadline);
        Assert.Equal(0ul, Read(apic, CurrentCount, now: 4300));
    }

    [Theory]
    [InlineData(1200ul, 1400ul)]
    [InlineData(1399ul, 1400ul)]
    [InlineData(1400ul, 1600ul)]
    [InlineData(9999ul, 10000ul)]
    public void Timer_Periodic_GoesOnWithoutBacklog(ulong now, ulong next)
    {
        LocalApic apic = Make();
        Write(apic, Divide, DivideByOne);
        Write(apic, Timer, (1 << 17) | 0x44);
        Write(apic, InitialCount, 100, now: 1000);
        Assert.True(apic.Expire(s_clock, now));
        Assert.Equal(next, apic.Deadline);
        Assert.Equal(0x44, apic.Pending);
    }

    [Fact]
    public void Timer_Deadline_IsTime()
    {
        LocalApic apic = Make();
        Write(apic, LocalApic.DeadlineMsr, 500);
        Assert.Equal(ulong.MaxValue, apic.Deadline);
        Write(apic, Timer, (2 << 17) | 0x44);
        Write(apic, LocalApic.DeadlineMsr, 500);
        Assert.Equal(500ul, Read(apic, LocalApic.DeadlineMsr));
        Assert.Equal(0ul, Read(apic, CurrentCount));
        Write(apic, InitialCount, 100);
        Assert.Equal(500ul, apic.Deadline);
        Assert.True(apic.Expire(s_clock, 500));
        Assert.Equal(0ul, Read(apic, LocalApic.DeadlineMsr));
        Write(apic, LocalApic.DeadlineMsr, 500);
        Write(apic, LocalApic.DeadlineMsr, 0);
        Assert.Equal(ulong.MaxValue, apic.Deadline);
    }

    [Fact]
    public void Timer_Masked_CountsAndDoesNotInterrupt()
    {
        LocalApic apic = Make();
        Write(apic, Divide, DivideByOne);
        Write(apic, Timer, 0x1_0044);
        Write(apic, InitialCount, 100, now: 1000);
        Assert.False(apic.TimerArmed);
        Assert.True(apic.Expire(s_clock, 2000));
        Assert.False(apic.HasRequests);
    }

    [Fact]
    public void Timer_ModeChanges_Disarms()
    {
        LocalApic apic = Make();
        Write(apic, Timer, 0x44);
        Write(apic, InitialCount, 100);
        Write(apic, Timer, 0x45);
        Assert.NotEqual(ulong.MaxValue, apic.Deadline);
        Write(apic, Timer, (2 << 17) | 0x45);
        Assert.Equal(ulong.MaxValue, apic.Deadline);
        Write(apic, Timer, 0x45);
        Write(apic, InitialCount, uint.MaxValue);
        Write(apic, InitialCount, 0);
        Assert.Equal(ulong.MaxValue, apic.Deadline);
    }

    [Theory]
    [InlineData(0x802u, 1ul)]
    [InlineData(0x803u, 1ul)]
    [InlineData(0x80Au, 1ul)]
    [InlineData(0x810u, 0ul)]
    [InlineData(0x839u, 0ul)]
    [InlineData(0x8F0u, 0ul)]
    [InlineData(0x808u, 0x100ul)]
    [InlineData(0x80Fu, 0x1_0000_01FFul)]
    [InlineData(0x832u, 0x8_0000ul)]
    [InlineData(0x828u, 1ul)]
    public void TryWrite_ReadOnlyOrReserved_IsRefused(uint msr, ulong value)
    {
        Assert.False(Write(Make(), msr, value));
    }

    [Theory]
    [InlineData(0x800u)]
    [InlineData(0x80Bu)]
    [InlineData(0x83Fu)]
    [InlineData(0x840u)]
    [InlineData(0x8FFu)]
    public void TryRead_WriteOnlyOrAbsent_IsRefused(uint msr)
    {
        Assert.False(Make().TryRead(msr, s_clock, 0, out _));
    }

    [Fact]
    public void SpuriousVector_Disabled_MasksTheLocalEntries()
    {
        LocalApic apic = Make();
        Write(apic, Timer, 0x44);
        Write(apic, 0x835, 0x700);
        Write(apic, 0x80F, 0xFF);
        Assert.Equal(0x1_0044ul, Read(apic, Timer));
        Assert.Equal(0x1_0700ul, Read(apic, 0x835));
    }

    [Theory]
    [InlineData(2ul, 1ul, 1000ul, 2000ul)]
    [InlineData(1ul, 1ul, 0ul, 0ul)]
    [InlineData(2_500_000ul, 1_000_000ul, 400ul, 1000ul)]
    [InlineData(1ul, 1ul, ulong.MaxValue, 1ul << 40)]
    public void Clock_ConvertsBothWays(ulong ticks, ulong nanoseconds, ulong duration, ulong expected)
    {
        var clock = new GuestClock(ticks, nanoseconds);
        Assert.Equal(expected, clock.ToTicks(duration));

        // Rounded down both ways.
        ulong longest = System.Math.Min(duration, 1ul << 40);
        Assert.InRange(clock.ToNanoseconds(expected), longest == 0 ? 0 : longest - 1, longest);
    }

    private static LocalApic Make()
    {
        var apic = new LocalApic(0);
        Assert.True(Write(apic, 0x80F, 0x1FF));
        return apic;
    }

    private static bool Write(LocalApic apic, uint msr, ulong value, ulong now = 0) => apic.TryWrite(msr, value, s_clock, now);

    private static ulong Read(LocalApic apic, uint msr, ulong now = 0)
    {
        Assert.True(apic.TryRead(msr, s_clock, now, out ulong value));
        return value;
    }
}
