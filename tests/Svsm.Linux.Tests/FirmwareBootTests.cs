// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>Debian's OVMF, unmodified, at VMPL2.</summary>
public sealed class FirmwareBootTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    // In the long run only: sid drops a version when it has the next.
    [Fact]
    [Trait("Run", "all")]
    public async Task Boot_StockFirmware_StartsAStockKernel()
    {
        MachineResult result = await guest.RunWithFirmwareAsync(
            """
            echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
            echo "efi: $(ls /sys/firmware/efi/systab)"
            """,
            vcpuCount: 1,
            TestContext.Current.CancellationToken);

        string console = string.Concat(result.Console.Where(line => line.Source.Vmpl == 2).Select(line => line.Text.TrimEnd('\r') + "\n"));
        Assert.True(result.ExitStatus == 0, $"{result}\n{console}");
        Assert.Contains("init: done", console, StringComparison.Ordinal);
        Assert.Contains("SEV: SNP running at VMPL2.", console, StringComparison.Ordinal);
        Assert.Contains("by Debian distribution of EDK II", console, StringComparison.Ordinal);
        Assert.Contains("cpus: 1\n", console, StringComparison.Ordinal);
        Assert.Contains("efi: /sys/firmware/efi/systab\n", console, StringComparison.Ordinal);
        Assert.DoesNotContain("Call Trace", console, StringComparison.Ordinal);

        // Every page was validated by the SVSM, which a guest at VMPL2 has no way around.
        Assert.Equal(0ul, result.Statistics.Where(entry => entry.Vmpl == 2).Aggregate(0ul, (sum, entry) => sum + entry.PValidates));
    }
}
