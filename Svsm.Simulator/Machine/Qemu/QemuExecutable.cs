// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.ComponentModel;
using System.Diagnostics;
using System.IO;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;
using Svsm.Diagnostics;

namespace Svsm.Simulator;

/// <summary>A QEMU that the simulated machine can use.</summary>
internal sealed partial class QemuExecutable
{
    private const string DefaultName = "qemu-system-x86_64";
    private const string EnvironmentVariable = "SVSM_QEMU";

    private static readonly TimeSpan s_versionTimeout = TimeSpan.FromSeconds(30);

    private QemuExecutable(string path, Version version)
    {
        Path = path;
        Version = version;
    }

    /// <summary>The oldest version that is known to work: 7.2.</summary>
    public static Version MinimumVersion { get; } = new(7, 2);

    /// <summary>The program, an absolute path.</summary>
    public string Path { get; }

    /// <summary>Its version.</summary>
    public Version Version { get; }

    /// <summary>Finds QEMU and asks it for its version.</summary>
    /// <param name="path">A path, or a name that is looked up in <c>PATH</c>; null = the environment variable <c>SVSM_QEMU</c>, or else <c>qemu-system-x86_64</c>.</param>
    /// <param name="cancellationToken">Ends the question for the version.</param>
    /// <returns>The program.</returns>
    /// <exception cref="SvsmDiagnosticException">SVSM6001: there is none. SVSM6002: it does not start, tells no version, or is too old.</exception>
    /// <exception cref="OperationCanceledException">The token was cancelled.</exception>
    public static async Task<QemuExecutable> FindAsync(string? path, CancellationToken cancellationToken)
    {
        string name = path ?? Environment.GetEnvironmentVariable(EnvironmentVariable) ?? "";
        if (name.Length == 0)
        {
            name = DefaultName;
        }

        string file = Locate(name) ?? throw SvsmDiagnostics.QemuMissing.Error($"no program '{name}'", $"{DefaultName} {MinimumVersion} or newer");
        string output = await AskVersionAsync(file, cancellationToken).ConfigureAwait(false);
        Match match = VersionText().Match(output);
        if (!match.Success || !Version.TryParse(match.Groups["version"].Value, out Version? version))
        {
            string firstLine = output.Split('\n', 2)[0].Trim();
            throw SvsmDiagnostics.QemuUnusable.Error($"'{file} --version' says '{firstLine}'", "'QEMU emulator version ...'");
        }

        return version < MinimumVersion
            ? throw SvsmDiagnostics.QemuUnusable.Error($"'{file}' has version {version}", $"{MinimumVersion} or newer")
            : new QemuExecutable(file, version);
    }

    private static string? Locate(string name)
    {
        if (name.Contains(System.IO.Path.DirectorySeparatorChar, StringComparison.Ordinal))
        {
            return File.Exists(name) ? System.IO.Path.GetFullPath(name) : null;
        }

        foreach (string folder in (Environment.GetEnvironmentVariable("PATH") ?? "").Split(System.IO.Path.PathSeparator))
        {
            string file = System.IO.Path.Combine(folder, name);
            if (folder.Length != 0 && File.Exists(file))
            {
                return System.IO.Path.GetFullPath(file);
            }
        }

        return null;
    }

    private static async Task<string> AskVersionAsync(string file, CancellationToken cancellationToken)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        timeout.CancelAfter(s_versionTimeout);
        try
        {
            await using var process = QemuProcess.Start(file, ["--version"], workingDirectory: "");
            return await process.ReadAllAsync(timeout.Token).ConfigureAwait(false);
        }
        catch (Win32Exception exception)
        {
            throw SvsmDiagnostics.QemuUnusable.Error($"'{file}' does not start: {exception.Message}", "an executable program", exception);
        }
        catch (OperationCanceledException exception) when (!cancellationToken.IsCancellationRequested)
        {
            throw SvsmDiagnostics.QemuUnusable.Error($"'{file} --version' did not answer in {s_versionTimeout.TotalSeconds} s", "a version", exception);
        }
    }

    [GeneratedRegex(@"\bversion (?<version>\d+\.\d+(\.\d+)?)", RegexOptions.CultureInvariant)]
    private static partial Regex VersionText();
}
