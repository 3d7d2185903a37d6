// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>Debian's Linux as an SNP guest at VMPL0, without an SVSM.</summary>
public sealed class LinuxBootTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Boot_StockKernel_ReachesUserSpaceAsSnpGuest(int vcpuCount)
    {
        MachineResult result = await guest.RunAsync(
            """
            echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
            sleep 0.1
            for i in 1 2 3 4 5 6 7 8; do (sha256sum /bin/busybox > /tmp.$i) & done
            wait
            echo "sums: $(cat /tmp.* | sort -u | wc -l)"
            """,
            vcpuCount,
            TestContext.Current.CancellationToken);
        string console = ConsoleOf(result);
        Assert.Contains("Memory Encryption Features active: AMD SEV SEV-ES SEV-SNP", console, StringComparison.Ordinal);
        Assert.Contains("SEV: SNP running at VMPL0.", console, StringComparison.Ordinal);
        Assert.Contains($"cpus: {vcpuCount}\n", console, StringComparison.Ordinal);
        Assert.Contains("sums: 1\n", console, StringComparison.Ordinal);
        Assert.DoesNotContain("unchecked MSR access", console, StringComparison.Ordinal);
        Assert.DoesNotContain("Call Trace", console, StringComparison.Ordinal);
    }

    // What the guest said, after it switched itself off without a violation.
    private static string ConsoleOf(MachineResult result)
    {
        string console = string.Concat(result.Console.Where(line => line.Source.Vmpl == 0).Select(line => line.Text.TrimEnd('\r') + "\n"));
        Assert.True(result.ExitStatus == 0, $"{result}\n{console}");
        Assert.Contains("init: done", console, StringComparison.Ordinal);
        return console;
    }
}
