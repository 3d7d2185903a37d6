// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Linq;
using System.Text;
using Xunit;

namespace Svsm.Package.Tests;

/// <summary>The packages as files: nothing of the machine that made them, and the notices that their contents demand.</summary>
public sealed class PackageContentTests(Workspace workspace)
{
    private const string Notices = "THIRD-PARTY-NOTICES.txt";

    private string[] Packages => Directory.GetFiles(workspace.Feed, "*.nupkg");

    [Fact]
    public void Packages_AllFiles_NameNoFolderOfTheMachine()
    {
        // As text of one byte per character, and of two.
        byte[][] paths = [.. new[] { Workspace.Repository, Environment.GetFolderPath(Environment.SpecialFolder.UserProfile) }
            .Select(path => path + "/")
            .SelectMany(path => (byte[][])[Encoding.UTF8.GetBytes(path), Encoding.Unicode.GetBytes(path)])];

        Assert.All(Packages, package => Assert.All(Read(package), entry =>
            Assert.All(paths, path => Assert.True(entry.Bytes.AsSpan().IndexOf(path) < 0, $"{entry.Name} of {package} has {Encoding.UTF8.GetString(path)}"))));
    }

    [Fact]
    public void Packages_AssembliesOfOthers_AreInTheNotices()
    {
        Assert.All(Packages, package =>
        {
            List<(string Name, byte[] Bytes)> entries = Read(package);
            string notices = string.Concat(entries.Where(entry => entry.Name == Notices).Select(entry => Encoding.UTF8.GetString(entry.Bytes)));
            string[] others = [.. entries
                .Select(entry => Path.GetFileName(entry.Name))
                .Where(name => name.EndsWith(".dll", StringComparison.Ordinal) && !name.StartsWith("svsm", StringComparison.OrdinalIgnoreCase))];
            Assert.All(others, name => Assert.Contains(name, notices, StringComparison.Ordinal));
        });
    }

    // A message ends with "See docs/errors/SVSMnnnn.md": whoever prints messages brings the pages.
    [Theory]
    [InlineData("Svsm.Sdk")]
    [InlineData("Svsm.Tool")]
    [InlineData("Svsm.Simulator")]
    public void Package_ThatPrintsMessages_HasTheirPages(string id)
    {
        string package = Packages.Single(file => Path.GetFileName(file).StartsWith(id + ".", StringComparison.Ordinal));
        string[] pages = [.. Read(package).Select(entry => entry.Name).Where(name => name.StartsWith("docs/errors/SVSM", StringComparison.Ordinal)).Select(Path.GetFileName).Order()!];

        Assert.Equal(Directory.GetFiles(Path.Combine(Workspace.Repository, "docs/errors"), "SVSM*.md").Select(Path.GetFileName).Order(), pages);
    }

    private static List<(string Name, byte[] Bytes)> Read(string package)
    {
        using ZipArchive archive = ZipFile.OpenRead(package);
        var entries = new List<(string Name, byte[] Bytes)>();
        foreach (ZipArchiveEntry entry in archive.Entries)
        {
            using Stream stream = entry.Open();
            using var bytes = new MemoryStream();
            stream.CopyTo(bytes);
            entries.Add((entry.FullName, bytes.ToArray()));
        }

        return entries;
    }
}
