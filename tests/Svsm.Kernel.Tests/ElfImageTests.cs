// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using Svsm.Kernel.Processes;
using Xunit;

namespace Svsm.Kernel.Tests;

public sealed class ElfImageTests
{
    private const int FuzzCases = 20_000;
    private const uint R = TestElfSegment.R;
    private const uint W = TestElfSegment.W;
    private const uint X = TestElfSegment.X;

    private delegate void Change(byte[] file);

    [Fact]
    public void Open_Good_HasItsSegments()
    {
        var segments = new ElfSegment[ElfImage.MaxSegments];
        Assert.Equal(ElfError.None, ElfImage.Open(TestElf.Build(), segments, out int count, out ElfImage image));
        Assert.Equal((3, TestElf.Entry, 0x40_0040ul, 5), (count, image.Entry, image.Headers, image.HeaderCount));
        Assert.Equal(56, ElfImage.HeaderSize);
        Assert.Equal((0x40_0000ul, 0x40_1000ul, 0ul, 0x40_0200ul, AccessRights.Read), Tuple(segments[0]));
        Assert.Equal((0x40_1000ul, 0x40_3000ul, 0x1000ul, 0x40_2800ul, AccessRights.Read | AccessRights.Execute), Tuple(segments[1]));
        Assert.Equal((0x40_4000ul, 0x40_8000ul, 0x2000ul, 0x40_5100ul, AccessRights.Read | AccessRights.Write), Tuple(segments[2]));
    }

    // What the compiler makes of modules, where it was made before: not a dependency of this project.
    [Fact]
    public void Open_TestModules_AreAccepted()
    {
        string folder = AppContext.BaseDirectory;
        while (folder.Length > 1 && !File.Exists(Path.Combine(folder, "Svsm.slnx")))
        {
            folder = Path.GetDirectoryName(folder)!;
        }

        string path = Path.Combine(folder, "artifacts/obj/Svsm.TestModules/release/modules/modules.elf");
        Assert.True(!File.Exists(path) || CheckRules(File.ReadAllBytes(path)) == ElfError.None);
    }

    public static TheoryData<string> Refused => [.. s_refused.Keys];

    private static readonly Dictionary<string, (ElfError Error, Change Change)> s_refused = new()
    {
        ["magic"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).Magic++),
        ["32 bits"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).Class = 1),
        ["big-endian"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).Data = 2),
        ["version of the identification"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).IdentVersion = 0),
        ["object file"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).Type = 1),
        ["position-independent"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).Type = 3),
        ["other processor"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).Machine = 183),
        ["version"] = (ElfError.NotStaticExecutable, file => TestElf.Header(file).Version = 2),

        ["headers of 55 bytes"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderSize = 55),
        ["headers of 57 bytes"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderSize = 57),
        ["no headers"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderCount = 0),
        ["33 headers"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderCount = 33),
        ["65535 headers"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderCount = ushort.MaxValue),
        ["headers across the end"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderOffset = (ulong)file.Length - (5 * 56) + 1),
        ["headers at the end"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderOffset = (ulong)file.Length),
        ["headers behind the end"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderOffset = (ulong)file.Length + 1),
        ["headers below 2^64"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderOffset = Below(5 * 56)),
        ["headers at 2^32"] = (ElfError.BadProgramHeaders, file => TestElf.Header(file).HeaderOffset = (1ul << 32) + 64),
        ["9 segments"] = (ElfError.BadProgramHeaders, file => SetSegments(file, 9)),

        ["interpreter"] = (ElfError.Dynamic, file => TestElf.Segment(file, TestElf.Note).Type = TestElfSegment.Interpreter),
        ["dynamic"] = (ElfError.Dynamic, file => TestElf.Segment(file, TestElf.Note).Type = TestElfSegment.Dynamic),

        ["executable stack"] = (ElfError.WritableAndExecutable, file => TestElf.Segment(file, TestElf.Stack).Flags = R | W | X),
        ["executable data"] = (ElfError.WritableAndExecutable, file => TestElf.Segment(file, TestElf.Data).Flags = R | W | X),
        ["writable text"] = (ElfError.WritableAndExecutable, file => TestElf.Segment(file, TestElf.Text).Flags = W | X),

        ["segment across the end of the file"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).FileLength = 0x901),
        ["segment behind the end of the file"] = (ElfError.BadSegment, file =>
            (TestElf.Segment(file, TestElf.Data).Offset, TestElf.Segment(file, TestElf.Data).FileLength) = (0x3800, 0)),
        ["offset below 2^64"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).Offset = Below(0x800)),
        ["length of 2^64 in the file"] = (ElfError.BadSegment, file =>
            (TestElf.Segment(file, TestElf.Data).FileLength, TestElf.Segment(file, TestElf.Data).MemoryLength) = (ulong.MaxValue, ulong.MaxValue)),
        ["length that wraps in the file"] = (ElfError.BadSegment, file =>
            (TestElf.Segment(file, TestElf.Data).FileLength, TestElf.Segment(file, TestElf.Data).MemoryLength) = (Below(0x2800), Below(0x2800))),
        ["more in the file than in memory"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).MemoryLength = 0x8FF),
        ["zeroes in read-only data"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.ReadOnly).MemoryLength = 0x201),
        ["zeroes in text"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Text).FileLength--),
        ["address below the lowest"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.ReadOnly).Address = ElfImage.MinAddress - 0x1000),
        ["address 0"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.ReadOnly).Address = 0),
        ["a byte too high"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).MemoryLength = ElfImage.MaxAddress - 0x40_4800 + 1),
        ["address at the highest"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).Address = ElfImage.MaxAddress + 0x800),
        ["address below 2^64"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).Address = Below(0x800)),
        ["length of 2^64 in memory"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).MemoryLength = ulong.MaxValue),
        ["length that wraps in memory"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).MemoryLength = Below(0x40_4000)),
        ["offset not that of the address"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).Address += 0x10),
        ["page of the segment before"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Data).Address = 0x40_2800),
        ["last byte of the segment before"] = (ElfError.BadSegment, file => TestElf.Segment(file, TestElf.Text).Address = 0x40_0000),
        ["descending"] = (ElfError.BadSegment, file =>
            (TestElf.Segment(file, TestElf.Text), TestElf.Segment(file, TestElf.Data)) = (TestElf.Segment(file, TestElf.Data), TestElf.Segment(file, TestElf.Text))),

        ["entry in data"] = (ElfError.BadEntry, file => TestElf.Header(file).Entry = 0x40_4800),
        ["entry in read-only data"] = (ElfError.BadEntry, file => TestElf.Header(file).Entry = 0x40_0000),
        ["entry below the text"] = (ElfError.BadEntry, file => TestElf.Header(file).Entry = 0x40_0FFF),
        ["entry behind the text"] = (ElfError.BadEntry, file => TestElf.Header(file).Entry = 0x40_2800),
        ["entry 0"] = (ElfError.BadEntry, file => TestElf.Header(file).Entry = 0),
        ["entry 2^64 - 1"] = (ElfError.BadEntry, file => TestElf.Header(file).Entry = ulong.MaxValue),
        ["no segments"] = (ElfError.BadEntry, file => TestElf.Header(file).HeaderOffset = 0x2900),
    };

    [Theory]
    [MemberData(nameof(Refused))]
    public void Open_BrokenRule_IsThatError(string rule)
    {
        byte[] file = TestElf.Build();
        file.AsSpan(0x2900, 5 * 56).Clear();
        s_refused[rule].Change(file);
        Assert.Equal(s_refused[rule].Error, CheckRules(file));
    }

    public static TheoryData<string> Accepted => [.. s_accepted.Keys];

    // What is just not a broken rule.
    private static readonly Dictionary<string, Change> s_accepted = new()
    {
        ["headers at the very end"] = file => MoveHeaders(file, file.Length - (5 * 56), 5),
        ["32 headers"] = file => MoveHeaders(file, 0x2800, 32),
        ["8 segments"] = file => SetSegments(file, 8),
        ["segments without memory"] = file => TestElf.Segment(file, TestElf.Note) = TestElf.Load(R | W, 0, 0, 0, 0),
        ["the lowest address"] = file => TestElf.Segment(file, TestElf.ReadOnly).Address = ElfImage.MinAddress,
        ["the highest address"] = file => TestElf.Segment(file, TestElf.Data).MemoryLength = ElfImage.MaxAddress - 0x40_4800,
        ["the next page"] = file => TestElf.Segment(file, TestElf.Data).Address = 0x40_3800,
        ["only zeroes"] = file => TestElf.Segment(file, TestElf.Data).FileLength = 0,
        ["only zeroes, from the end of the file"] = file =>
            (TestElf.Segment(file, TestElf.Data).Offset, TestElf.Segment(file, TestElf.Data).Address, TestElf.Segment(file, TestElf.Data).FileLength) = ((ulong)file.Length, 0x40_4100, 0),
        ["entry in the first byte"] = file => TestElf.Header(file).Entry = 0x40_1000,
        ["entry in the last byte"] = file => TestElf.Header(file).Entry = 0x40_27FF,
    };

    [Theory]
    [MemberData(nameof(Accepted))]
    public void Open_AtTheBounds_IsAccepted(string bound)
    {
        byte[] file = TestElf.Build();
        s_accepted[bound](file);
        Assert.Equal(ElfError.None, CheckRules(file));
    }

    [Fact]
    public void Open_AnyLength_IsRefused()
    {
        byte[] file = TestElf.Build();
        for (int length = 0; length < file.Length; length += length < 400 ? 1 : 31)
        {
            ElfError error = CheckRules(file.AsSpan(0, length));
            Assert.Equal(length < 64 ? ElfError.NotStaticExecutable : length < 64 + (5 * 56) ? ElfError.BadProgramHeaders : ElfError.BadSegment, error);
        }
    }

    [Fact]
    public void Open_HeadersInNoSegment_AreNotFoundByTheProgram()
    {
        byte[] file = TestElf.Build();
        TestElf.Segment(file, TestElf.ReadOnly).Type = TestElfSegment.Note;
        Assert.Equal(ElfError.None, ElfImage.Open(file, new ElfSegment[ElfImage.MaxSegments], out int count, out ElfImage image));
        Assert.Equal((2, 0ul), (count, image.Headers));
    }

    // A program reads as many as it is told there are.
    [Theory]
    [InlineData(64 + (5 * 56), 0x40_0040ul)]
    [InlineData(64 + (5 * 56) - 1, 0ul)]
    [InlineData(65, 0ul)]
    [InlineData(64, 0ul)]
    public void Open_HeadersPartlyInASegment_AreNotFoundByTheProgram(ulong length, ulong expected)
    {
        byte[] file = TestElf.Build();
        (TestElf.Segment(file, TestElf.ReadOnly).FileLength, TestElf.Segment(file, TestElf.ReadOnly).MemoryLength) = (length, length);
        Assert.Equal(ElfError.None, ElfImage.Open(file, new ElfSegment[ElfImage.MaxSegments], out _, out ElfImage image));
        Assert.Equal(expected, image.Headers);
    }

    [Fact]
    public void Open_ChangedBytes_KeepsTheRules() => Fuzz(FuzzCases);

    [Fact]
    [Trait("Run", "all")]
    public void Open_AMillionChanges_KeepsTheRules() => Fuzz(1_000_000);

    [Fact]
    public void Open_RandomBytes_DoesNotThrow()
    {
        var random = new Random(20261129);
        byte[] file = new byte[4096];
        TestElfHeader header = TestElf.Header(TestElf.Build());
        for (int i = 0; i < FuzzCases / 4; i++)
        {
            random.NextBytes(file);
            CheckRules(file.AsSpan(0, random.Next(file.Length + 1)));

            // Behind a good header there is more to be read.
            TestElf.Header(file) = header;
            CheckRules(file);
        }
    }

    private static void Fuzz(int cases)
    {
        byte[] original = TestElf.Build();
        byte[] file = [.. original];
        ulong[] numbers =
        [
            0, 1, 2, 3, 5, 6, 7, 0x38, 0x40, 0x800, 0x1000, 0x2800, 0x2900, 0xFFFF, ElfImage.MinAddress, ElfImage.MaxAddress, ElfImage.MaxAddress - 0x800, 0x40_0000, 0x40_2800, 0x40_3800,
            0x7FFF_FFFF, 0xFFFF_FFFF, long.MaxValue, 1ul << 63, ulong.MaxValue, ulong.MaxValue - 0x7FF, ulong.MaxValue - 0xFFF, (ulong)file.Length, (ulong)file.Length - 1,
        ];
        var random = new Random(2);
        int accepted = 0;
        const int Headers = 64 + (5 * 56);
        for (int i = 0; i < cases; i++)
        {
            original.AsSpan(0, Headers).CopyTo(file);
            for (int change = random.Next(1, 4); change > 0; change--)
            {
                int at = random.Next(Headers);
                switch (random.Next(4))
                {
                    case 0:
                        file[at] = (byte)random.Next(256);
                        break;
                    case 1:
                        file[at] ^= (byte)(1 << random.Next(8));
                        break;
                    case 2:
                        BitConverter.TryWriteBytes(file.AsSpan(at & ~7), numbers[random.Next(numbers.Length)]);
                        break;
                    default:
                        BitConverter.TryWriteBytes(file.AsSpan(at & ~7), BitConverter.ToUInt64(file, at & ~7) + (ulong)random.Next(-2, 3));
                        break;
                }
            }

            accepted += CheckRules(file.AsSpan(0, random.Next(8) == 0 ? random.Next(file.Length) : file.Length)) == ElfError.None ? 1 : 0;
        }

        // The changes are of a kind that both outcomes are seen.
        Assert.InRange(accepted, cases / 100, cases * 9 / 10);
    }

    private static ElfError CheckRules(ReadOnlySpan<byte> file)
    {
        Span<ElfSegment> segments = stackalloc ElfSegment[ElfImage.MaxSegments];
        ElfError error = ElfImage.Open(file, segments, out int count, out ElfImage image);
        if (error != ElfError.None)
        {
            return error;
        }

        Assert.InRange(count, 1, ElfImage.MaxSegments);
        ulong end = ElfImage.MinAddress;
        bool hasEntry = false;
        bool hasHeaders = image.Headers == 0;
        for (int i = 0; i < count; i++)
        {
            ElfSegment segment = segments[i];
            Assert.True(segment.Start >= end && segment.Start < segment.End && segment.End <= ElfImage.MaxAddress);
            Assert.Equal(0ul, (segment.Start | segment.End | segment.Offset) % 4096);
            Assert.True(segment.FileEnd >= segment.Start && segment.FileEnd <= segment.End);
            Assert.True(segment.Offset + (segment.FileEnd - segment.Start) <= (ulong)file.Length);
            Assert.NotEqual(AccessRights.Write | AccessRights.Execute, segment.Rights & (AccessRights.Write | AccessRights.Execute));
            Assert.True((segment.Rights & AccessRights.Read) != 0);
            if ((segment.Rights & AccessRights.Write) == 0)
            {
                Assert.True(segment.End - segment.FileEnd < 4096);
            }

            hasEntry |= (segment.Rights & AccessRights.Execute) != 0 && image.Entry >= segment.Start && image.Entry < segment.FileEnd;
            if (image.Headers >= segment.Start && image.Headers < segment.FileEnd)
            {
                ulong length = (ulong)image.HeaderCount * 56;
                ulong offset = segment.Offset + (image.Headers - segment.Start);
                hasHeaders = length <= segment.FileEnd - image.Headers && offset == BitConverter.ToUInt64(file[32..]);
            }

            end = segment.End;
        }

        Assert.True(hasEntry);
        Assert.True(hasHeaders);
        return error;
    }

    // So many bytes below 2^64.
    private static ulong Below(ulong distance) => 0 - distance;

    // So many segments of a page each, text in the first one. Their headers lie where the text was.
    private static void SetSegments(byte[] file, int count)
    {
        TestElf.Header(file).HeaderOffset = 0x1000;
        TestElf.Header(file).HeaderCount = (ushort)count;
        for (int i = 0; i < count; i++)
        {
            TestElf.Segment(file, i) = TestElf.Load(i == 0 ? R | X : R, 0, 0x40_1000 + ((ulong)i * 0x1000), 0x1000, 0x1000);
        }
    }

    // The program headers are copied, and there are so many of them. Those that are new say nothing.
    private static void MoveHeaders(byte[] file, int offset, int count)
    {
        byte[] headers = file[64..(64 + (5 * 56))];
        file.AsSpan(offset, count * 56).Clear();
        headers.CopyTo(file, offset);
        TestElf.Header(file).HeaderOffset = (ulong)offset;
        TestElf.Header(file).HeaderCount = (ushort)count;
    }

    private static (ulong Start, ulong End, ulong Offset, ulong FileEnd, AccessRights Rights) Tuple(ElfSegment segment) =>
        (segment.Start, segment.End, segment.Offset, segment.FileEnd, segment.Rights);
}
