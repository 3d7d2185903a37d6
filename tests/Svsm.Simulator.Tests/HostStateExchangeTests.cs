// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class HostStateExchangeTests
{
    private const int MaxLength = 200_000;

    private readonly List<byte[]> _answers = [];
    private readonly List<byte[]> _taken = [];
    private readonly HostStateExchange _exchange;
    private byte[] _state = [];
    private string? _refusal;

    public HostStateExchangeTests()
    {
        _exchange = new HostStateExchange(
            () => _refusal is null ? Task.FromResult(_state) : throw new HostStateException(_refusal),
            blob =>
            {
                _taken.Add(blob.ToArray());
                return _refusal is null ? Task.CompletedTask : throw new HostStateException(_refusal);
            },
            MaxLength);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(65_536)]
    [InlineData(150_000)]
    public async Task State_GivenAndTaken_IsTheSame(int length)
    {
        _state = RandomNumberGenerator.GetBytes(length);
        Assert.True(await HandleAsync([0x01]));
        byte[][] given = [.. _answers];
        _answers.Clear();
        Assert.Equal((length + 65_535) / 65_536, given.Length - 1);
        Assert.All(given, frame => Assert.Equal(4, ChannelFrames.KindOf(frame)));
        Assert.Equal([0x82, .. BitConverter.GetBytes((ulong)length), .. SHA256.HashData(_state)], given[^1][8..]);
        foreach (byte[] frame in given)
        {
            Assert.True(await HandleAsync(frame[8..]));
        }

        Assert.Equal(_state, Assert.Single(_taken));
        Assert.Equal([0x83], Assert.Single(_answers)[8..]);
    }

    [Fact]
    public async Task State_ThatCannotBeGivenOrTaken_IsSaid()
    {
        _refusal = "because";
        Assert.True(await HandleAsync([0x01]));
        Assert.True(await HandleAsync([0x81, 1, 2]));
        Assert.True(await HandleAsync([0x82, 2, 0, 0, 0, 0, 0, 0, 0, .. SHA256.HashData([1, 2])]));
        Assert.Equal(["\u0085because", "\u0084because"], _answers.Select(frame => (char)frame[8] + Encoding.UTF8.GetString(frame[9..])));
    }

    // Rows: length that the end tells, whether the digest is right.
    [Theory]
    [InlineData(3, true)]
    [InlineData(2, false)]
    public async Task State_NotWhole_IsNotTakenAndTheNextOneIs(ulong length, bool digest)
    {
        byte[] hash = SHA256.HashData(digest ? [1, 2] : [1, 3]);
        Assert.True(await HandleAsync([0x81, 1, 2]));
        Assert.True(await HandleAsync([0x82, .. BitConverter.GetBytes(length), .. hash]));
        Assert.Equal(0x84, Assert.Single(_answers)[8]);
        Assert.Empty(_taken);
        Assert.True(await HandleAsync([0x81, 5]));
        Assert.True(await HandleAsync([0x82, .. BitConverter.GetBytes(1ul), .. SHA256.HashData([5])]));
        Assert.Equal([5], Assert.Single(_taken));
    }

    [Fact]
    public async Task Frames_ThatMakeNoSense_EndTheConnection()
    {
        foreach (byte[] contents in (byte[][])[[], [0], [2], [0x01, 0], [0x81], [0x82], [0x82, .. new byte[39]], [0x82, .. new byte[41]], [0x83], [0x84, 1], [0x85], [0x81, .. new byte[65_537]]])
        {
            Assert.False(await HandleAsync(contents));
        }

        Assert.Empty(_answers);
    }

    [Fact]
    public async Task State_LongerThanAnyCanBe_EndsTheConnection()
    {
        byte[] part = [0x81, .. new byte[65_536]];
        Assert.True(await HandleAsync(part) && await HandleAsync(part) && await HandleAsync(part));
        Assert.False(await HandleAsync(part));
    }

    private Task<bool> HandleAsync(byte[] contents) => _exchange.HandleAsync(contents, frame =>
    {
        _answers.Add(frame);
        return Task.CompletedTask;
    });
}
