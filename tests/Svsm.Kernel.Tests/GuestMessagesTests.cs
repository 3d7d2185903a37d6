// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Svsm.Kernel.Modules;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class GuestMessagesTests
{
    private const ulong Busy = 2ul << 32;
    private const ulong InvalidLength = 1ul << 32;

    private readonly TestProcess _process = new();

    private SimulatedProcessPlatform Platform => _process.Platform;

    [Fact]
    public void Send_Answered_TheNextNumberIsDue()
    {
        Assert.Equal((1ul, SecurityProcessorFlags.HasKey, 0u), State());
        Assert.Equal(GuestMessageResult.Answered, Send(Page(1)));
        Assert.Equal((3ul, SecurityProcessorFlags.HasKey, 0u), State());
        Assert.Equal(Page(1), Platform.Messages.Request.ToArray());
        Assert.Equal(Page(1).Select(part => (byte)~part), Platform.Messages.Response.ToArray());
        Assert.Equal(GuestMessageResult.Answered, Send(Page(3)));
        Assert.Equal(5ul, State().Sequence);
    }

    [Theory]
    [InlineData(0ul, 0)]
    [InlineData(2ul, 0)]
    [InlineData(3ul, 0)]
    [InlineData(ulong.MaxValue, 0)]
    [InlineData(1ul, 1)]
    [InlineData(1ul, 255)]
    public void Send_AnotherNumberOrKey_IsNotSent(ulong number, byte key)
    {
        byte[] page = Page(number);
        page[0x3C] = key;
        Assert.Equal(GuestMessageResult.NotSent, Send(page));
        Assert.Empty(Platform.Sent);
        Assert.Equal((1ul, SecurityProcessorFlags.HasKey, 0u), State());
    }

    [Fact]
    public void Send_Busy_TheSameBytesOnly()
    {
        Platform.Host = _ => Busy;
        Assert.Equal(GuestMessageResult.Busy, Send(Page(1)));
        Assert.Equal((1ul, SecurityProcessorFlags.HasKey | SecurityProcessorFlags.InFlight, 0u), State());
        Assert.True(Platform.Messages.Response.IndexOfAnyExcept((byte)0) < 0);
        for (int i = 0; i < 4096; i += 5)
        {
            byte[] other = Page(1);
            other[i] ^= 1;
            Assert.Equal(GuestMessageResult.NotSent, Send(other));
        }

        Assert.Equal(GuestMessageResult.NotSent, Send(Page(3)));
        Platform.Host = _ => 0;
        Assert.Equal(GuestMessageResult.Answered, Send(Page(1)));
        Assert.Equal((3ul, SecurityProcessorFlags.HasKey, 0u), State());
        Assert.Equal(2, Platform.Sent.Count);
    }

    // What was sent is the kernel's copy, whatever the module has in its memory by now.
    [Fact]
    public void Send_AfterAnotherProcess_TheRequestIsThere()
    {
        Platform.Host = _ => Busy;
        byte[] page = Page(1);
        Assert.Equal(GuestMessageResult.Busy, Send(page));
        page.AsSpan().Clear();
        Assert.Equal(Page(1), Platform.Messages.Request.ToArray());
    }

    [Theory]
    [InlineData(0x16ul)]
    [InlineData(3ul << 32)]
    [InlineData(InvalidLength)]
    [InlineData(Busy | 1)]
    [InlineData(null)]
    public void Send_HostRefuses_TheKeyIsGone(ulong? word)
    {
        Platform.Host = _ => word;
        Assert.Equal(GuestMessageResult.Refused, Send(Page(1)));
        Assert.Equal((1ul, SecurityProcessorFlags.None, 0u), State());
        Assert.True(((ReadOnlySpan<byte>)Platform.Key).IndexOfAnyExcept((byte)0) < 0);
        Assert.True(Platform.Messages.Response.IndexOfAnyExcept((byte)0) < 0);
        Platform.Host = _ => 0;
        Assert.Equal(GuestMessageResult.NoKey, Send(Page(1)));
        Assert.Single(Platform.Sent);
    }

    [Fact]
    public void Send_WithCertificates_TheyAreThere()
    {
        Assert.Equal(GuestMessageResult.Answered, Send(Page(1), wantsCertificates: true));
        Assert.Equal((3ul, SecurityProcessorFlags.HasKey, 0x4000u), State());
        Assert.Equal(Enumerable.Repeat((byte)0xCE, 0x4000), Platform.Messages.Certificates.ToArray());
        Assert.Equal(GuestMessageResult.Answered, Send(Page(3)));
        Assert.Equal(0u, State().Certificates);
        Assert.True(Platform.Messages.Certificates.IsEmpty);
    }

    // The host knows of no certificates, or has more than there is room for: the very request goes without.
    [Theory]
    [InlineData(InvalidLength)]
    [InlineData(3ul << 32)]
    [InlineData(null)]
    public void Send_HostHasNoCertificates_TheSameRequestGoesWithout(ulong? word)
    {
        Platform.Host = wantsCertificates => wantsCertificates ? word : 0;
        Assert.Equal(GuestMessageResult.Answered, Send(Page(1), wantsCertificates: true));
        Assert.Equal((3ul, SecurityProcessorFlags.HasKey, 0u), State());
        Assert.Equal([true, false], Platform.Sent.Select(sent => sent.WantsCertificates));
        Assert.Equal(Platform.Sent[0].Request, Platform.Sent[1].Request);
    }

    [Fact]
    public void Send_WithCertificatesAndBusy_IsNotTriedWithout()
    {
        Platform.Host = _ => Busy;
        Assert.Equal(GuestMessageResult.Busy, Send(Page(1), wantsCertificates: true));
        Assert.Single(Platform.Sent);
    }

    [Fact]
    public void Send_WithCertificatesAndRefused_TheKeyIsGone()
    {
        Platform.Host = _ => 0x16;
        Assert.Equal(GuestMessageResult.Refused, Send(Page(1), wantsCertificates: true));
        Assert.Single(Platform.Sent);
        Assert.Equal(SecurityProcessorFlags.None, State().Flags);
    }

    [Fact]
    public void Wipe_TheKeyIsGone()
    {
        Platform.Messages.Wipe();
        Assert.Equal(SecurityProcessorFlags.None, State().Flags);
        Assert.True(((ReadOnlySpan<byte>)Platform.Key).IndexOfAnyExcept((byte)0) < 0);
        Assert.Equal(GuestMessageResult.NoKey, Send(Page(1)));
    }

    // Whatever a module does and a host says, in any order: no number ever leaves with two contents.
    [Fact]
    public void Send_Anything_NoNumberHasTwoContents()
    {
        for (int seed = 0; seed < 200; seed++)
        {
            var random = new Random(seed);
            var process = new TestProcess();
            process.Platform.Host = _ => random.Next(40) switch { 0 => (ulong)random.Next(1, 30), 1 => null, < 12 => Busy, < 14 => InvalidLength, _ => 0 };
            for (int i = 0; i < 200; i++)
            {
                process.Platform.Messages.CopyState(out SecurityProcessorState state);
                byte[] page = random.Next(3) == 0 ? process.Platform.Messages.Request.ToArray() : Page(state.Sequence + (ulong)random.Next(-2, 3));
                page[random.Next(0x60, 4096)] = (byte)random.Next(3);
                process.Platform.Messages.Send(ref process.PlatformReference, page, random.Next(2) == 0);
            }

            Assert.All(process.Platform.Sent.GroupBy(sent => Number(sent.Request)), group => Assert.Single(group.Select(sent => Convert.ToHexString(sent.Request)).Distinct()));
            IEnumerable<ulong> numbers = process.Platform.Sent.Select(sent => Number(sent.Request));
            Assert.Equal(numbers.Order(), numbers);
        }
    }

    private static ulong Number(byte[] page) => BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan(0x20));

    private static byte[] Page(ulong number)
    {
        byte[] page = new byte[4096];
        for (int i = 0x60; i < 0x200; i++)
        {
            page[i] = (byte)(i * 7);
        }

        BinaryPrimitives.WriteUInt64LittleEndian(page.AsSpan(0x20), number);
        return page;
    }

    private GuestMessageResult Send(byte[] page, bool wantsCertificates = false) =>
        Platform.Messages.Send(ref _process.PlatformReference, page, wantsCertificates);

    private (ulong Sequence, SecurityProcessorFlags Flags, uint Certificates) State()
    {
        Platform.Messages.CopyState(out SecurityProcessorState state);
        bool hasKey = ((ReadOnlySpan<byte>)state.Key).IndexOfAnyExcept((byte)0) >= 0;
        Assert.Equal((state.Flags & SecurityProcessorFlags.HasKey) != 0, hasKey);
        return (state.Sequence, state.Flags, state.CertificateLength);
    }
}
