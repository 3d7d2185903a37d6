// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.IO;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Simulator.Tests;

public sealed class LaunchDigestFileTests : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("svsm-test-");

    public void Dispose() => _folder.Delete(recursive: true);

    [Fact]
    public void Read_Digits_GivesBytes() => Assert.Equal(Convert.FromHexString(TestImage.Digest), LaunchDigestFile.Read(TestImage.Digest.ToUpperInvariant()).ToArray());

    [Fact]
    public void Read_JsonFile_GivesBytes()
    {
        string file = Write($$"""{ "version": 1, "launchDigest": "{{TestImage.Digest}}", "policy": "0x30000" }""");

        Assert.Equal(Convert.FromHexString(TestImage.Digest), LaunchDigestFile.Read(file).ToArray());
    }

    [Theory]
    [InlineData("")]
    [InlineData("nonsense")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("""{ "launchDigest": 7 }""")]
    [InlineData("""{ "launchDigest": "abcd" }""")]
    public void Read_FileWithoutDigest_IsRefused(string text)
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => LaunchDigestFile.Read(Write(text)));

        Assert.Same(SvsmDiagnostics.RunOptionInvalid, error.Diagnostic);
    }

    [Theory]
    [InlineData("no-such-file")]
    [InlineData("")]
    [InlineData("zz")]
    [InlineData("/")]
    public void Read_NeitherDigitsNorFile_IsRefused(string value)
    {
        var error = Assert.Throws<SvsmDiagnosticException>(() => LaunchDigestFile.Read(value));

        Assert.Same(SvsmDiagnostics.RunFileUnreadable, error.Diagnostic);
    }

    private string Write(string text)
    {
        string file = Path.Combine(_folder.FullName, "x.digest.json");
        File.WriteAllText(file, text);
        return file;
    }
}
