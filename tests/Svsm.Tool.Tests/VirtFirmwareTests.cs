// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

// Files of UEFI variables, and Debian's virt-firmware (virt-fw-vars), unmodified: what 'svsm vars export' writes it reads and writes again, and what it writes
// 'svsm vars import' takes. It is Python, fetched by eng/fetch-deb (eng/virt-firmware.list), and runs with the machine's own.

using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Security.Cryptography.X509Certificates;
using System.Text.Json;
using System.Threading.Tasks;
using Xunit;

namespace Svsm.Tool.Tests;

/// <summary>virt-firmware, unpacked.</summary>
public sealed class VirtFirmware : IAsyncLifetime
{
    private readonly string _folder = Directory.CreateTempSubdirectory("svsm-virt-firmware-").FullName;

    public async ValueTask InitializeAsync()
    {
        const string Script = """
            set -euo pipefail
            for deb in $("$1/fetch-deb" --list "$1/virt-firmware.list"); do
                dpkg-deb --extract "$deb" "$2"
            done
            """;
        string engFolder = typeof(VirtFirmware).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(attribute => attribute.Key == "Eng").Value!;
        await RunAsync("bash", ["-c", Script, "fetch", engFolder, _folder]);
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_folder, recursive: true);
        return ValueTask.CompletedTask;
    }

    /// <summary>Runs virt-fw-vars, which must succeed.</summary>
    public Task<string> RunVarsAsync(params string[] arguments) => RunAsync("/usr/bin/python3", ["-m", "virt.firmware.vars", .. arguments]);

    private async Task<string> RunAsync(string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["PYTHONPATH"] = Path.Combine(_folder, "usr/lib/python3/dist-packages");
        start.Environment["PYTHONDONTWRITEBYTECODE"] = "1";
        using Process process = Process.Start(start)!;
        Task<string> errors = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"{program} {string.Join(' ', arguments)}: exit status {process.ExitCode}\n{await errors}");
    }
}

public sealed class VirtFirmwareTests(VirtFirmware virtFirmware) : VarsTest, IClassFixture<VirtFirmware>
{
    // An active option "x" with a path that ends at once.
    private const string LoadOption = "010000000400780000007fff0400";

    private async Task WriteCertificate(string name)
    {
        using X509Certificate2 certificate = NewCertificate(name);
        await File.WriteAllTextAsync(At(name + ".pem"), certificate.ExportCertificatePem(), TestContext.Current.CancellationToken);
    }

    private async Task<List<string>> ReadAsync(string name)
    {
        using JsonDocument document = JsonDocument.Parse(await File.ReadAllBytesAsync(At(name), TestContext.Current.CancellationToken));
        return [.. document.RootElement.GetProperty("variables").EnumerateArray().Select(variable => string.Join(' ', variable.EnumerateObject().Select(property => $"{property.Name}={property.Value}")))];
    }

    [Fact]
    public async Task ExportedFile_ThroughVirtFirmware_AndImported_IsTheSame()
    {
        await Create();
        await Done("set", "A", "--guid", Vendor, "--hex", "00ff");
        await Done("set", "\u00c4\u4e16", "--guid", Vendor, "--hex", "01", "--attributes", "3");
        await Done("set", "Boot0000", "--hex", LoadOption);
        await Done("set", "BootOrder", "--hex", "0000");
        await Done("export", "--output", At("first.json"));
        await virtFirmware.RunVarsAsync("--input", At("first.json"), "--output-json", At("input.json"));
        await virtFirmware.RunVarsAsync("--set-json", At("first.json"), "--output-json", At("set.json"));
        List<string> first = await ReadAsync("first.json");
        Assert.Equal(4, first.Count);
        Assert.Equal(first, await ReadAsync("input.json"));
        Assert.Equal(first, await ReadAsync("set.json"));

        File.Move(At("disk"), At("old"));
        await Create();
        await Done("import", At("input.json"));
        await Done("export", "--output", At("again.json"));
        Assert.Equal(first, await ReadAsync("again.json"));
        Assert.Equal(0, (await Done("import", At("set.json"))).GetProperty("changes").GetInt32());
    }

    // Its usual way: keys enrolled, secure boot on, a boot option; and again through it, with times of authenticated variables.
    [Fact]
    public async Task KeysAndBootOption_OfVirtFirmware_AreImported()
    {
        foreach (string name in (string[])["owner", "vendor", "system"])
        {
            await WriteCertificate(name);
        }

        await Create();
        await Done("set", "Timeout", "--hex", "0500");
        await Done("export", "--output", At("first.json"));
        await virtFirmware.RunVarsAsync(
            "--input", At("first.json"), "--set-pk", Vendor, At("owner.pem"), "--add-kek", Vendor, At("vendor.pem"), "--add-db", Vendor, At("system.pem"),
            "--secure-boot", "--append-boot-filepath", "/EFI/test.efi", "--output-json", At("keys.json"));
        await Done("import", At("keys.json"));
        JsonElement list = await Done("list");
        Assert.False(list.GetProperty("deployedMode").GetBoolean());
        Assert.Equal(
            ["Boot0000", "BootOrder", "KEK", "PK", "SecureBootEnable", "Timeout", "db", "dbx"],
            list.GetProperty("variables").EnumerateArray().Select(variable => variable.GetProperty("name").GetString()!).Order(StringComparer.Ordinal));

        await Done("export", "--output", At("exported.json"));
        await virtFirmware.RunVarsAsync("--input", At("exported.json"), "--output-json", At("again.json"));
        Assert.Equal(await ReadAsync("exported.json"), await ReadAsync("again.json"));
        Assert.Equal(0, (await Done("import", At("again.json"))).GetProperty("changes").GetInt32());
        string printed = await virtFirmware.RunVarsAsync("--input", At("exported.json"), "--print", "--verbose");
        Assert.Contains("CN=owner", printed, StringComparison.Ordinal);
        Assert.Contains("test.efi", printed, StringComparison.Ordinal);
    }
}
