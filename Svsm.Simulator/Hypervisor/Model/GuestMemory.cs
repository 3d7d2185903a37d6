// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// The guest's memory with its reverse map (RMP): which pages exist, who owns them, what backs them, and who may do what.
// For everything that touches guest memory: nested page faults, the guest page walk, the instructions and the host's requests.
//
//   _directory   one pointer per 2 MiB of guest-physical space up to the end of RAM, null where there is no RAM
//     `- 512 x GuestPage
//
// Private and shared views of a page never share a frame, and frames are allocated when first touched:
//   shared, never private before    zeroes
//   private, fresh                  a pattern, where hardware would give ciphertext; a launch writes its contents over it
//   shared, was private before      the same pattern: on hardware the guest would read what encryption leaves of its page
// A change of state drops the frame of the old view, so nothing survives shared -> private -> shared or the other way round.

using System.Runtime.CompilerServices;
using Svsm.Simulator.Shared;
using Svsm.Wire;

namespace Svsm.Hypervisor;

/// <summary>What an access wants to do.</summary>
internal enum AccessKind
{
    /// <summary>Read.</summary>
    Read,

    /// <summary>Write.</summary>
    Write,

    /// <summary>Instruction fetch.</summary>
    Fetch,
}

/// <summary>What the RMP says to an access.</summary>
internal enum AccessVerdict
{
    /// <summary>Go on.</summary>
    Allowed,

    /// <summary>The page is assigned but not validated: #VC with error code 0x404 on hardware.</summary>
    NotValidated,

    /// <summary>There is no memory.</summary>
    NoMemory,

    /// <summary>A private access to a page that is not assigned.</summary>
    PrivateAccessToSharedPage,

    /// <summary>A shared access to a page that is assigned.</summary>
    SharedAccessToPrivatePage,

    /// <summary>A fetch through a shared mapping.</summary>
    SharedFetch,

    /// <summary>The VMPL has no such right.</summary>
    VmplPermission,

    /// <summary>The page is a VMSA that runs.</summary>
    VmsaPage,
}

/// <summary>Guest memory and its RMP.</summary>
internal sealed unsafe class GuestMemory
{
    // SAFETY (whole type): pages come from Find, which checks the address against RAM; frames come from the pool, are whole pages, and belong to one view of one page.

    /// <summary>What a page holds whose contents hardware would leave as ciphertext. Not canonical, so a pointer of it faults.</summary>
    public const ulong Ciphertext = 0xA5C3_A5C3_A5C3_A5C3;

    /// <summary>Most ranges of RAM.</summary>
    public const int MaxRanges = (int)LaunchHeader.MaxRamCount;

    private const int PagesPerDirectoryEntry = 512;
    private const ulong TableFrames = PagesPerDirectoryEntry * 16 / Amd64.PageSize;

    private readonly FramePool _pool;
    private readonly LaunchRam[] _ranges = new LaunchRam[MaxRanges];
    private int _rangeCount;
    private GuestPage** _directory;

    // The range that the last lookup hit: nearly all hit the same one.
    private ulong _recentBase;
    private ulong _recentLength;
    private ulong _directoryLength;

    private readonly VcpuThreads? _threads;

    /// <summary>Makes a guest without memory.</summary>
    /// <param name="pool">Where frames come from.</param>
    /// <param name="threads">Who may be using it meanwhile; null = nobody.</param>
    public GuestMemory(FramePool pool, VcpuThreads? threads = null)
    {
        _pool = pool;
        _threads = threads;
        NestedTables = new NestedPageTables(pool);
        Stale = new StaleTranslations(pool, threads);
        Dma = new DmaTables(pool);
    }

    /// <summary>The nested page tables that follow the RMP.</summary>
    public NestedPageTables NestedTables { get; }

    /// <summary>Translations that should have been flushed.</summary>
    public StaleTranslations Stale { get; }

    /// <summary>What devices reach.</summary>
    public DmaTables Dma { get; }

    /// <summary>Changes when a page that remembered translations go through changes. Never 0.</summary>
    public ulong Generation { get; private set; } = 1;

    /// <summary>Number of ranges of RAM.</summary>
    public int RangeCount => _rangeCount;

    /// <summary>A range of RAM.</summary>
    /// <param name="index">Below <see cref="RangeCount"/>.</param>
    public LaunchRam Range(int index) => _ranges[index];

    /// <summary>The page at an address of RAM, or null when nothing ever happened to it.</summary>
    /// <param name="gpa">In a range.</param>
    public GuestPage* FindTouched(ulong gpa)
    {
        // SAFETY: gpa lies in a range, so below the end that the directory was sized for; a table has 512 pages.
        GuestPage* table = _directory[gpa / Amd64.LargePageSize];
        return table == null ? null : &table[(gpa / Amd64.PageSize) % PagesPerDirectoryEntry];
    }

    /// <summary>Adds RAM. All of it must be added before <see cref="Seal"/>.</summary>
    /// <param name="range">Page-aligned, not empty, below the C-bit.</param>
    /// <returns>False when the range is malformed, overlaps another, or is one too many.</returns>
    public bool TryAddRam(LaunchRam range)
    {
        if (_rangeCount == MaxRanges || range.Length == 0 || ((range.Base | range.Length) & (Amd64.PageSize - 1)) != 0
            || range.Base >= Amd64.CBit || range.Length > Amd64.CBit - range.Base)
        {
            return false;
        }

        for (int i = 0; i < _rangeCount; i++)
        {
            if (range.Base < _ranges[i].Base + _ranges[i].Length && _ranges[i].Base < range.Base + range.Length)
            {
                return false;
            }
        }

        _ranges[_rangeCount++] = range;
        return true;
    }

    /// <summary>Builds the directory. No RAM can be added after this.</summary>
    public void Seal()
    {
        ulong end = 0;
        for (int i = 0; i < _rangeCount; i++)
        {
            end = System.Math.Max(end, _ranges[i].Base + _ranges[i].Length);
        }

        _directoryLength = (end + Amd64.LargePageSize - 1) / Amd64.LargePageSize;
        ulong frames = ((_directoryLength * (ulong)sizeof(GuestPage*)) + Amd64.PageSize - 1) / Amd64.PageSize;
        _directory = (GuestPage**)_pool.AllocateZeroed(System.Math.Max(frames, 1));
    }

    /// <summary>The page at an address.</summary>
    /// <param name="gpa">Guest-physical, without C-bit.</param>
    /// <returns>The page, or null where there is no RAM.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public GuestPage* Find(ulong gpa)
    {
        if (gpa - _recentBase < _recentLength)
        {
            // SAFETY: gpa lies in a range, so below the end that the directory was sized for; a table has 512 pages.
            GuestPage* table = _directory[gpa / Amd64.LargePageSize];
            if (table != null)
            {
                return &table[(gpa / Amd64.PageSize) % PagesPerDirectoryEntry];
            }
        }

        return FindAnywhere(gpa);
    }

    /// <summary>Bytes of a page in its private view. The caller has checked that it is assigned.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* PrivateBytes(GuestPage* page)
    {
        byte* frame = page->PrivateFrame;
        return frame != null ? frame : AllocatePrivate(page);
    }

    /// <summary>Bytes of a page in its shared view. The caller has checked that it is not assigned.</summary>
    public byte* SharedBytes(GuestPage* page)
    {
        if (page->SharedFrame == null)
        {
            byte* frame = _pool.Allocate();
            FramePool.Fill(frame, 1, page->OncePrivate ? Ciphertext : 0);
            page->SharedFrame = frame;
        }

        return page->SharedFrame;
    }

    /// <summary>Whether all of a range is RAM that is shared. An empty one is.</summary>
    /// <param name="gpa">First byte, guest-physical, without C-bit.</param>
    /// <param name="length">Number of bytes.</param>
    public bool IsShared(ulong gpa, ulong length)
    {
        if (gpa > ulong.MaxValue - length)
        {
            return false;
        }

        for (ulong page = Amd64.PageOf(gpa); page < gpa + length; page += Amd64.PageSize)
        {
            GuestPage* found = Find(page);
            if (found == null || found->Assigned)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Copies from the shared view, as a device of the host does.</summary>
    /// <param name="gpa">First byte, in RAM that is shared as far as the copy goes.</param>
    /// <param name="bytes">Where to.</param>
    public void CopyFromShared(ulong gpa, System.Span<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            System.Span<byte> piece = SharedPiece(gpa, bytes.Length);
            piece.CopyTo(bytes);
            bytes = bytes.Slice(piece.Length);
            gpa += (ulong)piece.Length;
        }
    }

    /// <summary>Copies to the shared view, as a device of the host does.</summary>
    /// <param name="gpa">First byte, in RAM that is shared as far as the copy goes.</param>
    /// <param name="bytes">From where.</param>
    public void CopyToShared(ulong gpa, System.ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            System.Span<byte> piece = SharedPiece(gpa, bytes.Length);
            bytes.Slice(0, piece.Length).CopyTo(piece);
            bytes = bytes.Slice(piece.Length);
            gpa += (ulong)piece.Length;
        }
    }

    /// <summary>The RMP check of one access.</summary>
    /// <param name="page">The page, or null where there is no RAM.</param>
    /// <param name="vmpl">Who accesses, 0 to 3.</param>
    /// <param name="isPrivate">Through a mapping with the C-bit, or in a way that is always private.</param>
    /// <param name="kind">What for.</param>
    /// <param name="user">A fetch at CPL 3.</param>
    public static AccessVerdict Check(GuestPage* page, int vmpl, bool isPrivate, AccessKind kind, bool user)
    {
        if (page == null)
        {
            return AccessVerdict.NoMemory;
        }

        if (!isPrivate)
        {
            return kind == AccessKind.Fetch ? AccessVerdict.SharedFetch
                : page->Assigned ? AccessVerdict.SharedAccessToPrivatePage
                : AccessVerdict.Allowed;
        }

        if (!page->Assigned)
        {
            return AccessVerdict.PrivateAccessToSharedPage;
        }

        if (!page->Validated)
        {
            return AccessVerdict.NotValidated;
        }

        if (page->IsRunning)
        {
            return AccessVerdict.VmsaPage;
        }

        RmpPermissions needed = kind switch
        {
            AccessKind.Read => RmpPermissions.Read,
            AccessKind.Write => RmpPermissions.Write,
            _ => user ? RmpPermissions.ExecuteUser : RmpPermissions.ExecuteSupervisor,
        };
        return (page->GetPermissions(vmpl) & needed) != 0 ? AccessVerdict.Allowed : AccessVerdict.VmplPermission;
    }

    /// <summary>Makes an entry of a guest page table reachable for the processor's walk, which reads as supervisor and always privately.</summary>
    /// <param name="gpa">Guest-physical, without C-bit.</param>
    /// <param name="vmpl">Who walks, 0 to 3.</param>
    /// <param name="bytes">The byte at <paramref name="gpa"/>; the rest of its page follows. Null unless allowed.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public AccessVerdict AccessTable(ulong gpa, int vmpl, out byte* bytes)
    {
        // Every emulated instruction walks; what follows is the outcome of Access for the usual page.
        GuestPage* page = Find(gpa);
        if (page != null && page->IsOpen && (page->GetPermissions(vmpl) & RmpPermissions.Read) != 0)
        {
            bytes = PrivateBytes(page) + (gpa & (Amd64.PageSize - 1));
            return AccessVerdict.Allowed;
        }

        return Access(gpa, vmpl, isPrivate: true, AccessKind.Read, user: false, out bytes);
    }

    /// <summary>Makes bytes reachable for the hypervisor, if the guest itself could reach them.</summary>
    /// <param name="gpa">Guest-physical, without C-bit.</param>
    /// <param name="vmpl">On whose behalf, 0 to 3.</param>
    /// <param name="isPrivate">Through which view.</param>
    /// <param name="kind">What for.</param>
    /// <param name="user">A fetch at CPL 3.</param>
    /// <param name="bytes">The byte at <paramref name="gpa"/>; the rest of its page follows. Null unless allowed.</param>
    public AccessVerdict Access(ulong gpa, int vmpl, bool isPrivate, AccessKind kind, bool user, out byte* bytes)
    {
        GuestPage* page = Find(gpa);
        AccessVerdict verdict = Check(page, vmpl, isPrivate, kind, user);
        bytes = null;
        if (verdict == AccessVerdict.Allowed)
        {
            bytes = (isPrivate ? PrivateBytes(page) : SharedBytes(page)) + (gpa & (Amd64.PageSize - 1));
        }

        return verdict;
    }

    /// <summary>Fills the nested page tables for an access that <see cref="Check"/> allowed.</summary>
    /// <param name="page">The page.</param>
    /// <param name="gpa">Its address.</param>
    /// <param name="vmpl">Who accesses, 0 to 3.</param>
    /// <param name="isPrivate">Through which view.</param>
    /// <param name="before">The entry before.</param>
    /// <returns>The entry now.</returns>
    /// <remarks>
    /// Nested tables know one execute right; a page that only user or only supervisor code may execute becomes executable for both once
    /// a fetch with the right was seen. docs/simulator.md lists this among the limits.
    /// </remarks>
    public ulong MapNested(GuestPage* page, ulong gpa, int vmpl, bool isPrivate, out ulong before)
    {
        gpa = Amd64.PageOf(gpa);
        page->IsMapped = true;
        if (!isPrivate)
        {
            Dma.Map(gpa, SharedBytes(page));
            return NestedTables.Map(vmpl, gpa, isPrivate, SharedBytes(page), writable: true, executable: false, out before);
        }

        RmpPermissions permissions = page->GetPermissions(vmpl);
        bool executable = (permissions & (RmpPermissions.ExecuteUser | RmpPermissions.ExecuteSupervisor)) != 0;
        return NestedTables.Map(vmpl, gpa, isPrivate, PrivateBytes(page), (permissions & RmpPermissions.Write) != 0, executable, out before);
    }

    /// <summary>
    /// Makes a page table reachable through a pointer without the C-bit, which hardware ignores there: the shared view of the page is the
    /// private one, for as long as it is mapped. docs/simulator.md lists what that lets pass.
    /// </summary>
    /// <param name="page">The page, which is assigned.</param>
    /// <param name="gpa">Its address.</param>
    /// <param name="vmpl">Whose page table it is, 0 to 3.</param>
    /// <param name="before">The entry before.</param>
    /// <returns>The entry now.</returns>
    public ulong MapTable(GuestPage* page, ulong gpa, int vmpl, out ulong before)
    {
        page->IsMapped = true;
        return NestedTables.Map(vmpl, Amd64.PageOf(gpa), isPrivate: false, PrivateBytes(page), writable: true, executable: false, out before);
    }

    /// <summary>
    /// Makes a page unreachable until its next nested page fault, for every VMPL, and forgets translations that go through it. Whoever
    /// changes the RMP entry or a frame of a page calls this; before a frame is given away.
    /// </summary>
    /// <param name="page">The page.</param>
    /// <param name="gpa">Its address, page-aligned.</param>
    public void Unmap(GuestPage* page, ulong gpa)
    {
        if (page->IsMapped)
        {
            _threads?.Recall(NestedTables.Unmap(gpa));
            page->IsMapped = false;
        }

        if (page->IsRemembered)
        {
            Generation++;
            page->IsRemembered = false;
        }
    }

    /// <summary>The host gives a page to the guest. A page that it has already stays as it is.</summary>
    /// <param name="page">The page.</param>
    /// <param name="gpa">Its address.</param>
    /// <param name="large">Whether it becomes part of a 2-MiB entry.</param>
    public void Assign(GuestPage* page, ulong gpa, bool large)
    {
        if (page->Assigned)
        {
            return;
        }

        Unmap(page, Amd64.PageOf(gpa));
        if (page->SharedFrame != null)
        {
            Dma.Unmap(Amd64.PageOf(gpa));
            _pool.Free(page->SharedFrame);
            page->SharedFrame = null;
        }

        page->Assign(large);
    }

    /// <summary>The host takes a page from the guest. A page that is shared already stays as it is.</summary>
    /// <param name="page">The page; not a VMSA that runs.</param>
    /// <param name="gpa">Its address.</param>
    public void Unassign(GuestPage* page, ulong gpa)
    {
        if (!page->Assigned)
        {
            return;
        }

        Split(gpa);
        Unmap(page, Amd64.PageOf(gpa));
        LoseAll(page);
        if (page->PrivateFrame != null)
        {
            _pool.Free(page->PrivateFrame);
            page->PrivateFrame = null;
        }

        page->Unassign();
        if (Dma.IsEnabled)
        {
            // A device may be the first to touch it.
            Dma.Map(Amd64.PageOf(gpa), SharedBytes(page));
        }
    }

    /// <summary>Notes that the VMPLs below 0 lose what rights they have.</summary>
    public void LoseAll(GuestPage* page)
    {
        for (int vmpl = 1; vmpl < NestedPageTables.VmplCount; vmpl++)
        {
            if (page->GetPermissions(vmpl) != 0)
            {
                Stale.Lose(page, vmpl);
            }
        }
    }

    /// <summary>Splits the 2-MiB RMP entry around an address (the host's PSMASH). No effect on 4-KiB entries.</summary>
    public void Split(ulong gpa)
    {
        ulong start = gpa & ~(Amd64.LargePageSize - 1);
        for (ulong offset = 0; offset < Amd64.LargePageSize; offset += Amd64.PageSize)
        {
            GuestPage* page = Find(start + offset);
            if (page == null || !page->IsLarge)
            {
                return;
            }

            page->IsLarge = false;
        }
    }

    // What follows in the page.
    private System.Span<byte> SharedPiece(ulong gpa, int length)
    {
        ulong offset = gpa & (Amd64.PageSize - 1);
        return new System.Span<byte>(SharedBytes(Find(gpa)) + offset, (int)System.Math.Min((ulong)length, Amd64.PageSize - offset));
    }

    private GuestPage* FindAnywhere(ulong gpa)
    {
        for (int i = 0; i < _rangeCount; i++)
        {
            if (gpa - _ranges[i].Base < _ranges[i].Length)
            {
                _recentBase = _ranges[i].Base;
                _recentLength = _ranges[i].Length;

                // SAFETY: gpa lies in a range, so below the end that the directory was sized for; a table has 512 pages.
                GuestPage** table = &_directory[gpa / Amd64.LargePageSize];
                if (*table == null)
                {
                    *table = (GuestPage*)_pool.AllocateZeroed(TableFrames);
                }

                return &(*table)[(gpa / Amd64.PageSize) % PagesPerDirectoryEntry];
            }
        }

        return null;
    }

    private byte* AllocatePrivate(GuestPage* page)
    {
        byte* frame = _pool.Allocate();
        FramePool.Fill(frame, 1, Ciphertext);
        page->PrivateFrame = frame;
        return frame;
    }
}
