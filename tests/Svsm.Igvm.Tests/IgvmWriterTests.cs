// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using Xunit;

namespace Svsm.Igvm.Tests;

/// <summary>Models that cannot be written. What a file can express is tested with the reader, which has the same rules.</summary>
public sealed class IgvmWriterTests
{
    public static TheoryData<string, IgvmErrorKind, IgvmFile> BadModels
    {
        get
        {
            var data = new TheoryData<string, IgvmErrorKind, IgvmFile>();
            void Directive(string name, IgvmErrorKind kind, IgvmDirective directive) => data.Add(name, kind, TestFiles.Minimal with { Directives = [directive, TestFiles.Minimal.Directives[0]] });

            data.Add("no platform", IgvmErrorKind.NoPlatform, TestFiles.Minimal with { Platforms = [], Directives = [] });
            data.Add("no data", IgvmErrorKind.NoFileData, TestFiles.Minimal with { Directives = [] });
            data.Add("version", IgvmErrorKind.UnsupportedVersion, TestFiles.Minimal with { FormatVersion = (IgvmFormatVersion)3 });
            data.Add("architecture", IgvmErrorKind.UnsupportedArchitecture, TestFiles.Minimal with { FormatVersion = IgvmFormatVersion.V2, Architecture = (IgvmArchitecture)2 });
            Directive("short page", IgvmErrorKind.BadDataLength, new IgvmPageData { Gpa = 0, CompatibilityMask = 1, Data = new byte[4095] });
            Directive("long page", IgvmErrorKind.BadDataLength, new IgvmPageData { Gpa = 0, CompatibilityMask = 1, Data = new byte[4097] });
            Directive("short area", IgvmErrorKind.BadDataLength, new IgvmParameterArea { ByteLength = 0x2000, Index = 0, InitialData = new byte[0x1000] });
            Directive("empty VMSA", IgvmErrorKind.BadDataLength, new IgvmVpContext { Gpa = 0, CompatibilityMask = 1, Data = default });
            Directive("context of no platform", IgvmErrorKind.BadCompatibilityMask, new IgvmVpContext { Gpa = 0, CompatibilityMask = 2, Data = new byte[4096] });
            Directive("usage kind", IgvmErrorKind.UnknownHeaderType, new IgvmParameterUsage { Kind = (IgvmParameterKind)0x302, AreaIndex = 0 });
            Directive("usage without area", IgvmErrorKind.UnknownParameterArea, new IgvmParameterUsage { Kind = IgvmParameterKind.Madt, AreaIndex = 0 });
            Directive("digest", IgvmErrorKind.BadDataLength, TestFiles.IdBlock with { LaunchDigest = new byte[47] });
            Directive("family", IgvmErrorKind.BadDataLength, TestFiles.IdBlock with { FamilyId = new byte[17] });
            Directive("image", IgvmErrorKind.BadDataLength, TestFiles.IdBlock with { ImageId = default });
            Directive("signature", IgvmErrorKind.BadDataLength, TestFiles.IdBlock with { IdKeySignature = new IgvmSnpSignature(new byte[48], new byte[72]) });
            Directive("key", IgvmErrorKind.BadDataLength, TestFiles.IdBlock with { AuthorPublicKey = new IgvmSnpPublicKey(2, new byte[72], new byte[48]) });
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(BadModels))]
    public void Write_BadModel_ThrowsAndWritesNothing(string name, IgvmErrorKind kind, IgvmFile file)
    {
        using var stream = new MemoryStream();

        IgvmFormatException e = Assert.Throws<IgvmFormatException>(() => file.WriteTo(stream));

        Assert.True(kind == e.Kind, $"{name}: {e.Kind}");
        Assert.Null(e.Offset);
        Assert.Equal(0, stream.Length);
    }

    [Fact]
    public void Write_Twice_GivesTheSameBytes()
    {
        IgvmFile file = TestFiles.Everything;

        Assert.Equal(file.Write(), (file with { }).Write());
    }

    [Fact]
    public void Write_VsmContextOfOtherLengths_Throws()
    {
        foreach (int length in new List<int> { 0, 3, 4, 35, 37, 4 + (1025 * 32) })
        {
            byte[] data = new byte[length];
            if (length >= 4)
            {
                RawFile.U32(data, 0, (uint)((length - 4) / 32));
            }

            IgvmFile file = TestFiles.Everything with
            {
                Initializations = [],
                Directives = [new IgvmVpContext { Gpa = 0, CompatibilityMask = TestFiles.Vsm, Data = data }, TestFiles.Minimal.Directives[0]],
            };
            Assert.Equal(IgvmErrorKind.BadVpContext, Assert.Throws<IgvmFormatException>(() => file.Write()).Kind);
        }
    }
}
