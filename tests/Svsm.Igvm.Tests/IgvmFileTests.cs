// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using Xunit;

namespace Svsm.Igvm.Tests;

public sealed class IgvmFileTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Parse_FileOfOurWriter_GivesTheSameModelAndBytes(int which)
    {
        IgvmFile file = TestFiles.All[which];
        byte[] bytes = file.Write();

        IgvmFile parsed = IgvmFile.Parse(bytes);

        Assert.Equal(file, parsed);
        Assert.Equal(file.GetHashCode(), parsed.GetHashCode());
        Assert.Equal(bytes, parsed.Write());
    }

    [Fact]
    public void WriteTo_Stream_GivesTheBytesOfWrite()
    {
        using var stream = new MemoryStream();

        TestFiles.Everything.WriteTo(stream);

        Assert.Equal(TestFiles.Everything.Write(), stream.ToArray());
    }

    [Fact]
    public void Write_MinimalFile_GivesTheBytesOfTheDescription()
    {
        RawFile raw = new RawFile { Data = TestFiles.Page(1) };
        raw.Add(0x001, RawFile.Body(0x10, (0, 4, 1), (4, 1, 2), (5, 1, 2), (6, 2, 1)));
        raw.Add(0x302, RawFile.Body(0x18, (0, 8, 0x1000), (8, 4, 1), (0xC, 4, raw.DataOffset(0x20))));

        Assert.Equal(raw.ToArray(), TestFiles.Minimal.Write());
    }

    [Fact]
    public void Write_EqualDataBlocks_AreStoredOnce()
    {
        IgvmFile one = TestFiles.Minimal;
        IgvmFile two = one with { Directives = one.Directives.Add(new IgvmPageData { Gpa = 0x2000, CompatibilityMask = 1, Data = TestFiles.Page(1) }) };
        IgvmFile three = one with { Directives = one.Directives.Add(new IgvmPageData { Gpa = 0x2000, CompatibilityMask = 1, Data = TestFiles.Page(2) }) };

        Assert.Equal(one.Write().Length + 0x20, two.Write().Length);
        Assert.Equal(one.Write().Length + 0x20 + 4096, three.Write().Length);
        Assert.Equal(two, IgvmFile.Parse(two.Write()));
    }

    [Fact]
    public void Parse_PageData_IsASliceOfTheInput()
    {
        byte[] bytes = TestFiles.Everything.Write();

        IgvmFile parsed = IgvmFile.Parse(bytes);

        foreach (IgvmPageData page in parsed.Directives.OfType<IgvmPageData>().Where(page => !page.Data.IsEmpty))
        {
            Assert.True(MemoryMarshal.TryGetArray(page.Data, out ArraySegment<byte> segment));
            Assert.Same(bytes, segment.Array);
        }
    }

    [Fact]
    public void Parse_NonCanonicalFile_IsReadAndRewritten()
    {
        // A gap behind the fixed header, a gap before the data, data not deduplicated.
        byte[] canonical = TestFiles.Minimal.Write();
        int headers = canonical.Length - 24 - 4096;
        byte[] file = new byte[canonical.Length + 16 + 100];
        canonical.AsSpan(0, 24).CopyTo(file);
        canonical.AsSpan(24, headers).CopyTo(file.AsSpan(40));
        canonical.AsSpan(24 + headers).CopyTo(file.AsSpan(40 + headers + 100));
        RawFile.U32(file, 0x08, 40);
        RawFile.U32(file, 0x10, (uint)file.Length);
        RawFile.U32(file, 40 + headers - 12, (uint)(40 + headers + 100));
        RawFile.FixChecksum(file);

        IgvmFile parsed = IgvmFile.Parse(file);

        Assert.Equal(TestFiles.Minimal, parsed);
        Assert.Equal(canonical, parsed.Write());
    }

    [Fact]
    public void FindPlatformAndPolicy_KnownAndUnknown()
    {
        Assert.Same(TestFiles.SnpPlatform, TestFiles.Everything.FindPlatform(IgvmPlatformType.SevSnp));
        Assert.Null(TestFiles.Everything.FindPlatform(IgvmPlatformType.Sev));
        Assert.Equal(0x3_0000ul, TestFiles.Everything.FindGuestPolicy(TestFiles.Snp));
        Assert.Null(TestFiles.Everything.FindGuestPolicy(TestFiles.Native));
    }

    [Fact]
    public void Equals_AnyChange_MakesADifferentFile()
    {
        IgvmFile file = TestFiles.Everything;
        List<IgvmFile> others =
        [
            file with { FormatVersion = IgvmFormatVersion.V1 },
            file with { Architecture = IgvmArchitecture.AArch64 },
            file with { Platforms = file.Platforms.RemoveAt(0) },
            file with { Initializations = file.Initializations.RemoveAt(0) },
        ];
        others.AddRange(Enumerable.Range(0, file.Directives.Length).Select(i => file with { Directives = file.Directives.RemoveAt(i) }));

        Assert.All(others, other => Assert.NotEqual(file, other));
        Assert.False(file.Equals(null));
    }

    // Every byte of every header matters: changing it gives another model or a refusal, never the same model.
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    public void Parse_AnyChangedHeaderByte_IsNoticed(int which)
    {
        IgvmFile file = TestFiles.All[which];
        byte[] bytes = file.Write();
        int start = BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(8));
        int end = start + BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(12));
        HashSet<int> padding = [];
        for (int at = start; at < end;)
        {
            int length = BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(at + 4));
            int padded = (length + 7) & ~7;
            padding.UnionWith(Enumerable.Range(at + 8 + length, padded - length));
            at += 8 + padded;
        }

        for (int i = start; i < end; i++)
        {
            byte[] changed = (byte[])bytes.Clone();
            changed[i] ^= 0x10;
            RawFile.FixChecksum(changed);
            IgvmFile? parsed = null;
            try
            {
                parsed = IgvmFile.Parse(changed);
            }
            catch (IgvmFormatException)
            {
            }

            Assert.Equal(padding.Contains(i), parsed?.Equals(file) ?? false);
        }
    }
}
