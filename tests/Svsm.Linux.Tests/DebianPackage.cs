// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Files of pinned Debian packages, fetched and cached by eng/fetch-deb, and a QEMU of such packages (eng/fetch-qemu).

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Formats.Tar;
using System.IO;
using System.Threading.Tasks;

namespace Svsm.Linux.Tests;

/// <summary>A package.</summary>
internal sealed record DebianPackage(string Name, string Version, string Sha256, string Suite)
{
    /// <summary>The kernel's release, which its files have in their names.</summary>
    public const string KernelRelease = "6.12.95+deb12-cloud-amd64";

    public static DebianPackage Kernel { get; } = new(
        $"linux-image-{KernelRelease}", "6.12.95-1~bpo12+1", "69c92f43b23821de79576fa4d7c86e2924ae2c1b247a47cc5ed9339e220fbcb7", "bookworm-backports");

    public static DebianPackage BusyBox { get; } = new(
        "busybox-static", "1:1.35.0-4+deb12u1+b1", "3d3fdbe91d4660c873e14b092c213fe81c1da6362daa236eb25d0171eb108744", "bookworm");

    public static DebianPackage Firmware { get; } = new(
        "ovmf-generic", "2026.08+ds-2", "05c1593998ba58700ff86c062bde306321af1f5a2943ea9ceef6c2332f3f3374", "sid");

    /// <summary>Reads files of the package.</summary>
    /// <param name="names">Names in the package, as in <c>./bin/busybox</c>.</param>
    /// <returns>Their contents, in the order of the names.</returns>
    public async Task<byte[][]> ReadAsync(params string[] names)
    {
        using Process process = Start("""dpkg-deb --fsys-tarfile "$deb" """);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        var found = new Dictionary<string, byte[]>();
        await using (var reader = new TarReader(process.StandardOutput.BaseStream))
        {
            while (await reader.GetNextEntryAsync() is { } entry)
            {
                if (entry.DataStream is { } data && Array.IndexOf(names, entry.Name) >= 0)
                {
                    var contents = new MemoryStream();
                    await data.CopyToAsync(contents);
                    found[entry.Name] = contents.ToArray();
                }
            }

            await process.StandardOutput.BaseStream.CopyToAsync(Stream.Null);
        }

        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"Cannot get {Name} {Version}: {await errors}");
        }

        return Array.ConvertAll(names, name => found.TryGetValue(name, out byte[]? contents)
            ? contents
            : throw new InvalidOperationException($"{Name} {Version} has no file {name}."));
    }

    /// <summary>Unpacks all of the package.</summary>
    /// <param name="folder">Where.</param>
    public async Task UnpackAsync(string folder)
    {
        using Process process = Start("""dpkg-deb --extract "$deb" "$6" """, folder);
        Task<string> errors = process.StandardError.ReadToEndAsync();
        await process.StandardOutput.BaseStream.CopyToAsync(Stream.Null);
        await process.WaitForExitAsync();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"Cannot unpack {Name} {Version}: {await errors}");
        }
    }

    private Process Start(string script, params string[] arguments)
    {
        var start = new ProcessStartInfo("bash") { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in (string[])
            [
                "-c", $"set -euo pipefail; deb=$(\"$1\" \"$2\" \"$3\" \"$4\" \"$5\"); {script}", "fetch",
                Path.Combine(RepositoryRoot(), "eng", "fetch-deb"), Name, Version, Sha256, Suite, .. arguments,
            ])
        {
            start.ArgumentList.Add(argument);
        }

        return Process.Start(start)!;
    }

    /// <summary>The newest QEMU that runs here, unpacked.</summary>
    /// <returns>Its path.</returns>
    public static async Task<string> GetNewestQemuAsync()
    {
        var start = new ProcessStartInfo(Path.Combine(RepositoryRoot(), "eng", "fetch-qemu")) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string path = (await process.StandardOutput.ReadToEndAsync()).Trim();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? path : throw new InvalidOperationException($"Cannot get the newest QEMU: {await errors}");
    }

    private static string RepositoryRoot()
    {
        for (string? at = AppContext.BaseDirectory; at is not null; at = Path.GetDirectoryName(at))
        {
            if (File.Exists(Path.Combine(at, "eng", "fetch-deb")))
            {
                return at;
            }
        }

        throw new InvalidOperationException($"No folder above {AppContext.BaseDirectory} has eng/fetch-deb.");
    }
}
