// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
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
        Assert.Equal(bytes, parsed.Write());
    }

    [Fact]
    public void WriteTo_Stream_GivesTheBytesOfWrite()
    {
        using var stream = new MemoryStream();

        TestFiles.Everything.WriteTo(stream);

        Assert.Equal(TestFiles.Everything.Write(), stream.ToArray());
    }
}
