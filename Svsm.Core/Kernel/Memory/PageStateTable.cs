// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The state of every 4-KiB page of the VM, for all CPUs. Two levels, and both only where there is memory:
//
//   runs     [first, count) of 2-MiB pages, ascending             which ones have RAM or memory of the SVSM; found by bisection
//   chunks   u32 per 2-MiB page: bits 3:0 state of all its pages  or, with bit 30, "see the bytes"; bit 31 is the lock
//   pages    u8 per 4-KiB page: bits 3:0 state, 7:4 pins          not looked at, and not even zeroed, while the 2-MiB page is of one state
//
// So 516 bytes for 2 MiB (0.025 %), nothing for holes, and a 2-MiB page changes its state as fast as a 4-KiB page does.
//
// A transition is Begin, the work, End. Begin moves the pages to Changing, if they are in the state to leave and nobody uses them; until End
// nobody else can begin, and a page that Changes is nobody's. The lock is held for the bookkeeping alone, never while anything is waited for:
// who comes second gets Busy at once. Whoever works on a page of the guest without changing its state pins it: a pinned page does not leave
// its state.
//
//   Absent        no such page. Zero
//   Unvalidated   not usable by anybody; shared with the host or private, as the guest and the host please
//   Guest         validated, the guest has all rights
//   CallingArea   like Guest, and the SVSM reads and writes it
//   Vmsa          a VMSA of the guest: nobody but the processor and the SVSM uses it
//   Svsm          memory of the SVSM
//   Changing      between two of the others
//   Lost          the host took the page in the middle of a change, or the guest gave it away unasked: whether it is validated nobody knows,
//                 so it is never validated again
//
// GuestPages.cs holds the transitions; nothing else changes states after booting.

using System;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using System.Threading;

namespace Svsm.Kernel.Memory;

/// <summary>State of a 4-KiB page.</summary>
internal enum PageState : byte
{
    /// <summary>There is no such page.</summary>
    Absent = 0,

    /// <summary>Not validated.</summary>
    Unvalidated = 1,

    /// <summary>Validated, all rights for the guest.</summary>
    Guest = 2,

    /// <summary>As <see cref="Guest"/>, and a calling area.</summary>
    CallingArea = 3,

    /// <summary>A VMSA of the guest.</summary>
    Vmsa = 4,

    /// <summary>Memory of the SVSM.</summary>
    Svsm = 5,

    /// <summary>In the middle of a transition.</summary>
    Changing = 6,

    /// <summary>Of no use to anybody, for ever.</summary>
    Lost = 7,
}

/// <summary>Consecutive 2-MiB pages that have states.</summary>
internal struct ChunkRun
{
    /// <summary>Number of the first one: address / 2 MiB.</summary>
    public ulong First;

    /// <summary>How many.</summary>
    public ulong Count;

    /// <summary>Where the first one is in the table.</summary>
    public ulong Index;
}

/// <summary>A view of the page states.</summary>
internal readonly unsafe ref struct PageStateTable
{
    private const int ChunkShift = 9;
    private const uint StateMask = 0xF;
    private const uint PinUnit = 0x10;
    private const uint PinMask = 0xF0;
    private const uint SplitBit = 1u << 30;
    private const uint LockBit = 1u << 31;
    private const ulong EachByte = 0x0101_0101_0101_0101;

    private readonly ReadOnlySpan<ChunkRun> _runs;

    // SAFETY (whole class): the memory has room for every chunk of the runs, and an index comes from a run.
    private readonly uint* _chunks;
    private readonly byte* _pages;

    /// <summary>Makes a view.</summary>
    /// <param name="runs">What <see cref="TryMakeRuns"/> made.</param>
    /// <param name="memory">As many bytes as <see cref="BytesFor"/> says, aligned to 8, that stay where they are.</param>
    public PageStateTable(ReadOnlySpan<ChunkRun> runs, void* memory)
    {
        _runs = runs;
        _chunks = (uint*)memory;
        _pages = (byte*)memory + ChunkBytes(ChunkCount(runs));
    }

    /// <summary>Lists the 2-MiB pages that ranges of pages lie in.</summary>
    /// <param name="ranges">Disjoint ranges in any order.</param>
    /// <param name="runs">Room for the list: one more than there are ranges is enough.</param>
    /// <param name="count">Number of runs.</param>
    /// <returns>False: no room.</returns>
    public static bool TryMakeRuns(ReadOnlySpan<PageRange> ranges, Span<ChunkRun> runs, out int count)
    {
        count = 0;
        for (int i = 0; i < ranges.Length; i++)
        {
            if (ranges[i].Count == 0)
            {
                continue;
            }

            ulong first = ranges[i].First >> ChunkShift;
            ulong end = ((ranges[i].End - 1) >> ChunkShift) + 1;
            int from = 0;
            while (from < count && runs[from].First + runs[from].Count < first)
            {
                from++;
            }

            int to = from;
            for (; to < count && runs[to].First <= end; to++)
            {
                first = Math.Min(first, runs[to].First);
                end = Math.Max(end, runs[to].First + runs[to].Count);
            }

            if (to == from && count == runs.Length)
            {
                return false;
            }

            // Those from "from" to "to" become one; or there is a new one between its neighbours.
            runs.Slice(to, count - to).CopyTo(runs.Slice(from + 1));
            count += from + 1 - to;
            runs[from] = new ChunkRun { First = first, Count = end - first };
        }

        ulong index = 0;
        for (int i = 0; i < count; i++)
        {
            runs[i].Index = index;
            index += runs[i].Count;
        }

        return true;
    }

    /// <summary>Bytes that the states of these runs take.</summary>
    public static ulong BytesFor(ReadOnlySpan<ChunkRun> runs)
    {
        ulong chunks = ChunkCount(runs);
        return ChunkBytes(chunks) + (chunks << ChunkShift);
    }

    /// <summary>Makes every page absent. Before anything else, on any contents of the memory.</summary>
    public void Clear()
    {
        ulong chunks = ChunkCount(_runs);
        for (ulong i = 0; i < chunks; i++)
        {
            _chunks[i] = (uint)PageState.Absent;
        }
    }

    /// <summary>Sets the state of consecutive pages, whatever it was. While booting, and for pages of the SVSM that only the caller uses.</summary>
    /// <returns>False: a page lies in no run; nothing was changed.</returns>
    public bool TrySet(PageRange range, PageState state)
    {
        if (range.Count == 0 || !TryFind(range.First, out ulong index) || !TryFind(range.End - 1, out ulong last) || last - index != ((range.End - 1) >> ChunkShift) - (range.First >> ChunkShift))
        {
            return false;
        }

        ulong page = range.First;
        while (page < range.End)
        {
            ref uint chunk = ref _chunks[index];
            uint word = Lock(ref chunk);
            int first = (int)(page % Page.PerLarge);
            int count = (int)Math.Min((ulong)(Page.PerLarge - first), range.End - page);
            if (count == Page.PerLarge)
            {
                word = (uint)state;
            }
            else
            {
                word = Split(index, word);
                PagesOf(index).Slice(first, count).Fill((byte)state);
            }

            Unlock(ref chunk, word);
            page += (ulong)count;
            index++;
        }

        return true;
    }

    /// <summary>State of one page, at this moment.</summary>
    /// <param name="page">Number of the page. Untrusted.</param>
    public PageState Get(ulong page)
    {
        if (!TryFind(page, out ulong index))
        {
            return PageState.Absent;
        }

        uint word = Volatile.Read(ref _chunks[index]);
        return (PageState)(((word & SplitBit) != 0 ? Volatile.Read(ref _pages[Byte(index, page)]) : word) & StateMask);
    }

    /// <summary>Finds the next page that is in a state at this moment.</summary>
    /// <param name="state">The state, not <see cref="PageState.Absent"/>.</param>
    /// <param name="page">Number of the page to begin with; gets that of the page.</param>
    /// <returns>False: there is none.</returns>
    public bool TryFindNext(PageState state, ref ulong page)
    {
        for (int i = 0; i < _runs.Length; i++)
        {
            ref readonly ChunkRun run = ref _runs[i];
            page = Math.Max(page, run.First << ChunkShift);
            while ((page >> ChunkShift) - run.First < run.Count)
            {
                ulong index = run.Index + ((page >> ChunkShift) - run.First);
                uint word = Volatile.Read(ref _chunks[index]);
                bool isSplit = (word & SplitBit) != 0;
                if ((PageState)((isSplit ? Volatile.Read(ref _pages[Byte(index, page)]) : word) & StateMask) == state)
                {
                    return true;
                }

                page = isSplit ? page + 1 : ((page >> ChunkShift) + 1) << ChunkShift;
            }
        }

        return false;
    }

    /// <summary>Begins a transition: the page is <see cref="PageState.Changing"/> until <see cref="End"/>.</summary>
    /// <param name="address">First byte of the page, aligned to <paramref name="size"/>. Untrusted otherwise.</param>
    /// <param name="size">Size of the page.</param>
    /// <param name="from">The state to leave.</param>
    /// <param name="to">The state to reach.</param>
    /// <returns>
    /// <see cref="PageResult.NoChange"/>: all of it is there already. <see cref="PageResult.Busy"/>: it is changing, or pinned.
    /// <see cref="PageResult.SizeMismatch"/>: its 4-KiB pages are partly in one, partly in the other state.
    /// <see cref="PageResult.InvalidAddress"/>: any other state. Unless <see cref="PageResult.Success"/>, nothing changed.
    /// </returns>
    public PageResult Begin(PhysicalAddress address, PageSize size, PageState from, PageState to) => BeginAt(address, size, from, to, out _);

    /// <summary>As <see cref="Begin"/>, and says where in the table the page is.</summary>
    /// <param name="address">As there.</param>
    /// <param name="size">As there.</param>
    /// <param name="from">As there.</param>
    /// <param name="to">As there.</param>
    /// <param name="index">The place, for <see cref="EndAt"/>; without meaning unless the result is <see cref="PageResult.Success"/>.</param>
    public PageResult BeginAt(PhysicalAddress address, PageSize size, PageState from, PageState to, out ulong index)
    {
        if (!TryFind(address.PageNumber, out index))
        {
            return PageResult.InvalidAddress;
        }

        ref uint chunk = ref _chunks[index];
        uint word = Lock(ref chunk);
        PageResult result;
        if ((word & SplitBit) == 0)
        {
            result = Admit(word, from, to);
            if (result == PageResult.Success)
            {
                word = size == PageSize.Large ? (uint)PageState.Changing : Split(index, word);
            }
        }
        else
        {
            result = size == PageSize.Large ? AdmitAll(index, from, to) : Admit(_pages[Byte(index, address.PageNumber)], from, to);
            if (result == PageResult.Success && size == PageSize.Large)
            {
                word = (uint)PageState.Changing;
            }
        }

        if (result == PageResult.Success && size == PageSize.Small)
        {
            _pages[Byte(index, address.PageNumber)] = (byte)PageState.Changing;
        }

        Unlock(ref chunk, word);
        return result;
    }

    /// <summary>Ends a transition.</summary>
    /// <param name="address">As given to <see cref="Begin"/>.</param>
    /// <param name="size">As given to <see cref="Begin"/>.</param>
    /// <param name="state">The state from now on.</param>
    public void End(PhysicalAddress address, PageSize size, PageState state)
    {
        if (!TryFind(address.PageNumber, out ulong index))
        {
            throw new ArgumentOutOfRangeException(nameof(address));
        }

        EndAt(address, size, state, index);
    }

    /// <summary>Ends a transition without looking for the page again.</summary>
    /// <param name="address">As given to <see cref="BeginAt"/>.</param>
    /// <param name="size">As given there.</param>
    /// <param name="state">The state from now on.</param>
    /// <param name="index">What it returned with success.</param>
    public void EndAt(PhysicalAddress address, PageSize size, PageState state, ulong index)
    {
        if (size == PageSize.Small)
        {
            // Nobody but the caller writes the byte of a page that changes, and a 2-MiB page with such a byte stays split.
            Volatile.Write(ref _pages[Byte(index, address.PageNumber)], (byte)state);
            return;
        }

        // The lock: else someone who looks at the word just now writes the old one back.
        ref uint chunk = ref _chunks[index];
        Lock(ref chunk);
        Unlock(ref chunk, (uint)state);
    }

    /// <summary>Keeps a page of the guest in its state until <see cref="Unpin"/>.</summary>
    /// <param name="page">Number of the page. Untrusted.</param>
    /// <returns>
    /// <see cref="PageResult.InvalidAddress"/>: neither <see cref="PageState.Guest"/> nor <see cref="PageState.CallingArea"/>.
    /// <see cref="PageResult.Busy"/>: it is changing, or has as many pins as it can have.
    /// </returns>
    public PageResult Pin(ulong page)
    {
        if (!TryFind(page, out ulong index))
        {
            return PageResult.InvalidAddress;
        }

        ref uint chunk = ref _chunks[index];
        uint word = Lock(ref chunk);
        uint entry = (word & SplitBit) != 0 ? _pages[Byte(index, page)] : word;
        PageResult result = (PageState)(entry & StateMask) switch
        {
            PageState.Changing => PageResult.Busy,
            PageState.Guest or PageState.CallingArea => (entry & PinMask) == PinMask ? PageResult.Busy : PageResult.Success,
            _ => PageResult.InvalidAddress,
        };
        if (result == PageResult.Success)
        {
            word = Split(index, word);
            _pages[Byte(index, page)] += (byte)PinUnit;
        }

        Unlock(ref chunk, word);
        return result;
    }

    /// <summary>Ends a <see cref="Pin"/>.</summary>
    public void Unpin(ulong page)
    {
        if (!TryFind(page, out ulong index) || (_pages[Byte(index, page)] & PinMask) == 0)
        {
            throw new ArgumentOutOfRangeException(nameof(page));
        }

        ref uint chunk = ref _chunks[index];
        uint word = Lock(ref chunk);
        _pages[Byte(index, page)] -= (byte)PinUnit;
        Unlock(ref chunk, word);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static PageResult Admit(uint entry, PageState from, PageState to)
    {
        PageState state = (PageState)(entry & StateMask);
        return state == from ? (entry & PinMask) == 0 ? PageResult.Success : PageResult.Busy
            : state == to ? PageResult.NoChange
            : state == PageState.Changing ? PageResult.Busy
            : PageResult.InvalidAddress;
    }

    // Eight pages at a time as long as they are alike, which is the common case.
    private PageResult AdmitAll(ulong index, PageState from, PageState to)
    {
        ulong* eight = (ulong*)(_pages + (index << ChunkShift));
        ulong wanted = (ulong)from * EachByte;
        int same = 0;
        while (same < Page.PerLarge / 8 && eight[same] == wanted)
        {
            same++;
        }

        if (same == Page.PerLarge / 8)
        {
            return PageResult.Success;
        }

        bool ready = same > 0;
        bool done = false;
        bool busy = false;
        for (int i = same * 8; i < Page.PerLarge; i++)
        {
            switch (Admit(_pages[(index << ChunkShift) + (ulong)i], from, to))
            {
                case PageResult.Success:
                    ready = true;
                    break;
                case PageResult.NoChange:
                    done = true;
                    break;
                case PageResult.Busy:
                    busy = true;
                    break;
                default:
                    return PageResult.InvalidAddress;
            }
        }

        return busy ? PageResult.Busy : !done ? PageResult.Success : ready ? PageResult.SizeMismatch : PageResult.NoChange;
    }

    private uint Split(ulong index, uint word)
    {
        if ((word & SplitBit) == 0)
        {
            PagesOf(index).Fill((byte)word);
        }

        return SplitBit;
    }

    private Span<byte> PagesOf(ulong index) => new(_pages + (index << ChunkShift), Page.PerLarge);

    private static ulong Byte(ulong index, ulong page) => (index << ChunkShift) + (page % Page.PerLarge);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool TryFind(ulong page, out ulong index)
    {
        ulong number = page >> ChunkShift;
        int low = 0;
        int high = _runs.Length;
        while (low < high)
        {
            int middle = (low + high) >> 1;
            ref readonly ChunkRun run = ref _runs[middle];
            if (number - run.First < run.Count)
            {
                index = run.Index + (number - run.First);
                return true;
            }

            if (number < run.First)
            {
                high = middle;
            }
            else
            {
                low = middle + 1;
            }
        }

        index = 0;
        return false;
    }

    // Returns the word without the lock bit.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static uint Lock(ref uint chunk)
    {
        while (true)
        {
            uint word = Volatile.Read(ref chunk);
            if ((word & LockBit) == 0 && Interlocked.CompareExchange(ref chunk, word | LockBit, word) == word)
            {
                return word;
            }

            X86Base.Pause();
        }
    }

    private static void Unlock(ref uint chunk, uint word) => Volatile.Write(ref chunk, word);

    private static ulong ChunkCount(ReadOnlySpan<ChunkRun> runs)
    {
        if (runs.Length == 0)
        {
            return 0;
        }

        ref readonly ChunkRun last = ref runs[runs.Length - 1];
        return last.Index + last.Count;
    }

    // The bytes of pages begin at a multiple of 8.
    private static ulong ChunkBytes(ulong chunks) => ((chunks * sizeof(uint)) + 7) & ~7ul;
}
