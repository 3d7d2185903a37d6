// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

extern alias simulator;

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using simulator::Svsm.Simulator;
using Xunit;

namespace Svsm.Modules.Storage.Tests;

/// <summary>The driver of the disk against the simulated machine's, with a host that answers wrongly or not at all.</summary>
public sealed class VirtioDiskTests : IDisposable
{
    private const int Timeout = 50;

    private readonly TestDisk _test = new(1 << 20);
    private readonly VirtioDisk _disk;

    public VirtioDiskTests() => _disk = new VirtioDisk(_test.Disks, 0, Timeout);

    public void Dispose() => _test.Dispose();

    [Theory]
    [InlineData(512)]
    [InlineData(4096)]
    [InlineData(VirtioDisk.MaxTransfer)]
    [InlineData(VirtioDisk.MaxTransfer + 512)]
    [InlineData(0x4_0000)]
    public void WhatIsWritten_IsReadAndOnTheDisk(int length)
    {
        byte[] bytes = [.. Enumerable.Range(0, length).Select(i => (byte)(i * 31 / 7))];
        byte[] copy = new byte[length];

        // More requests than the queue has places.
        for (int i = 0; i < 20; i++)
        {
            bytes[0]++;
            Assert.True(_disk.TryWrite(3 + i, bytes));
            Assert.True(_disk.TryFlush());
            Assert.True(_disk.TryRead(3 + i, copy));
            Assert.Equal(bytes, copy);
        }

        Assert.Equal(bytes, File.ReadAllBytes(_test.Path)[(22 * 512)..][..length]);
        Assert.Equal((2048L, 20), (_disk.SectorCount, _test.Device.Flushes));
    }

    [Fact]
    public void WhatIsBehindTheEnd_Fails_AndNothingElseDoes()
    {
        byte[] bytes = new byte[1024];
        Assert.False(_disk.TryWrite(2047, bytes));
        Assert.False(_disk.TryRead(2047, bytes));
        Assert.Equal("status 1", _disk.Failure);
        Assert.True(_disk.TryRead(2046, bytes));
    }

    // What a device says of itself, and the driver does not take.
    [Theory]
    [InlineData(0x000, 0x7472_6977u)]
    [InlineData(0x000, 0u)]
    [InlineData(0x004, 1u)]
    [InlineData(0x008, 1u)]
    [InlineData(0x010, 0u)]
    [InlineData(0x034, 0u)]
    [InlineData(0x034, 4u)]
    [InlineData(0x044, 1u)]
    [InlineData(0x070, 0xFFu)]
    [InlineData(0x070, 3u)]
    [InlineData(0x070, 0x40u)]
    public void DeviceThatIsNotOurs_IsNotUsed(int register, uint value)
    {
        _test.Disks.OnRegister = (read, right) => read == register ? value : right;
        Assert.False(_disk.TryRead(0, new byte[512]));
        Assert.False(_disk.TryWrite(0, new byte[512]));
        Assert.False(_disk.TryFlush());
        Assert.Equal(0, _disk.SectorCount);
        Assert.NotEmpty(_disk.Failure);
        _test.Disks.OnRegister = null;
        Assert.Equal((0, 0), (_test.Device.Reads, _test.Device.Writes));
        Assert.True(_disk.TryRead(0, new byte[512]));
    }

    [Fact]
    public void SizeThatChangesAllTheTime_IsNone()
    {
        uint generation = 0;
        _test.Disks.OnRegister = (read, right) => read == 0x0FC ? generation++ : right;
        Assert.Equal(0, _disk.SectorCount);
        Assert.Equal("its size changes all the time", _disk.Failure);
    }

    [Theory]
    [InlineData(ulong.MaxValue, long.MaxValue / 512)]
    [InlineData(0ul, 0)]
    [InlineData(1ul << 40, 1L << 40)]
    public void SizeOfTheHost_IsNoOverflow(ulong capacity, long sectors)
    {
        _test.Disks.OnRegister = (read, right) => read == 0x100 ? (uint)capacity : read == 0x104 ? (uint)(capacity >> 32) : right;
        Assert.Equal(sectors, _disk.SectorCount);
    }

    // A request that is given back in a wrong way has failed, and the next one has not.
    [Theory]
    [InlineData(0u, 512u, (byte)0)]
    [InlineData(0u, 514u, (byte)0)]
    [InlineData(0u, 0u, (byte)0)]
    [InlineData(0u, uint.MaxValue, (byte)0)]
    [InlineData(1u, 513u, (byte)0)]
    [InlineData(8u, 513u, (byte)0)]
    [InlineData(uint.MaxValue, 513u, (byte)0)]
    [InlineData(0u, 513u, (byte)1)]
    [InlineData(0u, 513u, (byte)2)]
    [InlineData(0u, 513u, (byte)0xFF)]
    public void WrongAnswer_IsAFailure(uint id, uint length, byte status)
    {
        byte[] bytes = new byte[512];
        Assert.True(_disk.TryRead(0, bytes));
        _test.Device.OnRequest = (_, completion) => completion! with { Id = id, Length = length, Status = (BlockStatus)status };
        Assert.False(_disk.TryRead(0, bytes));
        Assert.NotEmpty(_disk.Failure);
        _test.Device.OnRequest = null;
        Assert.True(_disk.TryRead(0, bytes));
    }

    [Fact]
    public void NoAnswer_IsAFailureAfterAWhile()
    {
        _test.Device.OnRequest = (_, _) => null;
        Assert.False(_disk.TryWrite(0, new byte[512]));
        Assert.Equal("no answer in 50 ms", _disk.Failure);
        _test.Device.OnRequest = null;
        Assert.True(_disk.TryWrite(0, new byte[512]));
    }

    [Fact]
    public void MoreAnswersThanRequests_AreAFailure()
    {
        Assert.True(_disk.TryFlush());
        _test.Disks.BeforeMemory = memory => BinaryPrimitives.WriteUInt16LittleEndian(memory.AsSpan(2), 7);
        Assert.False(_disk.TryFlush());
        Assert.Equal("it has given back 7 requests of 2", _disk.Failure);
    }

    [Fact]
    public void HostThatRefusesRegisters_IsAFailureAtEachStep()
    {
        int steps = 0;
        _test.Disks.BeforeAccess = () => steps++;
        Assert.True(_disk.TryWrite(0, new byte[1024]));
        Assert.True(steps > 25);
        for (int bad = 0; bad < steps; bad++)
        {
            var disk = new VirtioDisk(_test.Disks, 0, Timeout);
            int left = bad;
            _test.Disks.BeforeAccess = () =>
            {
                if (left-- == 0)
                {
                    throw new IOException("refused");
                }
            };
            Assert.False(disk.TryWrite(0, new byte[1024]));
            _test.Disks.BeforeAccess = null;
            Assert.True(disk.TryWrite(0, new byte[1024]));
        }
    }

    // The host scribbles in the memory and lies in registers, at any access. Whatever it does, there is an answer, and the device can be used again.
    [Fact]
    public void Host_ThatDoesAnything_IsAnswered()
    {
        var random = new Random(1);
        byte[] bytes = new byte[1024];
        int failed = 0;
        for (int i = 0; i < 3000; i++)
        {
            var disk = new VirtioDisk(_test.Disks, 0, 2);
            int chance = 1 << random.Next(1, 8);
            _test.Disks.BeforeMemory = memory =>
            {
                if (random.Next(chance) == 0)
                {
                    memory[random.Next(random.Next(2) == 0 ? 0x200 : memory.Length)] = (byte)random.Next();
                }
            };
            _test.Disks.OnRegister = (_, right) => random.Next(chance * 4) == 0 ? (uint)random.Next() : right;
            failed += random.Next(3) switch
            {
                0 => disk.TryRead(random.Next(3000), bytes),
                1 => disk.TryWrite(random.Next(3000), bytes),
                _ => disk.TryFlush(),
            } ? 0 : 1;
            _test.Disks.BeforeMemory = null;
            _test.Disks.OnRegister = null;
            Assert.True(disk.TryRead(7, bytes) || disk.TryRead(7, bytes), disk.Failure);
        }

        Assert.InRange(failed, 300, 2900);
    }
}
