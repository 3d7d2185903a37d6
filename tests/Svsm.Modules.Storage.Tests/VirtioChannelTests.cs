// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>The driver of the channel against the simulated machine's console, with the test at the other end of its socket.</summary>
public sealed class VirtioChannelTests : IDisposable
{
    // Nobody waits for it: a test of silence has a time of its own.
    private const int Timeout = 60_000;
    private const int ReceiveRing = 0xE000;
    private const int SendRing = 0xD000;

    private readonly TestDisk _test = new();
    private readonly Socket _listener = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
    private readonly Socket _peer;
    private VirtioChannel _channel;

    public VirtioChannelTests()
    {
        _test.Channel = Path.Combine(_test.Folder, "channel");
        _listener.Bind(new UnixDomainSocketEndPoint(_test.Channel));
        _listener.Listen();
        _test.Restart();
        _peer = _listener.Accept();
        _channel = new VirtioChannel(_test.Disks, 1, Timeout);
    }

    public void Dispose()
    {
        _peer.Dispose();
        _listener.Dispose();
        _test.Dispose();
    }

    [Fact]
    public void Slots_HaveWhatTheyHave()
    {
        Assert.True(VirtioDriver.IsThere(_test.Disks, 1, VirtioChannel.Kind));
        Assert.False(VirtioDriver.IsThere(_test.Disks, 0, VirtioChannel.Kind));
        Assert.False(VirtioDriver.IsThere(_test.Disks, 2, VirtioChannel.Kind));
        Assert.True(VirtioDriver.IsThere(_test.Disks, 0, VirtioDisk.Kind));
        Assert.False(VirtioDriver.IsThere(_test.Disks, 1, VirtioDisk.Kind));
    }

    // Beside the disk, whose memory it must not touch.
    [Fact]
    public async Task Exchanges_OfAllLengths_Arrive()
    {
        var disk = new VirtioDisk(_test.Disks, 0, Timeout);
        byte[] block = RandomNumberGenerator.GetBytes(VirtioDisk.MaxTransfer);
        foreach (int length in (int[])[0, 1, 2, 4087, 4088, 4089, 4096, 8184, 20_000, 65_536])
        {
            byte[] request = RandomNumberGenerator.GetBytes(length);
            byte[] answer = RandomNumberGenerator.GetBytes(65_536 - length);
            Assert.True(disk.TryWrite(0, block));
            Task<byte[]> peer = Task.Run(() => Serve(answer), TestContext.Current.CancellationToken);
            Assert.True(_channel.TryExchange(request, out byte[] got), _channel.Failure);
            Assert.Equal(request, await peer);
            Assert.Equal(answer, got);
            byte[] copy = new byte[block.Length];
            Assert.True(disk.TryRead(0, copy));
            Assert.Equal(block, copy);
        }

        Assert.False(_channel.TryExchange(new byte[65_537], out _));
    }

    // More exchanges than the queues have places, in small parts.
    [Fact]
    public async Task Exchanges_ManyInARow_Arrive()
    {
        Task peer = Task.Run(
            () =>
            {
                for (int i = 0; i < 50; i++)
                {
                    Serve([(byte)i, 2, 3], part: 1);
                }
            },
            TestContext.Current.CancellationToken);
        for (int i = 0; i < 50; i++)
        {
            Assert.True(_channel.TryExchange([1, 2, 3], out byte[] got), _channel.Failure);
            Assert.Equal([(byte)i, 2, 3], got);
        }

        await peer;
    }

    [Fact]
    public async Task Silence_EndsAfterAWhile_AndALateAnswerIsNotTakenForAnother()
    {
        _channel = new VirtioChannel(_test.Disks, 1, 50);
        Assert.False(_channel.TryExchange([1], out byte[] got));
        Assert.StartsWith("no answer in ", _channel.Failure, StringComparison.Ordinal);
        Assert.Empty(got);

        _channel = new VirtioChannel(_test.Disks, 1, Timeout);
        Serve([7]);
        Task peer = Task.Run(
            () =>
            {
                Receive(out uint number);
                Send(number - 1, [8], 9);
                Send(number + 1, [8], 9);
                Send(number, [9], 9);
            },
            TestContext.Current.CancellationToken);
        Assert.True(_channel.TryExchange([2, 2], out got), _channel.Failure);
        Assert.Equal([9], got);
        await peer;
    }

    [Fact]
    public async Task EndlessFramesOfOtherNumbers_EndAfterAWhile()
    {
        _channel = new VirtioChannel(_test.Disks, 1, 500);
        Task peer = Task.Run(
            () =>
            {
                Receive(out uint number);
                try
                {
                    while (true)
                    {
                        Send(number + 1, new byte[100], 108);
                    }
                }
                catch (SocketException)
                {
                }
                catch (ObjectDisposedException)
                {
                }
            },
            TestContext.Current.CancellationToken);
        Assert.False(_channel.TryExchange([1], out byte[] got));
        Assert.StartsWith("no answer in ", _channel.Failure, StringComparison.Ordinal);
        Assert.Empty(got);
        _test.Disks.Dispose();
        _peer.Dispose();
        await peer;
    }

    [Fact]
    public async Task FrameThatIsTooLong_IsAnError()
    {
        Task peer = Task.Run(
            () =>
            {
                Receive(out uint number);
                byte[] head = new byte[8];
                BinaryPrimitives.WriteUInt32LittleEndian(head, 0x1_0001);
                BinaryPrimitives.WriteUInt32LittleEndian(head.AsSpan(4), number);
                _peer.Send(head);
                Serve([5]);
            },
            TestContext.Current.CancellationToken);
        Assert.False(_channel.TryExchange([1], out _));
        Assert.Equal("a frame of 65537 bytes; wanted are at most 65536", _channel.Failure);
        Assert.True(_channel.TryExchange([1], out byte[] got), _channel.Failure);
        Assert.Equal([5], got);
        await peer;
    }

    [Theory]
    [InlineData(0x000, 0u)]
    [InlineData(0x004, 1u)]
    [InlineData(0x008, 2u)]
    [InlineData(0x034, 4u)]
    [InlineData(0x044, 1u)]
    [InlineData(0x070, 3u)]
    [InlineData(0x070, 0xFFu)]
    public void DeviceThatIsNotOurs_IsNotUsed(int register, uint value)
    {
        _channel = new VirtioChannel(_test.Disks, 1, 50);
        _test.Disks.OnRegister = (read, right) => read == register ? value : right;
        Assert.False(_channel.TryExchange([1], out _));
        Assert.NotEmpty(_channel.Failure);
        Assert.Equal(0, _peer.Available);
    }

    // What the host writes beside the device: ids, lengths and indices that were never asked for.
    [Theory]
    [InlineData(ReceiveRing, 4, 1u)]
    [InlineData(ReceiveRing, 8, 0u)]
    [InlineData(ReceiveRing, 8, 4097u)]
    [InlineData(ReceiveRing, 8, uint.MaxValue)]
    [InlineData(ReceiveRing, 0, 0x0002_0000u)]
    [InlineData(ReceiveRing, 0, 0xFFFF_0000u)]
    [InlineData(SendRing, 4, 1u)]
    [InlineData(SendRing, 8, 1u)]
    [InlineData(SendRing, 0, 0x0005_0000u)]
    public async Task AnswerOfTheDevice_Wrong_IsAFailureAndTheNextOneIsNot(int ring, int offset, uint value)
    {
        Task peer = Task.Run(
            () =>
            {
                // The first exchange may end before anything is sent.
                try
                {
                    Serve([5]);
                    Serve([5]);
                }
                catch (ObjectDisposedException)
                {
                }
                catch (SocketException)
                {
                }
            },
            TestContext.Current.CancellationToken);
        _test.Disks.BeforeMemory = memory =>
        {
            // As soon as something is given back.
            if (BinaryPrimitives.ReadUInt16LittleEndian(memory.AsSpan(ring + 2)) != 0 || (offset == 0 && value != 0x0002_0000u))
            {
                BinaryPrimitives.WriteUInt32LittleEndian(memory.AsSpan(ring + offset), value);
            }
        };
        Assert.False(_channel.TryExchange([1], out _));
        Assert.StartsWith("it has given back ", _channel.Failure, StringComparison.Ordinal);
        _test.Disks.BeforeMemory = null;
        Assert.True(_channel.TryExchange([1], out byte[] got), _channel.Failure);
        Assert.Equal([5], got);
        _peer.Dispose();
        await peer;
    }

    [Fact]
    public void HostThatRefuses_IsAnError()
    {
        _test.Disks.BeforeAccess = () => throw new IOException("the host refuses");
        Assert.False(_channel.TryExchange([1], out _));
        Assert.Equal("there is no virtio device of version 2 and kind 3 in slot 1", _channel.Failure);
    }

    private byte[] Serve(byte[] answer, int part = 0x1_0000)
    {
        byte[] request = Receive(out uint number);
        Send(number, answer, part);
        return request;
    }

    private byte[] Receive(out uint number)
    {
        byte[] head = Fill(8);
        number = BinaryPrimitives.ReadUInt32LittleEndian(head.AsSpan(4));
        return Fill(BinaryPrimitives.ReadInt32LittleEndian(head));
    }

    private void Send(uint number, byte[] contents, int part)
    {
        byte[] head = new byte[8];
        BinaryPrimitives.WriteInt32LittleEndian(head, contents.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(head.AsSpan(4), number);
        foreach (byte[] chunk in ((byte[])[.. head, .. contents]).Chunk(part))
        {
            _peer.Send(chunk);
        }
    }

    private byte[] Fill(int length)
    {
        byte[] bytes = new byte[length];
        for (int done = 0; done < length;)
        {
            int count = _peer.Receive(bytes.AsSpan(done));
            if (count == 0)
            {
                throw new SocketException((int)SocketError.ConnectionReset);
            }

            done += count;
        }

        return bytes;
    }
}
