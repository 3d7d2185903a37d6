// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Svsm.Diagnostics;
using Xunit;

namespace Svsm.Sdk.Tests;

/// <summary>The table of messages, the pages that explain them, and every use in the sources, held together.</summary>
public sealed partial class SvsmDiagnosticsTests
{
    private static readonly string s_table = Path.Combine("Svsm.Sdk", "Diagnostics", "SvsmDiagnostics.cs");
    private static readonly string s_pages = Path.Combine("docs", "errors");
    private static readonly string[] s_sections = ["## What happened", "## Seen and wanted", "## Way out"];

    /// <summary>Name of the field in the table, and the row.</summary>
    private static Dictionary<string, SvsmDiagnostic> Rows { get; } = typeof(SvsmDiagnostics)
        .GetFields(BindingFlags.Public | BindingFlags.Static)
        .Where(field => field.FieldType == typeof(SvsmDiagnostic))
        .ToDictionary(field => field.Name, field => (SvsmDiagnostic)field.GetValue(null)!);

    /// <summary>Product sources: neither the table nor tests nor pages.</summary>
    private static IReadOnlyList<string> ProductFiles { get; } =
        [.. RepositoryFiles.With(".cs", ".props", ".targets", ".csproj", ".S", ".ld", "")
            .Where(file => file != s_table && !file.StartsWith("tests" + Path.DirectorySeparatorChar, StringComparison.Ordinal))];

    [Fact]
    public void Codes_AllRows_AreWellFormedAndUnique()
    {
        Assert.NotEmpty(SvsmDiagnostics.All);
        Assert.Equal(Rows.Count, SvsmDiagnostics.All.Count);
        Assert.All(SvsmDiagnostics.All, row => Assert.Matches("^SVSM[0-7][0-9]{3}$", row.Code));
        Assert.Equal(SvsmDiagnostics.All.Count, SvsmDiagnostics.All.Select(row => row.Code).Distinct().Count());
    }

    [Fact]
    public void Texts_AllRows_AreClausesAndSentences()
    {
        Assert.All(SvsmDiagnostics.All, row =>
        {
            Assert.Matches("^[A-Z'][^.]*[^.:;, ]$", row.Title);
            Assert.Matches(@"^[A-Z'].*\.$", row.WayOut);
        });
    }

    [Fact]
    public void Format_SeenAndWanted_AreInTheTextWithWayOutAndPage()
    {
        SvsmDiagnostic row = SvsmDiagnostics.LinkerMissing;

        string text = row.Format("'/opt/ld'", "GNU ld 2.38 or later");

        Assert.StartsWith(row.Title, text, StringComparison.Ordinal);
        Assert.Contains("'/opt/ld'", text, StringComparison.Ordinal);
        Assert.Contains("wanted is GNU ld 2.38 or later", text, StringComparison.Ordinal);
        Assert.Contains(row.WayOut, text, StringComparison.Ordinal);
        Assert.Contains("docs/errors/SVSM0002.md", text, StringComparison.Ordinal);
    }

    [Fact]
    public void Format_SeenEndsWithAFullStop_LeavesItOut() =>
        Assert.Contains(": 'a.b': not found; wanted is c. ", SvsmDiagnostics.LinkerMissing.Format("'a.b': not found.", "c"), StringComparison.Ordinal);

    [Theory]
    [InlineData("", "x")]
    [InlineData("x", " ")]
    public void Format_EmptyText_Throws(string seen, string wanted) =>
        Assert.Throws<ArgumentException>(() => SvsmDiagnostics.LinkerMissing.Format(seen, wanted));

    [Fact]
    public void Error_Cause_IsKept()
    {
        var cause = new IOException("disk");

        SvsmDiagnosticException error = SvsmDiagnostics.LinkerMissing.Error("a", "b", cause);

        Assert.Same(SvsmDiagnostics.LinkerMissing, error.Diagnostic);
        Assert.Same(cause, error.InnerException);
        Assert.Equal(SvsmDiagnostics.LinkerMissing.Format("a", "b"), error.Message);
    }

    [Fact]
    public void Pages_AndRows_AreTheSame()
    {
        string[] pages = [.. Directory.EnumerateFiles(Path.Combine(RepositoryFiles.Root, s_pages), "SVSM*.md").Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal)!];

        Assert.Equal(SvsmDiagnostics.All.Select(row => row.Code), pages);
    }

    [Fact]
    public void Pages_EachRow_HasTitleSectionsAndWayOut()
    {
        Assert.All(SvsmDiagnostics.All, row =>
        {
            string page = RepositoryFiles.Read(row.HelpPage);
            Assert.StartsWith($"# {row.Code}: {row.Title}\n", page, StringComparison.Ordinal);
            Assert.All(s_sections, section => Assert.Contains($"\n{section}\n", page, StringComparison.Ordinal));
        });
    }

    [Fact]
    public void Index_EachRow_HasALine()
    {
        string index = RepositoryFiles.Read(Path.Combine(s_pages, "README.md"));

        Assert.All(SvsmDiagnostics.All, row => Assert.Contains($"| [{row.Code}]({row.Code}.md) | {row.Title} |", index, StringComparison.Ordinal));
        Assert.Equal(SvsmDiagnostics.All.Count, Code().Matches(index).Select(match => match.Value).Distinct().Count());
    }

    [Fact]
    public void Uses_InProductSources_AreKnownCodes()
    {
        HashSet<string> known = [.. SvsmDiagnostics.All.Select(row => row.Code)];

        string[] unknown = [.. ProductFiles
            .SelectMany(file => Code().Matches(RepositoryFiles.Read(file)).Select(match => (File: file, Code: match.Value)))
            .Where(use => !known.Contains(use.Code))
            .Select(use => $"{use.File}: {use.Code}")
            .Distinct()];

        Assert.Empty(unknown);
    }

    [Fact]
    public void Rows_Each_IsUsedInProductSources()
    {
        string[] texts = [.. ProductFiles.Select(RepositoryFiles.Read)];

        string[] unused = [.. Rows
            .Where(row => !texts.Any(text =>
                text.Contains($"\"{row.Value.Code}\"", StringComparison.Ordinal)
                || text.Contains($"SvsmDiagnostics.{row.Key}", StringComparison.Ordinal)))
            .Select(row => row.Value.Code)];

        Assert.Empty(unused);
    }

    [Fact]
    public void BuildFiles_EachErrorElement_SaysTitleSeenWantedWayOutAndPage()
    {
        Dictionary<string, SvsmDiagnostic> rows = SvsmDiagnostics.All.ToDictionary(row => row.Code);
        XElement[] errors = [.. RepositoryFiles.With(".targets", ".props")
            .Where(file => file.StartsWith("Svsm.Sdk" + Path.DirectorySeparatorChar, StringComparison.Ordinal))
            .SelectMany(file => XDocument.Parse(RepositoryFiles.Read(file)).Descendants("Error"))];

        Assert.NotEmpty(errors);
        Assert.All(errors, error =>
        {
            string text = (string?)error.Attribute("Text") ?? "";
            SvsmDiagnostic row = rows[(string?)error.Attribute("Code") ?? "(an Error without Code)"];
            Assert.StartsWith(row.Title + ": ", text, StringComparison.Ordinal);
            // The value seen comes from the project.
            Assert.Matches(@"[$@%]\(", text.Replace("$(SvsmHelpRoot)", "", StringComparison.Ordinal));
            Assert.Contains("; wanted is", text, StringComparison.Ordinal);
            Assert.EndsWith($" See $(SvsmHelpRoot){row.Code}.md.", text, StringComparison.Ordinal);
            Assert.Equal($"$(SvsmHelpRoot){row.Code}.md", (string?)error.Attribute("HelpLink"));
        });
    }

    [GeneratedRegex("SVSM[0-9]{4}")]
    private static partial Regex Code();
}
