// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Buffers.Binary;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>Debian's Linux as an SNP guest at VMPL0, without an SVSM.</summary>
public sealed partial class LinuxBootTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Boot_StockKernel_ReachesUserSpaceAsSnpGuest(int vcpuCount)
    {
        MachineResult result = await RunAsync(
            """
            echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
            sleep 0.1
            for i in 1 2 3 4 5 6 7 8; do (sha256sum /bin/busybox > /tmp.$i) & done
            wait
            echo "sums: $(cat /tmp.* | sort -u | wc -l)"
            """,
            vcpuCount);
        string console = LinuxGuest.ConsoleOf(result, vmpl: 0);
        Assert.Contains("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", console, StringComparison.Ordinal);
        Assert.Contains("SEV: SNP running at VMPL0.", console, StringComparison.Ordinal);
        Assert.Contains($"cpus: {vcpuCount}\n", console, StringComparison.Ordinal);
        Assert.Contains("sums: 1\n", console, StringComparison.Ordinal);
    }

    [Fact]
    public async Task AttestationReport_ByConfigfs_VerifiesAgainstTheChain()
    {
        byte[] data = RandomNumberGenerator.GetBytes(64);
        string octal = string.Concat(data.Select(value => $"\\{Convert.ToString(value, 8).PadLeft(3, '0')}"));
        MachineResult result = await RunAsync(
            $"""
            for module in configfs gf128mul ghash-generic crypto_null gcm tsm sev-guest; do insmod /modules/$module.ko.xz; done
            mount -t configfs none /sys/kernel/config
            mkdir /sys/kernel/config/tsm/report/test
            cd /sys/kernel/config/tsm/report/test
            printf '{octal}' > inblob
            echo "provider: $(cat provider)"
            od -An -v -tx1 outblob | tr -d ' ' | sed 's/^/report: /'
            """,
            vcpuCount: 1);
        string console = LinuxGuest.ConsoleOf(result, vmpl: 0);
        Assert.True(console.Contains("provider: sev_guest", StringComparison.Ordinal), console);
        byte[] report = Convert.FromHexString(string.Concat(ReportLine().Matches(console).Select(match => match.Groups[1].Value)));

        Assert.Equal(0x4A0, report.Length);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(report.AsSpan(0x30)));
        Assert.Equal(data, report[0x50..0x90]);
        Assert.Equal(result.LaunchDigest.ToArray(), report[0x90..0xC0]);

        using X509Certificate2 root = Certificate("ark.pem");
        using X509Certificate2 authority = Certificate("ask.pem");
        using X509Certificate2 chip = Certificate("vcek.pem");
        using var chain = new X509Chain();
        chain.ChainPolicy.TrustMode = X509ChainTrustMode.CustomRootTrust;
        chain.ChainPolicy.CustomTrustStore.Add(root);
        chain.ChainPolicy.ExtraStore.Add(authority);
        chain.ChainPolicy.RevocationMode = X509RevocationMode.NoCheck;
        Assert.True(chain.Build(chip), string.Join(", ", chain.ChainStatus.Select(status => status.StatusInformation)));
        using ECDsa key = chip.GetECDsaPublicKey()!;
        byte[] signature = [.. report[0x2A0..0x2D0].Reverse(), .. report[0x2E8..0x318].Reverse()];
        Assert.True(key.VerifyData(report.AsSpan(0, 0x2A0), signature, HashAlgorithmName.SHA384, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
    }

    private async Task<MachineResult> RunAsync(string commands, int vcpuCount) => await Machine.RunAsync(
        await guest.PrepareAsync(commands, vcpuCount, TestContext.Current.CancellationToken), TestContext.Current.CancellationToken);

    private X509Certificate2 Certificate(string name) => X509Certificate2.CreateFromPem(File.ReadAllText(Path.Combine(guest.ChipFolder, name)));

    [GeneratedRegex("report: ([0-9a-f]+)\n")]
    private static partial Regex ReportLine();
}
