// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.Linq;
using Xunit;

namespace Svsm.Igvm.Tests;

/// <summary>
/// Damaged files: the parser succeeds or throws <see cref="IgvmFormatException"/>, and allocates little, whatever the headers claim.
/// </summary>
public sealed class IgvmFuzzTests
{
    private const int Megabyte = 1 << 20;

    private static readonly byte[][] s_seeds = [.. TestFiles.All.Select(file => file.Write())];

    [Fact]
    public void Parse_MutatedFiles_SucceedOrRefuse()
    {
        bool all = Environment.GetEnvironmentVariable("SVSM_TEST_ALL") == "1";
        var random = new Random(20_251_122);
        int accepted = 0;
        for (int i = 0; i < (all ? 1_000_000 : 20_000); i++)
        {
            byte[] file = Mutate((byte[])s_seeds[random.Next(s_seeds.Length)].Clone(), random);
            if (ParseWithinBounds(file) is IgvmFile parsed)
            {
                accepted++;

                // What the parser accepts can be written, unless no data are left, and is the same again.
                if (i % 16 == 0 && TryWrite(parsed) is byte[] written)
                {
                    Assert.Equal(parsed, IgvmFile.Parse(written));
                }

                if (i % 64 == 0)
                {
                    _ = IgvmValidator.Validate(parsed);
                }
            }
        }

        // The mutations reach both sides of every check only if some files survive.
        Assert.True(accepted > 100, $"Only {accepted} mutated files were accepted.");
    }

    [Fact]
    public void Parse_RandomHeaderSections_SucceedOrRefuse()
    {
        var random = new Random(7);
        uint[] types = [.. Enum.GetValues<IgvmHeaderType>().Select(type => (uint)type)];
        for (int i = 0; i < 5_000; i++)
        {
            RawFile raw = new RawFile { Version = (uint)random.Next(1, 3) }.AddSnpPlatform();
            foreach (uint type in Enumerable.Range(0, random.Next(1, 8)).Select(_ => types[random.Next(types.Length)]).Order())
            {
                byte[] body = new byte[IgvmLayoutLength(type)];
                for (int field = 0; field < body.Length / 4; field++)
                {
                    uint value = random.Next(4) switch
                    {
                        0 => 0,
                        1 => 1,
                        2 => (uint)random.Next(16) << 12,
                        _ => (uint)random.NextInt64(),
                    };
                    BinaryPrimitives.WriteUInt32LittleEndian(body.AsSpan(field * 4), value);
                }

                raw.Add(type, body);
            }

            _ = ParseWithinBounds(raw.ToArray());
        }
    }

    // The densest files that can be made of each structure, about 1 MiB long, so that the constant does not hide the factor.
    [Theory]
    [InlineData(IgvmHeaderType.GuestPolicy)]
    [InlineData(IgvmHeaderType.RelocatableRegion)]
    [InlineData(IgvmHeaderType.PageTableRelocationRegion)]
    [InlineData(IgvmHeaderType.CorimDocument)]
    [InlineData(IgvmHeaderType.CcaPolicy)]
    [InlineData(IgvmHeaderType.ParameterArea)]
    [InlineData(IgvmHeaderType.VpCount)]
    [InlineData(IgvmHeaderType.ParameterInsert)]
    [InlineData(IgvmHeaderType.PageData)]
    [InlineData(IgvmHeaderType.VpContext)]
    [InlineData(IgvmHeaderType.RequiredMemory)]
    [InlineData(IgvmHeaderType.ErrorRange)]
    [InlineData(IgvmHeaderType.SnpIdBlock)]
    [InlineData(IgvmHeaderType.VbsMeasurement)]
    public void Parse_FileFullOfOneStructure_StaysWithinEightTimesItsLength(IgvmHeaderType type)
    {
        int length = IgvmLayoutLength((uint)type);
        var raw = new RawFile { Data = TestFiles.Page(0) };
        raw.AddSnpPlatform();
        if (type is IgvmHeaderType.VpCount)
        {
            raw.Add(0x301, RawFile.Body(0x10, (0, 8, 0x1000)));
        }

        int count = Megabyte / (8 + length);
        count = type == IgvmHeaderType.ParameterInsert ? count / 2 : count;
        int dataOffset = (int)raw.DataOffset() + (count * (8 + ((length + 7) & ~7))) + (type == IgvmHeaderType.ParameterInsert ? count * 0x18 : 0);
        for (uint i = 0; i < count; i++)
        {
            if (type == IgvmHeaderType.ParameterInsert)
            {
                raw.Add(0x301, RawFile.Body(0x10, (0, 8, 0x1000), (8, 4, i)));
            }

            raw.Add((uint)type, type switch
            {
                IgvmHeaderType.RelocatableRegion => RawFile.Body(length, (8, 8, 0x1000), (0x10, 8, (ulong)i << 12), (0x18, 8, 0x1000)),
                IgvmHeaderType.PageTableRelocationRegion => RawFile.Body(length, (8, 8, (ulong)i << 12), (0x10, 8, 0x1000)),
                IgvmHeaderType.CorimDocument => RawFile.Body(length, (4, 4, (ulong)dataOffset), (8, 4, 4096)),
                IgvmHeaderType.ParameterArea => RawFile.Body(length, (0, 8, 0x1000), (8, 4, i), (0xC, 4, (ulong)dataOffset)),
                IgvmHeaderType.ParameterInsert => RawFile.Body(length, (8, 4, 1), (0xC, 4, i)),
                IgvmHeaderType.PageData => RawFile.Body(length, (8, 4, 1), (0xC, 4, (ulong)dataOffset)),
                IgvmHeaderType.VpContext => RawFile.Body(length, (8, 4, 1), (0xC, 4, (ulong)dataOffset)),
                _ => RawFile.Body(length),
            });
        }

        byte[] file = raw.ToArray();
        IgvmFile? parsed = ParseWithinBounds(file, slack: 0x1_0000);

        // Relocation headers lack their contexts; the file was read to its end before that was noticed.
        Assert.Equal(type is not (IgvmHeaderType.RelocatableRegion or IgvmHeaderType.PageTableRelocationRegion), parsed is not null);
    }

    [Fact]
    public void Parse_HugeClaims_AllocateNothingForThem()
    {
        RawFile raw = new RawFile().AddSnpPlatform();
        raw.Add(0x301, RawFile.Body(0x10, (0, 8, 0xFFFF_FFFF_FFFF_F000), (8, 4, 0xFFFF_FFFF)));
        raw.Add(0x305, RawFile.Body(0x18, (0, 8, 0xFFFF_FFFF_FFFF_F000), (0xC, 4, 0xFFFF_F000)));

        Assert.NotNull(ParseWithinBounds(raw.ToArray(), slack: 0x1_0000));
    }

    private static int IgvmLayoutLength(uint type)
    {
        IgvmHeaderType known = (IgvmHeaderType)type;
        return known switch
        {
            IgvmHeaderType.RelocatableRegion => 0x30,
            IgvmHeaderType.PageTableRelocationRegion or IgvmHeaderType.CcaPolicy => 0x20,
            IgvmHeaderType.PageData or IgvmHeaderType.RequiredMemory => 0x18,
            IgvmHeaderType.VpContext => 0x14,
            IgvmHeaderType.SnpIdBlock => 0x2B8,
            IgvmHeaderType.VbsMeasurement => 0x360,
            IgvmHeaderType.SupportedPlatform or IgvmHeaderType.GuestPolicy or IgvmHeaderType.CorimDocument or IgvmHeaderType.CorimSignature or
                IgvmHeaderType.ParameterArea or IgvmHeaderType.ParameterInsert or IgvmHeaderType.ErrorRange => 0x10,
            _ => 8,
        };
    }

    private static IgvmFile? ParseWithinBounds(byte[] file, int slack = Megabyte)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        IgvmFile? parsed = null;
        try
        {
            parsed = IgvmFile.Parse(file);
        }
        catch (IgvmFormatException)
        {
        }

        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(allocated <= (8L * file.Length) + slack, $"{allocated} bytes were allocated for a file of {file.Length}.");
        return parsed;
    }

    private static byte[]? TryWrite(IgvmFile file)
    {
        try
        {
            return file.Write();
        }
        catch (IgvmFormatException e)
        {
            Assert.Equal(IgvmErrorKind.NoFileData, e.Kind);
            return null;
        }
    }

    private static byte[] Mutate(byte[] file, Random random)
    {
        int headers = Math.Min(file.Length, BinaryPrimitives.ReadInt32LittleEndian(file.AsSpan(8)) + BinaryPrimitives.ReadInt32LittleEndian(file.AsSpan(12)));
        for (int i = random.Next(1, 4); i > 0; i--)
        {
            // Mostly in the headers: data have no structure.
            int at = random.Next(random.Next(8) == 0 ? file.Length : headers);
            switch (random.Next(8))
            {
                case 0:
                    file[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1:
                    file[at] = (byte)random.Next();
                    break;
                case 2:
                    file[at] = random.Next(2) == 0 ? (byte)0 : (byte)0xFF;
                    break;
                case 3:
                    Interesting(file, at & ~3, random);
                    break;
                case 4:
                    CopyRange(file, headers, random);
                    break;
                case 5:
                    RemoveOrRepeat(ref file, ref headers, random);
                    break;
                case 6:
                    Array.Resize(ref file, random.Next(2) == 0 ? random.Next(1, file.Length) : file.Length + random.Next(1, 64));
                    headers = Math.Min(headers, file.Length);
                    break;
                default:
                    Interesting(file, at & ~7, random);
                    break;
            }
        }

        // Otherwise nearly every file would fail at its length or checksum.
        if (file.Length >= 24 && random.Next(10) != 0)
        {
            RawFile.U32(file, 0x10, (uint)file.Length);
            RawFile.FixChecksum(file);
        }

        return file;
    }

    private static void Interesting(byte[] file, int at, Random random)
    {
        if (at + 4 > file.Length)
        {
            return;
        }

        uint[] values = [0, 1, 2, 8, 0x14, 0x18, 0x20, 0xFFF, 0x1000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_F000, 0xFFFF_FFFF, (uint)file.Length, (uint)file.Length - 4096, (uint)file.Length - 1, 0x301, 0x304, 0x3FF];
        RawFile.U32(file, at, values[random.Next(values.Length)]);
    }

    private static void CopyRange(byte[] file, int headers, Random random)
    {
        int length = Math.Min(headers / 2, random.Next(1, 64));
        if (length > 0)
        {
            int from = random.Next(headers - length + 1);
            int to = random.Next(headers - length + 1);
            file.AsSpan(from, length).ToArray().CopyTo(file, to);
        }
    }

    // Removes or repeats one whole header, and moves the section's length along.
    private static void RemoveOrRepeat(ref byte[] file, ref int headers, Random random)
    {
        if (file.Length < 24)
        {
            return;
        }

        int start = BinaryPrimitives.ReadInt32LittleEndian(file.AsSpan(8));
        List<(int At, int Length)> entries = [];
        for (int at = start; at >= 0 && at <= headers - 8;)
        {
            uint length = BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at + 4));
            if (length > headers - at - 8)
            {
                break;
            }

            entries.Add((at, 8 + (((int)length + 7) & ~7)));
            at += entries[^1].Length;
        }

        if (entries.Count == 0 || entries[^1].At + entries[^1].Length > file.Length)
        {
            return;
        }

        (int entry, int entryLength) = entries[random.Next(entries.Count)];
        bool remove = random.Next(2) == 0;
        file = remove
            ? [.. file[..entry], .. file[(entry + entryLength)..]]
            : [.. file[..(entry + entryLength)], .. file[entry..]];
        headers += remove ? -entryLength : entryLength;
        RawFile.U32(file, 0x0C, (uint)(headers - start));
    }
}
