// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using CsCheck;
using Svsm.Kernel.Memory;
using Svsm.Kernel.Processes;
using Svsm.Wire;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class ProcessMemoryTests
{
    private const ulong Limit = 40;
    private const ulong TextAddress = 0x40_1000;
    private const ulong DataAddress = 0x40_4000;
    private const AccessRights ReadWrite = AccessRights.Read | AccessRights.Write;

    private static readonly byte[] s_archive = TestArchive.Build();
    private static readonly ulong s_program = TestArchive.File(s_archive, TestArchive.Program).Offset;
    private static readonly byte[] s_file = TestElf.Build();

    private SimulatedProcessPlatform _platform = new(s_archive);
    private ProcessMemory _memory;

    public ProcessMemoryTests() => Create(Limit);

    private static (ulong Start, ulong End) Program =>
        (SimulatedProcessPlatform.ArchiveBase + s_program, SimulatedProcessPlatform.ArchiveBase + s_program + 0x4000);

    [Fact]
    public void TryCreate_NoFrame_IsNothing()
    {
        _memory.Destroy(ref _platform);
        _platform.Frames.Left = 0;
        Assert.False(_memory.TryCreate(ref _platform, ProcessAudit.CBit, SimulatedProcessPlatform.ArchiveBase, Limit));
        Assert.Equal(0ul, _memory.PageCount);
        _memory.Destroy(ref _platform);
        Assert.Equal(0, _platform.Frames.Allocated);
    }

    [Fact]
    public void Destroy_Twice_IsNoError()
    {
        AddProgram();
        Assert.Equal(AccessResult.Success, Touch(DataAddress, AccessRights.Write));
        _memory.Destroy(ref _platform);
        _memory.Destroy(ref _platform);
        Assert.Equal((0, 0ul, 0), (_platform.Frames.Allocated, _memory.PageCount, _memory.Regions.Count));
    }

    [Fact]
    public void TryMap_Lengths_AreBounded()
    {
        Assert.False(_memory.TryMap(0, AccessRights.None, out _));
        Assert.False(_memory.TryMap(ProcessMemory.HeapHigh + Page.Size, AccessRights.None, out _));
        Assert.False(_memory.TryMap(ulong.MaxValue & ~0xFFFul, AccessRights.None, out _));
        Assert.False(_memory.TryMap(ulong.MaxValue & ~0xFFFul, ReadWrite, out _));
        Assert.False(_memory.TryMap(ProcessMemory.HeapHigh - ProcessMemory.HeapLow + Page.Size, AccessRights.None, out _));
        Assert.True(_memory.TryMap(ProcessMemory.HeapHigh - ProcessMemory.HeapLow, AccessRights.None, out ulong start));
        Assert.Equal(ProcessMemory.HeapLow, start);
        Assert.False(_memory.TryMap(Page.Size, AccessRights.None, out _));
        Check();
    }

    [Fact]
    public void TryMap_Written_IsCountedAgainstTheLimitBeforeItIsTouched()
    {
        Assert.False(_memory.TryMap((Limit + 1) * Page.Size, ReadWrite, out _));
        Assert.True(_memory.TryMap(Limit * Page.Size, ReadWrite, out ulong start));
        Assert.False(_memory.TryMap(Page.Size, ReadWrite, out _));
        Assert.True(_memory.TryMap(1 << 30, AccessRights.None, out ulong reserved));
        Assert.Equal(AccessResult.NoMemory, _memory.Protect(ref _platform, reserved, Page.Size, ReadWrite));
        Assert.Equal(AccessResult.Success, _memory.Unmap(ref _platform, start, Page.Size));
        Assert.Equal(AccessResult.Success, _memory.Protect(ref _platform, reserved, Page.Size, ReadWrite));
        Assert.Equal(AccessResult.NoMemory, _memory.Protect(ref _platform, reserved + Page.Size, Page.Size, ReadWrite));
        Assert.Equal((Limit, 1ul), (_memory.Regions.WritablePages, _memory.PageCount));
        Check();
    }

    // Touching what is made read-only later does not get around the limit.
    [Fact]
    public void Touch_FramesOfReadOnlyPages_CountAsWell()
    {
        ulong touched = 0;
        AccessResult result = AccessResult.Success;
        while (result == AccessResult.Success)
        {
            Assert.True(_memory.TryMap(Page.Size, ReadWrite, out ulong start));
            result = Touch(start, AccessRights.Write);
            touched += result == AccessResult.Success ? 1u : 0;
            Assert.Equal(AccessResult.Success, _memory.Protect(ref _platform, start, Page.Size, AccessRights.Read));
        }

        // The PML4 and three tables.
        Assert.Equal(AccessResult.NoMemory, result);
        Assert.Equal((Limit, Limit - 4), (_memory.PageCount, touched));
        Check();
    }

    [Fact]
    public void TryAddSegment_Limit_CountsWhatMayBeWritten()
    {
        _memory.Destroy(ref _platform);
        Create(3);
        ElfSegment[] segments = Segments();
        Assert.True(_memory.TryAddSegment(in segments[0], s_program));
        Assert.True(_memory.TryAddSegment(in segments[1], s_program));
        Assert.False(_memory.TryAddSegment(in segments[2], s_program));
        Assert.Equal((2, 0ul), (_memory.Regions.Count, _memory.Regions.WritablePages));
        Check();
    }

    [Theory]
    [InlineData(TextAddress, AccessRights.Read, AccessResult.Success)]
    [InlineData(TextAddress, AccessRights.Execute, AccessResult.Success)]
    [InlineData(TextAddress, AccessRights.Write, AccessResult.Denied)]
    [InlineData(0x40_0000ul, AccessRights.Read, AccessResult.Success)]
    [InlineData(0x40_0000ul, AccessRights.Execute, AccessResult.Denied)]
    [InlineData(DataAddress, AccessRights.Write, AccessResult.Success)]
    [InlineData(DataAddress, AccessRights.Execute, AccessResult.Denied)]
    [InlineData(0x40_3000ul, AccessRights.Read, AccessResult.Denied)]
    [InlineData(0ul, AccessRights.Read, AccessResult.Denied)]
    [InlineData(ProcessMemory.UserEnd, AccessRights.Read, AccessResult.Denied)]
    [InlineData(ulong.MaxValue, AccessRights.Read, AccessResult.Denied)]
    [InlineData(0xFFFF_FF00_0000_1000ul, AccessRights.Write, AccessResult.Denied)]
    internal void Touch_Program_HasItsRights(ulong address, AccessRights wanted, AccessResult expected)
    {
        AddProgram();
        Assert.Equal(expected, Touch(address, wanted));
        Check();
    }

    [Fact]
    public void Touch_Text_IsTheArchiveItselfAndNoFrame()
    {
        AddProgram();
        Assert.Equal(AccessResult.Success, _memory.Touch(ref _platform, _platform.Archive, TextAddress + 0x1234, AccessRights.Execute, out PhysicalAddress frame));
        Assert.Equal(SimulatedProcessPlatform.ArchiveBase + s_program + 0x2000, frame.Value);
        Assert.Equal((4, 4ul), (_platform.Frames.Allocated, _memory.PageCount));
        Check();
    }

    [Fact]
    public void TryCopyIn_Data_IsTheFileThenZeroes()
    {
        AddProgram();
        byte[] data = new byte[0x4000];
        Assert.Equal(AccessResult.Success, CopyIn(DataAddress, data));
        Assert.Equal(s_file[0x2000..0x3100], data[..0x1100]);
        Assert.All(data[0x1100..], value => Assert.Equal(0, value));
        byte[] text = new byte[0x1800];
        Assert.Equal(AccessResult.Success, CopyIn(TextAddress, text));
        Assert.Equal(s_file[0x1000..0x2800], text);
        Check();
    }

    [Fact]
    public void TryCopyOut_Data_IsTheProcessAlone()
    {
        AddProgram();
        byte[] data = new byte[0x4000];
        Array.Fill(data, (byte)0xA5);
        Assert.Equal(AccessResult.Success, CopyOut(DataAddress, data));
        byte[] back = new byte[0x4000];
        Assert.Equal(AccessResult.Success, CopyIn(DataAddress, back));
        Assert.Equal(data, back);
        Assert.True(_platform.IsArchiveUntouched);
        Check();
    }

    [Theory]
    [InlineData(DataAddress + 0x3FFF, 2)]
    [InlineData(DataAddress - 1, 2)]
    [InlineData(TextAddress, 1)]
    [InlineData(0x40_0FFFul, 2)]
    [InlineData(ProcessMemory.UserEnd - 1, 2)]
    [InlineData(ulong.MaxValue, 1)]
    [InlineData(ulong.MaxValue, 2)]
    [InlineData(0ul, 1)]
    public void TryCopyOut_BeyondItsPages_IsDenied(ulong address, int length)
    {
        AddProgram();
        Assert.Equal(AccessResult.Denied, CopyOut(address, new byte[length]));
        Check();
    }

    [Theory]
    [InlineData(0ul)]
    [InlineData(ulong.MaxValue)]
    public void TryCopy_Nothing_IsSuccessAnywhere(ulong address)
    {
        Assert.Equal(AccessResult.Success, CopyIn(address, []));
        Assert.Equal(AccessResult.Success, CopyOut(address, []));
    }

    [Theory]
    [InlineData(TextAddress, 0x1000ul)]
    [InlineData(0x40_0000ul, 0x2000ul)]
    [InlineData(0x40_3000ul, 0x1000ul)]
    [InlineData(0x40_3000ul, 0x2000ul)]
    [InlineData(DataAddress, 0x5000ul)]
    [InlineData(DataAddress, ulong.MaxValue & ~0xFFFul)]
    [InlineData(ProcessMemory.UserEnd, 0x1000ul)]
    [InlineData(ulong.MaxValue & ~0xFFFul, 0x1000ul)]
    [InlineData(ulong.MaxValue & ~0xFFFul, 0x2000ul)]
    [InlineData(0ul, ProcessMemory.UserEnd)]
    public void Protect_TextOrWhatIsNotThere_IsDenied(ulong start, ulong length)
    {
        AddProgram();
        Assert.Equal(AccessResult.Denied, _memory.Protect(ref _platform, start, length, AccessRights.Read));
        Assert.Equal(AccessResult.Denied, _memory.Protect(ref _platform, start, length, ReadWrite));
        Assert.Equal(3, _memory.Regions.Count);
        Check();
    }

    [Fact]
    public void Protect_MappedPages_HaveTheRightsAtOnce()
    {
        Assert.True(_memory.TryMap(3 * Page.Size, ReadWrite, out ulong start));
        Assert.Equal(AccessResult.Success, CopyOut(start, [1, 2, 3]));
        Assert.Equal(AccessResult.Success, Touch(start + Page.Size, AccessRights.Write));
        foreach (AccessRights rights in (AccessRights[])[AccessRights.Read, AccessRights.None, ReadWrite])
        {
            _platform.Invalidated.Clear();
            Assert.Equal(AccessResult.Success, _memory.Protect(ref _platform, start, 3 * Page.Size, rights));
            Assert.Equal([start, start + Page.Size], _platform.Invalidated);
            Assert.Equal((rights & AccessRights.Write) != 0 ? AccessResult.Success : AccessResult.Denied, Touch(start, AccessRights.Write));
            Assert.Equal((rights & AccessRights.Read) != 0 ? AccessResult.Success : AccessResult.Denied, Touch(start, AccessRights.Read));
            Check();
        }

        byte[] back = new byte[3];
        Assert.Equal(AccessResult.Success, CopyIn(start, back));
        Assert.Equal([1, 2, 3], back);
    }

    // RELRO, and the other way round: read-only data of the program that the process wants to write.
    [Fact]
    public void Protect_PageOfTheArchiveMadeWritable_IsCopied()
    {
        AddProgram();
        byte[] head = new byte[0x200];
        Assert.Equal(AccessResult.Success, CopyIn(0x40_0000, head));
        _platform.Invalidated.Clear();
        Assert.Equal(AccessResult.Success, _memory.Protect(ref _platform, 0x40_0000, Page.Size, ReadWrite));
        Assert.Equal([0x40_0000ul], _platform.Invalidated);
        Check();
        Assert.Equal(AccessResult.Success, CopyOut(0x40_0000, [0xFF]));
        Assert.Equal(AccessResult.Success, _memory.Protect(ref _platform, 0x40_0000, Page.Size, AccessRights.Read));
        byte[] back = new byte[0x200];
        Assert.Equal(AccessResult.Success, CopyIn(0x40_0000, back));
        Assert.Equal([0xFF, .. head[1..]], back);
        Assert.True(_platform.IsArchiveUntouched);
        Check();
    }

    [Fact]
    public void Unmap_PartOfTheProgram_FreesItsFramesAndLeavesTheArchive()
    {
        AddProgram();
        Assert.Equal(AccessResult.Success, CopyOut(DataAddress, new byte[0x3000]));
        Assert.Equal(AccessResult.Success, Touch(TextAddress, AccessRights.Execute));
        Assert.Equal(7ul, _memory.PageCount);
        _platform.Invalidated.Clear();
        Assert.Equal(AccessResult.Success, _memory.Unmap(ref _platform, TextAddress, 0x4000));
        Assert.Equal([TextAddress, DataAddress], _platform.Invalidated);
        Assert.Equal(6ul, _memory.PageCount);
        Assert.Equal(AccessResult.Denied, Touch(TextAddress, AccessRights.Read));
        Assert.Equal(AccessResult.Denied, Touch(DataAddress, AccessRights.Read));
        Assert.Equal(AccessResult.Success, Touch(DataAddress + Page.Size, AccessRights.Read));
        Check();
    }

    [Theory]
    [InlineData(ProcessMemory.UserEnd, 0x1000ul, AccessResult.Denied)]
    [InlineData(ProcessMemory.UserEnd - 0x1000, 0x2000ul, AccessResult.Denied)]
    [InlineData(0x1000ul, ulong.MaxValue & ~0xFFFul, AccessResult.Denied)]
    [InlineData(ulong.MaxValue & ~0xFFFul, 0x1000ul, AccessResult.Denied)]
    [InlineData(TextAddress, 0ul, AccessResult.Denied)]
    [InlineData(ProcessMemory.UserEnd - 0x1000, 0x1000ul, AccessResult.Success)]
    [InlineData(0ul, 0x1000ul, AccessResult.Success)]
    internal void Unmap_AnyRange_IsDeniedOrSuccess(ulong start, ulong length, AccessResult expected)
    {
        AddProgram();
        Assert.Equal(expected, _memory.Unmap(ref _platform, start, length));
        Assert.Equal(3, _memory.Regions.Count);
        Check();
    }

    // Otherwise a process splits its regions in places where nothing changes, until the list is full.
    [Fact]
    public void Unmap_NothingInsideARegion_DoesNotSplitIt()
    {
        Assert.True(_memory.TryMap(4 * Page.Size, ReadWrite, out ulong start));
        Assert.Equal(AccessResult.Denied, _memory.Unmap(ref _platform, start + Page.Size, 0));
        Assert.Equal(1, _memory.Regions.Count);
    }

    // 128 TiB in one call: the work is that for what a process can have.
    [Fact]
    public void Unmap_AllAddresses_TakesBoundedWork()
    {
        AddProgram();
        Assert.True(_memory.TryMap(0x1_0000_0000, AccessRights.None, out _));
        Assert.True(_memory.TryMap(Page.Size, ReadWrite, out ulong start));
        Assert.Equal(AccessResult.Success, Touch(start, AccessRights.Write));
        Assert.Equal(AccessResult.Success, CopyOut(DataAddress, new byte[0x3000]));
        long before = _platform.MapCount;
        Assert.Equal(AccessResult.Success, _memory.Unmap(ref _platform, 0, ProcessMemory.UserEnd));
        Assert.InRange(_platform.MapCount - before, 1, 10_000);
        Assert.Equal(0, _memory.Regions.Count);
        Check();
    }

    [Fact]
    public void Unmap_RegionsFull_ChangesNothing()
    {
        Fill(out ulong start);
        int count = _memory.Regions.Count;
        Assert.Equal(AccessResult.NoMemory, _memory.Unmap(ref _platform, start + Page.Size, Page.Size));
        Assert.Equal(AccessResult.NoMemory, _memory.Protect(ref _platform, start + Page.Size, Page.Size, ReadWrite));
        Assert.Equal(count, _memory.Regions.Count);
        Assert.False(_memory.TryMap(Page.Size, AccessRights.None, out _));
        Check();
    }

    [Fact]
    public void Discard_Touched_HasZeroesAgain()
    {
        Assert.True(_memory.TryMap(3 * Page.Size, ReadWrite, out ulong start));
        byte[] data = new byte[3 * Page.Size];
        Array.Fill(data, (byte)7);
        Assert.Equal(AccessResult.Success, CopyOut(start, data));
        Assert.Equal(7ul, _memory.PageCount);
        _platform.Invalidated.Clear();
        Assert.Equal(AccessResult.Success, _memory.Discard(ref _platform, start + Page.Size, Page.Size));
        Assert.Equal([start + Page.Size], _platform.Invalidated);
        Assert.Equal((6ul, 3ul), (_memory.PageCount, _memory.Regions.WritablePages));
        Check();
        Assert.Equal(AccessResult.Success, CopyIn(start, data));
        Assert.Equal(2 * Page.Size, data.Count(value => value == 7));
        Assert.All(data[Page.Size..(2 * Page.Size)], value => Assert.Equal(0, value));
        Check();
    }

    [Theory]
    [InlineData(DataAddress, 0x1000ul)]
    [InlineData(TextAddress, 0x1000ul)]
    [InlineData(0x1000ul, 0x1000ul)]
    [InlineData(ProcessMemory.UserEnd, 0x1000ul)]
    [InlineData(ProcessMemory.HeapHigh - 0x2000, 0x3000ul)]
    [InlineData(ulong.MaxValue & ~0xFFFul, 0x2000ul)]
    [InlineData(0x1000ul, ulong.MaxValue & ~0xFFFul)]
    public void Discard_ProgramOrWhatIsNotThere_IsDenied(ulong start, ulong length)
    {
        AddProgram();
        Assert.True(_memory.TryMap(2 * Page.Size, ReadWrite, out _));
        Assert.Equal(AccessResult.Success, Touch(DataAddress, AccessRights.Write));
        Assert.Equal(AccessResult.Denied, _memory.Discard(ref _platform, start, length));
        Assert.Equal(5ul, _memory.PageCount);
        Check();
    }

    // Every allocation fails once: it is NoMemory, nothing leaks, and the same access succeeds when there is memory again.
    [Fact]
    public void Touch_AnyAllocationFails_LeaksNothing()
    {
        for (int left = 0; ; left++)
        {
            _memory.Destroy(ref _platform);
            Create(Limit);
            AddProgram();
            Assert.True(_memory.TryMap(Page.Size, ReadWrite, out ulong start));
            _platform.Frames.Left = left;
            AccessResult[] results = [Touch(start, AccessRights.Write), Touch(TextAddress, AccessRights.Read), Touch(DataAddress, AccessRights.Write), CopyOut(DataAddress + 0xFFF, [1, 2])];
            Assert.All(results, result => Assert.True(result is AccessResult.Success or AccessResult.NoMemory));
            Check();
            bool isDone = results.All(result => result == AccessResult.Success);
            Assert.Equal(left >= 8, isDone);
            _platform.Frames.Left = -1;
            Assert.Equal(AccessResult.Success, Touch(start, AccessRights.Write));
            Assert.Equal(AccessResult.Success, CopyOut(DataAddress + 0xFFF, [1, 2]));
            Assert.Equal(AccessResult.Success, Touch(TextAddress, AccessRights.Read));
            Check();
            _memory.Destroy(ref _platform);
            Assert.Equal(0, _platform.Frames.Allocated);
            if (isDone)
            {
                return;
            }

            Create(Limit);
        }
    }

    // The limit is met at every step, too.
    [Theory]
    [InlineData(1ul)]
    [InlineData(2ul)]
    [InlineData(3ul)]
    [InlineData(4ul)]
    [InlineData(5ul)]
    public void Touch_LimitInTheWayOfTables_IsNoMemory(ulong limit)
    {
        _memory.Destroy(ref _platform);
        Create(limit);
        Assert.True(_memory.TryMap(Page.Size, ReadWrite, out ulong start));
        Assert.Equal(limit >= 5 ? AccessResult.Success : AccessResult.NoMemory, Touch(start, AccessRights.Write));
        Check();
    }

    [Fact]
    public void AnyCalls_AgreeWithTheModel() => Sample(600);

    [Fact]
    [Trait("Run", "all")]
    public void ManyCalls_AgreeWithTheModel() => Sample(30_000);

    private static void Sample(int cases) =>
        Gen.Select(
            Gen.Int[1, 60],
            Gen.Select(Gen.Int[0, 7], Gen.Int[0, 15], Gen.Int[0, 6000], Gen.Int[1, 9000], Gen.Int[0, 3], Gen.Int[0, 12]).Array[1, 60]).Sample(
            (limit, steps) =>
            {
                var model = new Model((ulong)limit);
                foreach ((int What, int Place, int Offset, int Length, int Rights, int Left) step in steps)
                {
                    model.Do(step);
                }

                model.End();
            },
            iter: cases, seed: "0000000000001");

    private static ElfSegment[] Segments()
    {
        var segments = new ElfSegment[ElfImage.MaxSegments];
        Assert.Equal(ElfError.None, ElfImage.Open(s_file, segments, out int count, out _));
        return segments[..count];
    }

    private void Create(ulong limit) => Assert.True(_memory.TryCreate(ref _platform, ProcessAudit.CBit, SimulatedProcessPlatform.ArchiveBase, limit));

    private void AddProgram()
    {
        foreach (ElfSegment segment in Segments())
        {
            Assert.True(_memory.TryAddSegment(in segment, s_program));
        }
    }

    // Reserves pages until the list of regions is full; each has three.
    private void Fill(out ulong start)
    {
        start = 0;
        while (_memory.TryMap(3 * Page.Size, AccessRights.Read, out ulong next))
        {
            start = next;
        }

        Assert.Equal(RegionList.Capacity, _memory.Regions.Count);
    }

    private AccessResult Touch(ulong address, AccessRights wanted) => _memory.Touch(ref _platform, _platform.Archive, address, wanted, out _);

    private AccessResult CopyIn(ulong address, byte[] destination) => _memory.TryCopyIn(ref _platform, _platform.Archive, address, destination);

    private AccessResult CopyOut(ulong address, byte[] source) => _memory.TryCopyOut(ref _platform, _platform.Archive, address, source);

    private void Check() => ProcessAudit.Check(ref _memory, _platform, Program);

    // What the process should see: for each page its rights, what it is, and its contents. Frames run out at times.
    private sealed class Model
    {
        private readonly SortedDictionary<ulong, ModelPage> _pages = [];
        private readonly List<ulong> _places = [0x40_0000, TextAddress, DataAddress];
        private SimulatedProcessPlatform _platform = new(s_archive);
        private ProcessMemory _memory;

        private sealed class ModelPage
        {
            public AccessRights Rights { get; set; }

            public bool IsZero { get; init; }

            // Behind the last byte of a segment that is not written, nothing is promised: the file's bytes, or zeroes when it has become a copy.
            public int Known { get; set; } = Page.Size;

            public byte[] Contents { get; set; } = new byte[Page.Size];
        }

        public Model(ulong limit)
        {
            Assert.True(_memory.TryCreate(ref _platform, ProcessAudit.CBit, SimulatedProcessPlatform.ArchiveBase, limit));
            foreach (ElfSegment segment in Segments())
            {
                if (!_memory.TryAddSegment(in segment, s_program))
                {
                    continue;
                }

                for (ulong page = segment.Start; page < segment.End; page += Page.Size)
                {
                    int length = (int)Math.Min(Page.Size, segment.FileEnd > page ? segment.FileEnd - page : 0);
                    var modelPage = new ModelPage { Rights = segment.Rights, Known = (segment.Rights & AccessRights.Write) != 0 ? Page.Size : length };
                    if (length != 0)
                    {
                        s_archive.AsSpan((int)(s_program + segment.Offset + (page - segment.Start)), length).CopyTo(modelPage.Contents);
                    }

                    _pages.Add(page, modelPage);
                }
            }
        }

        public void Do((int What, int Place, int Offset, int Length, int Rights, int Left) step)
        {
            AccessRights rights = step.Rights switch { 0 => AccessRights.None, 1 => AccessRights.Read, _ => ReadWrite };
            ulong place = _places[step.Place % _places.Count];
            ulong start = place + ((ulong)step.Offset & ~0xFFFul);
            ulong length = (ulong)(step.Length + Page.Size - 1) & ~0xFFFul;
            _platform.Frames.Left = step.Left > 8 ? -1 : step.Left;
            ulong[] range = [.. Enumerable.Range(0, (int)(length / Page.Size)).Select(i => start + ((ulong)i * Page.Size))];
            bool isCovered = range.All(_pages.ContainsKey);
            AccessResult result;
            switch (step.What)
            {
                case 0:
                    if (_memory.TryMap(length, rights, out ulong mapped))
                    {
                        _places.Add(mapped);
                        for (ulong page = mapped; page < mapped + length; page += Page.Size)
                        {
                            _pages.Add(page, new ModelPage { Rights = rights, IsZero = true });
                        }
                    }

                    break;
                case 1:
                    result = _memory.Protect(ref _platform, start, length, rights);
                    Assert.Equal(!isCovered || range.Any(page => (_pages[page].Rights & AccessRights.Execute) != 0), result == AccessResult.Denied);
                    foreach (ulong page in result == AccessResult.Success ? range : [])
                    {
                        _pages[page].Rights = rights;
                        _pages[page].Known = rights == ReadWrite ? Page.Size : _pages[page].Known;
                    }

                    break;
                case 2:
                    result = _memory.Unmap(ref _platform, start, length);
                    Assert.NotEqual(AccessResult.Denied, result);
                    foreach (ulong page in result == AccessResult.Success ? range : [])
                    {
                        _pages.Remove(page);
                    }

                    break;
                case 3:
                    result = _memory.Discard(ref _platform, start, length);
                    Assert.Equal(isCovered && range.All(page => _pages[page].IsZero) ? AccessResult.Success : AccessResult.Denied, result);
                    foreach (ulong page in result == AccessResult.Success ? range : [])
                    {
                        _pages[page].Contents = new byte[Page.Size];
                    }

                    break;
                case 4:
                    AccessRights wanted = (AccessRights)(1 << (step.Rights % 3));
                    result = _memory.Touch(ref _platform, _platform.Archive, place + (ulong)step.Offset, wanted, out _);
                    Assert.Equal(!Has(place + (ulong)step.Offset, 1, wanted), result == AccessResult.Denied);
                    break;
                case 5:
                    CopyOut(place + (ulong)step.Offset, step.Length);
                    break;
                default:
                    CopyIn(place + (ulong)step.Offset, step.Length);
                    break;
            }

            ProcessAudit.Check(ref _memory, _platform, Program);
        }

        public void End()
        {
            Assert.True(_platform.IsArchiveUntouched);
            _memory.Destroy(ref _platform);
            Assert.Equal((0, 0ul), (_platform.Frames.Allocated, _memory.PageCount));
            Assert.True(_platform.IsIdle);
        }

        private bool Has(ulong address, int length, AccessRights wanted)
        {
            for (ulong page = address & ~0xFFFul; page < address + (ulong)length; page += Page.Size)
            {
                if (!_pages.TryGetValue(page, out ModelPage? found) || (found.Rights & wanted) == 0)
                {
                    return false;
                }
            }

            return true;
        }

        private void CopyIn(ulong address, int length)
        {
            byte[] bytes = new byte[length];
            AccessResult result = _memory.TryCopyIn(ref _platform, _platform.Archive, address, bytes);
            if (result == AccessResult.Success)
            {
                Assert.True(Has(address, length, AccessRights.Read));
                for (int i = 0; i < length;)
                {
                    ulong at = address + (ulong)i;
                    int count = Math.Min(length - i, Page.Size - (int)(at % Page.Size));
                    ModelPage page = _pages[at & ~0xFFFul];
                    int known = Math.Clamp(page.Known - (int)(at % Page.Size), 0, count);
                    Assert.True(bytes.AsSpan(i, known).SequenceEqual(page.Contents.AsSpan((int)(at % Page.Size), known)), "other contents");
                    i += count;
                }
            }
            else if (result == AccessResult.Denied)
            {
                Assert.False(Has(address, length, AccessRights.Read));
            }
        }

        // Up to the page where it stops, it is done.
        private void CopyOut(ulong address, int length)
        {
            byte[] bytes = new byte[length];
            Array.Fill(bytes, (byte)(length + (int)address + 1));
            AccessResult result = _memory.TryCopyOut(ref _platform, _platform.Archive, address, bytes);
            Assert.True(result != AccessResult.Success || Has(address, length, AccessRights.Write));
            Assert.True(result != AccessResult.Denied || !Has(address, length, AccessRights.Write));
            _platform.Frames.Left = -1;
            for (int i = 0; i < length;)
            {
                ulong at = address + (ulong)i;
                int count = Math.Min(length - i, Page.Size - (int)(at % Page.Size));
                if (!_pages.TryGetValue(at & ~0xFFFul, out ModelPage? page) || (page.Rights & AccessRights.Write) == 0)
                {
                    return;
                }

                if (result != AccessResult.Success)
                {
                    // Where it stopped for want of a frame, the page is still as it was.
                    byte[] seen = new byte[count];
                    if (_memory.TryCopyIn(ref _platform, _platform.Archive, at, seen) != AccessResult.Success || !seen.AsSpan().SequenceEqual(bytes.AsSpan(i, count)))
                    {
                        return;
                    }
                }

                bytes.AsSpan(i, count).CopyTo(page.Contents.AsSpan((int)(at % Page.Size)));
                i += count;
            }
        }
    }
}
