// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Svsm.Kernel.Snp;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class GhcbExchangeTests
{
    private readonly StrongBox<GhcbPage> _page = new();
    private Host _host;

    public GhcbExchangeTests() => _host = new Host(_page);

    [Fact]
    public void TryExchange_Request_MarksWhatItSends()
    {
        byte[] seen = [];
        _host.Answer = page =>
        {
            seen = Bytes(ref page.Value).ToArray();
            page.Value.SwExitInfo1 = 0;
        };
        Assert.True(Exchange(new GhcbRequest { ExitCode = GhcbExitCode.Ioio, Info1 = 0x3F8_0010, Info2 = 7, Sent = GhcbRegisters.Rax, Rax = 0x41, Rcx = 99 }, out _));
        ref GhcbPage page = ref MemoryMarshal.AsRef<GhcbPage>(seen.AsSpan());
        Assert.Equal((0x7Bul, 0x3F8_0010ul, 7ul, 0x41ul, 0ul), (page.SwExitCode, page.SwExitInfo1, page.SwExitInfo2, page.Rax, page.Rcx));
        Assert.Equal(((ushort)2, 0u), (page.ProtocolVersion, page.Usage));

        // Bit = offset / 8: RAX 0x1F8, exit code and infos 0x390 to 0x3A0.
        byte[] bitmap = seen.AsSpan(0x3F0, 16).ToArray();
        Assert.Equal([0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0x1C, 0], bitmap);
    }

    [Fact]
    public void TryExchange_AllRegisters_AreMarked()
    {
        byte[] seen = [];
        _host.Answer = page =>
        {
            seen = Bytes(ref page.Value).ToArray();
            page.Value.SwExitInfo1 = 0;
        };
        Exchange(new GhcbRequest { ExitCode = GhcbExitCode.Msr, Sent = GhcbRegisters.Rax | GhcbRegisters.Rcx | GhcbRegisters.Rdx, Rax = 1, Rcx = 2, Rdx = 3 }, out _);
        Assert.Equal([0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0x06, 0, 0x1C, 0], seen.AsSpan(0x3F0, 16).ToArray());
    }

    [Fact]
    public void TryExchange_Answer_IsCopied()
    {
        _host.Answer = page => Reply(page, 0, 0x55, GhcbRegisters.Rax | GhcbRegisters.Rdx, 0x1234, 0x5678);
        Assert.True(Exchange(new GhcbRequest { Wanted = GhcbRegisters.Rax | GhcbRegisters.Rdx }, out GhcbAnswer answer));
        Assert.Equal((0x55ul, 0x1234ul, 0x5678ul), (answer.Info2, answer.Rax, answer.Rdx));
    }

    [Theory]
    [InlineData(1ul)]
    [InlineData(2ul)]
    [InlineData(3ul)]
    [InlineData(0xFFFF_FFFFul)]
    public void TryExchange_Refusal_IsFalse(ulong info1)
    {
        _host.Answer = page => Reply(page, info1, 0, GhcbRegisters.Rax, 1, 0);
        Assert.False(Exchange(new GhcbRequest { Wanted = GhcbRegisters.Rax }, out GhcbAnswer answer));
        Assert.Equal(0ul, answer.Rax);
    }

    [Fact]
    public void TryExchange_UpperHalfOfInfo1_IsNotTheCompletion()
    {
        _host.Answer = page => Reply(page, 0x1_0000_0000, 0, GhcbRegisters.None, 0, 0);
        Assert.True(Exchange(default, out _));
    }

    [Theory]
    [InlineData(GhcbRegisters.None)]
    [InlineData(GhcbRegisters.Rax)]
    [InlineData(GhcbRegisters.Rdx)]
    public void TryExchange_WantedRegisterNotMarked_IsFalse(object marked)
    {
        _host.Answer = page => Reply(page, 0, 0, (GhcbRegisters)marked, 1, 2);
        Assert.False(Exchange(new GhcbRequest { Wanted = GhcbRegisters.Rax | GhcbRegisters.Rdx }, out GhcbAnswer answer));
        Assert.Equal(0ul, answer.Rax);
    }

    [Fact]
    public void TryExchange_StaleMarks_AreNotAnAnswer()
    {
        // A host that leaves the page as it was: marks of an earlier answer must not count for this one.
        _host.Answer = page => Reply(page, 0, 0, GhcbRegisters.Rax, 1, 0);
        Assert.True(Exchange(new GhcbRequest { Wanted = GhcbRegisters.Rax }, out _));
        _host.Answer = page => page.Value.SwExitInfo1 = 0;
        Assert.False(Exchange(new GhcbRequest { Wanted = GhcbRegisters.Rax }, out _));
    }

    [Fact]
    public void TryExchange_HostFillsThePageWithOnes_IsFalse()
    {
        _host.Answer = page => Bytes(ref page.Value).Fill(0xFF);
        Assert.False(Exchange(new GhcbRequest { Wanted = GhcbRegisters.Rax }, out _));
    }

    private bool Exchange(GhcbRequest request, out GhcbAnswer answer) => GhcbExchange.TryExchange(ref _page.Value, ref _host, in request, out answer);

    private static Span<byte> Bytes(ref GhcbPage page) => MemoryMarshal.AsBytes(new Span<GhcbPage>(ref page));

    private static void Reply(StrongBox<GhcbPage> page, ulong info1, ulong info2, GhcbRegisters marked, ulong rax, ulong rdx)
    {
        page.Value.SwExitInfo1 = info1;
        page.Value.SwExitInfo2 = info2;
        page.Value.Rax = rax;
        page.Value.Rdx = rdx;
        Span<byte> bitmap = Bytes(ref page.Value).Slice(0x3F0, 16);
        bitmap.Clear();
        bitmap[7] = marked.HasFlag(GhcbRegisters.Rax) ? (byte)0x80 : (byte)0;
        bitmap[12] = marked.HasFlag(GhcbRegisters.Rdx) ? (byte)0x04 : (byte)0;
    }

    private sealed class Host(StrongBox<GhcbPage> page) : IGhcbPort
    {
        public Action<StrongBox<GhcbPage>> Answer { get; set; } = static answered => answered.Value.SwExitInfo1 = 0;

        public void Exit() => Answer(page);
    }
}
