// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using Xunit;

namespace Svsm.Sdk.Tests;

/// <summary>What holds for the repository as a whole.</summary>
public sealed partial class RepositoryTests
{
    // Built from the packages, which are not there yet when the solution is built.
    private static readonly string[] s_packageUsers = ["samples/", "templates/content/"];

    [Fact]
    public void Solution_EveryProject_IsListed()
    {
        string[] listed = [.. XDocument.Parse(RepositoryFiles.Read("Svsm.slnx")).Descendants("Project").Select(project => (string)project.Attribute("Path")!).Order(StringComparer.Ordinal)];
        string[] present = [.. RepositoryFiles.With(".csproj").Where(file => !IsPackageUser(file))];

        Assert.Equal(present, listed);
    }

    [Fact]
    public void Packages_EveryPackableProject_IsListed()
    {
        string[] listed = [.. XDocument.Parse(RepositoryFiles.Read("eng/Packages.slnx")).Descendants("Project")
            .Select(project => ((string)project.Attribute("Path")!).Replace("../", "", StringComparison.Ordinal)).Order(StringComparer.Ordinal)];
        string[] packable = [.. RepositoryFiles.With(".csproj").Where(file => RepositoryFiles.Read(file).Contains("<IsPackable>true</IsPackable>", StringComparison.Ordinal))];

        Assert.Equal(packable, listed);
    }

    [Fact]
    public void TestProjects_EveryOne_IsFoundByTheTestCommand()
    {
        string[] testProjects = [.. RepositoryFiles.With(".csproj").Where(file => !IsPackageUser(file) && RepositoryFiles.Read(file).Contains("Include=\"xunit.v3\"", StringComparison.Ordinal))];

        Assert.NotEmpty(testProjects);
        Assert.All(testProjects, file => Assert.Matches("^tests/(?<name>[^/]+[.]Tests)/\\k<name>[.]csproj$", file));
    }

    [Fact]
    public void Sample_AndTemplate_AreTheSameProject()
    {
        // Without its options.
        string template = OptionalPart().Replace(RepositoryFiles.Read("templates/content/svsm-image/SvsmImage1.csproj"), "");
        Assert.Equal(template, RepositoryFiles.Read("samples/hello-svsm/HelloSvsm.csproj"));

        string version = XDocument.Parse(RepositoryFiles.Read("Directory.Build.props")).Descendants("VersionPrefix").Single().Value;
        Assert.Equal(
            RepositoryFiles.Read("templates/content/svsm-image/global.json").Replace("@SvsmVersion@", version, StringComparison.Ordinal),
            RepositoryFiles.Read("samples/hello-svsm/global.json"));
        Assert.Equal(RepositoryFiles.Read("samples/hello-svsm/global.json"), RepositoryFiles.Read("samples/linux-guest/global.json"));
        Assert.Equal(RepositoryFiles.Read("samples/hello-svsm/global.json"), RepositoryFiles.Read("samples/FullImage/global.json"));

        const string Template = "templates/content/svsm-module/";
        string[] module = [.. RepositoryFiles.With(".csproj", ".cs", ".props", ".slnx", ".json", ".md")
            .Where(file => file.StartsWith(Template, StringComparison.Ordinal) && !file.Contains(".template.config", StringComparison.Ordinal))];
        Assert.Equal(8, module.Length);
        Assert.All(module, file => Assert.Equal(
            RepositoryFiles.Read(file).Replace("SvsmModule1", "Acme.Echo", StringComparison.Ordinal).Replace("@SvsmVersion@", version, StringComparison.Ordinal),
            RepositoryFiles.Read("samples/EchoModule/" + file[Template.Length..].Replace("SvsmModule1", "Acme.Echo", StringComparison.Ordinal))));
    }

    [Fact]
    public void Sources_EveryFile_HasTheLicenceHead()
    {
        // What a template makes is its user's.
        Assert.All(RepositoryFiles.With(".cs").Where(file => !IsPackageUser(file)), file =>
            Assert.StartsWith("// SPDX-License-Identifier: MIT\n// Copyright (c) The Svsm.Sdk contributors\n\n", RepositoryFiles.Read(file), StringComparison.Ordinal));
    }

    [Fact]
    public void NuGetConfig_Sources_AreTheRepositorysOwnFolder()
    {
        XElement sources = XDocument.Parse(RepositoryFiles.Read("nuget.config")).Descendants("packageSources").Single();

        Assert.Equal(["artifacts/packages"], sources.Elements("add").Select(source => (string)source.Attribute("value")!));
        Assert.Empty(sources.Elements("clear"));
    }

    [Fact]
    public void Pages_EveryLinkToAFile_LeadsSomewhere()
    {
        var broken = new List<string>();
        foreach (string page in RepositoryFiles.With(".md").Where(page => !page.StartsWith("templates/", StringComparison.Ordinal)))
        {
            string folder = Path.GetDirectoryName(Path.Combine(RepositoryFiles.Root, page))!;
            foreach (Match link in Link().Matches(RepositoryFiles.Read(page)))
            {
                string target = link.Groups["target"].Value.Split('#')[0];
                if (target.Length != 0 && !target.Contains("://", StringComparison.Ordinal) && !Path.Exists(Path.Combine(folder, target)))
                {
                    broken.Add($"{page}: {target}");
                }
            }
        }

        Assert.Empty(broken);
    }

    [Fact]
    public void Readme_EveryPageOfTheDocumentation_IsLinked()
    {
        string readme = RepositoryFiles.Read("README.md");

        Assert.All(Directory.EnumerateFiles(Path.Combine(RepositoryFiles.Root, "docs"), "*.md").Select(Path.GetFileName), page =>
            Assert.Contains($"(docs/{page})", readme, StringComparison.Ordinal));
    }

    private static bool IsPackageUser(string file) => s_packageUsers.Any(folder => file.StartsWith(folder, StringComparison.Ordinal));

    [GeneratedRegex(@"^<!--#if .*^<!--#endif -->\n", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex OptionalPart();

    [GeneratedRegex(@"\]\((?<target>[^)\s]+)\)")]
    private static partial Regex Link();
}
