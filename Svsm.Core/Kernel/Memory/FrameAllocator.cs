// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Frames of the SVSM's own memory: the part of the region that was not launched, validated while booting.
//
// A frame is zeroed when it is handed out, so that no owner sees what another left. Running out is an answer, not a panic.

using System;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;

namespace Svsm.Kernel.Memory;

/// <summary>Hands out frames.</summary>
internal static unsafe class FrameAllocator
{
    /// <summary>Most frames that a region can have: 128 MiB.</summary>
    public const int MaxFrames = WordCount * 64;

    private const int WordCount = 512;

    [InlineArray(WordCount)]
    private struct Words
    {
        private ulong _element0;
    }

    private static Words s_taken;
    private static int s_hint;
    private static int s_count;
    private static int s_used;
    private static PhysicalAddress s_first;

    /// <summary>Frames handed out.</summary>
    public static int Used => s_used;

    /// <summary>Frames in all.</summary>
    public static int Count => s_count;

    /// <summary>Takes over the heap. All of its pages are validated.</summary>
    /// <param name="first">First byte, page-aligned.</param>
    /// <param name="count">Number of frames, at most <see cref="MaxFrames"/>.</param>
    public static void Initialize(PhysicalAddress first, int count)
    {
        s_first = first;
        s_count = count;
    }

    /// <summary>Hands out a frame of zeroes.</summary>
    /// <returns>False: none is free.</returns>
    public static bool TryAllocate(out PhysicalAddress frame)
    {
        if (!Frames().TryTake(out int number))
        {
            frame = default;
            return false;
        }

        s_used++;
        frame = new PhysicalAddress(s_first.Value + ((ulong)number * Page.Size));
        using FrameMapping mapping = FrameMapping.Map(frame);

        // SAFETY: a mapped page that nobody owns yet.
        new Span<byte>(mapping.Pointer, Page.Size).Clear();
        return true;
    }

    /// <summary>Takes a frame back.</summary>
    /// <param name="frame">What <see cref="TryAllocate"/> handed out; anything else is a fault of the kernel.</param>
    public static void Free(PhysicalAddress frame)
    {
        ulong number = (frame.Value - s_first.Value) / Page.Size;
        if (number >= (ulong)s_count || !Frames().TryReturn((int)number))
        {
            throw new ArgumentOutOfRangeException(nameof(frame));
        }

        s_used--;
    }

    private static FrameSet Frames() => new(s_taken, s_count, ref s_hint);
}
