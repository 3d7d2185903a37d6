// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Linq;
using Xunit;

namespace Svsm.Igvm.Tests;

/// <summary>What the parser refuses, and what it says about it.</summary>
public sealed class IgvmReaderTests
{
    private static readonly (int, int, ulong)[] s_none = [];

    [Fact]
    public void Parse_Empty_Refuses() => AssertRefuses([], IgvmErrorKind.FileTooShort, 0);

    [Theory]
    [InlineData(1)]
    [InlineData(23)]
    public void Parse_ShorterThanTheFixedHeader_Refuses(int length) =>
        AssertRefuses(TestFiles.Minimal.Write()[..length], IgvmErrorKind.FileTooShort, 0);

    [Theory]
    [InlineData(24)]
    [InlineData(31)]
    public void Parse_ShorterThanTheFixedHeaderOfVersion2_Refuses(int length) =>
        AssertRefuses(TestFiles.Everything.Write()[..length], IgvmErrorKind.FileTooShort, 0);

    [Theory]
    [InlineData(0x00, 0x4D564748u, IgvmErrorKind.BadMagic)]
    [InlineData(0x04, 0u, IgvmErrorKind.UnsupportedVersion)]
    [InlineData(0x04, 3u, IgvmErrorKind.UnsupportedVersion)]
    [InlineData(0x08, 0u, IgvmErrorKind.BadHeaderSection)]
    [InlineData(0x08, 16u, IgvmErrorKind.BadHeaderSection)]
    [InlineData(0x08, 28u, IgvmErrorKind.BadHeaderSection)]
    [InlineData(0x08, 0xFFFF_FFF8u, IgvmErrorKind.BadHeaderSection)]
    [InlineData(0x0C, 0xFFFF_FFFFu, IgvmErrorKind.BadHeaderSection)]
    [InlineData(0x10, 0u, IgvmErrorKind.BadFileSize)]
    [InlineData(0x10, 0xFFFF_FFFFu, IgvmErrorKind.BadFileSize)]
    [InlineData(0x14, 0u, IgvmErrorKind.BadChecksum)]
    public void Parse_BadFixedHeader_Refuses(int offset, uint value, IgvmErrorKind kind)
    {
        byte[] file = TestFiles.Minimal.Write();
        RawFile.U32(file, offset, value);

        AssertRefuses(file, kind, offset);
    }

    [Theory]
    [InlineData(0x18, 2u, IgvmErrorKind.UnsupportedArchitecture)]
    [InlineData(0x1C, 0x1_0000u, IgvmErrorKind.UnsupportedPageSize)]
    [InlineData(0x08, 24u, IgvmErrorKind.BadHeaderSection)]
    public void Parse_BadFixedHeaderOfVersion2_Refuses(int offset, uint value, IgvmErrorKind kind)
    {
        byte[] file = TestFiles.Everything.Write();
        RawFile.U32(file, offset, value);
        RawFile.FixChecksum(file);

        AssertRefuses(file, kind, offset);
    }

    [Fact]
    public void Parse_HeadersUpToTheEnd_Refuses() =>
        AssertRefuses(new RawFile { Data = [] }.AddSnpPlatform().ToArray(), IgvmErrorKind.NoFileData, 0x0C);

    [Fact]
    public void Parse_FileLongerOrShorterThanItSays_Refuses()
    {
        byte[] file = TestFiles.Minimal.Write();

        AssertRefuses([.. file, 0], IgvmErrorKind.BadFileSize, 0x10);
        AssertRefuses(file[..^1], IgvmErrorKind.BadFileSize, 0x10);
    }

    [Fact]
    public void Parse_NoPlatform_Refuses() =>
        AssertRefuses(new RawFile().Add(0x302, RawFile.Body(0x18)).ToArray(), IgvmErrorKind.NoPlatform, null);

    [Theory]
    [InlineData(0u)]
    [InlineData(0x2u)]
    [InlineData(0x100u)]
    [InlineData(0x107u)]
    [InlineData(0x200u)]
    [InlineData(0x201u)]
    [InlineData(0x300u)]
    [InlineData(0x306u)]
    [InlineData(0x314u)]
    [InlineData(0x401u)]
    [InlineData(0x8000_0302u)]
    [InlineData(0xFFFF_FFFFu)]
    public void Parse_UnknownType_Refuses(uint type)
    {
        RawFile raw = new RawFile().AddSnpPlatform();
        int at = raw.NextBody - 8;

        AssertRefuses(raw.Add(type, new byte[8]).ToArray(), IgvmErrorKind.UnknownHeaderType, at);
    }

    [Theory]
    [InlineData(0x001u, 0x10)]
    [InlineData(0x101u, 0x10)]
    [InlineData(0x102u, 0x30)]
    [InlineData(0x103u, 0x20)]
    [InlineData(0x104u, 0x10)]
    [InlineData(0x105u, 0x10)]
    [InlineData(0x106u, 0x20)]
    [InlineData(0x301u, 0x10)]
    [InlineData(0x302u, 0x18)]
    [InlineData(0x303u, 0x10)]
    [InlineData(0x304u, 0x14)]
    [InlineData(0x305u, 0x18)]
    [InlineData(0x307u, 0x08)]
    [InlineData(0x308u, 0x08)]
    [InlineData(0x309u, 0x08)]
    [InlineData(0x30Au, 0x08)]
    [InlineData(0x30Bu, 0x2B8)]
    [InlineData(0x30Cu, 0x08)]
    [InlineData(0x30Du, 0x10)]
    [InlineData(0x30Eu, 0x08)]
    [InlineData(0x30Fu, 0x08)]
    [InlineData(0x310u, 0x08)]
    [InlineData(0x311u, 0x360)]
    [InlineData(0x312u, 0x08)]
    [InlineData(0x313u, 0x08)]
    public void Parse_OtherLengthThanTheTypePrescribes_Refuses(uint type, int length)
    {
        foreach (int wrong in new[] { 0, length - 1, length + 1, length + 8 })
        {
            var raw = new RawFile();
            int at = raw.NextBody - 4;

            AssertRefuses(raw.Add(type, new byte[wrong]).ToArray(), IgvmErrorKind.BadHeaderLength, at);
        }
    }

    [Fact]
    public void Parse_SectionThatEndsInsideAHeader_Refuses()
    {
        byte[] file = TestFiles.Minimal.Write();
        for (uint length = 1; length < 0x18 + 0x20; length++)
        {
            if (length is 0x18)
            {
                continue;
            }

            RawFile.U32(file, 0x0C, length);
            RawFile.FixChecksum(file);

            AssertRefuses(file, IgvmErrorKind.TruncatedHeader, length < 0x18 ? 24 : 24 + 0x18);
        }
    }

    [Fact]
    public void Parse_VpContextWithoutItsPadding_Refuses()
    {
        RawFile raw = new RawFile().AddSnpPlatform();
        int at = raw.NextBody - 8;
        byte[] file = raw.Add(0x304, RawFile.Body(0x14, (8, 4, 1), (0xC, 4, raw.DataOffset(0x20)))).ToArray();
        RawFile.U32(file, 0x0C, (uint)(at + 8 + 0x14 - 24));
        RawFile.FixChecksum(file);

        AssertRefuses(file, IgvmErrorKind.TruncatedHeader, at);
    }

    [Theory]
    [InlineData(0x302u, 0x18, 0x001u, 0x10)]
    [InlineData(0x302u, 0x18, 0x101u, 0x10)]
    [InlineData(0x101u, 0x10, 0x001u, 0x10)]
    public void Parse_HeaderOfAnEarlierSection_Refuses(uint first, int firstLength, uint second, int secondLength)
    {
        RawFile raw = new RawFile().AddSnpPlatform().Add(first, new byte[firstLength]);
        int at = raw.NextBody - 8;

        AssertRefuses(raw.Add(second, new byte[secondLength]).ToArray(), IgvmErrorKind.HeaderOutOfOrder, at);
    }

    public static TheoryData<IgvmErrorKind, int, uint, int, (int, int, ulong)[]> BadPlatforms { get; } = new()
    {
        { IgvmErrorKind.BadCompatibilityMask, 0, 0x001, 0x10, [(5, 1, 2), (6, 2, 1)] },
        { IgvmErrorKind.BadCompatibilityMask, 0, 0x001, 0x10, [(0, 4, 3), (5, 1, 2), (6, 2, 1)] },
        { IgvmErrorKind.BadPlatform, 4, 0x001, 0x10, [(0, 4, 1), (4, 1, 1), (5, 1, 2), (6, 2, 1)] },
        { IgvmErrorKind.BadPlatform, 4, 0x001, 0x10, [(0, 4, 1), (4, 1, 3), (5, 1, 2), (6, 2, 1)] },
        { IgvmErrorKind.BadPlatform, 5, 0x001, 0x10, [(0, 4, 1), (5, 1, 7), (6, 2, 1)] },
        { IgvmErrorKind.BadPlatform, 5, 0x001, 0x10, [(0, 4, 1), (5, 1, 6), (6, 2, 1)] },
        { IgvmErrorKind.BadPlatform, 6, 0x001, 0x10, [(0, 4, 1), (5, 1, 2), (6, 2, 0)] },
        { IgvmErrorKind.BadPlatform, 6, 0x001, 0x10, [(0, 4, 1), (5, 1, 2), (6, 2, 2)] },
        { IgvmErrorKind.BadPlatform, 8, 0x001, 0x10, [(0, 4, 1), (5, 1, 0), (6, 2, 1), (8, 8, 1)] },
        { IgvmErrorKind.BadPlatform, 8, 0x001, 0x10, [(0, 4, 1), (5, 1, 1), (6, 2, 1), (8, 8, 1)] },
    };

    [Theory]
    [MemberData(nameof(BadPlatforms))]
    public void Parse_BadPlatform_Refuses(IgvmErrorKind kind, int offset, uint type, int length, (int, int, ulong)[] fields)
    {
        var raw = new RawFile();
        int at = raw.NextBody;

        AssertRefuses(raw.Add(type, RawFile.Body(length, fields)).ToArray(), kind, at + offset);
    }

    [Fact]
    public void Parse_PlatformTypeOrMaskTwice_Refuses()
    {
        RawFile sameType = new RawFile().AddSnpPlatform();
        int at = sameType.NextBody;
        AssertRefuses(sameType.Add(0x001, RawFile.Body(0x10, (0, 4, 2), (5, 1, 2), (6, 2, 1))).ToArray(), IgvmErrorKind.DuplicatePlatform, at + 5);

        RawFile sameMask = new RawFile().AddSnpPlatform();
        AssertRefuses(sameMask.Add(0x001, RawFile.Body(0x10, (0, 4, 1), (5, 1, 3), (6, 2, 1))).ToArray(), IgvmErrorKind.DuplicatePlatform, at);
    }

    // Structures behind an SNP platform header. The offset is that of the value complained about, in the structure.
    public static TheoryData<IgvmErrorKind, int, uint, int, (int, int, ulong)[]> BadStructures { get; } = new()
    {
        { IgvmErrorKind.ReservedNotZero, 0x0C, 0x101, 0x10, [(0xC, 4, 1)] },
        { IgvmErrorKind.BadValue, 6, 0x102, 0x30, [(6, 1, 3), (8, 8, 0x1000), (0x18, 8, 0x1000)] },
        { IgvmErrorKind.BadValue, 7, 0x102, 0x30, [(7, 1, 8), (8, 8, 0x1000), (0x18, 8, 0x1000)] },
        { IgvmErrorKind.MisalignedSize, 8, 0x102, 0x30, [(0x18, 8, 0x1000)] },
        { IgvmErrorKind.MisalignedSize, 8, 0x102, 0x30, [(8, 8, 0x800), (0x18, 8, 0x1000)] },
        { IgvmErrorKind.MisalignedAddress, 0x10, 0x102, 0x30, [(8, 8, 0x2000), (0x10, 8, 0x1000), (0x18, 8, 0x1000)] },
        { IgvmErrorKind.MisalignedSize, 0x18, 0x102, 0x30, [(8, 8, 0x1000), (0x18, 8, 0x1001)] },
        { IgvmErrorKind.MisalignedAddress, 0x20, 0x102, 0x30, [(8, 8, 0x2000), (0x18, 8, 0x1000), (0x20, 8, 0x1000)] },
        { IgvmErrorKind.MisalignedAddress, 0x28, 0x102, 0x30, [(8, 8, 0x2000), (0x18, 8, 0x1000), (0x28, 8, 0x1000)] },
        { IgvmErrorKind.BadValue, 0x18, 0x102, 0x30, [(8, 8, 0x1000)] },
        { IgvmErrorKind.BadValue, 0x18, 0x102, 0x30, [(8, 8, 0x1000), (0x10, 8, 0xFFFF_FFFF_FFFF_F000), (0x18, 8, 0x2000)] },
        { IgvmErrorKind.BadPageTableRelocation, 4, 0x102, 0x30, [(0, 4, 1), (8, 8, 0x1000), (0x18, 8, 0x1000)] },
        { IgvmErrorKind.ReservedNotZero, 7, 0x103, 0x20, [(7, 1, 1)] },
        { IgvmErrorKind.BadValue, 6, 0x103, 0x20, [(6, 1, 3), (0x10, 8, 0x1000)] },
        { IgvmErrorKind.MisalignedAddress, 8, 0x103, 0x20, [(8, 8, 1), (0x10, 8, 0x1000)] },
        { IgvmErrorKind.MisalignedSize, 0x10, 0x103, 0x20, [(0x10, 8, 1)] },
        { IgvmErrorKind.MisalignedSize, 0x18, 0x103, 0x20, [(0x10, 8, 0x1000), (0x18, 8, 1)] },
        { IgvmErrorKind.BadPageTableRelocation, 0x18, 0x103, 0x20, [(0x10, 8, 0x1000), (0x18, 8, 0x2000)] },
        { IgvmErrorKind.BadValue, 0x10, 0x103, 0x20, [(0, 4, 1)] },
        { IgvmErrorKind.ReservedNotZero, 0x0C, 0x104, 0x10, [(0xC, 4, 1)] },
        { IgvmErrorKind.ReservedNotZero, 0x0C, 0x105, 0x10, [(0xC, 4, 1)] },
        { IgvmErrorKind.DataOutOfFile, 4, 0x104, 0x10, [(4, 4, 8), (8, 4, 1)] },
        { IgvmErrorKind.DataOutOfFile, 4, 0x105, 0x10, [(4, 4, 0xFFFF_FFFF), (8, 4, 1)] },
        { IgvmErrorKind.ReservedNotZero, 4, 0x106, 0x20, [(4, 4, 1)] },
        { IgvmErrorKind.ReservedNotZero, 0x1A, 0x106, 0x20, [(0x1F, 1, 1)] },
        { IgvmErrorKind.BadValue, 0x10, 0x106, 0x20, [(8, 8, 1), (0x10, 8, 1)] },
        { IgvmErrorKind.BadValue, 0x18, 0x106, 0x20, [(0x18, 1, 3)] },
        { IgvmErrorKind.MisalignedSize, 0, 0x301, 0x10, [(0, 8, 1)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x301, 0x10, [(0, 8, 0x2000), (0xC, 4, 64)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x301, 0x10, [(0, 8, 0xFFFF_FFFF_FFFF_F000), (0xC, 4, 64)] },
        { IgvmErrorKind.MisalignedAddress, 0, 0x302, 0x18, [(0, 8, 0x1001)] },
        { IgvmErrorKind.MisalignedAddress, 0, 0x302, 0x18, [(0, 8, 0x1000), (0x10, 4, 1)] },
        { IgvmErrorKind.BadValue, 0x10, 0x302, 0x18, [(0x10, 4, 8)] },
        { IgvmErrorKind.BadValue, 0x14, 0x302, 0x18, [(0x14, 2, 4)] },
        { IgvmErrorKind.ReservedNotZero, 0x16, 0x302, 0x18, [(0x16, 2, 1)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x302, 0x18, [(0xC, 4, 1)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x302, 0x18, [(0xC, 4, 24 + 0x18 + 0x20 - 1)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x302, 0x18, [(0xC, 4, 24 + 0x18 + 0x20 + 1)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x302, 0x18, [(0xC, 4, 24 + 0x18 + 0x20 + 4096)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x302, 0x18, [(0xC, 4, 0xFFFF_FFFF)] },
        { IgvmErrorKind.UnknownParameterArea, 0x0C, 0x303, 0x10, s_none },
        { IgvmErrorKind.MisalignedAddress, 0, 0x303, 0x10, [(0, 8, 0x10)] },
        { IgvmErrorKind.UnknownParameterArea, 0, 0x307, 0x08, s_none },
        { IgvmErrorKind.UnknownParameterArea, 0, 0x313, 0x08, s_none },
        { IgvmErrorKind.BadCompatibilityMask, 8, 0x304, 0x14, [(8, 4, 2)] },
        { IgvmErrorKind.BadCompatibilityMask, 8, 0x304, 0x14, [(8, 4, 3)] },
        { IgvmErrorKind.BadCompatibilityMask, 8, 0x304, 0x14, [(8, 4, 0)] },
        { IgvmErrorKind.ReservedNotZero, 0x12, 0x304, 0x14, [(8, 4, 1), (0x12, 2, 1)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x304, 0x14, [(8, 4, 1)] },
        { IgvmErrorKind.DataOutOfFile, 0x0C, 0x304, 0x14, [(8, 4, 1), (0xC, 4, 0xFFFF_F000)] },
        { IgvmErrorKind.MisalignedAddress, 0, 0x304, 0x14, [(0, 8, 0x10), (8, 4, 1), (0xC, 4, 24 + 0x18 + 0x20)] },
        { IgvmErrorKind.MisalignedAddress, 0, 0x305, 0x18, [(0, 8, 1)] },
        { IgvmErrorKind.MisalignedSize, 0x0C, 0x305, 0x18, [(0xC, 4, 1)] },
        { IgvmErrorKind.BadValue, 0x10, 0x305, 0x18, [(0x10, 4, 2)] },
        { IgvmErrorKind.ReservedNotZero, 0x14, 0x305, 0x18, [(0x14, 4, 1)] },
        { IgvmErrorKind.MisalignedAddress, 0, 0x30D, 0x10, [(0, 8, 1)] },
        { IgvmErrorKind.MisalignedSize, 0x0C, 0x30D, 0x10, [(0xC, 4, 1)] },
        { IgvmErrorKind.ReservedNotZero, 5, 0x30B, 0x2B8, [(7, 1, 1)] },
        { IgvmErrorKind.ReservedNotZero, 0xFC, 0x30B, 0x2B8, [(0xFC, 4, 1)] },
        { IgvmErrorKind.ReservedNotZero, 0x224, 0x30B, 0x2B8, [(0x227, 1, 1)] },
    };

    [Theory]
    [MemberData(nameof(BadStructures))]
    public void Parse_BadStructure_Refuses(IgvmErrorKind kind, int offset, uint type, int length, (int, int, ulong)[] fields)
    {
        RawFile raw = new RawFile().AddSnpPlatform();
        int at = raw.NextBody;

        AssertRefuses(raw.Add(type, RawFile.Body(length, fields)).ToArray(), kind, at + offset);
    }

    [Fact]
    public void Parse_ParameterAreaTwice_Refuses()
    {
        RawFile raw = new RawFile().AddSnpPlatform().Add(0x301, RawFile.Body(0x10, (0, 8, 0x1000), (8, 4, 9)));
        int at = raw.NextBody;

        AssertRefuses(raw.Add(0x301, RawFile.Body(0x10, (0, 8, 0x1000), (8, 4, 9))).ToArray(), IgvmErrorKind.DuplicateParameterArea, at + 8);
    }

    [Theory]
    [InlineData(0x303u, 0x10, 0x0C)]
    [InlineData(0x307u, 0x08, 0)]
    public void Parse_UseOfAnInsertedArea_Refuses(uint type, int length, int field)
    {
        RawFile raw = new RawFile().AddSnpPlatform()
            .Add(0x301, RawFile.Body(0x10, (0, 8, 0x1000), (8, 4, 9)))
            .Add(0x303, RawFile.Body(0x10, (8, 4, 1), (0xC, 4, 9)));
        int at = raw.NextBody;

        AssertRefuses(raw.Add(type, RawFile.Body(length, (field, 4, 9))).ToArray(), IgvmErrorKind.ParameterAreaInserted, at + field);
    }

    [Fact]
    public void Parse_VpContextOfTdx_Refuses()
    {
        RawFile raw = new RawFile().Add(0x001, RawFile.Body(0x10, (0, 4, 1), (5, 1, 3), (6, 2, 1)));
        int at = raw.NextBody;

        AssertRefuses(raw.Add(0x304, RawFile.Body(0x14, (8, 4, 1), (0xC, 4, raw.DataOffset(0x20)))).ToArray(), IgvmErrorKind.UnsupportedVpContext, at + 8);
    }

    [Theory]
    [InlineData(0xE7, true)]
    [InlineData(0xE8, false)]
    [InlineData(4095, false)]
    public void Parse_NativeContext_HasZeroesBehindTheRegisters(int index, bool accepted)
    {
        var raw = new RawFile();
        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 1), (5, 1, 0), (6, 2, 1)));
        int at = raw.NextBody;
        raw.Add(0x304, RawFile.Body(0x14, (8, 4, 1), (0xC, 4, raw.DataOffset(0x20))));
        raw.Data[index] = 1;

        if (accepted)
        {
            _ = IgvmFile.Parse(raw.ToArray());
        }
        else
        {
            AssertRefuses(raw.ToArray(), IgvmErrorKind.BadVpContext, at + 0x0C);
        }
    }

    [Theory]
    [InlineData(0u, 0, 2, 2, IgvmErrorKind.BadVpContext)]
    [InlineData(2u, 0, 2, 1, IgvmErrorKind.BadVpContext)]
    [InlineData(2u, 0, 3, 3, IgvmErrorKind.BadVpContext)]
    [InlineData(1025u, 0, 2, 2, IgvmErrorKind.BadVpContext)]
    [InlineData(0xFFFF_FFFFu, 0, 2, 2, IgvmErrorKind.BadVpContext)]
    [InlineData(2u, 1, 2, 2, IgvmErrorKind.BadVpContext)]
    [InlineData(128u, 0, 2, 2, IgvmErrorKind.DataOutOfFile)]
    public void Parse_BadVsmContext_Refuses(uint count, ushort vpIndex, byte firstVtl, byte secondVtl, IgvmErrorKind kind)
    {
        var raw = new RawFile();
        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 1), (5, 1, 1), (6, 2, 1)));
        raw.Add(0x304, RawFile.Body(0x14, (8, 4, 1), (0xC, 4, raw.DataOffset(0x20)), (0x10, 2, vpIndex)));
        RawFile.U32(raw.Data, 0, count);
        raw.Data[4] = firstVtl;
        raw.Data[4 + 32] = secondVtl;

        AssertRefuses(raw.ToArray(), kind, null);
    }

    [Fact]
    public void Parse_VsmContextThatStartsAtTheLastBytes_Refuses()
    {
        var raw = new RawFile();
        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 1), (5, 1, 1), (6, 2, 1)));
        raw.Add(0x304, RawFile.Body(0x14, (8, 4, 1), (0xC, 4, raw.DataOffset(0x20) + 4093)));

        AssertRefuses(raw.ToArray(), IgvmErrorKind.DataOutOfFile, null);
    }

    [Fact]
    public void Parse_RelocationHeadersThatContradict_Refuses()
    {
        // Behind a VSM platform, whose contexts alone fit relocation headers.
        RawFile Vsm() => new RawFile().Add(0x001, RawFile.Body(0x10, (0, 4, 1), (5, 1, 1), (6, 2, 1)));
        byte[] PageTable(ulong gpa, uint mask) => RawFile.Body(0x20, (0, 4, mask), (8, 8, gpa), (0x10, 8, 0x2000));
        byte[] Region(ulong gpa, uint mask) => RawFile.Body(0x30, (0, 4, mask), (8, 8, 0x1000), (0x10, 8, gpa), (0x18, 8, 0x2000));

        AssertRefuses(Vsm().Add(0x103, PageTable(0, 1)).Add(0x103, PageTable(0x10000, 1)).ToArray(), IgvmErrorKind.BadPageTableRelocation, null);
        AssertRefuses(Vsm().Add(0x102, Region(0x1000, 1)).Add(0x103, PageTable(0, 1)).ToArray(), IgvmErrorKind.BadPageTableRelocation, null);
        AssertRefuses(Vsm().Add(0x102, Region(0x1000, 3)).Add(0x102, Region(0x2000, 2)).Add(0x302, new byte[0x18]).ToArray(), IgvmErrorKind.BadPageTableRelocation, null);
        AssertRefuses(
            Vsm().Add(0x103, PageTable(0, 1)).Add(0x301, RawFile.Body(0x10, (0, 8, 0x1000))).Add(0x303, RawFile.Body(0x10, (0, 8, 0x1000), (8, 4, 1))).ToArray(),
            IgvmErrorKind.BadPageTableRelocation,
            null);

        // The same without the contradiction fails only because no context is there.
        IgvmFormatException e = Assert.Throws<IgvmFormatException>(() => IgvmFile.Parse(Vsm().Add(0x102, Region(0x2000, 1)).Add(0x103, PageTable(0, 1)).ToArray()));
        Assert.Contains("processor", e.Subject, StringComparison.Ordinal);
    }

    [Fact]
    public void Parse_Armv8FileWithX64Headers_Refuses()
    {
        IgvmFile file = TestFiles.Arm;

        AssertModelRefused(file with { Platforms = [TestFiles.SnpPlatform] }, IgvmErrorKind.BadPlatform);
        AssertModelRefused(file with { FormatVersion = IgvmFormatVersion.V1 }, IgvmErrorKind.UnsupportedArchitecture);
        AssertModelRefused(
            file with { Initializations = [new IgvmPageTableRelocation { CompatibilityMask = 1, Gpa = 0, ByteLength = 0x1000, UsedByteLength = 0 }] },
            IgvmErrorKind.UnsupportedArchitecture);
    }

    [Fact]
    public void Parse_Refusal_SaysWhereWhatAndWhatIsWanted()
    {
        byte[] file = TestFiles.Minimal.Write();
        RawFile.U32(file, 0, 0);

        IgvmFormatException e = Assert.Throws<IgvmFormatException>(() => IgvmFile.Parse(file));

        Assert.Equal("IGVM file, offset 0x0: magic is 0x0; wanted 0x4D564749 (IGVM).", e.Message);
        Assert.Equal(("magic", "0x0", "0x4D564749 (IGVM)"), (e.Subject, e.Seen, e.Wanted));
    }

    // Offsets are 32 bits; every truncation of a good file must be refused, whatever the cut.
    [Fact]
    public void Parse_EveryTruncation_Refuses()
    {
        byte[] file = TestFiles.Everything.Write();
        IEnumerable<int> lengths = Enumerable.Range(0, 4096).Concat(Enumerable.Range(0, (file.Length - 4096) / 64).Select(i => 4096 + (i * 64)));
        foreach (int length in lengths)
        {
            byte[] cut = file[..length];
            Assert.Throws<IgvmFormatException>(() => IgvmFile.Parse(cut));
            if (length >= 24)
            {
                RawFile.U32(cut, 0x10, (uint)length);
                RawFile.FixChecksum(cut);
                Assert.Throws<IgvmFormatException>(() => IgvmFile.Parse(cut));
            }
        }
    }

    private static void AssertModelRefused(IgvmFile file, IgvmErrorKind kind) =>
        Assert.Equal(kind, Assert.Throws<IgvmFormatException>(() => file.Write()).Kind);

    private static void AssertRefuses(byte[] file, IgvmErrorKind kind, int? offset)
    {
        IgvmFormatException e = Assert.Throws<IgvmFormatException>(() => IgvmFile.Parse(file));
        Assert.Equal(kind, e.Kind);
        if (offset is int at)
        {
            Assert.Equal(at, e.Offset);
        }
        else
        {
            Assert.NotNull(e.Offset);
        }
    }
}
