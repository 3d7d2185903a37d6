// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The channel of the SVSM against drivers of this test, and a socket whose other end the test is. Queue q has descriptors at 0x1000 (q + 1), its available ring
// 0x400 behind them and its used ring 0x800; data are at 0x5000 and 0x6000.

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading.Tasks;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class VirtioConsoleTests : IDisposable
{
    private const ushort Next = 1;
    private const ushort Writable = 2;
    private const int Receive = 0;
    private const int Transmit = 1;
    private const int Sent = 0x5000;
    private const int Taken = 0x6000;

    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");
    private readonly DeviceMemory _memory = new();
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly VirtioConsole _console;
    private readonly VirtioMmioTransport _transport;
    private readonly Socket _peer;
    private readonly ushort[] _offered = new ushort[2];

    public VirtioConsoleTests()
    {
        string path = Path.Combine(_folder.FullName, "channel");
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen();
        _console = new VirtioConsole(path);
        _console.Open();
        _peer = _listener.Accept();
        _transport = new VirtioMmioTransport(_console, _memory);
    }

    public void Dispose()
    {
        _console.Dispose();
        _peer.Dispose();
        _listener.Dispose();
        _folder.Delete(recursive: true);
    }

    [Fact]
    public async Task Device_IsAConsoleWithTwoQueues()
    {
        Assert.Equal((0x7472_6976ul, 2ul, 3ul), (_transport.Read(0, 4), _transport.Read(4, 4), _transport.Read(8, 4)));
        Assert.Equal(0ul, _transport.Read(0x10, 4));
        foreach ((ulong queue, ulong most) in ((ulong, ulong)[])[(0, 64), (1, 64), (2, 0), (uint.MaxValue, 0)])
        {
            await _transport.WriteAsync(0x30, 4, queue);
            Assert.Equal(most, _transport.Read(0x34, 4));
        }
    }

    [Fact]
    public async Task Driver_Sends_PeerGetsIt()
    {
        await StartAsync();
        byte[] data = Fill(Sent, 3000);
        Describe(Transmit, 0, Sent, 1000, Next, 1);
        Describe(Transmit, 1, Sent + 1000, 2000, 0, 0);
        await OfferAsync(Transmit, 0);
        Assert.Equal(data, ReceiveAll(3000));
        Assert.Equal((0u, 0u, 1), Given(Transmit, 0));
        Assert.True(_transport.Interrupts);
    }

    // Room first, data later: the driver touches a register in between.
    [Fact]
    public async Task Peer_Sends_DriverGetsItWhenItLooks()
    {
        await StartAsync();
        Describe(Receive, 0, Taken, 0x100, Writable, 0);
        Describe(Receive, 1, Taken + 0x100, 0x100, Writable, 0);
        await OfferAsync(Receive, 0);
        await OfferAsync(Receive, 1);
        await _transport.PollAsync();
        Assert.Equal(0, Given(Receive, 0).Count);

        byte[] data = RandomNumberGenerator.GetBytes(0x180);
        _peer.Send(data);
        await _transport.PollAsync();
        Assert.Equal((0u, 0x100u, 2), Given(Receive, 0));
        Assert.Equal((1u, 0x80u, 2), Given(Receive, 1));
        Assert.Equal(data, _memory.Bytes[Taken..(Taken + 0x180)]);
        Assert.True(_transport.Interrupts);

        // Data first, room later: nothing is lost, and as long as there is no room nobody looks for it.
        int uses = _memory.Uses;
        _peer.Send([7, 8, 9]);
        await _transport.PollAsync();
        Assert.Equal((2, uses), (Given(Receive, 0).Count, _memory.Uses));
        await OfferAsync(Receive, 0);
        Assert.Equal((0u, 3u, 3), Given(Receive, 2));
        Assert.Equal([7, 8, 9], _memory.Bytes[Taken..(Taken + 3)]);
    }

    [Fact]
    public async Task Driver_WithRoomOverSeveralDescriptors_GetsItInOrder()
    {
        await StartAsync();
        _peer.Send([.. Enumerable.Range(0, 10).Select(i => (byte)i)]);
        Describe(Receive, 0, Taken, 4, Next | Writable, 1);
        Describe(Receive, 1, Taken + 0x100, 100, Writable, 0);
        await OfferAsync(Receive, 0);
        Assert.Equal([0, 1, 2, 3], _memory.Bytes[Taken..(Taken + 4)]);
        Assert.Equal([4, 5, 6, 7, 8, 9, 0], _memory.Bytes[(Taken + 0x100)..(Taken + 0x107)]);
        Assert.Equal((0u, 10u, 1), Given(Receive, 0));
    }

    [Theory]
    [InlineData(Transmit, true)]
    [InlineData(Receive, false)]
    public async Task Driver_WithTheOtherDirection_MustResetTheDevice(int queue, bool writable)
    {
        await StartAsync();
        _peer.Send([1]);
        Describe(queue, 0, Taken, 16, writable ? Writable : (ushort)0, 0);
        await OfferAsync(queue, 0);
        Assert.Equal(0x4Ful, _transport.Read(0x70, 4));
        Assert.Equal(0, Given(queue, 0).Count);

        // The other queue is dead as well, until the reset.
        Describe(Transmit, 0, Sent, 16, 0, 0);
        await OfferAsync(Transmit, 0);
        Assert.Equal(0, Given(Transmit, 0).Count);
        await StartAsync();
        Describe(Transmit, 0, Sent, 16, 0, 0);
        await OfferAsync(Transmit, 0);
        Assert.Equal(1, Given(Transmit, 0).Count);
    }

    [Fact]
    public async Task Peer_IsGone_DeviceTakesEverythingAndGivesNothing()
    {
        await StartAsync();
        _listener.Dispose();
        _peer.Dispose();
        Describe(Receive, 0, Taken, 16, Writable, 0);
        await OfferAsync(Receive, 0);
        for (int i = 0; i < 20; i++)
        {
            Describe(Transmit, 0, Sent, 16, 0, 0);
            await OfferAsync(Transmit, 0);
            await _transport.PollAsync();
        }

        Assert.Equal(20, Given(Transmit, 0).Count);
        Assert.Equal(0, Given(Receive, 0).Count);
    }

    // svsm keys proxy was started again.
    [Fact]
    public async Task Peer_ComesBack_GetsWhatIsSentThen()
    {
        await StartAsync();
        Describe(Receive, 0, Taken, 16, Writable, 0);
        await OfferAsync(Receive, 0);
        string path = ((UnixDomainSocketEndPoint)_listener.LocalEndPoint!).ToString();
        _listener.Dispose();
        _peer.Dispose();
        File.Delete(path);
        Describe(Transmit, 0, Sent, 16, 0, 0);
        await OfferAsync(Transmit, 0);
        await OfferAsync(Transmit, 0);

        using var listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        listener.Bind(new UnixDomainSocketEndPoint(path));
        listener.Listen();
        byte[] data = Fill(Sent, 16);
        await OfferAsync(Transmit, 0);
        Assert.Equal(3, Given(Transmit, 0).Count);
        using Socket peer = listener.Accept();
        byte[] got = new byte[17];
        Assert.Equal(16, peer.Receive(got));
        Assert.Equal(data, got[..16]);

        peer.Send([7]);
        await _transport.PollAsync();
        Assert.Equal((0u, 1u, 1), Given(Receive, 0));
    }

    [Fact]
    public async Task Registers_Garbage_AreTakenOrLost()
    {
        var random = new Random(1);
        for (int i = 0; i < 100_000; i++)
        {
            ulong offset = (ulong)random.Next(0x120);
            if (random.Next(2) == 0)
            {
                _transport.Read(offset, 1 << random.Next(4));
            }
            else
            {
                await _transport.WriteAsync(offset, 4, offset == 0x70 && random.Next(4) != 0 ? 0xF : (ulong)random.NextInt64());
            }

            await _transport.PollAsync();
        }

        await StartAsync();
        Describe(Transmit, 0, Sent, 16, 0, 0);
        await OfferAsync(Transmit, 0);
        Assert.Equal(1, Given(Transmit, 0).Count);
    }

    [Fact]
    public void Socket_NobodyListens_IsRefused()
    {
        foreach (string path in (string[])["nowhere", new string('x', 300)])
        {
            using var console = new VirtioConsole(Path.Combine(_folder.FullName, path));
            Assert.Same(SvsmDiagnostics.RunOptionInvalid, Assert.Throws<SvsmDiagnosticException>(console.Open).Diagnostic);
        }
    }

    private static int DescriptorsOf(int queue) => 0x1000 * (queue + 1);

    private async Task StartAsync()
    {
        Array.Clear(_offered);
        _memory.Bytes.AsSpan(0x1000, 0x2000).Clear();
        foreach ((ulong register, ulong value) in ((ulong, ulong)[])[(0x70, 0), (0x70, 3), (0x24, 1), (0x20, 3), (0x24, 0), (0x20, 0), (0x70, 0xB)])
        {
            await _transport.WriteAsync(register, 4, value);
        }

        for (int queue = 0; queue < 2; queue++)
        {
            ulong at = (ulong)DescriptorsOf(queue);
            foreach ((ulong register, ulong value) in ((ulong, ulong)[])
                [(0x30, (ulong)queue), (0x38, 8), (0x80, at), (0x84, 0), (0x90, at + 0x400), (0x94, 0), (0xA0, at + 0x800), (0xA4, 0), (0x44, 1)])
            {
                await _transport.WriteAsync(register, 4, value);
            }
        }

        await _transport.WriteAsync(0x70, 4, 0xF);
        Assert.Equal(0xFul, _transport.Read(0x70, 4));
    }

    private byte[] Fill(int at, int length)
    {
        byte[] data = RandomNumberGenerator.GetBytes(length);
        data.CopyTo(_memory.Bytes, at);
        return data;
    }

    private byte[] ReceiveAll(int length)
    {
        byte[] data = new byte[length];
        for (int done = 0; done < length;)
        {
            done += _peer.Receive(data.AsSpan(done));
        }

        return data;
    }

    private void Describe(int queue, int index, ulong gpa, uint length, ushort flags, ushort next)
    {
        Span<byte> descriptor = _memory.Bytes.AsSpan(DescriptorsOf(queue) + (index * 16), 16);
        BinaryPrimitives.WriteUInt64LittleEndian(descriptor, gpa);
        BinaryPrimitives.WriteUInt32LittleEndian(descriptor[8..], length);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[12..], flags);
        BinaryPrimitives.WriteUInt16LittleEndian(descriptor[14..], next);
    }

    private async Task OfferAsync(int queue, ushort head)
    {
        int available = DescriptorsOf(queue) + 0x400;
        BinaryPrimitives.WriteUInt16LittleEndian(_memory.Bytes.AsSpan(available + 4 + (_offered[queue]++ % 8 * 2)), head);
        BinaryPrimitives.WriteUInt16LittleEndian(_memory.Bytes.AsSpan(available + 2), _offered[queue]);
        await _transport.WriteAsync(0x50, 4, (ulong)queue);
    }

    private (uint Id, uint Length, int Count) Given(int queue, int index)
    {
        int used = DescriptorsOf(queue) + 0x800;
        ReadOnlySpan<byte> element = _memory.Bytes.AsSpan(used + 4 + (index % 8 * 8), 8);
        return (BinaryPrimitives.ReadUInt32LittleEndian(element), BinaryPrimitives.ReadUInt32LittleEndian(element[4..]), BinaryPrimitives.ReadUInt16LittleEndian(_memory.Bytes.AsSpan(used + 2)));
    }
}
