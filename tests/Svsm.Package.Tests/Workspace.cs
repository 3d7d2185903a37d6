// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Runtime.InteropServices;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Xunit;

[assembly: AssemblyFixture(typeof(Svsm.Package.Tests.Workspace))]

namespace Svsm.Package.Tests;

/// <summary>
/// A temporary folder in which an integrator works: package cache empty at first, one package source more than the machine has
/// (artifacts/packages), the template installed where no other user of the machine sees it.
/// </summary>
public sealed class Workspace : IAsyncLifetime
{
    private static readonly TimeSpan s_limit = TimeSpan.FromMinutes(5);

    private readonly string _hive;
    private readonly string _tools;
    private int _count;

    /// <summary>Makes the folder.</summary>
    public Workspace()
    {
        Root = Directory.CreateTempSubdirectory("svsm-package-tests-").FullName;
        Packages = Path.Combine(Root, "packages");
        _hive = Path.Combine(Root, "hive");
        _tools = Path.Combine(Root, "tools");
        Feed = Path.Combine(Repository, "artifacts", "packages");
        Version = FindVersion(Feed);
        File.WriteAllText(Path.Combine(Root, "nuget.config"), $"""
            <configuration>
              <packageSources>
                <add key="svsm" value="{Feed}" />
              </packageSources>
            </configuration>
            """);
    }

    /// <summary>The folder.</summary>
    public string Root { get; }

    /// <summary>The svsm tool, as the package installs it.</summary>
    public string Tool => Path.Combine(_tools, "svsm");

    /// <summary>The package cache.</summary>
    public string Packages { get; }

    /// <summary>Where the packages under test are.</summary>
    public string Feed { get; }

    /// <summary>Their version.</summary>
    public string Version { get; }

    /// <summary>The repository that the tests run from.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>The first image project, as the template makes it.</summary>
    public string Project { get; private set; } = "";

    /// <summary>Its first build, with the package cache empty.</summary>
    internal CommandResult FirstBuild { get; private set; } = null!;

    /// <summary>Installs template and tool, makes a project and builds it.</summary>
    public async ValueTask InitializeAsync()
    {
        (await RunAsync(Root, "new", "install", Path.Combine(Feed, $"Svsm.Templates.{Version}.nupkg"), "--debug:custom-hive", _hive)).MustSucceed();
        Project = await NewProjectAsync("Acme.Svsm");
        (await RunAsync(Root, "tool", "install", "Svsm.Tool", "--version", Version, "--tool-path", _tools)).MustSucceed();
        FirstBuild = (await RunAsync(Project, "build")).MustSucceed();
    }

    /// <summary>Deletes the folder.</summary>
    public ValueTask DisposeAsync()
    {
        Directory.Delete(Root, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>What a template makes, below a folder of its own or one that is there.</summary>
    internal async Task<string> NewProjectAsync(string name, string template = "svsm-image", string? below = null, params string[] options)
    {
        string folder = Path.Combine(below ?? Path.Combine(Root, $"p{Interlocked.Increment(ref _count)}"), name);
        Directory.CreateDirectory(Path.GetDirectoryName(folder)!);
        (await RunAsync(Path.GetDirectoryName(folder)!, ["new", template, "-n", name, "--debug:custom-hive", _hive, .. options])).MustSucceed();
        return folder;
    }

    /// <summary>A project with this content, restored and built by nobody yet.</summary>
    internal string NewProject(string content)
    {
        string folder = Path.Combine(Root, $"p{Interlocked.Increment(ref _count)}");
        Directory.CreateDirectory(folder);
        File.Copy(Path.Combine(Project, "global.json"), Path.Combine(folder, "global.json"));
        File.WriteAllText(Path.Combine(folder, "Image.csproj"), $"<Project Sdk=\"Svsm.Sdk\">{content}</Project>");
        return folder;
    }

    /// <summary>Runs dotnet.</summary>
    internal Task<CommandResult> RunAsync(string folder, params string[] arguments) => RunAsync(folder, new Dictionary<string, string>(), arguments);

    /// <summary>Runs dotnet with environment variables.</summary>
    internal Task<CommandResult> RunAsync(string folder, IReadOnlyDictionary<string, string> environment, params string[] arguments) =>
        Start("dotnet", folder, environment, arguments);

    /// <summary>Runs the svsm tool, as the package installs it.</summary>
    internal Task<CommandResult> RunToolAsync(string folder, params string[] arguments) =>
        Start(Tool, folder, new Dictionary<string, string>(), arguments);

    /// <summary>Starts a program with an integrator's environment.</summary>
    /// <returns>What it did, when it has ended.</returns>
    internal Task<CommandResult> Start(
        string program, string folder, IReadOnlyDictionary<string, string> environment, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };

        // What the test run itself was started with must not reach an integrator's build.
        foreach (string name in start.Environment.Keys.Where(name => name.StartsWith("MSBUILD", StringComparison.OrdinalIgnoreCase) || name is "DOTNET_HOST_PATH").ToArray())
        {
            start.Environment.Remove(name);
        }

        start.Environment["NUGET_PACKAGES"] = Packages;
        start.Environment["DOTNET_NOLOGO"] = "1";
        start.Environment["DOTNET_CLI_TELEMETRY_OPTOUT"] = "1";
        start.Environment["DOTNET_CLI_UI_LANGUAGE"] = "en";
        // For the svsm tool, which is a program that looks for its runtime.
        start.Environment["DOTNET_ROOT"] = Path.GetFullPath("../../..", RuntimeEnvironment.GetRuntimeDirectory());
        // The temporary folder goes when the tests end, and nothing may stay behind that works in it.
        start.Environment["MSBUILDDISABLENODEREUSE"] = "1";
        start.Environment["MSBUILDTERMINALLOGGER"] = "off";
        foreach ((string name, string value) in environment)
        {
            start.Environment[name] = value;
        }

        return RunAsync(start, $"{program} {string.Join(' ', arguments)}");
    }

    private static async Task<CommandResult> RunAsync(ProcessStartInfo start, string command)
    {
        using Process process = Process.Start(start)!;
        var output = new StringBuilder();
        process.OutputDataReceived += (_, line) => Append(output, line.Data);
        process.ErrorDataReceived += (_, line) => Append(output, line.Data);
        process.StandardInput.Close();
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        using var limit = new CancellationTokenSource(s_limit);
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            Assert.Fail($"{command}\ndid not end within {s_limit}:\n{output}");
        }

        return new CommandResult(command, process.ExitCode, output.ToString());
    }

    private static void Append(StringBuilder output, string? line)
    {
        if (line is not null)
        {
            lock (output)
            {
                output.Append(line).Append('\n');
            }
        }
    }

    private static string FindRepository()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (File.Exists(Path.Combine(folder, "Svsm.slnx")))
            {
                return folder;
            }
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} has Svsm.slnx; the tests take the packages from the repository's artifacts folder.");
    }

    private static string FindVersion(string feed)
    {
        string[] found = Directory.Exists(feed) ? Directory.GetFiles(feed, "Svsm.Templates.*.nupkg") : [];
        return found.Length == 1
            ? Path.GetFileNameWithoutExtension(found[0])["Svsm.Templates.".Length..]
            : throw new InvalidOperationException($"{feed} has {found.Length} packages Svsm.Templates; wanted is one. Run eng/pack, then the tests.");
    }
}
