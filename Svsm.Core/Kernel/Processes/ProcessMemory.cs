// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The memory of a process: regions (RegionList.cs), page tables, and how many frames it may have. Free of hardware: frames and tables are
// reached through IProcessFrames, one after the other.
//
//   reserve   a region without rights: addresses and nothing else
//   commit    a region that may be written: counted against the limit, all of it, whether touched or not. What is more is refused
//   touch     a page fault: the page gets its frame, zeroes or a copy of the program, or the frame of the archive itself (text)
//
// So a process learns from a failed system call that memory is short, and not from a fault. The limit counts frames as well, page tables
// included: a process cannot get around it by touching what it later makes read-only.
//
// The kernel never uses an address of a process: it looks up the frame and maps that (TryCopyIn, TryCopyOut). So SMAP stays on, nothing can
// change between check and use, and a process need not be the one whose tables are loaded.
//
// Frames of the archive are in the tables with Borrowed, which the processor ignores: they are never written and never freed.
//
// Only the CPU that runs the process changes its tables; other CPUs have dropped its translations when they left it (ProcessTables.cs).

using System;
using Svsm.Kernel.Arch;
using Svsm.Kernel.Memory;

namespace Svsm.Kernel.Processes;

/// <summary>Frames and tables of a process.</summary>
internal interface IProcessFrames : ITableMemory
{
    /// <summary>Drops the translation of one page of the process that runs on this CPU.</summary>
    void Invalidate(ulong address);
}

/// <summary>Outcome of an access to memory of a process.</summary>
internal enum AccessResult : byte
{
    /// <summary>The page is there.</summary>
    Success,

    /// <summary>The process has no right to it.</summary>
    Denied,

    /// <summary>It has, but there is no frame for it, or it has as many as it may.</summary>
    NoMemory,
}

/// <summary>The memory of a process. Does not move, must not be copied.</summary>
internal unsafe struct ProcessMemory
{
    /// <summary>First address that no process has; the last page below the middle of the address space is never mapped.</summary>
    public const ulong UserEnd = 0x0000_7FFF_FFFF_F000;

    /// <summary>Lowest address that is handed out for memory.</summary>
    public const ulong HeapLow = ElfImage.MaxAddress;

    /// <summary>First address that is not handed out: all of it lies in one entry of the PML4.</summary>
    public const ulong HeapHigh = 0x0000_0040_0000_0000;

    /// <summary>Software's bit in an entry: the frame belongs to the archive.</summary>
    private const ulong Borrowed = 1ul << 9;

    private const int TopLevel = 3;

    /// <summary>The regions.</summary>
    public RegionList Regions;

    private PhysicalAddress _root;
    private ulong _encryptionMask;
    private ulong _archive;

    /// <summary>Most frames.</summary>
    public ulong PageLimit { get; private set; }

    /// <summary>Frames that the process has, page tables included.</summary>
    public ulong PageCount { get; private set; }

    /// <summary>The PML4 of the process; a CPU that runs it takes over its first entry.</summary>
    public readonly PhysicalAddress Root => _root;

    /// <summary>Makes an empty address space.</summary>
    /// <param name="frames">Where frames are.</param>
    /// <param name="encryptionMask">The C-bit.</param>
    /// <param name="archive">First byte of the archive, a guest-physical address.</param>
    /// <param name="pageLimit">Most frames.</param>
    /// <returns>False: no frame for the first table.</returns>
    public bool TryCreate<TFrames>(ref TFrames frames, ulong encryptionMask, ulong archive, ulong pageLimit)
        where TFrames : IProcessFrames
    {
        Regions = default;
        _encryptionMask = encryptionMask;
        _archive = archive;
        PageLimit = pageLimit;
        PageCount = 0;
        if (!frames.TryAllocate(out _root))
        {
            return false;
        }

        PageCount = 1;
        return true;
    }

    /// <summary>Frees everything. No CPU runs the process.</summary>
    public void Destroy<TFrames>(ref TFrames frames)
        where TFrames : IProcessFrames
    {
        if (PageCount != 0)
        {
            FreeTables(ref frames, _root, TopLevel);
            PageCount = 0;
            _root = default;
            Regions = default;
        }
    }

    /// <summary>Reserves addresses.</summary>
    /// <param name="length">Bytes, whole pages.</param>
    /// <param name="rights">Rights.</param>
    /// <param name="start">First address.</param>
    /// <returns>False: there are no addresses, or it would be too much that may be written.</returns>
    public bool TryMap(ulong length, AccessRights rights, out ulong start)
    {
        start = 0;
        return length != 0 && length <= HeapHigh && MayCommit((rights & AccessRights.Write) != 0 ? length / Page.Size : 0) &&
            Regions.TryFindGap(length, HeapLow, HeapHigh, out start) &&
            Regions.TryAdd(new Region { Start = start, End = start + length, Kind = RegionKind.Zero, Rights = rights });
    }

    /// <summary>Adds a segment of the program.</summary>
    /// <param name="segment">The segment.</param>
    /// <param name="file">Where the file begins in the archive.</param>
    /// <returns>False: no room, or too much that may be written.</returns>
    public bool TryAddSegment(in ElfSegment segment, ulong file)
    {
        bool writes = (segment.Rights & AccessRights.Write) != 0;
        return MayCommit(writes ? (segment.End - segment.Start) / Page.Size : 0) && Regions.TryAdd(new Region
        {
            Start = segment.Start,
            End = segment.End,
            Source = file + segment.Offset,
            SourceEnd = segment.FileEnd,
            Kind = writes ? RegionKind.PrivateFile : RegionKind.SharedFile,
            Rights = segment.Rights,
        });
    }

    /// <summary>Changes rights.</summary>
    /// <param name="frames">Where frames are.</param>
    /// <param name="start">First address, page-aligned. Untrusted otherwise.</param>
    /// <param name="length">Bytes, whole pages. Untrusted otherwise.</param>
    /// <param name="rights">The rights; not writable and executable.</param>
    /// <returns><see cref="AccessResult.Denied"/>: not all of it is the process's, or it is text. Unless success, nothing was changed.</returns>
    public AccessResult Protect<TFrames>(ref TFrames frames, ulong start, ulong length, AccessRights rights)
        where TFrames : IProcessFrames
    {
        if (start >= UserEnd || length > UserEnd - start || !Regions.Covers(start, start + length) || Regions.HasText(start, start + length))
        {
            return AccessResult.Denied;
        }

        bool writes = (rights & AccessRights.Write) != 0;
        if (!MayCommit(writes ? Regions.CountReadOnly(start, start + length) : 0) || !Regions.TrySetRights(start, start + length, rights))
        {
            return AccessResult.NoMemory;
        }

        Visit(ref frames, start, start + length, Flags(rights), free: false);
        return AccessResult.Success;
    }

    /// <summary>Gives addresses back, and the frames behind them.</summary>
    /// <param name="frames">Where frames are.</param>
    /// <param name="start">First address, page-aligned. Untrusted otherwise.</param>
    /// <param name="length">Bytes, whole pages. Untrusted otherwise.</param>
    /// <returns><see cref="AccessResult.Denied"/>: no addresses, or not those of a process; <see cref="AccessResult.NoMemory"/>: the list of regions
    /// is full.</returns>
    public AccessResult Unmap<TFrames>(ref TFrames frames, ulong start, ulong length)
        where TFrames : IProcessFrames
    {
        if (length == 0 || start >= UserEnd || length > UserEnd - start)
        {
            return AccessResult.Denied;
        }

        if (!Regions.TryRemove(start, start + length))
        {
            return AccessResult.NoMemory;
        }

        Visit(ref frames, start, start + length, 0, free: true);
        return AccessResult.Success;
    }

    /// <summary>Gives the frames of a range back; the addresses stay, with zeroes. Pages of the program are left alone.</summary>
    /// <param name="frames">Where frames are.</param>
    /// <param name="start">First address, page-aligned. Untrusted otherwise.</param>
    /// <param name="length">Bytes, whole pages. Untrusted otherwise.</param>
    /// <returns><see cref="AccessResult.Denied"/>: not all of it is memory of zeroes.</returns>
    public AccessResult Discard<TFrames>(ref TFrames frames, ulong start, ulong length)
        where TFrames : IProcessFrames
    {
        if (start >= UserEnd || length > UserEnd - start || !Regions.Covers(start, start + length))
        {
            return AccessResult.Denied;
        }

        for (ulong address = start; address < start + length;)
        {
            _ = Regions.TryFind(address, out Region region);
            if (region.Kind != RegionKind.Zero)
            {
                return AccessResult.Denied;
            }

            address = region.End;
        }

        Visit(ref frames, start, start + length, 0, free: true);
        return AccessResult.Success;
    }

    /// <summary>Makes sure that a page is there, for an access of the process or in its name.</summary>
    /// <param name="frames">Where frames are.</param>
    /// <param name="contents">The archive.</param>
    /// <param name="address">Any number.</param>
    /// <param name="wanted">What the access is: one right.</param>
    /// <param name="frame">The frame of its page.</param>
    public AccessResult Touch<TFrames>(ref TFrames frames, ReadOnlySpan<byte> contents, ulong address, AccessRights wanted, out PhysicalAddress frame)
        where TFrames : IProcessFrames
    {
        frame = default;
        if (address >= UserEnd || !Regions.TryFind(address, out Region region) || (region.Rights & wanted) == 0)
        {
            return AccessResult.Denied;
        }

        PageTables<TFrames> tables = new(ref frames, _encryptionMask);
        ulong page = address & ~(ulong)(Page.Size - 1);
        ulong entry = tables.Read(_root, page, 0);
        if (entry != 0)
        {
            frame = tables.AddressOf(entry);
            return AccessResult.Success;
        }

        if (region.Kind == RegionKind.SharedFile)
        {
            frame = new PhysicalAddress(_archive + region.Source + (page - region.Start));
            return Map(ref frames, page, frame, Flags(region.Rights) | Borrowed) ? AccessResult.Success : AccessResult.NoMemory;
        }

        if (PageCount >= PageLimit || !frames.TryAllocate(out frame))
        {
            return AccessResult.NoMemory;
        }

        if (region.Kind == RegionKind.PrivateFile && page < region.SourceEnd)
        {
            int length = (int)Math.Min((ulong)Page.Size, region.SourceEnd - page);
            ulong* target = frames.Map(frame);

            // SAFETY: Map gives a page, and length is at most that.
            contents.Slice((int)(region.Source + (page - region.Start)), length).CopyTo(new Span<byte>(target, length));
            frames.Unmap(target);
        }

        if (!Map(ref frames, page, frame, Flags(region.Rights)))
        {
            frames.Free(frame);
            return AccessResult.NoMemory;
        }

        PageCount++;
        return AccessResult.Success;
    }

    /// <summary>Copies out of the process.</summary>
    /// <param name="frames">Where frames are.</param>
    /// <param name="contents">The archive.</param>
    /// <param name="address">Where from. Untrusted.</param>
    /// <param name="destination">Where to.</param>
    public AccessResult TryCopyIn<TFrames>(ref TFrames frames, ReadOnlySpan<byte> contents, ulong address, Span<byte> destination)
        where TFrames : IProcessFrames
    {
        while (!destination.IsEmpty)
        {
            AccessResult result = Touch(ref frames, contents, address, AccessRights.Read, out PhysicalAddress frame);
            if (result != AccessResult.Success)
            {
                return result;
            }

            int offset = (int)(address & (Page.Size - 1));
            int length = Math.Min(destination.Length, Page.Size - offset);
            byte* source = (byte*)frames.Map(frame);

            // SAFETY: Map gives a page, and offset + length is at most that.
            new ReadOnlySpan<byte>(source + offset, length).CopyTo(destination);
            frames.Unmap((ulong*)source);
            destination = destination.Slice(length);
            address += (ulong)length;
        }

        return AccessResult.Success;
    }

    /// <summary>Copies into the process.</summary>
    /// <param name="frames">Where frames are.</param>
    /// <param name="contents">The archive.</param>
    /// <param name="address">Where to. Untrusted.</param>
    /// <param name="source">Where from.</param>
    /// <returns>Unless it is success, a part may have been copied.</returns>
    public AccessResult TryCopyOut<TFrames>(ref TFrames frames, ReadOnlySpan<byte> contents, ulong address, ReadOnlySpan<byte> source)
        where TFrames : IProcessFrames
    {
        while (!source.IsEmpty)
        {
            AccessResult result = Touch(ref frames, contents, address, AccessRights.Write, out PhysicalAddress frame);
            if (result != AccessResult.Success)
            {
                return result;
            }

            int offset = (int)(address & (Page.Size - 1));
            int length = Math.Min(source.Length, Page.Size - offset);
            byte* target = (byte*)frames.Map(frame);

            // SAFETY: as in TryCopyIn.
            source.Slice(0, length).CopyTo(new Span<byte>(target + offset, length));
            frames.Unmap((ulong*)target);
            source = source.Slice(length);
            address += (ulong)length;
        }

        return AccessResult.Success;
    }

    private readonly bool MayCommit(ulong pages) => pages <= PageLimit && Regions.WritablePages <= PageLimit - pages;

    // The bits of an entry. Without rights it is not present, but keeps its frame.
    private static ulong Flags(AccessRights rights) =>
        rights == AccessRights.None ? PageEntry.NoExecute | PageEntry.User :
        PageEntry.Present | PageEntry.User | PageEntry.Accessed |
        ((rights & AccessRights.Write) != 0 ? PageEntry.Writable | PageEntry.Dirty : 0) |
        ((rights & AccessRights.Execute) != 0 ? 0 : PageEntry.NoExecute);

    private const ulong RightsMask = PageEntry.Present | PageEntry.Writable | PageEntry.Accessed | PageEntry.Dirty | PageEntry.NoExecute | PageEntry.User;

    // Maps a page; its tables count as frames of the process.
    private bool Map<TFrames>(ref TFrames frames, ulong page, PhysicalAddress frame, ulong flags)
        where TFrames : IProcessFrames
    {
        PageTables<TFrames> tables = new(ref frames, _encryptionMask);
        int missing = 0;
        for (int level = 1; level < TopLevel + 1 && tables.Read(_root, page, level) == 0; level++)
        {
            missing++;
        }

        // One more for the page itself. Tables that were made before a frame was lacking stay, and were counted.
        if (PageCount + (ulong)missing >= PageLimit)
        {
            return false;
        }

        bool mapped = tables.Map(_root, page, frame, flags) == MemoryError.None;
        for (int level = 1; level < TopLevel + 1 && missing != 0; level++)
        {
            bool made = tables.Read(_root, page, level) != 0;
            PageCount += made && level <= missing ? 1u : 0;
        }

        return mapped;
    }

    // Changes, or frees, what is mapped in a range.
    private void Visit<TFrames>(ref TFrames frames, ulong start, ulong end, ulong flags, bool free)
        where TFrames : IProcessFrames
    {
        PageTables<TFrames> tables = new(ref frames, _encryptionMask);
        ulong address = start;

        // No region lies above; a process may name addresses there all the same, 128 TiB of them.
        end = Math.Min(end, HeapHigh);
        while (address < end)
        {
            ulong next = (address & ~(Page.LargeSize - 1)) + Page.LargeSize;
            ulong table = tables.Read(_root, address, 1);
            if (table != 0)
            {
                VisitTable(ref frames, tables.AddressOf(table), address, Math.Min(next, end), flags, free);
            }
            else if (tables.Read(_root, address, 2) == 0)
            {
                next = (address & ~((Page.LargeSize * 512) - 1)) + (Page.LargeSize * 512);
            }

            address = next;
        }
    }

    private void VisitTable<TFrames>(ref TFrames frames, PhysicalAddress table, ulong start, ulong end, ulong flags, bool free)
        where TFrames : IProcessFrames
    {
        ulong* entries = frames.Map(table);
        for (ulong address = start; address < end; address += Page.Size)
        {
            // SAFETY: Map gives 512 entries.
            ref ulong slot = ref entries[(address >> Page.Shift) % Page.PerLarge];
            ulong entry = slot;
            if (entry == 0)
            {
                continue;
            }

            // A page of the archive is never made writable: the process gets a copy when it touches it.
            slot = free || ((entry & Borrowed) != 0 && (flags & PageEntry.Writable) != 0) ? 0 : (entry & ~RightsMask) | flags;
            frames.Invalidate(address);
            if (free && (entry & Borrowed) == 0)
            {
                frames.Free(new PhysicalAddress(entry & PageEntry.AddressMask & ~_encryptionMask));
                PageCount--;
            }
        }

        frames.Unmap(entries);
    }

    private readonly void FreeTables<TFrames>(ref TFrames frames, PhysicalAddress table, int level)
        where TFrames : IProcessFrames
    {
        ulong* entries = frames.Map(table);
        for (int i = 0; i < Page.PerLarge; i++)
        {
            // SAFETY: Map gives 512 entries.
            ulong entry = entries[i];
            PhysicalAddress next = new(entry & PageEntry.AddressMask & ~_encryptionMask);
            if (entry == 0 || (level == 0 && (entry & Borrowed) != 0))
            {
                continue;
            }

            if (level == 0)
            {
                frames.Free(next);
            }
            else
            {
                FreeTables(ref frames, next, level - 1);
            }
        }

        frames.Unmap(entries);
        frames.Free(table);
    }
}
