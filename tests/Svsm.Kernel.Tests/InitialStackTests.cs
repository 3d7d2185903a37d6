// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using System.Text;
using Svsm.Kernel.Processes;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class InitialStackTests
{
    private const ulong Top = 0x7000;
    private const ulong Bottom = Top - 4096;
    private const uint Hardware = 0x1789_FBFF;

    private static readonly byte[] s_random = [.. Enumerable.Range(1, 16).Select(i => (byte)i)];

    [Theory]
    [InlineData(1, 0, 1)]
    [InlineData(1, 1, 1)]
    [InlineData(2, 3, 10)]
    [InlineData(3, 0, 0)]
    [InlineData(64, 0, 31)]
    [InlineData(1, 63, 31)]
    [InlineData(32, 32, 31)]
    public void Build_Strings_AreFoundAsTheRuntimeReadsThem(int arguments, int environment, int length)
    {
        string[] strings = [.. Enumerable.Range(0, arguments + environment).Select(i => new string((char)('!' + i), length))];
        byte[] text = Encoding.ASCII.GetBytes(string.Concat(strings.Select(text => text + "\0")));
        Assert.True(text.Length <= ArchiveModule.MaxText);
        byte[] page = new byte[4096];
        byte[] file = TestElf.Build();
        Assert.Equal(ElfError.None, ElfImage.Open(file, new ElfSegment[ElfImage.MaxSegments], out _, out ElfImage image));
        ulong stack = InitialStack.Build(page, Top, text, arguments, environment, in image, Hardware, s_random);
        Assert.Equal(0ul, stack % 16);
        Assert.InRange(stack, Bottom, Top);

        ulong Word(ref ulong at)
        {
            at += 8;
            return BinaryPrimitives.ReadUInt64LittleEndian(page.AsSpan((int)(at - 8 - Bottom)));
        }

        string Text(ulong at)
        {
            int start = (int)(at - Bottom);
            return Encoding.ASCII.GetString(page, start, page.AsSpan(start).IndexOf((byte)0));
        }

        ulong next = stack;
        Assert.Equal((ulong)arguments, Word(ref next));
        foreach (string argument in strings[..arguments])
        {
            Assert.Equal(argument, Text(Word(ref next)));
        }

        Assert.Equal(0ul, Word(ref next));
        foreach (string variable in strings[arguments..])
        {
            Assert.Equal(variable, Text(Word(ref next)));
        }

        Assert.Equal(0ul, Word(ref next));

        // Numbers of Linux include/uapi/linux/auxvec.h.
        var auxiliary = new Dictionary<ulong, ulong>();
        ulong type;
        while ((type = Word(ref next)) != 0)
        {
            auxiliary.Add(type, Word(ref next));
        }

        Assert.Equal(0ul, Word(ref next));
        ulong random = auxiliary[25];
        ulong name = auxiliary[31];
        auxiliary.Remove(25);
        auxiliary.Remove(31);
        Assert.Equal(
            new Dictionary<ulong, ulong>
            {
                [3] = 0x40_0040, [4] = 56, [5] = 5, [6] = 4096, [9] = TestElf.Entry, [11] = 0, [12] = 0, [13] = 0, [14] = 0, [16] = Hardware, [17] = 100, [23] = 0,
            },
            auxiliary);
        Assert.Equal(s_random, page[(int)(random - Bottom)..][..16]);
        Assert.Equal(strings[0], Text(name));
        Assert.True(next <= random && random + 16 <= name && name + (ulong)text.Length == Top);
        Assert.All(page[..(int)(stack - Bottom)], value => Assert.Equal(0, value));
    }

    // The most that an archive can have is less than the page.
    [Fact]
    public void Build_MostOfEverything_FitsInThePage()
    {
        byte[] text = new byte[ArchiveModule.MaxText];
        text.AsSpan(0, ArchiveModule.MaxText - ArchiveModule.MaxStrings).Fill((byte)'x');
        ElfImage image = default;
        Assert.InRange(InitialStack.Build(new byte[4096], Top, text, 1, ArchiveModule.MaxStrings - 1, in image, Hardware, s_random), Bottom, Top);
        Assert.InRange(InitialStack.Build(new byte[4096], Top, text, ArchiveModule.MaxStrings, 0, in image, Hardware, s_random), Bottom, Top);
    }
}
