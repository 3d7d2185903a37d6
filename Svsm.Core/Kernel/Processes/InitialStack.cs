// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// What a program finds on its stack at its first instruction, as the static C runtime reads it: argument count, pointers to arguments and
// environment, the auxiliary vector; behind them the 16 random bytes of AT_RANDOM and the strings. One page at most, which the limits of
// Wire/ModuleArchive.cs guarantee. Free of hardware. Source: System V ABI, AMD64 supplement, 3.4.1; Linux include/uapi/linux/auxvec.h (numbers).

using System;
using System.Buffers.Binary;
using Svsm.Kernel.Memory;
using Svsm.Wire;

namespace Svsm.Kernel.Processes;

/// <summary>Builds the first page of a stack.</summary>
internal static class InitialStack
{
    /// <summary>Bytes of random numbers that a program gets.</summary>
    public const int RandomLength = 16;

    private const int AuxiliaryCount = 15;
    private const int StackAlignment = 16;

    /// <summary>Builds it.</summary>
    /// <param name="page">The topmost page of the stack, all zero.</param>
    /// <param name="top">First address after the page.</param>
    /// <param name="text">Arguments, then environment, a zero byte behind each: as many strings as are counted, checked before.</param>
    /// <param name="argumentCount">How many are arguments.</param>
    /// <param name="environmentCount">How many are environment.</param>
    /// <param name="image">The program.</param>
    /// <param name="hardware">AT_HWCAP: EDX of CPUID function 1.</param>
    /// <param name="random">16 random bytes.</param>
    /// <returns>RSP.</returns>
    public static ulong Build(
        Span<byte> page, ulong top, ReadOnlySpan<byte> text, int argumentCount, int environmentCount, in ElfImage image, uint hardware, ReadOnlySpan<byte> random)
    {
        ulong bottom = top - Page.Size;
        int textStart = Page.Size - text.Length;
        text.CopyTo(page.Slice(textStart));
        int randomStart = (textStart - RandomLength) & ~(StackAlignment - 1);
        random.Slice(0, RandomLength).CopyTo(page.Slice(randomStart));

        int words = 1 + argumentCount + 1 + environmentCount + 1 + (AuxiliaryCount * 2);
        int start = (randomStart - (words * sizeof(ulong))) & ~(StackAlignment - 1);
        Writer writer = new(page.Slice(start));
        writer.Add((ulong)argumentCount);
        int next = textStart;
        for (int i = 0; i < argumentCount + environmentCount; i++)
        {
            if (i == argumentCount)
            {
                writer.Add(0);
            }

            writer.Add(bottom + (ulong)next);
            next += page.Slice(next).IndexOf((byte)0) + 1;
        }

        if (environmentCount == 0)
        {
            writer.Add(0);
        }

        writer.Add(0);
        writer.Add(Auxiliary.ProgramHeaders, image.Headers);
        writer.Add(Auxiliary.ProgramHeaderSize, (ulong)ElfImage.HeaderSize);
        writer.Add(Auxiliary.ProgramHeaderCount, (ulong)image.HeaderCount);
        writer.Add(Auxiliary.PageSize, Page.Size);
        writer.Add(Auxiliary.Entry, image.Entry);
        writer.Add(Auxiliary.UserId, 0);
        writer.Add(Auxiliary.EffectiveUserId, 0);
        writer.Add(Auxiliary.GroupId, 0);
        writer.Add(Auxiliary.EffectiveGroupId, 0);
        writer.Add(Auxiliary.Hardware, hardware);
        writer.Add(Auxiliary.ClockTicks, 100);
        writer.Add(Auxiliary.Secure, 0);
        writer.Add(Auxiliary.Random, bottom + (ulong)randomStart);
        writer.Add(Auxiliary.FileName, bottom + (ulong)textStart);
        writer.Add(Auxiliary.Null, 0);
        return bottom + (ulong)start;
    }

    private static class Auxiliary
    {
        public const ulong Null = 0;
        public const ulong ProgramHeaders = 3;
        public const ulong ProgramHeaderSize = 4;
        public const ulong ProgramHeaderCount = 5;
        public const ulong PageSize = 6;
        public const ulong Entry = 9;
        public const ulong UserId = 11;
        public const ulong EffectiveUserId = 12;
        public const ulong GroupId = 13;
        public const ulong EffectiveGroupId = 14;
        public const ulong Hardware = 16;
        public const ulong ClockTicks = 17;
        public const ulong Secure = 23;
        public const ulong Random = 25;
        public const ulong FileName = 31;
    }

    private ref struct Writer
    {
        private Span<byte> _rest;

        public Writer(Span<byte> destination) => _rest = destination;

        public void Add(ulong word)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(_rest, word);
            _rest = _rest.Slice(sizeof(ulong));
        }

        public void Add(ulong type, ulong value)
        {
            Add(type);
            Add(value);
        }
    }
}
