// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers;
using System.Collections.Generic;
using System.Linq;
using System.Security.Cryptography;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class HostStateBlobTests
{
    [Fact]
    public void Read_WhatWasMade_GivesModelAndPiecesThatTheWindowTakes()
    {
        byte[] model = RandomNumberGenerator.GetBytes(1000);
        byte[] pages = [.. Enumerable.Range(0, 40).SelectMany(i => Record(i % 3 == 0 ? 15u : 1u, i % 3 == 1 ? HostStatePages.Zeroes : HostStatePages.Told))];

        (ReadOnlyMemory<byte> gotModel, IReadOnlyList<ReadOnlyMemory<byte>> pieces) = HostStateBlob.Read(HostStateBlob.Make(model, pages));

        Assert.Equal(model, gotModel.ToArray());
        Assert.Equal(pages, pieces.SelectMany(piece => piece.ToArray()));
        Assert.All(pieces, piece => Assert.InRange(piece.Length, 1, (int)Link.WindowLength));
        Assert.InRange(pieces.Count, 2, 40);
    }

    // Rows: pages of RAM, whether all that they can have fits one piece.
    [Theory]
    [InlineData(1ul, true)]
    [InlineData(0x8_0000ul - 0x1000, true)]
    [InlineData(0x8_0000ul, false)]
    [InlineData(1ul << 40, false)]
    public void MaxLength_IsWhatOnePieceCanBe(ulong pages, bool fits) =>
        Assert.Equal(fits ? 0x20 + (long)Link.WindowLength + ((long)pages * 4112) : Array.MaxLength, HostStateBlob.MaxLength(pages));

    [Fact]
    public void Add_MoreThanOnePieceCanBe_IsRefused()
    {
        var pages = new ArrayBufferWriter<byte>();
        int most = HostStateBlob.HeaderLength + (int)Link.WindowLength + 100;
        HostStateBlob.Add(pages, new byte[60], most);
        Assert.Throws<HostStateException>(() => HostStateBlob.Add(pages, new byte[41], most));
        HostStateBlob.Add(pages, new byte[40], most);
        Assert.Equal(100, pages.WrittenCount);
    }

    [Fact]
    public void Read_NoPages_IsOneEmptyPiece() => Assert.Equal(0, Assert.Single(HostStateBlob.Read(HostStateBlob.Make([1], [])).Pages).Length);

    [Fact]
    public void Read_TruncatedOrLonger_IsRefused()
    {
        byte[] blob = HostStateBlob.Make([1, 2, 3], [.. Record(2, HostStatePages.Zeroes), .. Record(1, HostStatePages.Told)]);
        for (int length = 0; length < blob.Length; length++)
        {
            Assert.Throws<HostStateException>(() => HostStateBlob.Read(blob.AsMemory(0, length)));
        }

        Assert.Throws<HostStateException>(() => HostStateBlob.Read((byte[])[.. blob, 0]));
    }

    [Fact]
    public void Read_AnyBitWrong_IsRefusedOrRead()
    {
        byte[] blob = HostStateBlob.Make([1, 2, 3], [.. Record(2, HostStatePages.Zeroes), .. Record(1, HostStatePages.Told), .. Record(1, HostStatePages.Ciphertext)]);
        int refused = 0;
        for (int bit = 0; bit < (HostStateBlob.HeaderLength + 3 + 32) * 8; bit++)
        {
            byte[] wrong = (byte[])blob.Clone();
            wrong[bit / 8] ^= (byte)(1 << (bit % 8));
            try
            {
                HostStateBlob.Read(wrong);
            }
            catch (HostStateException)
            {
                refused++;
            }
        }

        Assert.InRange(refused, (HostStateBlob.HeaderLength * 8) - 1, int.MaxValue);
    }

    [Theory]
    [InlineData(0u, HostStatePages.Zeroes)]
    [InlineData(16u, HostStatePages.Told)]
    [InlineData(uint.MaxValue, HostStatePages.Told)]
    public void Read_RecordThatCannotBe_IsRefused(uint count, HostStatePages kind) =>
        Assert.Throws<HostStateException>(() => HostStateBlob.Read(HostStateBlob.Make([1], [.. Head(count, kind), .. new byte[20 * 4096]])));

    private static byte[] Head(uint count, HostStatePages kind) => [.. BitConverter.GetBytes(0x10_0000ul), .. BitConverter.GetBytes(count), .. BitConverter.GetBytes((uint)kind)];

    private static byte[] Record(uint count, HostStatePages kind) => [.. Head(count, kind), .. RandomNumberGenerator.GetBytes(kind == HostStatePages.Told ? (int)count * 4096 : 0)];
}
