// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Frames of the SVSM's own memory, for every CPU: the part of the region that was not launched, and RAM that was claimed while booting.
//
// A block is zeroed when it is handed out, outside of the lock: so no owner sees what another left, nor what the host put there. Running out
// is an answer, not a panic. Frames are numbered; an area begins at a number whose remainder by 512 is that of its page number, so that a
// block is as aligned in memory as it is in numbers.

using System;
using System.Numerics;
using System.Runtime.CompilerServices;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Locks;
using Svsm.Wire;

namespace Svsm.Kernel.Memory;

/// <summary>Hands out frames.</summary>
internal static unsafe class FrameAllocator
{
    /// <summary>Most frames in all: 128 MiB.</summary>
    public const int MaxFrames = 32768;

    private const int MaxAreas = 4;

    // BuddySet.WordsFor(MaxFrames), which a constant cannot be: 512 + 256 + ... + 1.
    private const int WordCount = 1023;

    [InlineArray(WordCount)]
    private struct Words
    {
        private ulong _element0;
    }

    [InlineArray(BuddySet.CountsLength)]
    private struct Counts
    {
        private int _element0;
    }

    // Frames [First, First + Count) of the numbering are the pages from FirstPage on.
    private struct Area
    {
        public ulong FirstPage;
        public int First;
        public int Count;
    }

    [InlineArray(MaxAreas)]
    private struct Areas
    {
        private Area _element0;
    }

    private static KernelLock s_lock;
    private static Words s_words;
    private static Counts s_counts;
    private static Areas s_areas;
    private static int s_areaCount;
    private static int s_numbered;
    private static int s_used;
    private static int s_count;

#if SVSM_SELF_CHECK
    // tests/Svsm.SelfCheck/Refusal.S: which allocations are refused, by their numbers from 0. A test writes it into the image.
    private struct Refusal
    {
        public ulong First;
        public ulong Count;
    }

    private static ulong s_asked;

    // SAFETY: the two words at the symbol.
    private static ref Refusal Refused => ref *(Refusal*)RefusalAddress();

    /// <summary>Allocations that were asked for.</summary>
    public static ulong Asked => s_asked;

    /// <summary>The image has refusals of its own.</summary>
    public static bool HasRefusals => Refused.Count != 0;

    /// <summary>Refuses one allocation.</summary>
    /// <param name="after">How many are granted before it.</param>
    public static void Refuse(ulong after) => Refused = new Refusal { First = s_asked + after, Count = 1 };

    /// <summary>Refuses no more.</summary>
    /// <returns>Whether the allocation was asked for that was to be refused.</returns>
    public static bool EndRefusal()
    {
        bool isOver = s_asked > Refused.First;
        Refused = default;
        return isOver;
    }

    [System.Runtime.RuntimeImport("*", "svsm_refusal_address")]
    [MethodImpl(MethodImplOptions.InternalCall)]
    private static extern ulong RefusalAddress();
#endif

    /// <summary>Frames handed out. Other CPUs may be changing it.</summary>
    public static int Used => s_used;

    /// <summary>Frames in all.</summary>
    public static int Count => s_count;

    /// <summary>Takes over an area whose pages are all validated, and that nothing else uses.</summary>
    /// <param name="first">First byte, page-aligned.</param>
    /// <param name="count">Number of frames, at least 1.</param>
    /// <returns>False: there is no room for it; nothing was taken.</returns>
    public static bool TryAddArea(PhysicalAddress first, int count)
    {
        s_lock.Acquire(LockRank.Frames);
        int number = s_numbered + (int)(first.PageNumber % BuddySet.LargestBlock);
        bool fits = s_areaCount < MaxAreas && count > 0 && count <= MaxFrames - number;
        if (fits)
        {
            s_areas[s_areaCount++] = new Area { FirstPage = first.PageNumber, First = number, Count = count };
            s_numbered = (number + count + BuddySet.LargestBlock - 1) & ~(BuddySet.LargestBlock - 1);
            s_count += count;
            for (int next = number; next < number + count;)
            {
                int order = Math.Min(Math.Min(BitOperations.TrailingZeroCount(next), BuddySet.MaxOrder), BitOperations.Log2((uint)(number + count - next)));

                // Frames of a number that was never given before cannot be free.
                _ = Frames().TryReturn(next, order);
                next += 1 << order;
            }
        }

        s_lock.Release(LockRank.Frames);
        return fits;
    }

    /// <summary>Hands out a frame of zeroes.</summary>
    /// <returns>False: none is free.</returns>
    public static bool TryAllocate(out PhysicalAddress frame) => TryAllocate(0, out frame);

    /// <summary>Hands out consecutive frames of zeroes, aligned to their length.</summary>
    /// <param name="order">1 &lt;&lt; order frames, at most <see cref="BuddySet.MaxOrder"/>.</param>
    /// <param name="frame">The first one.</param>
    /// <returns>False: there are not so many free ones in a row.</returns>
    public static bool TryAllocate(int order, out PhysicalAddress frame)
    {
        frame = default;
#if SVSM_SELF_CHECK
        ulong asked = System.Threading.Interlocked.Increment(ref s_asked) - 1;
        if (asked - Refused.First < Refused.Count)
        {
            return false;
        }
#endif
        s_lock.Acquire(LockRank.Frames);
        bool taken = Frames().TryTake(order, out int number);
        if (taken)
        {
            s_used += 1 << order;
            frame = AddressOf(number);
        }

        s_lock.Release(LockRank.Frames);

        if (!taken)
        {
            // What the guest has lent comes last: so it gets it back as long as that is possible.
            return order == 0 && TryTakeSpare(out frame);
        }

        for (int i = 0; i < 1 << order; i++)
        {
            using FrameMapping mapping = FrameMapping.Map(new PhysicalAddress(frame.Value + ((ulong)i * Page.Size)));

            // SAFETY: a mapped page that nobody owns yet.
            new Span<byte>(mapping.Pointer, Page.Size).Clear();
        }

        return true;
    }

    /// <summary>Takes a frame back. No CPU has a translation to it any more.</summary>
    /// <param name="frame">What <see cref="TryAllocate(out PhysicalAddress)"/> handed out; anything else is a fault of the kernel.</param>
    public static void Free(PhysicalAddress frame) => Free(frame, 0);

    /// <summary>Takes a block back. No CPU has a translation to it any more.</summary>
    /// <param name="frame">What <see cref="TryAllocate(int, out PhysicalAddress)"/> handed out; anything else is a fault of the kernel.</param>
    /// <param name="order">Its order.</param>
    public static void Free(PhysicalAddress frame, int order)
    {
        s_lock.Acquire(LockRank.Frames);
        bool isOwn = TryNumber(frame, out int number);
        bool returned = isOwn && Frames().TryReturn(number, order);
        s_used -= returned ? 1 << order : 0;
        s_lock.Release(LockRank.Frames);
        if (!isOwn && order == 0 && frame.PageOffset == 0 && KernelMemory.PageStates.Get(frame.PageNumber) == PageState.Svsm)
        {
            Spare(frame);
        }
        else if (!returned)
        {
            throw new ArgumentOutOfRangeException(nameof(frame));
        }
    }

    // A frame of zeroes; those that the host has taken meanwhile are lost.
    private static bool TryTakeSpare(out PhysicalAddress frame)
    {
        while (SpareFrames.TryTake(out frame))
        {
            using FrameMapping mapping = FrameMapping.Map(frame);

            // SAFETY: only the address of a mapped page is taken.
            if (GuestAccess.TryZero((ulong)mapping.Pointer, PageSize.Small))
            {
                return true;
            }

            Lose(frame);
        }

        return false;
    }

    private static void Spare(PhysicalAddress frame)
    {
        if (!SpareFrames.TryAdd(frame))
        {
            Lose(frame);
        }
    }

    // Nobody else has the frame, and one that was lent has a state.
    private static void Lose(PhysicalAddress frame) => _ = KernelMemory.PageStates.TrySet(new PageRange(frame.PageNumber, 1), PageState.Lost);

    private static BuddySet Frames() => new(s_words, s_counts, MaxFrames);

    private static PhysicalAddress AddressOf(int number)
    {
        int area = 0;
        while (number - s_areas[area].First >= s_areas[area].Count)
        {
            area++;
        }

        return PhysicalAddress.OfPage(s_areas[area].FirstPage + (ulong)(number - s_areas[area].First));
    }

    private static bool TryNumber(PhysicalAddress frame, out int number)
    {
        for (int i = 0; i < s_areaCount; i++)
        {
            ulong offset = frame.PageNumber - s_areas[i].FirstPage;
            if (offset < (ulong)s_areas[i].Count)
            {
                number = s_areas[i].First + (int)offset;
                return frame.PageOffset == 0;
            }
        }

        number = 0;
        return false;
    }
}
