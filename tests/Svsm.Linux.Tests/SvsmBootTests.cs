// SPDX-License-Identifier: MIT
// Copyright (c) The Svsm.Sdk contributors

using System;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading.Tasks;
using Svsm.Simulator;
using Xunit;

namespace Svsm.Linux.Tests;

/// <summary>Debian's Linux, unmodified, at VMPL2: started by the SVSM, without a firmware.</summary>
public sealed class SvsmBootTests(LinuxGuest guest) : IClassFixture<LinuxGuest>
{
    [Theory]
    [InlineData(1, false)]
    [InlineData(4, false)]
    [InlineData(4, true)]
    public Task Boot_StockKernel_FindsTheSvsmAndUsesItsMemory(int vcpuCount, bool threads) => CheckAsync(vcpuCount, options => options with { Threads = threads });

    // In the long run only: it fetches 27 MB, and a suite drops a version when it has the next.
    [Theory]
    [Trait("Run", "all")]
    [InlineData(1)]
    [InlineData(4)]
    public async Task Boot_NewestQemu_FindsTheSvsmAndUsesItsMemory(int vcpuCount)
    {
        string qemu = await DebianPackage.GetNewestQemuAsync();
        await CheckAsync(vcpuCount, options => options with { QemuPath = qemu });
    }

    private async Task CheckAsync(int vcpuCount, Func<MachineOptions, MachineOptions> how)
    {
        MachineOptions options = await guest.PrepareWithSvsmAsync(
            """
            echo "cpus: $(grep -c ^processor /proc/cpuinfo)"
            mkdir /fill
            mount -t tmpfs -o size=95% tmpfs /fill
            pages=$(awk '/MemAvailable/ {print int($2 / 1024 * 9 / 10)}' /proc/meminfo)
            dd if=/dev/zero of=/fill/pages bs=1M count=$pages
            echo "filled: $(($(stat -c %s /fill/pages) / 1048576)) of $pages"
            rm /fill/pages
            """,
            vcpuCount,
            TestContext.Current.CancellationToken);
        MachineResult result = await Machine.RunAsync(how(options), TestContext.Current.CancellationToken);

        string console = LinuxGuest.ConsoleOf(result, vmpl: 2);
        Assert.Contains("SEV: SNP running at VMPL2.", console, StringComparison.Ordinal);
        Assert.Contains($"cpus: {vcpuCount}\n", console, StringComparison.Ordinal);
        Assert.True(Regex.IsMatch(console, "filled: ([1-9][0-9]+) of \\1\n"), console);

        // Every page was validated by the SVSM, which a guest at VMPL2 has no way around; and every vCPU ran the guest.
        Assert.Equal(0ul, result.Statistics.Where(entry => entry.Vmpl == 2).Aggregate(0ul, (sum, entry) => sum + entry.PValidates));
        Assert.Equal(vcpuCount, result.Statistics.Count(entry => entry is { Vmpl: 2, Exits: > 0 }));
        Assert.Contains("svsm: the guest starts at VMPL2", result.ConsoleText(0), StringComparison.Ordinal);

        // Linux asked the SVSM for each of the others.
        ulong made = result.Kernel!.Calls.Where(count => count is { Call: "CREATE_VCPU", Result: "SUCCESS" }).Aggregate(0ul, (sum, count) => sum + count.Count);
        Assert.True(made >= (ulong)vcpuCount - 1, $"{made} vCPUs were made");
    }
}
