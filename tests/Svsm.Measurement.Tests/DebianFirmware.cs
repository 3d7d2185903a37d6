// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Firmware files of Debian packages, for test vectors. Cached in $SVSM_TEST_CACHE, else $XDG_CACHE_HOME/svsm-tests, else ~/.cache/svsm-tests;
// fetched by eng/fetch-deb when they are not there.

using System;
using System.Diagnostics;
using System.IO;
using System.Security.Cryptography;

namespace Svsm.Measurement.Tests;

/// <summary>A firmware file inside a Debian package.</summary>
internal sealed record DebianFirmware(string Package, string Version, string DebSha256, string Suite, string PathInPackage, string Sha256)
{
    public static DebianFirmware AmdSev { get; } = new(
        "ovmf-amdsev",
        "2026.08+ds-2",
        "92c9b6d15e4eeb371938c3f99080c1a8fc057dfd6bc0509d37f8b615e9edebfb",
        "sid",
        "./usr/share/ovmf/OVMF.amdsev.fd",
        "3e4fd0b3fe3b2dbe481c3d9e99418a034174f26cbe1f55aa212b0f18c12d2d6f");

    public static DebianFirmware Trixie { get; } = new(
        "ovmf",
        "2025.02-8+deb13u1",
        "78e0d54df11fc77406cb7a0bc9a39e5bca6d1cbe06556b91d9a73491c52decdf",
        "trixie",
        "./usr/share/ovmf/OVMF.fd",
        "14954040cc754ade0c625ac3470ea46d4c14318b5b1396de4ef77090203d76db");

    /// <summary>The file's bytes, checked.</summary>
    public byte[] Read()
    {
        string directory = Path.Combine(CacheDirectory(), "firmware");
        string path = Path.Combine(directory, $"{Package}_{Version}.fd");
        if (File.Exists(path))
        {
            byte[] cached = File.ReadAllBytes(path);
            if (Matches(cached))
            {
                return cached;
            }
        }

        byte[] bytes = Extract();
        if (!Matches(bytes))
        {
            throw new InvalidOperationException($"{PathInPackage} of {Package} {Version} has SHA-256 {Convert.ToHexStringLower(SHA256.HashData(bytes))}; wanted is {Sha256}.");
        }

        Directory.CreateDirectory(directory);
        string temporary = Path.Combine(directory, Path.GetRandomFileName());
        File.WriteAllBytes(temporary, bytes);
        File.Move(temporary, path, overwrite: true);
        return bytes;
    }

    private static string CacheDirectory()
    {
        if (Environment.GetEnvironmentVariable("SVSM_TEST_CACHE") is { Length: > 0 } chosen)
        {
            return chosen;
        }

        string cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } xdg
            ? xdg
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return Path.Combine(cache, "svsm-tests");
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

    private bool Matches(byte[] bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes)) == Sha256;

    private byte[] Extract()
    {
        const string Script = """
            set -euo pipefail
            deb=$("$1" "$2" "$3" "$4" "$5")
            dpkg-deb --fsys-tarfile "$deb" | tar -xO "$6"
            """;
        var start = new ProcessStartInfo("bash") { RedirectStandardOutput = true, RedirectStandardError = true };
        string[] arguments = ["-c", Script, "fetch", Path.Combine(RepositoryRoot(), "eng", "fetch-deb"), Package, Version, DebSha256, Suite, PathInPackage];
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }

        using Process process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        using var output = new MemoryStream();
        process.StandardOutput.BaseStream.CopyTo(output);
        process.WaitForExit();
        return process.ExitCode == 0
            ? output.ToArray()
            : throw new InvalidOperationException($"Cannot get {PathInPackage} of {Package} {Version}: {errors.GetAwaiter().GetResult()}");
    }
}
