// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using CsCheck;
using Svsm.Simulator.Shared;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class LinkReaderTests
{
    [Fact]
    public void Push_AnyCuts_GiveTheSameFrames()
    {
        byte[] stream = [.. "SeaBIOS\r\n"u8, .. Frames.Hello, .. Frames.Console(0, 0, "a"), .. Frames.Frame(LinkFrame.Log, []), .. Frames.Exit(StopReason.GuestExit, 3)];
        List<(LinkFrame, string)> whole = Read(stream, [stream.Length]);
        Assert.Equal([LinkFrame.Hello, LinkFrame.Console, LinkFrame.Log, LinkFrame.Exit], whole.Select(frame => frame.Item1));

        Gen.Int[1, 9].Array[1, 100].Sample(cuts => Assert.Equal(whole, Read(stream, cuts)));
    }

    [Fact]
    public void Push_LongestPayload_IsTaken()
    {
        byte[] payload = [.. Enumerable.Repeat((byte)7, Link.MaxPayload)];

        (LinkFrame, string) frame = Assert.Single(Read(Frames.Frame(LinkFrame.Log, payload), [1000]));

        Assert.Equal((LinkFrame.Log, Convert.ToHexString(payload)), frame);
    }

    [Fact]
    public void Push_PayloadTooLong_IsRefusedBeforeItComes()
    {
        var reader = new LinkReader((_, _) => { });

        var error = Assert.Throws<LinkException>(() => reader.Push([Link.Start, 3, 0x11, 0x10]));

        Assert.Contains("4113", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Push_OtherByteAfterFrame_IsRefused()
    {
        var reader = new LinkReader((_, _) => { });
        reader.Push(Frames.Hello);

        var error = Assert.Throws<LinkException>(() => reader.Push("x"u8));

        Assert.Contains("0x78", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Chatter_BeforeFirstFrame_IsKeptBoundedAndPrintable()
    {
        var reader = new LinkReader((_, _) => { });

        reader.Push("Booting\n\x1B[2J"u8);
        Assert.Equal("Booting\n.[2J", reader.Chatter);
        Assert.True(reader.AtFrameBoundary);

        for (int i = 0; i < 100; i++)
        {
            reader.Push(Encoding.ASCII.GetBytes(new string('x', 1000)));
        }

        Assert.Equal(4096, reader.Chatter.Length);
    }

    [Fact]
    public void AtFrameBoundary_InsideFrame_IsFalse()
    {
        var reader = new LinkReader((_, _) => { });

        reader.Push(Frames.Hello.AsSpan()[..^1]);

        Assert.False(reader.AtFrameBoundary);
    }

    [Fact]
    public void Push_AnyBytes_ThrowsNothingButLinkException() => Gen.Byte.Array[0, 300].Array[1, 5].Sample(pieces =>
    {
        var reader = new LinkReader(new RunRecorder(new ConsoleCollector(null, SymbolMap.Empty, showVcpu: false, hasSvsm: true), 1).Accept);
        return PushAll(reader, pieces);
    });

    // Frames that look right at first: the checks behind the framing are reached.
    [Fact]
    public void Push_MutatedRun_ThrowsNothingButLinkException()
    {
        byte[] stream =
        [
            .. Frames.Hello, .. Frames.Console(0, 2, "hello\n"), .. Frames.Log("log"), .. Frames.Report(default),
            .. Frames.Statistics(default, new VmplStatistics { Vmpl = 2 }), .. Frames.Exit(StopReason.Violation, 3),
        ];

        Gen.Select(Gen.Int[0, stream.Length - 1], Gen.Byte, Gen.Int[0, stream.Length]).Sample((position, value, length) =>
        {
            byte[] broken = stream[..length];
            if (position < length)
            {
                broken[position] = value;
            }

            var reader = new LinkReader(new RunRecorder(new ConsoleCollector(null, SymbolMap.Empty, showVcpu: false, hasSvsm: true), 1).Accept);
            return PushAll(reader, [broken]);
        });
    }

    private static bool PushAll(LinkReader reader, byte[][] pieces)
    {
        try
        {
            foreach (byte[] piece in pieces)
            {
                reader.Push(piece);
            }
        }
        catch (LinkException)
        {
            // What a broken link may do.
        }

        return true;
    }

    private static List<(LinkFrame Type, string Payload)> Read(byte[] stream, int[] cuts)
    {
        var frames = new List<(LinkFrame, string)>();
        var reader = new LinkReader((type, payload) => frames.Add((type, Convert.ToHexString(payload))));
        for (int at = 0, i = 0; at < stream.Length; i++)
        {
            int length = Math.Min(cuts[i % cuts.Length], stream.Length - at);
            reader.Push(stream.AsSpan(at, length));
            at += length;
        }

        return frames;
    }
}
