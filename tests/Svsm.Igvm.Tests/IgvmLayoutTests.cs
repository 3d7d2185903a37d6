// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using Xunit;

namespace Svsm.Igvm.Tests;

/// <summary>The bytes of each structure against the format's description, made without the writer.</summary>
public sealed class IgvmLayoutTests
{
    [Fact]
    public void Write_EveryStructure_HasTheBytesOfTheDescription()
    {
        // Data blocks in the order of first use; see TestFiles.Everything.
        byte[][] blocks =
        [
            TestFiles.Bytes(77, 1), TestFiles.Bytes(33, 2), TestFiles.Bytes(0x2000, 3), TestFiles.Page(1), TestFiles.Page(2), TestFiles.Page(3), TestFiles.Page(4),
            TestFiles.Page(5), TestFiles.Page(6), NativePage(), VbsList(), TestFiles.Page(9),
        ];
        var raw = new RawFile { Version = 2, Data = [.. blocks.SelectMany(block => block)] };
        ulong start = 32 + HeaderBytes();
        ulong At(int block) => start + (ulong)blocks.Take(block).Sum(data => data.Length);

        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 1), (4, 1, 2), (5, 1, 2), (6, 2, 1)));
        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 2), (5, 1, 0), (6, 2, 1)));
        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 4), (4, 1, 2), (5, 1, 1), (6, 2, 1)));
        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 8), (5, 1, 3), (6, 2, 1), (8, 8, 1ul << 47)));
        raw.Add(0x101, RawFile.Body(0x10, (0, 8, 0x3_0000), (8, 4, 1)));
        raw.Add(0x102, RawFile.Body(0x30, (0, 4, 4), (6, 1, 2), (7, 1, 7), (8, 8, 0x20_0000), (0x10, 8, 0x100_0000), (0x18, 8, 0x10_0000), (0x28, 8, 0x8000_0000)));
        raw.Add(0x103, RawFile.Body(0x20, (0, 4, 4), (6, 1, 2), (8, 8, 0x200_0000), (0x10, 8, 0x1_0000), (0x18, 8, 0x4000)));
        raw.Add(0x104, RawFile.Body(0x10, (0, 4, 1), (4, 4, At(0)), (8, 4, 77)));
        raw.Add(0x105, RawFile.Body(0x10, (0, 4, 1), (4, 4, At(1)), (8, 4, 33)));
        raw.Add(0x305, RawFile.Body(0x18, (0, 8, 0x800_0000), (8, 4, 3), (0xC, 4, 0x100_0000), (0x10, 4, 1)));
        raw.Add(0x301, RawFile.Body(0x10, (0, 8, 0x1000)));
        raw.Add(0x301, RawFile.Body(0x10, (0, 8, 0x2000), (8, 4, 7), (0xC, 4, At(2))));
        foreach ((uint type, uint area, uint offset) in new[]
        {
            (0x307u, 0u, 0u), (0x313u, 0u, 4u), (0x308u, 7u, 0u), (0x309u, 7u, 0x100u), (0x30Au, 7u, 0x200u), (0x30Cu, 7u, 0x300u), (0x30Eu, 7u, 0x600u), (0x30Fu, 7u, 0x800u), (0x310u, 7u, 0xA00u), (0x312u, 7u, 0xC00u),
        })
        {
            raw.Add(type, RawFile.Body(8, (0, 4, area), (4, 4, offset)));
        }

        raw.Add(0x303, RawFile.Body(0x10, (0, 8, 0x800_0000), (8, 4, 1)));
        raw.Add(0x303, RawFile.Body(0x10, (0, 8, 0x800_1000), (8, 4, 3), (0xC, 4, 7)));
        raw.Add(0x30D, RawFile.Body(0x10, (0, 8, 0x7000), (8, 4, 1), (0xC, 4, 0x1000)));
        foreach ((uint gpa, uint mask, int block, uint flags, uint type) in new[]
        {
            (0x1_0000u, 3u, 3, 0u, 0u), (0x1_1000u, 1u, 3, 0u, 0u), (0x1_2000u, 1u, -1, 0u, 0u), (0x1_3000u, 1u, 4, 2u, 0u), (0x1_4000u, 1u, 5, 4u, 0u),
            (0x20_0000u, 1u, 6, 1u, 0u), (0x1_5000u, 1u, -1, 0u, 1u), (0x1_6000u, 1u, 7, 0u, 2u), (0x1_7000u, 1u, 8, 0u, 3u),
        })
        {
            raw.Add(0x302, RawFile.Body(0x18, (0, 8, gpa), (8, 4, mask), (0xC, 4, block < 0 ? 0 : At(block)), (0x10, 4, flags), (0x14, 2, type)));
        }

        raw.Add(0x304, RawFile.Body(0x14, (8, 4, 2), (0xC, 4, At(9))));
        raw.Add(0x304, RawFile.Body(0x14, (8, 4, 4), (0xC, 4, At(10))));
        byte[] measurement = RawFile.Body(0x360, (0, 4, 4), (4, 4, 1), (8, 4, 2), (0xC, 4, 3), (0x10, 4, 4), (0x14, 4, 5), (0x18, 4, 1), (0x1C, 4, 1));
        TestFiles.Bytes(64, 1).CopyTo(measurement, 0x20);
        TestFiles.Bytes(256, 2).CopyTo(measurement, 0x60);
        TestFiles.Bytes(512, 3).CopyTo(measurement, 0x160);
        raw.Add(0x311, measurement);
        raw.Add(0x304, RawFile.Body(0x14, (0, 8, 0xFFFF_FFFF_F000), (8, 4, 1), (0xC, 4, At(11))));
        byte[] block0 = RawFile.Body(0x2B8, (0, 4, 1), (4, 1, 1), (0x58, 4, 1), (0x5C, 4, 4), (0x60, 4, 1), (0x64, 4, 1), (0xF8, 4, 2), (0x220, 4, 2));
        foreach ((int offset, int length, int seed) in new[]
        {
            (0x08, 48, 1), (0x38, 16, 2), (0x48, 16, 3), (0x68, 72, 5), (0xB0, 72, 6), (0x100, 72, 7), (0x148, 72, 8), (0x190, 72, 9), (0x1D8, 72, 10), (0x228, 72, 11), (0x270, 72, 12),
        })
        {
            TestFiles.Bytes(length, seed).CopyTo(block0, offset);
        }

        raw.Add(0x30B, block0);

        Assert.Equal(start, raw.DataOffset());
        Assert.Equal(raw.ToArray(), TestFiles.Everything.Write());
    }

    private static ulong HeaderBytes() =>
        (4 * 0x18) + 0x18 + 0x38 + 0x28 + (2 * 0x18) + 0x20 + (2 * 0x18) + (10 * 0x10) + (2 * 0x18) + 0x18 + (9 * 0x20) + (3 * 0x20) + 0x368 + 0x2C0;

    private static byte[] NativePage() => RawFile.Body(4096, (0x80, 8, 0x1_0000), (0x88, 8, 2), (0xC8, 8, 0x31));

    private static byte[] VbsList() => RawFile.Body(
        4 + 64, (0, 4, 2), (4, 1, 2), (5, 4, 0x0002_0010), (0x14, 8, 0x1_0000), (0x24, 1, 2), (0x25, 4, 0x0004_0001), (0x34, 8, ulong.MaxValue), (0x3C, 8, ulong.MaxValue));
}
