// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Runtime.CompilerServices;

namespace Svsm.SelfTest;

internal static class MemoryTests
{
    private const int Room = 160;
    private const int LongestBlock = 80;
    private const int Margin = 40;

    internal static void Run()
    {
        Check.That("copies of every length and overlap"u8, CopiesAreRight());
        Check.That("fills of every length and offset"u8, FillsAreRight());
        Check.That("stackalloc is zeroed"u8, StackIsZeroed());

        Span<ulong> words = new ulong[3];
        words.Fill(Check.Opaque(0x1122_3344_5566_7788));
        Check.That("fill of wider elements"u8, words[0] == 0x1122_3344_5566_7788 && words[2] == words[0]);
        words[..2].Clear();
        Check.That("clear"u8, words[0] == 0 && words[1] == 0 && words[2] != 0);

        Span<string?> names = new string?[4];
        names.Fill("name");
        names[1..3].Clear();
        Check.That("spans of references"u8, names[0] == "name" && names[1] is null && names[2] is null && names[3] == "name");
        names[..2].CopyTo(names[1..]);
        Check.That("overlapping copy of references"u8, names[1] == "name" && names[2] is null);
        Check.That("copy to a shorter span is refused"u8, !names.TryCopyTo(names[1..]) && names[..3].TryCopyTo(names[1..]));
    }

    private static bool CopiesAreRight()
    {
        Span<byte> actual = stackalloc byte[Room];
        Span<byte> expected = stackalloc byte[Room];
        for (int length = 0; length <= LongestBlock; length++)
        {
            for (int shift = -Margin; shift <= Margin; shift++)
            {
                for (int i = 0; i < Room; i++)
                {
                    actual[i] = (byte)(i * 7);
                    expected[i] = actual[i];
                }

                for (int i = 0; i < length; i++)
                {
                    expected[Margin + shift + i] = (byte)((Margin + i) * 7);
                }

                actual.Slice(Margin, length).CopyTo(actual.Slice(Margin + shift, length));
                if (!actual.SequenceEqual(expected))
                {
                    return false;
                }
            }
        }

        return true;
    }

    private static bool FillsAreRight()
    {
        Span<byte> bytes = stackalloc byte[Room];
        for (int length = 0; length <= LongestBlock; length++)
        {
            for (int offset = 0; offset < 9; offset++)
            {
                bytes.Clear();
                bytes.Slice(offset, length).Fill(0xA5);
                for (int i = 0; i < Room; i++)
                {
                    byte wanted = i >= offset && i < offset + length ? (byte)0xA5 : (byte)0;
                    if (bytes[i] != wanted)
                    {
                        return false;
                    }
                }
            }
        }

        return true;
    }

    private static bool StackIsZeroed()
    {
        Dirty(Check.Opaque(1000));
        return SumOfFresh(Check.Opaque(1000)) == 0;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static void Dirty(int count)
    {
        Span<byte> bytes = stackalloc byte[count];
        bytes.Fill(0xFF);
        Check.Opaque(bytes[count - 1]);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static int SumOfFresh(int count)
    {
        Span<byte> bytes = stackalloc byte[count];
        int sum = 0;
        foreach (byte value in bytes)
        {
            sum += value;
        }

        return sum;
    }
}
